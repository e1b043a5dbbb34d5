"""How it is scored: what the student without memory can do against real transitions, and what it holds of the job."""

from pathlib import Path

from experiments import table
from experiments.consolidation.runs import ARMS, PANELS
from experiments.figures import learning_curve
from experiments.results import newest_of
from experiments.statistics import interquartile_mean

FOLDER = Path(__file__).parent
SHARE = 0.8
"""Of the success that its first session gives the teacher: what a student has to reach."""
_COLUMNS = (
    "task", "arm", "seeds", "real transitions", "success then, no session: IQM [95 %]", "at the end",
    "bits held of those told", "real transitions to 80 % of the teacher (median)", "success in other jobs, by session",
)  # fmt: skip
_OF_SEQUENCES = (
    "task", "arm", "seeds", "real transitions a job", "success without memory: first job, last job: IQM [95 %]",
    "in the jobs before, at the end", "success in other jobs, by session: after the first job, after the last",
    "nats from the first agent: after the first job, after the last",
)  # fmt: skip


def analyse() -> tuple[str, list[Path]]:
    """Returns the tables as Markdown and the figures drawn, each arm by its newest configuration.

    Tasks and arms without rows are left out. Jobs in sequence have a table of their own.
    """
    lines, sequences, figures = table.titled(_COLUMNS), table.titled(_OF_SEQUENCES), []
    empty = len(sequences)
    for task, arms in ARMS.items():
        rows = newest_of(FOLDER / "results" / f"{task}.csv")
        ran = {arm: own for arm in arms if (own := [row for row in rows if row["arm"] == arm])}
        teacher = teacher_return(rows)
        if any(config.sequence > 1 for config in arms.values()):
            sequences += [_line_of_sequence(task, arm, own) for arm, own in ran.items()]
        else:
            common = min((max(row["real"] for row in own) for own in ran.values()), default=0)
            lines += [_line(task, arm, own, teacher=teacher, common=common) for arm, own in ran.items()]
        for number, panel in enumerate(PANELS.get(task, ())):
            shown = [row for arm in panel for row in ran.get(arm, ())]
            if shown:
                path = FOLDER / "figures" / f"{task}-{number + 1}.png"
                said = {"its teacher, with the session in memory": teacher}
                figures.append(learning_curve.draw(shown, path, references=said, log_transitions=True))
    return "\n".join([*lines, *(["", *sequences] if len(sequences) > empty else [])]), figures


def teacher_return(rows: list[dict]) -> float:
    """Returns the IQM over seeds of what agents reach with their first session of the job in memory; nan without."""
    read = [row for row in rows if row["session_return"] is not None]
    first = {row["seed"]: row["session_return"] for row in sorted(read, key=lambda row: -row["real"])}
    return interquartile_mean(list(first.values()))[0] if first else float("nan")


def transitions_to_reach(curve: list[tuple[int, float]], threshold: float) -> int | None:
    """Returns the real transitions of the first evaluation of at least `threshold`; None if there is none.

    Args:
      curve: (real transitions, mean return) in order.
      threshold: in reward units.
    """
    return next((real for real, score in curve if score >= threshold), None)


def _line(task: str, arm: str, rows: list[dict], *, teacher: float, common: int) -> str:
    """Returns the line of an arm; `common` is up to how many real transitions all arms of the task went."""
    final = [row for row in rows if row["final"]]
    then = [row for row in rows if row["real"] == max(row["real"] for row in rows if row["real"] <= common)]
    seeds = sorted(row["seed"] for row in final)
    curves = [[(row["real"], row["student_return"]) for row in rows if row["seed"] == seed] for seed in seeds]
    reached = [transitions_to_reach(curve, SHARE * teacher) for curve in curves]
    cells = (
        f"{then[0]['real']:,}",
        table.interval(interquartile_mean([row["student_return"] for row in then])),
        f"{interquartile_mean([row['student_return'] for row in final])[0]:.2f} after {final[0]['real']:,}",
        f"{interquartile_mean([row['retained_bits'] for row in final])[0]:.1f} of "
        f"{interquartile_mean([row['available_bits'] for row in final])[0]:.1f}",
        table.when(reached, "reach it"),
        table.interval(interquartile_mean([row["other_session_return"] for row in final])),
    )
    return table.joined([task, arm, str(len(final)), *cells])


def _line_of_sequence(task: str, arm: str, rows: list[dict]) -> str:
    """Returns the line of an arm whose students lived in several jobs; what they kept was measured after each job."""
    ends = sorted({row["real"] for row in rows if row["old_kl"] is not None})
    first, last = ([row for row in rows if row["real"] == real] for real in (ends[0], ends[-1]))

    def said(rows: list[dict], name: str) -> str:
        return table.interval(interquartile_mean([row[name] for row in rows]))

    cells = (
        f"{ends[0]:,}",
        f"{said(first, 'student_return')}, {said(last, 'student_return')}",
        said(last, "earlier_return"),
        *(f"{said(first, name)}, {said(last, name)}" for name in ("other_session_return", "old_kl")),
    )
    return table.joined([task, arm, str(len(last)), *cells])
