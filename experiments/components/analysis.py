"""How it is scored: final return of each arm beside the reference, from rows alone."""

from pathlib import Path

from experiments import table
from experiments.components.runs import ARMS, REFERENCE
from experiments.figures import arms as arms_figure
from experiments.results import newest_of

FOLDER = Path(__file__).parent


def analyse() -> tuple[str, list[Path]]:
    """Returns the table as Markdown and the figures drawn, each arm by its newest configuration.

    Tasks without rows are left out.
    """
    lines = table.head()
    figures = []
    for task, configs in ARMS.items():
        rows = newest_of(FOLDER / "results" / f"{task}.csv")
        if not rows:
            continue
        final = [row for row in rows if row["final"]]
        ran = [arm for arm in configs if any(row["arm"] == arm for row in final)]
        lines += [table.line(task, arm, [row for row in final if row["arm"] == arm]) for arm in ran]
        figures.append(arms_figure.draw(final, FOLDER / "figures" / f"{task}.png", arms=ran, reference=REFERENCE))
    return "\n".join(lines), figures
