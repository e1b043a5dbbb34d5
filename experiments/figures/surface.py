"""Final return of the deployed student against the dream ratio, one curve a budget of real transitions."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

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


class Worth(NamedTuple):
    """How many times the real data a score is worth, and between which numbers that could be told."""

    centre: float
    low: float
    """Lower end of the 95 % interval, NaN of one seed."""
    high: float
    """Its upper end, NaN of one seed."""
    least: float
    """What comes to this or less is worth this at most."""
    most: float
    """What comes to this or more is worth this at least."""


class Shown(NamedTuple):
    """What is drawn of one budget of real transitions."""

    rows: Sequence[dict]
    """Final ones of `experiments.results`, one a run, whose arms are named `ratio N[, kind]`."""
    worth: Mapping[int, Worth]
    """Of the plain arms above ratio 1, which is held against itself, by dream ratio; none where it cannot be told."""
    fitted: tuple[np.ndarray, np.ndarray] | None = None
    """Ratios [R] and the scores that a fit gives them."""


def draw(budgets: Mapping[int, Shown], path: str | Path) -> Path:
    """Draws one environment's scores to a PNG and returns its path.

    Up to four panels: what was measured, each kind of arm in a style of its own, with what was fitted; the plain arms
    against the updates made; how many times the real data they are worth, where that can be told; and scores as
    multiples of the smallest ratio's above 0, beside published replay ratios, rescaled alike, where a budget has two
    ratios above 0, the smaller of which scores above 0.

    Args:
      budgets: real transitions -> what is shown of them.
      path: the file to write.

    Raises:
      ValueError: no rows, or rows of several environments.
    """
    world = require_one_world([row for shown in budgets.values() for row in shown.rows])
    colours = dict(zip(sorted(budgets), itertools.cycle(COLOURS), strict=False))
    multiples = {budget: points for budget, own in sorted(budgets.items()) if (points := _multiples(own.rows))}
    worth = {budget: own.worth for budget, own in sorted(budgets.items()) if own.worth}
    panels = ["measured", "compute"] + ["worth"] * bool(worth) + ["published"] * bool(multiples)
    mosaic = [panels[:2], panels[2:]] if len(panels) == 4 else [panels]
    size = 5.25 * len(mosaic[0]), 4.2 * len(mosaic)
    figure, axes = plt.subplot_mosaic(mosaic, figsize=size, constrained_layout=True)
    ratios = sorted({row["dream_ratio"] for own in budgets.values() for row in own.rows})
    for budget, colour in colours.items():
        _draw_measured(axes["measured"], budgets[budget].rows, f"{budget:,} real", colour)
        if budgets[budget].fitted:
            look = {"color": colour, "linewidth": 3, "alpha": 0.25, "zorder": 0}
            axes["measured"].plot(*budgets[budget].fitted, **look, label=f"{budget:,} real, fitted")
        _draw_compute(axes["compute"], budgets[budget].rows, f"{budget:,} real", colour)
    axes["measured"].set_xscale("symlog", linthresh=1)
    axes["measured"].set_xticks(ratios, [str(ratio) for ratio in ratios])
    axes["measured"].minorticks_off()
    axes["measured"].set_xlabel("dream ratio: rows trained on for each real transition")
    axes["measured"].set_ylabel("final return of the deployed, search-free student")
    axes["measured"].set_title(world, loc="left")
    if worth:
        _draw_worth(axes["worth"], worth, colours)
    if multiples:
        _draw_multiples(axes["published"], multiples, colours)
    for panel in axes.values():
        if panel.get_legend_handles_labels()[0]:
            panel.legend(frameon=False, fontsize=7)
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


def _draw_compute(axes: plt.Axes, rows: Sequence[dict], said: str, colour: str) -> None:
    """Draws the plain arms of one budget against the updates made."""
    updates = {row["dream_ratio"]: row["updates"] for row in _of_kind(rows, "")}
    points = [(updates[ratio], *rest) for ratio, *rest in _curve(rows, "") if updates[ratio]]
    if points:
        made, centre, low, high = zip(*points, strict=True)
        axes.plot(made, centre, marker="o", color=colour, label=said, markersize=4)
        axes.fill_between(made, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.set_xscale("log")
    axes.set_xlabel("updates, each of one batch")
    axes.set_ylabel("final return")
    axes.set_title("plain arms against compute", loc="left")


def _draw_worth(axes: plt.Axes, worth: Mapping[int, Mapping[int, Worth]], colours: Mapping[int, str]) -> None:
    """Draws real-data equivalences against the dream ratio; points that are bounds are open, towards where they lie."""
    for budget, own in worth.items():
        points = sorted(own.items())
        ratio, found = zip(*points, strict=True)
        colour = colours[budget]
        axes.plot(ratio, [one.centre for one in found], color=colour, label=f"{budget:,} real")
        axes.fill_between(
            ratio, [one.low for one in found], [one.high for one in found], color=colour, alpha=0.12, linewidth=0
        )
        for at, one in points:
            marker = "^" if one.centre >= one.most else "v" if one.centre <= one.least else "o"
            axes.plot(
                at, one.centre, marker, color=colour, markersize=5, markerfacecolor=colour if marker == "o" else "white"
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("dream ratio")
    axes.set_ylabel("times the real data, at ratio 1, for the same score")
    axes.set_title("real-data equivalence (open: at least, at most)", loc="left")


def _draw_multiples(
    axes: plt.Axes, multiples: Mapping[int, Sequence[tuple[float, float]]], colours: Mapping[int, str]
) -> None:
    """Draws our curves and published ones as multiples of their first points."""
    for budget, points in multiples.items():
        label = f"ours, {budget:,} real"
        axes.plot(*zip(*points, strict=True), marker="o", color=colours[budget], label=label, markersize=4)
    for (method, points), marker in zip(published.replay_ratios().items(), itertools.cycle("xv+d"), strict=False):
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


def _of_kind(rows: Sequence[dict], kind: str) -> list[dict]:
    """Returns the rows of the arms of one kind."""
    return [row for row in rows if row["arm"] == f"ratio {row['dream_ratio']}" + (f", {kind}" if kind else "")]


def _curve(rows: Sequence[dict], kind: str) -> list[tuple[int, float, float, float]]:
    """Returns (dream ratio, IQM, lower, upper) of the arms of one kind, rising in ratio."""
    own = _of_kind(rows, kind)
    ratios = sorted({row["dream_ratio"] for row in own})
    return [
        (ratio, *interquartile_mean([row["student_return"] for row in own if row["dream_ratio"] == ratio]))
        for ratio in ratios
    ]
