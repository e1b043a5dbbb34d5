"""How it is scored: each world with few dreams and with many, and the share of its gap to the world that allows most
which dreams win back, from rows alone."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments import table
from experiments.figures import arms as arms_figure
from experiments.replayability.runs import ARMS, FEW, MANY, MOST_ALLOWED, ONCE, WORLDS, arm
from experiments.results import final_of
from experiments.statistics import interquartile_mean, middle_mean

NUM_DRAWS = 2000
"""Bootstrap draws behind each interval of a share."""
_COLUMNS = (
    "task", "world", "seeds", *(f"return, dream ratio {ratio}: IQM [95 %]" for ratio in (ONCE, FEW, MANY)),
    f"gap to {MOST_ALLOWED}, ratio {FEW} [95 %]", "share of it won back by dreams [95 %]",
)  # fmt: skip


def analyse(folder: Path) -> tuple[str, list[Path]]:
    """Returns the table as Markdown and the figures drawn, each arm by its newest configuration.

    Worlds that lack rows of few or of many dreams are left out; where that which allows most does, all are.
    """
    lines = table.titled(_COLUMNS)
    figures = []
    for task in ARMS:
        final = final_of(folder, task)
        pairs = {world: (arm(world, FEW), arm(world, MANY)) for world in WORLDS}
        returns = {name: [row["student_return"] for row in final if row["arm"] == name] for name in ARMS[task]}
        pairs = {world: pair for world, pair in pairs.items() if all(map(returns.get, pair))}
        if MOST_ALLOWED not in pairs:
            continue
        best = returns[arm(MOST_ALLOWED, FEW)]
        lines += [
            _line(task, world, returns[arm(world, ONCE)], *map(returns.get, pair), best)
            for world, pair in pairs.items()
        ]
        shown = [row for row in final if any(row["arm"] in pair for pair in pairs.values())]
        said = (f"dream ratio {FEW}", f"dream ratio {MANY}")
        path = folder / "figures" / f"{task}.png"
        figures.append(arms_figure.draw_pairs(shown, path, pairs=pairs, said=said, reference=MOST_ALLOWED))
    return "\n".join(lines), figures


def won_back(
    few: Sequence[float], many: Sequence[float], best: Sequence[float]
) -> tuple[tuple[float, float, float], tuple[float, float, float] | None]:
    """Returns the gap between a world and the one that allows most, and the share of it that dreams win back.

    Each as (value, lower, upper end of its 95 % bootstrap interval), of interquartile means over seeds. The share is
    0 where more dreams change nothing and 1 where they are worth as much as being allowed most; beyond it, more. It is
    None where the interval of the gap reaches 0: then there is nothing to win back. Of the draws behind its interval
    those without a gap, at most one in forty, have no share and are left out. Where any of them is of a single seed the
    ends of the gap's interval are NaN, and there is no share.

    Args:
      few: returns in the world with few dreams.
      many: returns in the world with many dreams.
      best: returns in the world that allows most, with few dreams.
    """
    gap = float(middle_mean(best) - middle_mean(few))
    if min(map(len, (few, many, best))) == 1:
        return (gap, math.nan, math.nan), None
    rng = np.random.default_rng(0)

    def draws(returns: Sequence[float]) -> np.ndarray:
        return middle_mean(rng.choice(returns, (NUM_DRAWS, len(returns))), axis=1)

    drawn_few, drawn_many, drawn_best = map(draws, (few, many, best))
    gaps = drawn_best - drawn_few
    low, high = np.percentile(gaps, [2.5, 97.5])
    if low <= 0:
        return (gap, float(low), float(high)), None
    shares = ((drawn_many - drawn_few)[gaps > 0]) / gaps[gaps > 0]
    share = float(middle_mean(many) - middle_mean(few)) / gap
    return (gap, float(low), float(high)), (share, *map(float, np.percentile(shares, [2.5, 97.5])))


def _line(task: str, world: str, once: list[float], few: list[float], many: list[float], best: list[float]) -> str:
    gap, share = "", ""
    if world != MOST_ALLOWED:
        of_gap, of_share = won_back(few, many, best)
        gap, share = table.interval(of_gap), table.interval(of_share) if of_share else "gap not clear of 0"
    reached = [table.interval(interquartile_mean(returns)) if returns else "" for returns in (once, few, many)]
    return table.joined([task, world, str(min(len(few), len(many))), *reached, gap, share])
