"""A measure against a number that each condition has, one line a measure, with the interval over seeds."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.figures.learning_curve import COLOURS, plt, require_one_world, save
from experiments.statistics import interquartile_mean

_DASHES = "-", (0, (4, 2)), (0, (1, 1.5))
"""Of lines, so that those which lie on one another show through."""


def draw(
    rows: Sequence[dict],
    path: str | Path,
    *,
    lines: Mapping[str, Sequence[tuple[float, Sequence[float]]]],
    exact: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    x: str,
    y: str,
    references: Mapping[str, float] | None = None,
    logarithmic: bool = False,
    least: float | None = None,
    kin: Mapping[str, str] | None = None,
) -> Path:
    """Draws lines to a PNG and returns its path.

    Args:
      rows: of `experiments.results`, of which the lines were computed.
      path: the file to write.
      lines: what the legend says of a line -> (x, the numbers of its seeds).
      exact: what it says of a line that no seed decides -> (x, its number).
      x: what the horizontal axis says.
      y: what the vertical axis says.
      references: what is said of a number -> that number, each a dotted line.
      logarithmic: whether the horizontal axis is.
      least: where the vertical axis begins, which is then said beside it; None shows all.
      kin: what the legend says of a line -> what it has in common with those that share its colour, which dashes tell
        apart; None gives each a colour of its own.

    Raises:
      ValueError: no rows, or rows of several environments.
    """
    world = require_one_world(rows)
    figure, axes = plt.subplots(figsize=(7.2, 4.8), constrained_layout=True)
    for (said, points), (colour, dashes) in zip(lines.items(), _looks(list(lines), kin), strict=True):
        _draw_line(axes, said, points, color=colour, linestyle=dashes)
    for said, points in (exact or {}).items():
        axes.plot(*zip(*sorted(points), strict=True), color="0.3", linewidth=1.2, linestyle=":", label=said)
    for said, number in (references or {}).items():
        axes.axhline(number, color="0.5", linewidth=1, linestyle=":")
        axes.annotate(said, (0.01, number), xycoords=("axes fraction", "data"), va="bottom", fontsize=7, color="0.4")
    if logarithmic:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:,.0f}")
    elif all(isinstance(place, int) for points in lines.values() for place, _ in points):
        axes.xaxis.get_major_locator().set_params(integer=True)  # there is nothing between counts
    axes.set_xlabel(x)
    axes.set_ylabel(y if least is None else f"{y} (what is below {least:g} is not shown)")
    axes.set_ylim(bottom=least)
    axes.set_title(world, loc="left")
    figure.legend(frameon=False, loc="outside lower left", fontsize=8, handlelength=3.5)
    return save(figure, path)


def _looks(lines: list[str], kin: Mapping[str, str] | None) -> list[tuple[str, str | tuple]]:
    """Returns the colour and the dashes of each line."""
    families = [kin[said] for said in lines] if kin else lines
    colours = dict(zip(dict.fromkeys(families), itertools.cycle(COLOURS), strict=False))
    places = [families[:number].count(family) if kin else number for number, family in enumerate(families)]
    return [(colours[family], _DASHES[place % len(_DASHES)]) for family, place in zip(families, places, strict=True)]


def _draw_line(
    axes: plt.Axes, said: str, points: Sequence[tuple[float, Sequence[float]]], *, color: str, linestyle: str | tuple
) -> None:
    """Draws one line, its seeds and its interval."""
    ordered = sorted(points)
    places = [place for place, _ in ordered]
    centre, low, high = zip(*(interquartile_mean(scores) for _, scores in ordered), strict=True)
    num_seeds = min(len(scores) for _, scores in ordered)
    label = f"{said} (IQM of {num_seeds} seeds, 95 % interval)"
    axes.plot(places, centre, color=color, linestyle=linestyle, linewidth=1.8, marker="o", markersize=4, label=label)
    axes.fill_between(places, low, high, color=color, alpha=0.18, linewidth=0)
    axes.vlines(places, low, high, color=color, linewidth=1)
    for place, scores in ordered:
        axes.plot([place] * len(scores), scores, "o", color=color, alpha=0.3, markersize=3)
