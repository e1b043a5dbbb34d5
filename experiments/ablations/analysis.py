"""How it is scored: final return of each arm beside the reference, from rows alone."""

from pathlib import Path

from experiments import one_change
from experiments.ablations.runs import ARMS, REFERENCE

FOLDER = Path(__file__).parent


def analyse() -> tuple[str, list[Path]]:
    """Returns the table as Markdown and the figures drawn: `one_change.analyse`."""
    return one_change.analyse(FOLDER, ARMS, reference=REFERENCE)
