"""Redraws every figure and prints every table from the recorded rows: `python -m scripts.figures`."""

import importlib

from experiments.sweep import questions
from scripts.display import clear_errors, say


def main() -> None:
    """Draws and prints."""
    with clear_errors():
        for question in questions():
            table, figures = importlib.import_module(f"experiments.{question}.analysis").analyse()
            say(f"{question}\n\n{table}\n")
            for path in figures:
                say(f"drew {path}")


if __name__ == "__main__":
    main()
