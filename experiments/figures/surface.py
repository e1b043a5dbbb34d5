"""Final return of the deployed student against the dream ratio, one curve a budget of real transitions."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments import published
from experiments.figures.learning_curve import COLOURS, plt, require_one_world, save
from experiments.statistics import interquartile_mean

_STYLES = {"": ("-", "o"), "renewed": ("--", "s"), "half imagined": (":", "^")}


def draw(finals: Mapping[int, Sequence[dict]], path: str | Path) -> Path:
    """Draws final rows of one environment to a PNG and returns its path.

    On the left what was measured, each kind of arm in a style of its own; on the right scores as multiples of the
    smallest ratio's above 0, beside published replay ratios, rescaled alike.

    Args:
      finals: real transitions -> rows of `experiments.results`, one a run, whose arms are named `ratio N[, kind]`.
      path: the file to write.

    Raises:
      ValueError: no rows, or rows of several environments.
    """
    world = require_one_world([row for rows in finals.values() for row in rows])
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.2), constrained_layout=True)
    for (budget, rows), colour in zip(sorted(finals.items()), itertools.cycle(COLOURS), strict=False):
        for kind, (line, marker) in _STYLES.items():
            points = _curve(rows, kind)
            if not points:
                continue
            ratio, centre, low, high = zip(*points, strict=True)
            label = f"{budget:,} real" + (f", {kind}" if kind else "")
            left.plot(ratio, centre, line, marker=marker, color=colour, label=label, markersize=4)
            if len(points) == 1:  # a single point has no area to shade
                left.vlines(ratio, low, high, color=colour, linewidth=1, alpha=0.6)
            left.fill_between(ratio, low, high, color=colour, alpha=0.05 if kind else 0.12, linewidth=0)
            above = [(r, c) for r, c in zip(ratio, centre, strict=True) if r >= 1]
            if not kind and len(above) > 1 and above[0][1] > 0:
                right.plot([r / above[0][0] for r, _ in above], [c / above[0][1] for _, c in above], marker="o",
                           color=colour, label=f"ours, {budget:,} real", markersize=4)  # fmt: skip
    for (method, points), marker in zip(published.replay_ratios().items(), itertools.cycle("xv+"), strict=False):
        first = points[0]
        right.plot([r / first[0] for r, _ in points], [s / first[1] for _, s in points], color="0.45", linewidth=1,
                   marker=marker, linestyle=":", label=f"{method}, from {first[0]}", markersize=5)  # fmt: skip
    ratios = sorted({row["dream_ratio"] for rows in finals.values() for row in rows})
    left.set_xscale("symlog", linthresh=1)
    left.set_xticks(ratios, [str(ratio) for ratio in ratios])
    left.minorticks_off()
    left.set_xlabel("dream ratio: rows trained on for each real transition")
    left.set_ylabel("final return of the deployed, search-free student")
    left.set_title(world, loc="left")
    right.set_xscale("log")
    right.set_yscale("log")
    right.set_xlabel("ratio, as a multiple of the smallest")
    right.set_ylabel("score, as a multiple of the smallest ratio's")
    right.set_title("beside published replay ratios", loc="left")
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=7)
    return save(figure, path)


def _curve(rows: Sequence[dict], kind: str) -> list[tuple[int, float, float, float]]:
    """Returns (dream ratio, IQM, lower, upper) of the arms of one kind, rising in ratio."""
    own = [row for row in rows if row["arm"] == f"ratio {row['dream_ratio']}" + (f", {kind}" if kind else "")]
    ratios = sorted({row["dream_ratio"] for row in own})
    return [
        (ratio, *interquartile_mean([row["student_return"] for row in own if row["dream_ratio"] == ratio]))
        for ratio in ratios
    ]
