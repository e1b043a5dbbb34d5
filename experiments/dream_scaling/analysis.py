"""How it is scored: final return against the dream ratio, one curve a budget of real transitions, from rows alone."""

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from experiments import table
from experiments.dream_scaling.runs import ARMS, FAMILIES, arm
from experiments.figures import surface
from experiments.results import newest_of
from experiments.statistics import interquartile_mean, middle_mean

FOLDER = Path(__file__).parent
SOLVED = {"cartpole": 475.0, "deep-sea": 0.98}
"""Family -> mean return over the evaluation episodes from which it counts as solved; the others have no such score."""
NUM_DRAWS = 500
"""Bootstrap draws behind each interval of a real-data equivalence."""
_COLUMNS = (
    "task", "dream ratio", "arm", "seeds", "final return, search-free: IQM [95 %]", "seeds that end solved",
    "worth how many times the real data [95 %]", "updates", "search calls",
)  # fmt: skip


def analyse() -> tuple[str, list[Path]]:
    """Returns the table as Markdown and the figures drawn, each arm by its newest configuration.

    Tasks without rows are left out.
    """
    lines = table.titled(_COLUMNS)
    figures = []
    for family, runs in FAMILIES.items():
        finals = {budget: _final(f"{family}-{budget}") for budget in runs.plain}
        finals = {budget: rows for budget, rows in finals.items() if rows}
        if not finals:
            continue
        alone = _data_alone(finals)
        for budget, rows in finals.items():
            for name in (name for name in ARMS[f"{family}-{budget}"] if any(row["arm"] == name for row in rows)):
                own = [row for row in rows if row["arm"] == name]
                worth = _worth(_returns(own, name), budget, alone) if name != arm(1) else "1"
                lines.append(_line(f"{family}-{budget}", name, own, worth, solved=SOLVED.get(family)))
        figures.append(surface.draw(finals, FOLDER / "figures" / f"{family}.png"))
    return "\n".join(lines), figures


def equivalence(score: float, budget: int, alone: Sequence[tuple[int, float]]) -> float:
    """Returns how many times more real data an agent needs that dreams of each transition once, for the same score.

    Never less than the smallest budget that was measured comes to, nor more than the largest: at either end the number
    is a bound.

    Args:
      score: what is to be reached.
      budget: real transitions it was reached with.
      alone: (real transitions, score) of ratio 1, rising in real transitions; between them scores are taken to follow
        the logarithm of the transitions, and never to fall.
    """
    reals, scores = (np.asarray(column, float) for column in zip(*alone, strict=True))
    scores = np.maximum.accumulate(scores)
    if score <= scores[0] or score > scores[-1]:
        return reals[0 if score <= scores[0] else -1] / budget
    place = int(np.searchsorted(scores, score))  # the first that reaches it
    share = (score - scores[place - 1]) / (scores[place] - scores[place - 1])
    needed = math.exp((1 - share) * math.log(reals[place - 1]) + share * math.log(reals[place]))
    return needed / budget


def _final(task: str) -> list[dict]:
    return [row for row in newest_of(FOLDER / "results" / f"{task}.csv") if row["final"]]


def _data_alone(finals: dict[int, list[dict]]) -> dict[int, list[float]]:
    """Returns real transitions -> final returns of ratio 1, where there are any."""
    found = {budget: _returns(rows, arm(1)) for budget, rows in sorted(finals.items())}
    return {budget: returns for budget, returns in found.items() if returns}


def _returns(rows: Sequence[dict], name: str) -> list[float]:
    return [row["student_return"] for row in rows if row["arm"] == name]


def _worth(returns: list[float], budget: int, alone: dict[int, list[float]]) -> str:
    """Returns the real-data equivalence, and its 95 % bootstrap interval over the seeds of the arm and of ratio 1.

    Nothing where ratio 1 was measured at fewer than two budgets, no interval where any of them is one seed's.
    """
    if len(alone) < 2:
        return ""
    rng = np.random.default_rng(0)

    def times(draw: Callable[[list[float]], Sequence[float]]) -> float:
        curve = [(real, middle_mean(draw(scores))) for real, scores in alone.items()]
        return equivalence(middle_mean(draw(returns)), budget, curve)

    least, most = (end / budget for end in (min(alone), max(alone)))

    def said(number: float) -> str:
        return f"{'>= ' if number >= most else '<= ' if number <= least else ''}{number:.1f}"

    measured = said(times(lambda scores: scores))
    if min(map(len, (returns, *alone.values()))) == 1:
        return f"{measured} [one seed]"
    drawn = [times(lambda scores: rng.choice(scores, len(scores))) for _ in range(NUM_DRAWS)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{measured} [{said(low)}, {said(high)}]"


def _line(task: str, name: str, rows: list[dict], worth: str, *, solved: float | None) -> str:
    returns = [row["student_return"] for row in rows]
    row = rows[0]
    num_solved = "" if solved is None else str(sum(score >= solved for score in returns))
    kind = re.sub(r"^ratio \d+(, )?", "", name) or "plain"
    cells = (
        task, str(row["dream_ratio"]), kind, str(len(rows)), table.interval(interquartile_mean(returns)),
        num_solved, worth,
        f"{row['updates']:,}", f"{row['searched']:,}",
    )  # fmt: skip
    return table.joined(cells)
