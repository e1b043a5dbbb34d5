"""Redraws figures and prints tables from rows, the recorded or others: `python -m scripts.figures [QUESTION ...]`."""

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
      root: where rows lie, as of `scripts.sweep`; of another folder than experiments/ it is also said how its runs end
        beside the recorded ones.
    """
    with clear_errors():
        if not root.is_dir():
            raise ValueError(f"--root {root} is no folder: give one that scripts.sweep made rows below")
        for question in chosen:
            runs_of(question)
        for question in chosen or questions():
            table, figures = analyse(question, root)
            say(f"{question}\n\n{table}\n")
            for path in figures:
                say(f"drew {path}")
            for line in made_again(question, root):
                say(line)


if __name__ == "__main__":
    tyro.cli(main, prog="python -m scripts.figures")
