"""Prints how fast each part is, as ratios measured in one run: `python -m scripts.bench [PRESET]`."""

from typing import Annotated, Literal

import tyro
from rich.table import Table

from experiments import PRESETS
from experiments.bench import bench
from scripts.display import clear_errors, console


def main(
    preset: Annotated[Literal[tuple(PRESETS)], tyro.conf.Positional] = "cartpole-jax",
    repeats: int = 7,
    num_seeds: int = 4,
) -> None:
    """Measures one preset's sizes; medians, after a call that is not counted. All is compiled afresh.

    Args:
      preset: whose sizes.
      repeats: timed calls of each part.
      num_seeds: seeds to run in one program, against one of them alone.
    """
    table = Table(title=f"bench: {preset}", title_justify="left")
    for name in ("what", "figure", "remark"):
        table.add_column(name)
    with clear_errors():
        for line in bench(PRESETS[preset], repeats=repeats, num_seeds=num_seeds):
            table.add_row(*line)
    console.print(table)


if __name__ == "__main__":
    tyro.cli(main, prog="python -m scripts.bench")
