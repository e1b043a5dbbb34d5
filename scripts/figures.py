"""Redraws figures and prints tables from the recorded rows: `python -m scripts.figures [QUESTION ...]`."""

from typing import Annotated

import tyro

from experiments.sweep import analyse, questions, runs_of
from scripts.display import clear_errors, say


def main(chosen: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(name="questions")] = ()) -> None:
    """Draws and prints.

    Args:
      chosen: folders of experiments/; none means all.
    """
    with clear_errors():
        for question in chosen:
            runs_of(question)
        for question in chosen or questions():
            table, figures = analyse(question)
            say(f"{question}\n\n{table}\n")
            for path in figures:
                say(f"drew {path}")


if __name__ == "__main__":
    tyro.cli(main, prog="python -m scripts.figures")
