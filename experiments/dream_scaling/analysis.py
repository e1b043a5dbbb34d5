"""How it is scored: final return against the dream ratio, one curve a budget of real transitions, from rows alone."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments import table
from experiments.dream_scaling import fit
from experiments.dream_scaling.runs import ARMS, FAMILIES, arm
from experiments.figures import surface
from experiments.results import final_of, run_of
from experiments.statistics import Summary, interquartile_mean, middle_mean

SOLVED = {"cartpole": 475.0, "deep-sea": 0.98, "sliding-tile": 0.8}
"""Family -> mean return over the evaluation episodes from which it counts as solved; the others have no such score."""
CEILING = {"cartpole": 500.0, "deep-sea": 0.99, "sliding-tile": 1.0}
"""Family -> the most that can be scored, where a rise with the ratio has a known end."""
_COLUMNS = (
    "task", "dream ratio", "arm", "seeds", "final return, search-free: IQM [95 %]", "seeds that end solved",
    "worth how many times the real data [95 %]", "updates", "search calls", "seconds (median)",
    "the model's errors after 5 steps: reward, continuation (medians)",
)  # fmt: skip
_FIT_COLUMNS = (
    "task", "plain ratios", "half of the way to the ceiling at ratio [95 %]",
    "four times the dreams multiply the odds by [95 %]", "the largest ratio above the one before it [95 %]",
)  # fmt: skip
_AGAIN_COLUMNS = "task", "arm", "the first time: IQM [95 %]", "the same seeds again: IQM [95 %]"


def analyse(folder: Path) -> tuple[str, list[Path]]:
    """Returns three tables as Markdown, of all arms, of how scores rise, and of rows that were made twice, and the
    figures drawn, each arm by its newest configuration.

    Tasks without rows are left out.
    """
    lines, rises, again = (table.titled(columns) for columns in (_COLUMNS, _FIT_COLUMNS, _AGAIN_COLUMNS))
    figures = []
    for family, runs in FAMILIES.items():
        finals = {budget: final_of(folder, f"{family}-{budget}") for budget in runs.plain}
        finals = {budget: rows for budget, rows in finals.items() if rows}
        if not finals:
            continue
        alone = {budget: scores[1] for budget, rows in sorted(finals.items()) if 1 in (scores := _plain(rows))}
        shown: dict[int, surface.Shown] = {}
        for budget, rows in finals.items():
            task, scores = f"{family}-{budget}", _plain(rows)
            again += _again(folder, task, rows)
            by_arm = {name: own for name in ARMS[task] if (own := [row for row in rows if row["arm"] == name])}
            worth = {name: _worth(_returns(own), budget, alone) for name, own in by_arm.items() if name != arm(1)}
            for name, own in by_arm.items():
                said = "1" if name == arm(1) else _said(worth[name])
                lines.append(_line(task, name, own, said, SOLVED.get(family)))
            by_ratio = {ratio: told for ratio in scores if ratio > 1 and (told := worth.get(arm(ratio)))}
            shown[budget] = surface.Shown(rows, by_ratio)
            if len(dreamt := {ratio: own for ratio, own in scores.items() if ratio}) > 1:
                ends = _ends(family, scores)
                risen = fit.rise(dreamt, low=ends[0], high=ends[1]) if ends else None
                rises.append(_rise_line(task, dreamt, risen))
                if risen and math.isfinite(risen[0][0]):
                    shown[budget] = surface.Shown(rows, by_ratio, _fitted(dreamt, risen, ends))
        figures.append(surface.draw(shown, folder / "figures" / f"{family}.png"))
    return "\n".join([*lines, "", *rises, "", *again]), figures


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


def _again(folder: Path, task: str, rows: Sequence[dict]) -> list[str]:
    """Returns the lines of arms that `results/earlier` has rows of the same runs of, over the seeds in both."""
    lines = []
    earlier = final_of(folder, f"earlier/{task}")
    for name in dict.fromkeys(row["arm"] for row in earlier):
        runs = {run_of(row): row for row in rows if row["arm"] == name}
        pairs = [(row, runs[run_of(row)]) for row in earlier if run_of(row) in runs]
        if pairs:
            cells = [table.interval(interquartile_mean(_returns(side))) for side in zip(*pairs, strict=True)]
            lines.append(table.joined([task, name, *cells]))
    return lines


def _plain(rows: Sequence[dict]) -> dict[int, list[float]]:
    """Returns dream ratio -> final returns of the plain arms."""
    ratios = sorted({row["dream_ratio"] for row in rows})
    found = {ratio: _returns([row for row in rows if row["arm"] == arm(ratio)]) for ratio in ratios}
    return {ratio: returns for ratio, returns in found.items() if returns}


def _returns(rows: Sequence[dict]) -> list[float]:
    return [row["student_return"] for row in rows]


def _worth(returns: list[float], budget: int, alone: dict[int, list[float]]) -> surface.Worth | None:
    """Returns the real-data equivalence, and its 95 % bootstrap interval over the seeds of the arm and of ratio 1.

    Nothing where ratio 1 was measured at fewer than two budgets, no interval where any of them is one seed's.
    """
    if len(alone) < 2:
        return None
    low, high = math.nan, math.nan
    if min(map(len, (returns, *alone.values()))) > 1:
        drawn, *curves = (fit.drawn_means(scores, seed) for seed, scores in enumerate((returns, *alone.values())))
        worth = [equivalence(score, budget, list(zip(alone, curve, strict=True)))
                 for score, *curve in zip(drawn, *curves, strict=True)]  # fmt: skip
        low, high = np.percentile(worth, [2.5, 97.5])
    least, most = (end / budget for end in (min(alone), max(alone)))
    measured = equivalence(middle_mean(returns), budget, [(real, middle_mean(own)) for real, own in alone.items()])
    return surface.Worth(measured, float(low), float(high), least, most)


def _said(worth: surface.Worth | None) -> str:
    """Returns the cell of a real-data equivalence."""
    return "" if worth is None else _bounded((worth.centre, worth.low, worth.high), worth.least, worth.most)


def _bounded(summary: Summary, least: float, most: float) -> str:
    """Returns the cell of a number with the ends of its interval, each as a bound where it leaves what can be told."""

    def one(number: float) -> str:
        bound = ">= " if number >= most else "<= " if number <= least else ""
        return f"{bound}{min(max(number, least), most):.1f}"

    centre, low, high = summary
    return f"{one(centre)} [{'one seed' if math.isnan(low) else f'{one(low)}, {one(high)}'}]"


def _ends(family: str, scores: dict[int, list[float]]) -> tuple[float, float] | None:
    """Returns the score of who learned nothing and the most that can be scored, or None where either is not known."""
    return (float(np.mean(scores[0])), CEILING[family]) if family in CEILING and 0 in scores else None


def _fitted(scores: fit.Scores, risen: tuple, ends: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Returns ratios [R] from the smallest to the largest, and the fitted scores there."""
    ratios = np.geomspace(min(scores), max(scores), 100)
    (halfway, _, _), (growth, _, _) = risen
    return ratios, fit.curve(ratios, halfway, growth, low=ends[0], high=ends[1])


