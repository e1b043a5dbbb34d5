"""How it is scored: what a teacher makes of failures, and what students can do that learned from each arm's states."""

from pathlib import Path

from experiments import table
from experiments.figures import against, arms
from experiments.refinement.runs import ARMS, DEADLY, FRESH, IMITATED, READING_ON, READS_ON, REAL, REFERENCE
from experiments.results import newest_of
from experiments.sessions.failures import CUTS, STEPS
from experiments.statistics import interquartile_mean

_OF_FAILURES = (
    "task", "arm", "the student before", "seeds",
    *(f"saved from {100 * cut:.0f} % on, of what can be saved" for cut in CUTS),
    "labels right up to the first mistake", "behind it, mostly of the key that was missed",
    "right in all that it lived that day: up to the first mistake of an episode", "behind it",
)  # fmt: skip
_BEHIND = ("up to the first mistake", *(f"{step} behind it" for step in STEPS[1:]))
_OF_REGRET = (
    "task", "arm", "the student before", "seeds, up to the first mistake",
    *(f"regret, of the stake; bits off: {step}" for step in _BEHIND),
)  # fmt: skip
_OF_ARMS = (
    "task", "arm", "seeds", "success without memory after 128 real transitions: IQM [95 %]", "above raw, seed by seed",
    "after 384", "above raw, seed by seed", "above the teacher's, fresh, seed by seed: after 128, after 384",
    "bits held of those told", "states an update: lived, dreamed", "success in other jobs, by session",
)  # fmt: skip
_EARLY, _LATE = REAL
_SAID = {
    **{task: f"a wrong answer is fatal in {deadly:.0%}" for task, deadly in DEADLY.items()},
    IMITATED: "who imitated a reader's days",
    READING_ON: "half as long days",
}
"""Task -> what a figure says of it."""
_FIGURES = {"recovery": (*DEADLY, IMITATED), f"recovery-{READING_ON}": (READING_ON,)}
"""Figure of failures -> its tasks."""


def analyse(folder: Path) -> tuple[str, list[Path]]:
    """Returns the tables as Markdown and the figures drawn, each arm by its newest configuration.

    Tasks and arms without rows are left out.
    """
    failures, lines, ran = table.titled(_OF_FAILURES), table.titled(_OF_ARMS), {}
    regrets = []
    for task, configs in ARMS.items():
        rows = newest_of(folder, task)
        ran[task] = {arm: own for arm in configs if (own := [row for row in rows if row["arm"] == arm])}
        for arm, own in _failed(ran[task]).items():
            for night, real in (("the first night", _first(own)), ("the last night", _LATE)):
                asked = _after(own, real)
                failures.append(_line_of_failures(task, arm, night, asked))
                if _values(asked, "regret_0"):
                    regrets.append(_line_of_regret(task, arm, night, asked))
        raw, fresh = (ran[task].get(arm, []) for arm in (REFERENCE, FRESH))
        lines += [_line(task, arm, own, raw, fresh) for arm, own in ran[task].items()]
    drawn, figures = folder / "figures", []
    for name, tasks in _FIGURES.items():
        if shown := {task: failed for task in tasks if (failed := _failed(ran[task]))}:
            figures.append(_draw_recovery(shown, drawn / f"{name}.png"))
    figures += [path] if (path := _draw_surprise(ran, drawn / "surprise.png")) else []
    figures += [path for task, own in ran.items() if (path := _draw_above(task, own, drawn / f"{task}.png"))]
    parts = failures, [*table.titled(_OF_REGRET), *regrets] if regrets else [], lines
    return "\n\n".join("\n".join(part) for part in parts if part), figures


def _failed(ran: dict[str, list[dict]]) -> dict[str, list[dict]]:
    """Returns the arms of a task by which the failure itself is measured."""
    return {arm: ran[arm] for arm in (REFERENCE, READS_ON) if arm in ran}


def _first(rows: list[dict]) -> int:
    """Returns the real transitions after the first night."""
    return min(row["real"] for row in rows)


def _after(rows: list[dict], real: int) -> list[dict]:
    """Returns the rows after so many real transitions; of teachers they say what was true before that night."""
    return [row for row in rows if row["real"] == real]


def _values(rows: list[dict], name: str) -> list[float]:
    """Returns what rows say; those in which nothing failed say nothing of failures."""
    return [row[name] for row in rows if row[name] is not None]


def _said(rows: list[dict], name: str, *, else_said: str = "nothing failed") -> str:
    values = _values(rows, name)
    return table.interval(interquartile_mean(values)) if values else else_said


def _names(what: str) -> list[str]:
    return [f"{what}_{100 * cut:.0f}" for cut in CUTS]


