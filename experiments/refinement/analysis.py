"""How it is scored: what a teacher makes of failures, and what students can do that learned from each arm's states."""

from pathlib import Path

from experiments import table
from experiments.figures import against
from experiments.refinement.runs import ARMS, DEADLY, PANELS, REFERENCE
from experiments.results import newest_of
from experiments.sessions.measure import CUTS
from experiments.statistics import interquartile_mean

FOLDER = Path(__file__).parent
_OF_FAILURES = (
    "task", "seeds", *(f"saved from {100 * cut:.0f} % on: IQM [95 %]" for cut in CUTS),
    "labels right up to the first mistake", "labels right behind it",
)  # fmt: skip
_OF_ARMS = (
    "task", "arm", "seeds", "real transitions",
    "success without memory: after the first night, IQM [95 %]", "at the end",
    "bits held of those told", "states a night: lived, dreamed", "success in other jobs, by session",
)  # fmt: skip


def analyse() -> tuple[str, list[Path]]:
    """Returns the tables as Markdown and the figures drawn, each arm by its newest configuration.

    Tasks and arms without rows are left out.
    """
    failures, lines, ran = table.titled(_OF_FAILURES), table.titled(_OF_ARMS), {}
    for task, arms in ARMS.items():
        rows = newest_of(FOLDER / "results" / f"{task}.csv")
        ran[task] = {arm: own for arm in arms if (own := [row for row in rows if row["arm"] == arm])}
        if REFERENCE in ran[task]:
            failures.append(_line_of_failures(task, _first(ran[task][REFERENCE])))
        lines += [_line(task, arm, own) for arm, own in ran[task].items()]
    figures = []
    if len(failures) > 2:
        figures.append(_draw_recovery({task: _first(own[REFERENCE]) for task, own in ran.items() if REFERENCE in own}))
    for number, panel in enumerate(PANELS):
        figures += _draw_panel(ran, panel, FOLDER / "figures" / f"arms-{number + 1}.png")
    return "\n\n".join("\n".join(part) for part in (failures, lines)), figures


def _first(rows: list[dict]) -> list[dict]:
    """Returns the rows after the first night, one a seed: what is said there of teachers is from before it."""
    return [row for row in rows if row["real"] == min(row["real"] for row in rows)]


def _said(rows: list[dict], name: str) -> str:
    return table.interval(interquartile_mean([row[name] for row in rows]))


def _line_of_failures(task: str, rows: list[dict]) -> str:
    names = [*_recovered(), "labels_right_before", "labels_right_after"]
    return table.joined([task, str(len(rows)), *(_said(rows, name) for name in names)])


def _recovered() -> list[str]:
    return [f"recovered_{100 * cut:.0f}" for cut in CUTS]


def _line(task: str, arm: str, rows: list[dict]) -> str:
    final = [row for row in rows if row["final"]]
    updates = final[0]["updates"]
    held, told, lived, dreamed = (
        interquartile_mean([row[name] for row in final])[0]
        for name in ("retained_bits", "available_bits", "replayed", "dreamed")
    )
    cells = (
        f"{final[0]['real']:,}",
        _said(_first(rows), "student_return"),
        _said(final, "student_return"),
        f"{held:.1f} of {told:.1f}",
        f"{lived / updates:.0f}, {dreamed / updates:.0f}",
        _said(final, "other_session_return"),
    )
    return table.joined([task, arm, str(len(final)), *cells])


def _draw_recovery(first: dict[str, list[dict]]) -> Path:
    """Draws what share of its student's failures a teacher saves, against how much of them has passed."""
    lines = {
        f"a wrong answer is fatal in {DEADLY[task]:.0%}": [
            (100 * cut, [row[name] for row in rows]) for cut, name in zip(CUTS, _recovered(), strict=True)
        ]
        for task, rows in first.items()
    }
    rows = [row for own in first.values() for row in own]
    x = "percent of a failed episode after which the teacher takes over"
    return against.draw(rows, FOLDER / "figures" / "recovery.png", lines=lines, x=x)


def _draw_panel(ran: dict[str, dict[str, list[dict]]], panel: tuple[str, ...], path: Path) -> list[Path]:
    """Draws the success of some arms at the end, against how deadly wrong answers are; nothing where none ran."""
    lines, rows = {}, []
    for arm in panel:
        finals = {task: [row for row in own[arm] if row["final"]] for task, own in ran.items() if arm in own}
        if finals:
            lines[arm] = [(DEADLY[task], [row["student_return"] for row in own]) for task, own in finals.items()]
            rows += [row for own in finals.values() for row in own]
    x = "probability that a wrong answer makes success impossible"
    return [against.draw(rows, path, lines=lines, x=x)] if rows else []
