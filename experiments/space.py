"""Search spaces as data: a config, and the values that some of its fields may take."""

import dataclasses
from typing import Any

from dreamer.io.run_folder import config_hash
from experiments.config import Config
from experiments.fields import changed, differences
from experiments.presets import PRESETS


@dataclasses.dataclass(frozen=True)
class Range:
    """Any number between two; whole numbers where both ends are."""

    low: float
    high: float
    log: bool = False
    """Whether ratios count, and not differences, as for step sizes."""

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"{self}: give low < high, and low > 0 where log")


@dataclasses.dataclass(frozen=True)
class Space:
    """What may be tried: `Space(config, {"update.learning_rate": Range(1e-4, 1e-2, log=True)})`."""

    base: Config
    """What is changed. Its seed does not count: each trial has its own, or the luck of one seed would be searched."""
    fields: dict[str, tuple | Range]
    """Path of a field -> its choices, or a range of them."""

    def __post_init__(self) -> None:
        for path, values in self.fields.items():
            if not values:
                raise ValueError(f"the space of {self.base.name} has no values for {path}: give one or more")
            for value in (values.low, values.high) if isinstance(values, Range) else values:
                changed(self.base, {path: value})

    def hash(self) -> str:
        """Returns 12 hex digits that name the space: its base, but for the seed, and what each field may be."""
        fields = {
            path: dataclasses.asdict(values) if isinstance(values, Range) else values
            for path, values in self.fields.items()
        }
        return config_hash({"base": self.base.hash(), "fields": fields})

    def config(self, values: dict[str, Any], *, seed: int) -> Config:
        """Returns the config of one trial."""
        return dataclasses.replace(changed(self.base, values), seed=seed)


def flags(config: Config) -> list[str]:
    """Returns what to type after `scripts.train` for a config that came of a preset: its name, and all that differs."""
    words = [config.run.preset]
    for path, value in differences(PRESETS[config.run.preset], config).items():
        name = f"--{path}".replace("_", "-")
        if isinstance(value, bool):
            part, dot, field = name.removeprefix("--").rpartition(".")
            words.append(f"--{part}{dot}{'' if value else 'no-'}{field}")
        else:
            words += [name, *_words(value)]
    return words


def _words(value: Any) -> list[str]:
    """Returns a value as it is typed: of a tuple its items in turn, of which pairs may be some."""
    return [word for item in value for word in _words(item)] if isinstance(value, tuple) else [str(value)]
