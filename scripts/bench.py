"""Prints how fast each part is, as ratios measured in one run: `python -m scripts.bench PRESET --field value ...`."""

import dataclasses
import sys
from typing import Annotated

import tyro
from rich.table import Table

from experiments import Config
from experiments.bench import bench
from scripts.command import of_preset
from scripts.display import clear_errors, console


@dataclasses.dataclass(frozen=True)
class Bench:
    """Measures an experiment's sizes; medians, after a call that is not counted. All is compiled afresh."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    """The experiment."""
    repeats: int = 7
    """Timed calls of each part."""
    num_seeds: int = 4
    """Seeds to run in one program, against one of them alone."""


def main() -> None:
    """Parses the command line, measures, and prints a table; exits with 1 and one message on bad input."""
    with clear_errors():
        words = sys.argv[1:]
        _, asked = of_preset(Bench, words, program="python -m scripts.bench")
        table = Table(title=f"bench: {' '.join(words)}", title_justify="left")
        for name in ("what", "figure", "remark"):
            table.add_column(name)
        for line in bench(asked.config, repeats=asked.repeats, num_seeds=asked.num_seeds):
            table.add_row(*line)
    console.print(table)


if __name__ == "__main__":
    main()
