"""Final return of the deployed student, one line an arm or two a condition: every seed, their IQM, and its interval."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.figures.learning_curve import COLOURS, plt, require_one_world, save
from experiments.statistics import interquartile_mean


def draw(rows: Sequence[dict], path: str | Path, *, arms: Sequence[str], reference: str) -> Path:
    """Draws final rows of one environment to a PNG and returns its path.

    Args:
      rows: of `experiments.results`, one a run.
      path: the file to write.
      arms: from top to bottom.
      reference: the arm that the others are held against; its interval is shaded over all of them.

    Raises:
      ValueError: no rows, or rows of several environments or numbers of real transitions.
    """
    figure, axes = _begin(rows, arms)
    for place, arm in enumerate(arms):
        colour = COLOURS[0] if arm == reference else COLOURS[1]
        _, low, high = _draw_line(axes, _returns(rows, arm), place=place, colour=colour)
        if arm == reference:
            axes.axvspan(low, high, color=colour, alpha=0.12, linewidth=0)
    return _end(figure, axes, path)


def draw_pairs(
    rows: Sequence[dict],
    path: str | Path,
    *,
    pairs: Mapping[str, tuple[str, str]],
    said: tuple[str, str],
    reference: str,
) -> Path:
    """Draws final rows of one environment, two arms a condition, to a PNG and returns its path.

    Args:
      rows: of `experiments.results`, one a run.
      path: the file to write.
      pairs: condition -> its two arms; conditions from top to bottom.
      said: what the legend says of the first arms, and of the second.
      reference: the condition whose first arm the others are held against: its IQM is a line over all of them.

    Raises:
      ValueError: as in `draw`.
    """
    figure, axes = _begin(rows, list(pairs))
    for place, (condition, arms) in enumerate(pairs.items()):
        for arm, colour, side in zip(arms, (COLOURS[1], COLOURS[0]), (-0.16, 0.16), strict=True):
            centre, _, _ = _draw_line(axes, _returns(rows, arm), place=place + side, colour=colour)
            if condition == reference and side < 0:
                axes.axvline(centre, color=colour, linewidth=1, linestyle=":")
    _say(figure, said)
    return _end(figure, axes, path)


def draw_differences(
    rows: Sequence[dict],
    path: str | Path,
    *,
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    said: tuple[str, str],
    x: str,
) -> Path:
    """Draws how far arms lie from a reference, twice each, to a PNG and returns its path.

    Args:
      rows: of `experiments.results`, of which the differences were computed.
      path: the file to write.
      lines: arm -> its differences, one a seed, at two moments; arms from top to bottom.
      said: what the legend says of the first moment, and of the second.
      x: what the differences are.

    Raises:
      ValueError: no rows, or rows of several environments.
    """
    figure, axes = _named(require_one_world(rows), list(lines), x)
    axes.axvline(0.0, color="0.5", linewidth=1, linestyle=":")
    for place, moments in enumerate(lines.values()):
        for numbers, colour, side in zip(moments, (COLOURS[1], COLOURS[0]), (-0.16, 0.16), strict=True):
            _draw_line(axes, numbers, place=place + side, colour=colour)
    _say(figure, said)
    return save(figure, path)


def _begin(rows: Sequence[dict], lines: Sequence[str]) -> tuple[plt.Figure, plt.Axes]:
    """Returns a figure of final returns with a named line for each arm or condition, and its axes."""
    world = require_one_world(rows)
    if len(budgets := {row["real"] for row in rows}) != 1:
        raise ValueError(
            f"runs of {sorted(budgets)} real transitions cannot share a figure: sweep the older arms again"
        )
    said = f"final return of the deployed student at {rows[0]['real']:,} real transitions: seeds, IQM, 95 %"
    return _named(world, lines, said)


def _named(world: str, lines: Sequence[str], x: str) -> tuple[plt.Figure, plt.Axes]:
    """Returns a figure with named lines from top to bottom, and its axes."""
    figure, axes = plt.subplots(figsize=(7.2, 1.2 + 0.45 * len(lines)), constrained_layout=True)
    axes.set_yticks(range(len(lines)), lines)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_xlabel(x, loc="right")  # where names are long it is wider than the axes
    axes.set_title(world, loc="left")
    return figure, axes


def _say(figure: plt.Figure, said: tuple[str, str]) -> None:
    """Names the two colours of a line."""
    handles = [plt.Line2D([], [], color=colour, marker="o") for colour in (COLOURS[1], COLOURS[0])]
    figure.legend(handles, said, frameon=False, fontsize=8, loc="outside upper right", ncols=2)


def _end(figure: plt.Figure, axes: plt.Axes, path: str | Path) -> Path:
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    return save(figure, path)


def _returns(rows: Sequence[dict], arm: str) -> list[float]:
    return [row["student_return"] for row in rows if row["arm"] == arm]


def _draw_line(axes: plt.Axes, scores: Sequence[float], *, place: float, colour: str) -> tuple[float, float, float]:
    """Draws the seeds of one arm, their IQM and its interval, and returns (IQM, lower, upper end)."""
    centre, low, high = interquartile_mean(scores)
    axes.plot(scores, [place] * len(scores), "o", color=colour, alpha=0.35, markersize=4)
    axes.plot([low, high], [place, place], color=colour, linewidth=2)
    axes.plot([centre], [place], "o", color=colour, markersize=8)
    return centre, low, high
