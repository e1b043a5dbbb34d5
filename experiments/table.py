"""The table of a question in Markdown, one line an arm: what every question says of final returns, and what it adds."""

import math
from collections.abc import Sequence

from experiments.statistics import interquartile_mean, median

_COLUMNS = (
    "task", "arm", "seeds", "real transitions", "final return, search-free: IQM [95 %]", "worst", "best", "planner IQM",
)  # fmt: skip


def head(*more: str) -> list[str]:
    """Returns the lines above the first arm's; `more` are the columns that a question adds."""
    return titled((*_COLUMNS, *more))


def line(task: str, arm: str, final: Sequence[dict], *more: str) -> str:
    """Returns the line of an arm.

    Args:
      task: the question's name for it.
      arm: the question's name for it.
      final: the last row of each run, of `experiments.results`.
      more: cells of the columns that the question adds.
    """
    scores = [row["student_return"] for row in final]
    planner, _, _ = interquartile_mean([row["planner_return"] for row in final])
    spread = (interval(interquartile_mean(scores)), f"{min(scores):.2f}", f"{max(scores):.2f}", f"{planner:.2f}")
    return joined([task, arm, str(len(final)), f"{final[0]['real']:,}", *spread, *more])


def titled(columns: Sequence[str]) -> list[str]:
    """Returns the two lines above a table of these columns."""
    return [joined(columns), joined(["---"] * len(columns))]


def joined(cells: Sequence[str]) -> str:
    """Returns one line of a table."""
    return f"| {' | '.join(cells)} |"


def interval(summary: tuple[float, float, float], form: str = ".2f") -> str:
    """Returns the cell of a number with the ends of its interval: (value, lower, upper end), NaN of one seed."""
    centre, low, high = summary
    said = "one seed" if math.isnan(low) else f"{low:{form}}, {high:{form}}"
    return f"{centre:{form}} [{said}]"


def when(moments: Sequence[int | None], does: str) -> str:
    """Returns the cell of the median over seeds of when something came about, and of how many seeds that can be said.

    Args:
      moments: of each seed, in real transitions; None if it never came about, which counts as later than any run.
      does: what those seeds do, after "5 of 8 seeds".
    """
    num = sum(moment is not None for moment in moments)
    centre = "never" if not num else "later than the run"
    if 2 * num > len(moments):
        centre = f"{median([moment if moment is not None else 10**9 for moment in moments])[0]:,.0f}"
    return f"{centre} ({num} of {len(moments)} seeds {does})"