def _line_of_failures(task: str, arm: str, night: str, rows: list[dict]) -> str:
    saved = [
        f"{_said(rows, one)} of {interquartile_mean(savable)[0]:.2f}" if savable else "nothing failed"
        for one, savable in zip(_names("recovered"), (_values(rows, name) for name in _names("savable")), strict=True)
    ]
    labels = [_said(rows, name) for name in ("labels_right_before", "labels_right_after")]
    labels += [_said(rows, name, else_said="not measured") for name in ("told_right_before", "told_right_after")]
    return table.joined([task, arm, night, str(len(rows)), *saved, *labels])


def _line_of_regret(task: str, arm: str, night: str, rows: list[dict]) -> str:
    cells = []
    for step in STEPS:
        stake, *said = (_values(rows, f"{name}_{step}") for name in ("stake", "regret", "surprise"))
        regret, surprise = (table.interval(interquartile_mean(own)) if own else "" for own in said)
        cells.append(f"{regret} of {interquartile_mean(stake)[0]:.2f}; {surprise}" if stake else "-")
    return table.joined([task, arm, night, str(len(_values(rows, "stake_0"))), *cells])


def _more(rows: list[dict], raw: list[dict], real: int) -> list[float]:
    """Returns how much more an arm succeeds than raw states do, of the same agents in the same jobs: one a seed."""
    held_against = {row["seed"]: row["student_return"] for row in _after(raw, real)}
    return [
        row["student_return"] - held_against[row["seed"]] for row in _after(rows, real) if row["seed"] in held_against
    ]


def _above(rows: list[dict], against: list[dict], real: int) -> str:
    more = _more(rows, against, real)
    return table.interval(interquartile_mean(more)) if more and rows is not against else ""


def _line(task: str, arm: str, rows: list[dict], raw: list[dict], fresh: list[dict]) -> str:
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
        ", ".join(said for real in REAL if (said := _above(rows, fresh, real))),
        f"{held:.1f} of {told:.1f}",
        f"{lived / updates:.0f}, {dreamed / updates:.0f}",
        _said(final, "other_session_return"),
    )
    return table.joined([task, arm, str(len(final)), *cells])


def _draw_recovery(failed: dict[str, dict[str, list[dict]]], path: Path) -> Path:
    """Draws what share of its student's failures in the first night a teacher saves, and somebody who knows the job
    would, against how much of them has passed.

    Args:
      failed: task -> arm -> its rows.
      path: of the figure.
    """
    asked = []
    for task, arms_of in failed.items():
        asked += [(task, arm, "recovered") for arm in arms_of]
        # What can be saved is the same of all arms, whose student is the first agent.
        asked += [(task, REFERENCE, "savable")] if REFERENCE in arms_of else []
    lines, kin = {}, {}
    for task, arm, what in asked:
        own = failed[task][arm]
        first = _after(own, _first(own))
        named = zip(CUTS, _names(what), strict=True)
        points = [(100 * cut, values) for cut, one in named if (values := _values(first, one))]
        reader = "the session's reader" + (", reading on" if arm == READS_ON else "")
        said = f"{reader if what == 'recovered' else 'who knows the job'}; {_SAID[task]}"
        lines |= {said: points} if points else {}
        kin[said] = f"{task}, {arm}"
    rows = [row for arms_of in failed.values() for own in arms_of.values() for row in _after(own, _first(own))]
    x = "percent of a failed episode after which the teacher takes over"
    y = "share of the failed episodes that is saved"
    return against.draw(rows, path, lines=lines, kin=kin, x=x, y=y)


def _draw_surprise(ran: dict[str, dict[str, list[dict]]], path: Path) -> Path | None:
    """Draws how far the teacher of the last night is from who knows the job, in episodes that its student fails, by the
    decisions behind the first mistake; of arms in which it was measured, nothing where in none."""
    lines, rows = {}, []
    for task, arms_of in ran.items():
        for arm, own in _failed(arms_of).items():
            last = _after(own, _LATE)
            points = [(step, values) for step in STEPS if (values := _values(last, f"surprise_{step}"))]
            reads = ", reading on" if arm == READS_ON else ""
            lines |= {f"{_SAID[task]}{reads}": points} if points else {}
            rows += last if points else []
    if not lines:
        return None
    x = "decisions behind the first mistake of a failed episode (0: that one and all before it)"
    y = "KL(who knows the job || teacher), bits"
    return against.draw(rows, path, lines=lines, x=x, y=y)


def _draw_above(task: str, ran: dict[str, list[dict]], path: Path) -> Path | None:
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
    x = f"success above raw, seed by seed; {_SAID[task]}"
    return arms.draw_differences(rows, path, lines=lines, said=said, x=x)
