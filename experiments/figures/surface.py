"""Final return of the deployed student against the dream ratio, one curve a budget of real transitions."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments import published
from experiments.figures.learning_curve import COLOURS, plt, require_one_world, save
from experiments.statistics import interquartile_mean

_STYLES = {
    "": ("-", "o"),
    "renewed": ("--", "s"),
    "renewed rarely": ("--", "P"),
    "shrunk a little": ("--", "v"),
    "half imagined": (":", "^"),
    "true dynamics": ("-.", "D"),
}
"""Kind of arm -> line and marker."""


def draw(finals: Mapping[int, Sequence[dict]], path: str | Path) -> Path:
    """Draws final rows of one environment to a PNG and returns its path.

    On the left what was measured, each kind of arm in a style of its own; on the right scores as multiples of the
    smallest ratio's above 0, beside published replay ratios, rescaled alike. The right is left out where no budget has
    two ratios above 0, the smaller of which scores above 0.

    Args:
      finals: real transitions -> rows of `experiments.results`, one a run, whose arms are named `ratio N[, kind]`.
      path: the file to write.

    Raises:
      ValueError: no rows, or rows of several environments.
    """
    world = require_one_world([row for rows in finals.values() for row in rows])
    colours = dict(zip(sorted(finals), itertools.cycle(COLOURS), strict=False))
    multiples = {budget: points for budget, rows in sorted(finals.items()) if (points := _multiples(rows))}
    num_panels = 2 if multiples else 1
    figure, panels = plt.subplots(
        1, num_panels, figsize=(5.25 * num_panels, 4.2), constrained_layout=True, squeeze=False
    )
    left = panels[0, 0]
    for budget, colour in colours.items():
        _draw_measured(left, finals[budget], f"{budget:,} real", colour)
    ratios = sorted({row["dream_ratio"] for rows in finals.values() for row in rows})
    left.set_xscale("symlog", linthresh=1)
    left.set_xticks(ratios, [str(ratio) for ratio in ratios])
    left.minorticks_off()
    left.set_xlabel("dream ratio: rows trained on for each real transition")
    left.set_ylabel("final return of the deployed, search-free student")
    left.set_title(world, loc="left")
    if multiples:
        _draw_multiples(panels[0, 1], multiples, colours)
    for axes in panels[0]:
        axes.legend(frameon=False, fontsize=7)
    return save(figure, path)


def _draw_measured(axes: plt.Axes, rows: Sequence[dict], said: str, colour: str) -> None:
    """Draws the curves of one budget, one a kind of arm."""
    for kind, (line, marker) in _STYLES.items():
        points = _curve(rows, kind)
        if not points:
            continue
        ratio, centre, low, high = zip(*points, strict=True)
        label = said + (f", {kind}" if kind else "")
        axes.plot(ratio, centre, line, marker=marker, color=colour, label=label, markersize=4)
        if len(points) == 1:  # a single point has no area to shade
            axes.vlines(ratio, low, high, color=colour, linewidth=1, alpha=0.6)
        axes.fill_between(ratio, low, high, color=colour, alpha=0.05 if kind else 0.12, linewidth=0)


def _draw_multiples(
    axes: plt.Axes, multiples: Mapping[int, Sequence[tuple[float, float]]], colours: Mapping[int, str]
) -> None:
    """Draws our curves and published ones as multiples of their first points."""
    for budget, points in multiples.items():
        label = f"ours, {budget:,} real"
        axes.plot(*zip(*points, strict=True), marker="o", color=colours[budget], label=label, markersize=4)
    for (method, points), marker in zip(published.replay_ratios().items(), itertools.cycle("xv+"), strict=False):
        first = points[0]
        axes.plot([r / first[0] for r, _ in points], [s / first[1] for _, s in points], color="0.45", linewidth=1,
                  marker=marker, linestyle=":", label=f"{method}, from {first[0]}", markersize=5)  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("ratio, as a multiple of the smallest")
    axes.set_ylabel("score, as a multiple of the smallest ratio's")
    axes.set_title("beside published replay ratios", loc="left")


def _multiples(rows: Sequence[dict]) -> list[tuple[float, float]]:
    """Returns (ratio, IQM) of the plain arms above 0 as multiples of the first; none where that has no positive IQM."""
    above = [(ratio, centre) for ratio, centre, _, _ in _curve(rows, "") if ratio >= 1]
    if len(above) < 2 or above[0][1] <= 0:
        return []
    return [(ratio / above[0][0], centre / above[0][1]) for ratio, centre in above]


def _curve(rows: Sequence[dict], kind: str) -> list[tuple[int, float, float, float]]:
    """Returns (dream ratio, IQM, lower, upper) of the arms of one kind, rising in ratio."""
    own = [row for row in rows if row["arm"] == f"ratio {row['dream_ratio']}" + (f", {kind}" if kind else "")]
    ratios = sorted({row["dream_ratio"] for row in own})
    return [
        (ratio, *interquartile_mean([row["student_return"] for row in own if row["dream_ratio"] == ratio]))
        for ratio in ratios
    ]
