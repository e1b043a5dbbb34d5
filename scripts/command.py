"""Command lines that begin with a preset: `PRESET --field value ...`."""

from typing import TypeVar

import tyro

from dreamer.wake.envs.base import unknown
from experiments import PRESETS
from experiments.presets import PAPERS

T = TypeVar("T")


def of_preset(kind: type[T], words: list[str], *, program: str) -> tuple[str, T]:
    """Returns the preset and what the command line made of it; help and errors of usage are printed and end it.

    Args:
      kind: a dataclass with a `config`, whose other fields have defaults.
      words: the command line.
      program: what it begins with, for help.

    Raises:
      ValueError: no such preset, or options before one.
    """
    if words and words[0] in PRESETS:
        preset, default = words[0], kind(PRESETS[words[0]])
        told = f"{kind.__doc__} {PAPERS.get(preset, '')}".strip()
        return preset, tyro.cli(kind, prog=f"{program} {preset}", description=told, default=default, args=words[1:])
    if words and not words[0].startswith("-"):
        raise unknown("preset", words[0], PRESETS)
    if words and not {"-h", "--help"} & set(words):
        raise ValueError(f"name a preset first, then options: one of {', '.join(PRESETS)}")
    choices = {name: (f"{config.env.suite} {config.env.id}", kind(config)) for name, config in PRESETS.items()}
    made = tyro.extras.overridable_config_cli(choices, prog=program, args=words)
    return next(word for word in words if word in PRESETS), made
