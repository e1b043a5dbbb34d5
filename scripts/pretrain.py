"""Pre-trains an agent with a session slot: `python -m scripts.pretrain --seed 0 --field value ...`."""

import tyro

from experiments.sessions.pretraining_config import PretrainingConfig
from experiments.sessions.run import pretrain
from scripts.display import INTERPRETER, ShareWatch, clear_errors, say, show_nights


def main() -> None:
    """Parses the command line, pre-trains, and says what a session is worth to the agent."""
    with clear_errors():
        config = tyro.cli(PretrainingConfig, prog="python -m scripts.pretrain")
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


if __name__ == "__main__":
    main()
