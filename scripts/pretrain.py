"""Pre-trains an agent with a session slot: `python -m scripts.pretrain WORLD --seed 0 --field value ...`."""

import sys

import tyro

from dreamer.wake.envs.base import unknown
from experiments.sessions.pretraining_config import RECIPES, PretrainingConfig
from experiments.sessions.run import pretrain
from scripts.display import INTERPRETER, ShareWatch, clear_errors, say, show_nights


def main() -> None:
    """Parses the command line, pre-trains, and says what a session is worth to the agent."""
    with clear_errors():
        config = _parse(sys.argv[1:])
        with ShareWatch(f"{config.name}, seed {config.seed}", said="gained by a session") as watch:
            folder, messages = pretrain(config, watch=watch)
        for message in messages:
            say(f"note: {message}", style="yellow")
        show_nights(folder)
        say(
            f"""
run folder      {folder}

What to do next
  {INTERPRETER} -m scripts.distill {folder}   # a session in one job, folded into the weights
"""
        )


def _parse(words: list[str]) -> PretrainingConfig:
    """Returns what the command line made of a world's recipe, of JobWorld's where it names none."""
    world = "jobworld"
    if words and not words[0].startswith("-"):
        world, *words = words
    if world not in RECIPES:
        raise unknown("world", world, RECIPES)
    program = f"python -m scripts.pretrain {world}"
    return tyro.cli(PretrainingConfig, prog=program, default=RECIPES[world], args=words)


if __name__ == "__main__":
    main()
