"""Return of the deployed student against real transitions, one line an arm, the interval over seeds shaded."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display is needed, or looked for

import matplotlib.pyplot as plt  # noqa: E402

from experiments.statistics import interquartile_mean  # noqa: E402

COLOURS = ("#1b6ca8", "#c8553d", "#588157", "#7b2d8b", "#8d99ae", "#d98e04")
DREAMING, CONTROL = "dreaming", "no dreams"


def draw(
    rows: Sequence[dict],
    path: str | Path,
    *,
    references: Mapping[str, float] | None = None,
    log_transitions: bool = False,
) -> Path:
    """Draws rows of one environment to a PNG and returns its path.

    Args:
      rows: of `experiments.results`; rows of an arm that share `real` are its seeds.
      path: the file to write.
      references: what is said of a score -> that score, each a dotted line.
      log_transitions: whether real transitions are drawn on a logarithmic axis.

    Raises:
      ValueError: no rows, or rows of several environments.
    """
    world = require_one_world(rows)
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    figure, axes = plt.subplots(figsize=(7.2, 4.8), constrained_layout=True)
    for arm, colour in zip(arms, itertools.cycle(COLOURS), strict=False):
        _draw_arm(axes, arm, [row for row in rows if row["arm"] == arm], colour)
    for said, score in (references or {}).items():
        axes.axhline(score, color="0.5", linewidth=1, linestyle=":")
        axes.annotate(said, (0.01, score), xycoords=("axes fraction", "data"), va="bottom", fontsize=7, color="0.4")
    axes.set_xlabel("real transitions (decisions)")
    axes.set_ylabel("return of the deployed, search-free student")
    axes.set_title(world, loc="left")
    if log_transitions:
        axes.set_xscale("log", base=2)
    else:
        axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    figure.legend(frameon=False, loc="outside lower left", fontsize=8)
    return save(figure, path)


def require_one_world(rows: Sequence[dict]) -> str:
    """Returns id and version of the one environment that the rows are of, or raises ValueError."""
    worlds = sorted({(row["env_id"], row["env_version"]) for row in rows})
    if len(worlds) != 1:
        raise ValueError(f"a figure shows one environment, these rows have {worlds}: select the rows of one")
    return f"{worlds[0][0]} ({worlds[0][1]})"


def save(figure: plt.Figure, path: str | Path) -> Path:
    """Writes a figure in the one look that all share, closes it, and returns its path."""
    for axes in figure.axes:
        axes.grid(color="0.92")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return save_picture(figure, path, dpi=150)


def save_picture(figure: plt.Figure, path: str | Path, *, dpi: int = 110) -> Path:
    """Writes a figure as it is, closes it, and returns its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi, metadata={"Software": None})
    plt.close(figure)
    return path


def _draw_arm(axes: plt.Axes, arm: str, rows: list[dict], colour: str) -> None:
    points = sorted({row["real"] for row in rows})
    summaries = [interquartile_mean([row["student_return"] for row in rows if row["real"] == real]) for real in points]
    centre, low, high = zip(*summaries, strict=True)
    num_seeds = len({row["seed"] for row in rows})
    ratios = sorted({row["dream_ratio"] for row in rows})
    seeds = "1 seed" if num_seeds == 1 else f"IQM of {num_seeds} seeds, 95 % interval"
    label = f"{arm}: dream ratio {', '.join(map(str, ratios))} ({seeds})"
    axes.plot(points, centre, color=colour, linewidth=1.8, label=label, marker="o", markersize=3)
    axes.fill_between(points, low, high, color=colour, alpha=0.18, linewidth=0)
