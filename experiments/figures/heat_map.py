"""A number for each pair of two conditions as a coloured table, one panel an arm."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.figures.learning_curve import plt, require_one_world, save


def draw(
    rows: Sequence[dict],
    path: str | Path,
    *,
    panels: Mapping[str, Mapping[tuple[int, int], float]],
    y: str,
    x: str,
    what: str,
) -> Path:
    """Draws panels to a PNG and returns its path.

    Args:
      rows: of `experiments.results`, of which the numbers were computed.
      path: the file to write.
      panels: title -> (place on the vertical axis, on the horizontal one) -> a number from 0 to 1; pairs that are
        missing stay white.
      y: what the vertical axis says.
      x: what the horizontal axis says.
      what: what the numbers are.

    Raises:
      ValueError: no rows, or rows of several environments.
    """
    world = require_one_world(rows)
    pairs = [pair for numbers in panels.values() for pair in numbers]
    down, across = (sorted({pair[axis] for pair in pairs}) for axis in (0, 1))
    size = (1.2 + 0.55 * len(across), 0.9 + (1.0 + 0.5 * len(down)) * len(panels))
    figure, axes = plt.subplots(len(panels), 1, figsize=size, constrained_layout=True, squeeze=False, sharex=True)
    for axis, (title, numbers) in zip(axes[:, 0], panels.items(), strict=True):
        grid = np.array([[numbers.get((row, column), np.nan) for column in across] for row in down])
        image = axis.imshow(grid, vmin=0, vmax=1, cmap="viridis", aspect="auto", zorder=2)
        for (row, column), number in np.ndenumerate(grid):
            if np.isfinite(number):
                colour = "white" if number < 0.6 else "black"
                axis.text(column, row, f"{number:.2f}", ha="center", va="center", fontsize=8, color=colour)
        axis.set_xticks(range(len(across)), [f"{place:,}" for place in across])
        axis.set_yticks(range(len(down)), [f"{place:,}" for place in down])
        axis.set_title(title, loc="left", fontsize=9)
    axes[-1, 0].set_xlabel(x)
    figure.supylabel(y, fontsize=9)
    figure.suptitle(f"{world}: {what}", fontsize=10, x=0.01, ha="left")
    figure.colorbar(image, ax=axes[:, 0], shrink=0.6)
    return save(figure, path)
