"""Questions whose arms each change one setting of a reference: their table and figures, from rows alone."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from experiments import table
from experiments.figures import arms as arms_figure
from experiments.results import final_of


def analyse(folder: Path, tasks: Mapping[str, Iterable[str]]) -> tuple[str, list[Path]]:
    """Returns the table as Markdown and the figures drawn, each arm by its newest configuration.

    Tasks and arms without rows are left out.

    Args:
      folder: the question's, with `results/` and `figures/`.
      tasks: task -> its arms, in order; the others are held against the first.
    """
    lines = table.head("search calls")
    figures = []
    for task, arms in tasks.items():
        final = final_of(folder, task)
        ran = {arm: rows for arm in arms if (rows := [row for row in final if row["arm"] == arm])}
        if not ran:
            continue
        lines += [table.line(task, arm, own, _searched(own)) for arm, own in ran.items()]
        rows = [row for rows in ran.values() for row in rows]
        path, reference = folder / "figures" / f"{task}.png", next(iter(arms))
        figures.append(arms_figure.draw(rows, path, arms=list(ran), reference=reference))
    return "\n".join(lines), figures


def _searched(rows: list[dict]) -> str:
    """Returns the cell of model calls by search; of the fewest and the most where nights stopped early."""
    calls = sorted({row["searched"] for row in rows})
    return " to ".join(f"{number:,}" for number in (calls[0], *calls[1:][-1:]))
