"""Final return of the deployed student, one line an arm: every seed, their IQM, and its interval."""

from collections.abc import Sequence
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
    world = require_one_world(rows)
    if len(budgets := {row["real"] for row in rows}) != 1:
        raise ValueError(
            f"runs of {sorted(budgets)} real transitions cannot share a figure: sweep the older arms again"
        )
    figure, axes = plt.subplots(figsize=(7.2, 1.2 + 0.45 * len(arms)), constrained_layout=True)
    for place, arm in enumerate(arms):
        colour = COLOURS[0] if arm == reference else COLOURS[1]
        scores = [row["student_return"] for row in rows if row["arm"] == arm]
        centre, low, high = interquartile_mean(scores)
        if arm == reference:
            axes.axvspan(low, high, color=colour, alpha=0.12, linewidth=0)
        axes.plot(scores, [place] * len(scores), "o", color=colour, alpha=0.35, markersize=4)
        axes.plot([low, high], [place, place], color=colour, linewidth=2)
        axes.plot([centre], [place], "o", color=colour, markersize=8)
    axes.set_yticks(range(len(arms)), arms)
    axes.invert_yaxis()
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    axes.set_xlabel(f"final return of the deployed student at {rows[0]['real']:,} real transitions: seeds, IQM, 95 %")
    axes.set_title(world, loc="left")
    return save(figure, path)
