"""How it is scored: the table, of which the README shows some rows, and a learning curve a task, from rows alone."""

from pathlib import Path

from experiments import published, table
from experiments.figures import learning_curve
from experiments.results import newest_of
from experiments.sample_efficiency.runs import ARMS, TASKS

SOLVED = {
    "cartpole": 475.0,
    "cartpole-5000": 475.0,
    "deep-sea": 0.98,
    "minatar-100k-breakout": 12.0,
    "minatar-100k-asterix": 2.5,
    "minatar-100k-spaceinvaders": 25.0,
    "minatar-100k-freeway": 30.0,
    "minatar-1m-breakout": 99.0,
    "minatar-1m-asterix": 50.0,
    "minatar-1m-spaceinvaders": 189.0,
    "minatar-1m-freeway": 71.0,
}
"""Mean return over the evaluation episodes from which a task counts as solved: of MinAtar what was aimed at beforehand,
after a million transitions the best that is published for as many."""
_PUBLISHED = {"minatar-100k": {"most": 320_000}, "minatar-1m": {"least": 900_000, "most": 1_000_000}}
"""Preset -> budgets of the published scores beside it; none is published for 100,000."""
REFERENCES = {
    "cartpole": {"best possible": 500.0},
    "cartpole-5000": {"best possible": 500.0},
    "deep-sea": {"best possible": 0.99},
    **{
        task: published.minatar(config.env.id, **_PUBLISHED[config.run.preset])
        for task, config in TASKS.items()
        if task.startswith("minatar")
    },
}
"""Task -> what is said of a score -> that score: lines to read a curve against."""


def transitions_to_hold(curve: list[tuple[int, float]], threshold: float) -> int | None:
    """Returns the real transitions from which on every evaluation to the end is at least `threshold`; None if never.

    Args:
      curve: (real transitions, mean return) in order.
      threshold: in reward units.
    """
    held = None
    for real, score in curve:
        held = (held if held is not None else real) if score >= threshold else None
    return held


def analyse(folder: Path) -> tuple[str, list[Path]]:
    """Returns the table as Markdown and the figures drawn, each arm by its newest configuration.

    Tasks without rows are left out.
    """
    lines = table.head("real transitions until held (median)")
    figures = []
    for task in TASKS:
        order = list(ARMS[task])
        rows = sorted(newest_of(folder, task), key=lambda row: order.index(row["arm"]))
        if not rows:
            continue
        lines += [_line(task, arm, rows) for arm in dict.fromkeys(row["arm"] for row in rows)]
        figures.append(learning_curve.draw(rows, folder / "figures" / f"{task}.png", references=REFERENCES[task]))
    return "\n".join(lines), figures


def _line(task: str, arm: str, rows: list[dict]) -> str:
    rows = [row for row in rows if row["arm"] == arm]
    seeds = sorted({row["seed"] for row in rows})
    curves = [[(row["real"], row["student_return"]) for row in rows if row["seed"] == seed] for seed in seeds]
    held = [transitions_to_hold(curve, SOLVED[task]) for curve in curves]
    return table.line(task, arm, [row for row in rows if row["final"]], table.when(held, f"hold {SOLVED[task]:g}"))