def _rise_line(task: str, scores: fit.Scores, risen: tuple | None) -> str:
    """Returns the line of one budget in the table of rises."""
    halfway = growth = ""
    if risen:
        halfway = _bounded(risen[0], min(scores), max(scores))
        growth = _bounded(risen[1], 1, fit.MOST_GROWTH)
    cells = task, ", ".join(map(str, sorted(scores))), halfway, growth, table.interval(fit.last_step(scores))
    return table.joined(cells)


def _errors(rows: Sequence[dict]) -> str:
    """Returns the cell of how far the model's open-loop dreams are off, empty where rows do not say."""
    told = [[row[name] for row in rows] for name in ("reward_error_5", "continuation_error_5")]
    return "" if None in sum(told, []) else ", ".join(f"{np.median(errors):.3f}" for errors in told)


def _line(task: str, name: str, rows: list[dict], worth: str, solved: float | None) -> str:
    returns, row = _returns(rows), rows[0]
    num_solved = "" if solved is None else str(sum(score >= solved for score in returns))
    kind = re.sub(r"^ratio \d+(, )?", "", name) or "plain"
    cells = (
        task, str(row["dream_ratio"]), kind, str(len(rows)), table.interval(interquartile_mean(returns)),
        num_solved, worth,
        f"{row['updates']:,}", f"{row['searched']:,}", f"{np.median([row['seconds'] for row in rows]):.0f}",
        _errors(rows),
    )  # fmt: skip
    return table.joined(cells)
