"""A sweep of one small task: `python -m tests.sweeping ROOT`, of its rows; its runs lie in the working folder."""

import sys
from pathlib import Path

from experiments.sample_efficiency import runs as question
from scripts import sweep
from tests import runs


def main(root: str) -> None:
    """Sweeps two seeds in two processes."""
    question.ARMS = {"tiny": {"dreaming": runs.config("gymnax")}}  # other tests have compiled it
    sweep.main("sample_efficiency", seeds=2, processes=2, root=Path(root))


if __name__ == "__main__":
    main(*sys.argv[1:])
