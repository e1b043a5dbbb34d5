"""How it is scored: final return of each arm beside the reference, from rows alone."""

from pathlib import Path

from experiments.components.runs import ARMS, REFERENCE
from experiments.figures import arms as arms_figure
from experiments.results import newest, read_rows
from experiments.statistics import interquartile_mean

FOLDER = Path(__file__).parent


def analyse() -> tuple[str, list[Path]]:
    """Returns the table as Markdown and the figures drawn, each arm by its newest configuration.

    Tasks without rows are left out.
    """
    lines = [
        "| task | arm | seeds | real transitions | final return, search-free: IQM [95 %] | worst | best "
        "| planner IQM |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    figures = []
    for task, configs in ARMS.items():
        path = FOLDER / "results" / f"{task}.csv"
        if not path.exists():
            continue
        final = [row for row in newest(read_rows(path)) if row["final"]]
        ran = [arm for arm in configs if any(row["arm"] == arm for row in final)]
        lines += [_line(task, arm, [row for row in final if row["arm"] == arm]) for arm in ran]
        figures.append(arms_figure.draw(final, FOLDER / "figures" / f"{task}.png", arms=ran, reference=REFERENCE))
    return "\n".join(lines), figures


def _line(task: str, arm: str, final: list[dict]) -> str:
    scores = [row["student_return"] for row in final]
    centre, low, high = interquartile_mean(scores)
    planner, _, _ = interquartile_mean([row["planner_return"] for row in final])
    return (
        f"| {task} | {arm} | {len(final)} | {final[0]['real']:,} | {centre:.2f} [{low:.2f}, {high:.2f}] | "
        f"{min(scores):.2f} | {max(scores):.2f} | {planner:.2f} |"
    )
