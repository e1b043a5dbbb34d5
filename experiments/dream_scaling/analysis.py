"""How it is scored: final return against the dream ratio, one curve a budget of real transitions, from rows alone."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.dream_scaling.runs import ARMS, BUDGETS, arm
from experiments.figures import surface
from experiments.results import newest, read_rows
from experiments.statistics import interquartile_mean

FOLDER = Path(__file__).parent
_COLUMNS = (
    "task", "dream ratio", "arm", "seeds", "final return, search-free: IQM [95 %]", "real-data equivalence", "updates",
    "search calls",
)  # fmt: skip


def analyse() -> tuple[str, list[Path]]:
    """Returns the table as Markdown and the figures drawn, each arm by its newest configuration.

    Tasks without rows are left out.
    """
    lines = [_joined(_COLUMNS), _joined(["---"] * len(_COLUMNS))]
    figures = []
    for family, budgets in BUDGETS.items():
        finals = {budget: _final(f"{family}-{budget}") for budget in budgets}
        finals = {budget: rows for budget, rows in finals.items() if rows}
        if not finals:
            continue
        alone = _data_alone(finals)
        for budget, rows in finals.items():
            for name in (name for name in ARMS[f"{family}-{budget}"] if any(row["arm"] == name for row in rows)):
                own = [row for row in rows if row["arm"] == name]
                lines.append(_line(f"{family}-{budget}", name, own, equivalence(_score(own), budget, alone)))
        figures.append(surface.draw(finals, FOLDER / "figures" / f"{family}.png"))
    return "\n".join(lines), figures


def equivalence(score: float, budget: int, alone: Sequence[tuple[int, float]]) -> tuple[float, bool] | None:
    """Returns how many times more real data an agent needs that dreams of each transition once, for the same score.

    And whether that is only a lower bound, because the largest budget that was measured does not reach it.

    Args:
      score: what is to be reached.
      budget: real transitions it was reached with.
      alone: (real transitions, score) of ratio 1, rising in real transitions; between them scores are taken to follow
        the logarithm of the transitions, and never to fall.
    """
    if not alone:
        return None
    reals, scores = (np.asarray(column, float) for column in zip(*alone, strict=True))
    scores = np.maximum.accumulate(scores)
    if score > scores[-1]:
        return reals[-1] / budget, True
    if score <= scores[0]:
        return reals[0] / budget, False
    place = int(np.searchsorted(scores, score))  # the first that reaches it
    share = (score - scores[place - 1]) / (scores[place] - scores[place - 1])
    needed = math.exp((1 - share) * math.log(reals[place - 1]) + share * math.log(reals[place]))
    return needed / budget, False


def _final(task: str) -> list[dict]:
    path = FOLDER / "results" / f"{task}.csv"
    return [row for row in newest(read_rows(path)) if row["final"]] if path.exists() else []


def _score(rows: Sequence[dict]) -> float:
    return interquartile_mean([row["student_return"] for row in rows])[0]


def _data_alone(finals: dict[int, list[dict]]) -> list[tuple[int, float]]:
    rows = {budget: [row for row in rows if row["arm"] == arm(1)] for budget, rows in sorted(finals.items())}
    return [(budget, _score(own)) for budget, own in rows.items() if own]


def _line(task: str, name: str, rows: list[dict], worth: tuple[float, bool] | None) -> str:
    centre, low, high = interquartile_mean([row["student_return"] for row in rows])
    said = "" if worth is None else f"{'>= ' if worth[1] else ''}{worth[0]:.1f}x"
    row = rows[0]
    kind = re.sub(r"^ratio \d+(, )?", "", name) or "plain"
    cells = (
        task, str(row["dream_ratio"]), kind, str(len(rows)), f"{centre:.1f} [{low:.1f}, {high:.1f}]", said,
        f"{row['updates']:,}", f"{row['searched']:,}",
    )  # fmt: skip
    return _joined(cells)


def _joined(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
