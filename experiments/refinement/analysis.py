"""How it is scored: what a teacher makes of failures, and what students can do that learned from each arm's states."""

from pathlib import Path

from experiments import table
from experiments.figures import against, arms
from experiments.refinement.runs import ARMS, DEADLY, REAL, REFERENCE
from experiments.results import newest_of
from experiments.sessions.measure import CUTS
from experiments.statistics import interquartile_mean

FOLDER = Path(__file__).parent
_OF_FAILURES = (
    "task", "the student before", "seeds", *(f"saved from {100 * cut:.0f} % on, of what can be saved" for cut in CUTS),
    "labels right up to the first mistake", "behind it, mostly of the key that was missed",
)  # fmt: skip
_OF_ARMS = (
    "task", "arm", "seeds", "success without memory after 128 real transitions: IQM [95 %]", "above raw, seed by seed",
    "after 384", "above raw, seed by seed", "bits held of those told", "states an update: lived, dreamed",
    "success in other jobs, by session",
)  # fmt: skip
_EARLY, _LATE = REAL


def analyse() -> tuple[str, list[Path]]:
    """Returns the tables as Markdown and the figures drawn, each arm by its newest configuration.

    Tasks and arms without rows are left out.
    """
    failures, lines, ran = table.titled(_OF_FAILURES), table.titled(_OF_ARMS), {}
    for task, configs in ARMS.items():
        rows = newest_of(FOLDER / "results" / f"{task}.csv")
        ran[task] = {arm: own for arm in configs if (own := [row for row in rows if row["arm"] == arm])}
        if REFERENCE in ran[task]:
            for night, real in (("the first night", _EARLY), ("the last night", _LATE)):
                failures.append(_line_of_failures(task, night, _after(ran[task][REFERENCE], real)))
        raw = ran[task].get(REFERENCE, [])
        lines += [_line(task, arm, own, raw) for arm, own in ran[task].items()]
    figures = []
    if len(failures) > 2:
        first = {task: _after(own[REFERENCE], _EARLY) for task, own in ran.items() if REFERENCE in own}
        figures.append(_draw_recovery(first))
    figures += [path for task, own in ran.items() if (path := _draw_above(task, own))]
    return "\n\n".join("\n".join(part) for part in (failures, lines)), figures


def _after(rows: list[dict], real: int) -> list[dict]:
    """Returns the rows after so many real transitions; of teachers they say what was true before that night."""
    return [row for row in rows if row["real"] == real]


def _values(rows: list[dict], name: str) -> list[float]:
    """Returns what rows say; those in which nothing failed say nothing of failures."""
    return [row[name] for row in rows if row[name] is not None]


def _said(rows: list[dict], name: str) -> str:
    values = _values(rows, name)
    return table.interval(interquartile_mean(values)) if values else "nothing failed"


def _names(what: str) -> list[str]:
    return [f"{what}_{100 * cut:.0f}" for cut in CUTS]


def _line_of_failures(task: str, night: str, rows: list[dict]) -> str:
    saved = [
        f"{_said(rows, one)} of {interquartile_mean(savable)[0]:.2f}" if savable else "nothing failed"
        for one, savable in zip(_names("recovered"), (_values(rows, name) for name in _names("savable")), strict=True)
    ]
    labels = [_said(rows, name) for name in ("labels_right_before", "labels_right_after")]
    return table.joined([task, night, str(len(rows)), *saved, *labels])


def _more(rows: list[dict], raw: list[dict], real: int) -> list[float]:
    """Returns how much more an arm succeeds than raw states do, of the same agents in the same jobs: one a seed."""
    held_against = {row["seed"]: row["student_return"] for row in _after(raw, real)}
    return [
        row["student_return"] - held_against[row["seed"]] for row in _after(rows, real) if row["seed"] in held_against
    ]


def _above(rows: list[dict], raw: list[dict], real: int) -> str:
    more = _more(rows, raw, real)
    return table.interval(interquartile_mean(more)) if more and rows is not raw else ""


def _line(task: str, arm: str, rows: list[dict], raw: list[dict]) -> str:
    final = _after(rows, _LATE)
    updates = final[0]["updates"]
    held, told, lived, dreamed = (
        interquartile_mean(_values(final, name))[0]
        for name in ("retained_bits", "available_bits", "replayed", "dreamed")
    )
    cells = (
        _said(_after(rows, _EARLY), "student_return"),
        _above(rows, raw, _EARLY),
        _said(final, "student_return"),
        _above(rows, raw, _LATE),
        f"{held:.1f} of {told:.1f}",
        f"{lived / updates:.0f}, {dreamed / updates:.0f}",
        _said(final, "other_session_return"),
    )
    return table.joined([task, arm, str(len(final)), *cells])


def _draw_recovery(first: dict[str, list[dict]]) -> Path:
    """Draws what share of its student's failures a teacher saves, and somebody who knows the job would, against how
    much of them has passed."""
    lines = {
        f"{who}; a wrong answer is fatal in {DEADLY[task]:.0%}": [
            (100 * cut, values) for cut, name in zip(CUTS, _names(what), strict=True) if (values := _values(rows, name))
        ]
        for task, rows in first.items()
        for who, what in (("the session's reader", "recovered"), ("who knows the job", "savable"))
    }
    rows = [row for own in first.values() for row in own]
    x = "percent of a failed episode after which the teacher takes over"
    lines = {said: points for said, points in lines.items() if points}
    y = "share of the failed episodes that is saved"
    return against.draw(rows, FOLDER / "figures" / "recovery.png", lines=lines, x=x, y=y)


def _draw_above(task: str, ran: dict[str, list[dict]]) -> Path | None:
    """Draws how far each arm of a task lies above raw, seed by seed, early and late; nothing where there is no raw."""
    raw = ran.get(REFERENCE, [])
    lines = {
        arm: (early, late)
        for arm, own in ran.items()
        if own is not raw and (early := _more(own, raw, _EARLY)) and (late := _more(own, raw, _LATE))
    }
    if not lines:
        return None
    rows = [row for own in ran.values() for row in own]
    said = f"after {_EARLY} real transitions", f"after {_LATE}"
    x = f"success above raw, seed by seed; a wrong answer is fatal in {DEADLY[task]:.0%}"
    return arms.draw_differences(rows, FOLDER / "figures" / f"{task}.png", lines=lines, said=said, x=x)
