"""Redraws every figure and prints every table from the recorded rows: `python -m scripts.figures`."""

from experiments.sample_efficiency import analysis
from scripts.display import console


def main() -> None:
    """Draws and prints."""
    table, figures = analysis.analyse()
    console.print(table, highlight=False, soft_wrap=True, markup=False)
    for path in figures:
        console.print(f"drew {path}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
