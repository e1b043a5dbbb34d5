"""Redraws figures and prints tables from the recorded rows: `python -m scripts.figures [QUESTION ...]`."""

import importlib
from typing import Annotated

import tyro

from experiments.sweep import questions, runs_of
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
            table, figures = importlib.import_module(f"experiments.{question}.analysis").analyse()
            say(f"{question}\n\n{table}\n")
            for path in figures:
                say(f"drew {path}")


if __name__ == "__main__":
    tyro.cli(main)
