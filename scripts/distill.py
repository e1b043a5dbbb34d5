"""Folds sessions into the weights of a pre-trained agent: `python -m scripts.distill RUN --field value ...`."""

import dataclasses
import sys
from typing import Annotated

import tyro

from dreamer.io import RunFolder
from dreamer.loop import ConsolidationConfig
from dreamer.wake.envs import JobWorldConfig
from experiments.sessions.config import DistillationConfig
from experiments.sessions.pretraining_config import PretrainingConfig
from experiments.sessions.run import distil, pretrained_config
from scripts.display import INTERPRETER, ShareWatch, clear_errors, say, show_nights

_SHORT = {"--teacher": "--teacher.kind", "--states": "--consolidation.states"}
"""What is asked most, by its short name; aliases of the parser's own would have to stand in `dreamer`."""


@dataclasses.dataclass(frozen=True)
class Distillation(DistillationConfig):
    """Folding the sessions of RUN, a folder of scripts.pretrain, into the weights, job by job.

    `--teacher` is short for `--teacher.kind`, `--states` for `--consolidation.states`.
    """

    # Its settings are those of RUN.
    agent: Annotated[PretrainingConfig, tyro.conf.Suppress] = PretrainingConfig()


def main() -> None:
    """Parses the command line, distils, and says what the student can do and knows after each night."""
    with clear_errors():
        agent, config = _parse(sys.argv[1:])
        with ShareWatch(f"{config.name}, seed {config.seed}", said="deployed return") as watch:
            folder = distil(config, agent, watch=watch)
        show_nights(folder)
        more = "--states dream   # learn in dreams of what the session taught"
        if config.env.suite != "jobworld":
            more = "--teacher other_job   # the control: a session that says nothing of this job"
        say(
            f"""
run folder      {folder}
deployed agent  {folder}/deployed.safetensors

What to do next
  {INTERPRETER} -m scripts.evaluate {folder}   # measure it
  {INTERPRETER} -m scripts.distill {agent} {more}
"""
        )


def _parse(words: list[str]) -> tuple[str, DistillationConfig]:
    """Returns the folder of the pre-trained agent and what is to be done with it; help is printed and ends it."""
    words = [_SHORT.get(name, name) + equals + value for name, equals, value in (word.partition("=") for word in words)]
    program = "python -m scripts.distill RUN"
    if not words or words[0].startswith("-"):
        tyro.cli(Distillation, prog=program, args=words)  # help, or an error of usage
        raise ValueError("give the folder of a pre-trained agent first, as scripts.pretrain printed it")
    agent = pretrained_config(RunFolder.open(words[0]))
    night = ConsolidationConfig(session_length=agent.session_length)
    # What is folded into weights must stay.
    stays = {"period": 0, "redrawn_prob": JobWorldConfig.redrawn_prob} if agent.env.suite == "jobworld" else {}
    env = agent.env.with_jobs(pool="distillation", job=0, **stays)
    if any(word.startswith("--agent.") for word in words):
        raise ValueError(f"settings of agent are those of {words[0]}: leave them out, or pre-train another")
    default = Distillation(env=env, seed=agent.seed, agent=agent, consolidation=night)
    asked = tyro.cli(Distillation, prog=program, default=default, args=words[1:])
    config = DistillationConfig(**{field.name: getattr(asked, field.name) for field in dataclasses.fields(asked)})
    return words[0], config


if __name__ == "__main__":
    main()
