"""A sweep of one small task: `python -m tests.sweeping RESULTS_FOLDER`; its runs lie in the working folder."""

import sys
from pathlib import Path

from experiments.sample_efficiency import runs as question
from scripts import sweep
from tests import runs


def main(results: str) -> None:
    """Sweeps two seeds in two processes."""
    question.ARMS = {"tiny": {"dreaming": runs.config("gymnax")}}  # other tests have compiled it
    question.__file__ = str(Path(results).parent / "runs.py")
    sweep.main("sample_efficiency", seeds=2, processes=2)


if __name__ == "__main__":
    main(*sys.argv[1:])
