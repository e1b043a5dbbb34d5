"""Redraws every figure and prints every table from the recorded rows: `python -m scripts.figures`."""

from experiments.sample_efficiency import analysis
from scripts.display import clear_errors, say


def main() -> None:
    """Draws and prints."""
    with clear_errors():
        table, figures = analysis.analyse()
        say(table)
        for path in figures:
            say(f"drew {path}")


if __name__ == "__main__":
    main()
