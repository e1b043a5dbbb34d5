"""Redraws figures and prints tables from the recorded rows: `python -m scripts.figures [QUESTION ...]`."""

from pathlib import Path
from typing import Annotated

import tyro

from experiments.sweep import RECORD, analyse, made_again, questions, runs_of
from scripts.display import clear_errors, say


def main(
    chosen: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(name="questions")] = (), root: Path = RECORD
) -> None:
    """Draws and prints.

    Args:
      chosen: folders of experiments/; none means all.
      root: where rows lie, as of `scripts.sweep`; if elsewhere, how they end is held against the recorded ones.
    """
    with clear_errors():
        for question in chosen:
            runs_of(question)
        for question in chosen or questions():
            table, figures = analyse(question, root)
            say(f"{question}\n\n{table}\n")
            for path in figures:
                say(f"drew {path}")
            for line in made_again(question, root) if root != RECORD else ():
                say(line)


if __name__ == "__main__":
    tyro.cli(main, prog="python -m scripts.figures")
