"""How it is scored: what the student without memory can do against real transitions, and what it holds of the job."""

from pathlib import Path

from experiments import table
from experiments.consolidation.runs import ARMS, EARLIER, KEPT, OVERLAP, PANELS
from experiments.consolidation.several import (
    OF_PERIODS,
    OF_SEQUENCES,
    OF_SHARED,
    draw_earlier,
    draw_periods,
    draw_shared,
    line_of_period,
    line_of_sequence,
    line_of_shared,
)
from experiments.figures import against, learning_curve
from experiments.results import newest_of
from experiments.statistics import interquartile_mean

SHARE = 0.8
"""Of the success that its first session gives the reader: what a student has to reach."""
_COLUMNS = (
    "task", "arm", "seeds", "real transitions", "success then, no session: IQM [95 %]", "at the end",
    "bits held of those told", "real transitions to 80 % of the reader (median)", "success in other jobs, by session",
)  # fmt: skip
_OF_STATES = (
    "task", "arm", "seeds", "states", "real transitions", "success without memory: IQM [95 %]",
    "bits held of those told", "success in other jobs, by session",
)  # fmt: skip
_FIRST = "the first agent, by a session"
_SEQUENCES = ("sequence", *OVERLAP)


def analyse(folder: Path) -> tuple[str, list[Path]]:
    """Returns the tables as Markdown and the figures drawn, each arm by its newest configuration.

    Tasks and arms without rows are left out. What was not asked over many nights in one job has tables of its own.
    """
    tables, figures = {_COLUMNS: [], _OF_STATES: [], OF_SEQUENCES: [], OF_PERIODS: [], OF_SHARED: []}, []
    for task, arms in ARMS.items():
        rows = newest_of(folder, task)
        ran = {arm: own for arm in arms if (own := [row for row in rows if row["arm"] == arm])}
        if not ran:
            continue
        if task in _SEQUENCES:
            figures += [
                draw_earlier(shown, folder / "figures" / f"{task}-earlier-{number}.png")
                for number, panel in enumerate(EARLIER if task in OVERLAP else (), 1)
                if (shown := {arm: ran[arm] for arm in panel if arm in ran})
            ]
            tables[OF_SEQUENCES] += [
                *[line_of_sequence(task, arm, own) for arm, own in ran.items()],
                *_lines_of_first(task, rows, ["-", "-", "-", "{}", "0"]),
            ]
        elif task == "dreams":
            tables[_OF_STATES] += [
                *[_line_of_states(task, arm, own) for arm, own in ran.items()],
                *_lines_of_first(task, rows, ["0", "64", "-", "-", "{}"]),
            ]
            figures.append(_draw_states(ran, folder / "figures" / f"{task}.png"))
        elif task in ("period", KEPT):
            tables[OF_PERIODS] += [line_of_period(task, arm, own) for arm, own in ran.items()]
            if task != KEPT:  # of two arms no figure shows more than the table
                figures.append(draw_periods(ran, folder / "figures" / f"{task}.png"))
        elif task == "shared":
            tables[OF_SHARED] += [line_of_shared(task, arm, own) for arm, own in ran.items()]
            figures += draw_shared(ran, folder / "figures")
        else:
            common = min(max(row["real"] for row in own) for own in ran.values())
            teacher = teacher_return(rows)
            tables[_COLUMNS] += [_line(task, arm, own, teacher=teacher, common=common) for arm, own in ran.items()]
        for number, panel in enumerate(PANELS.get(task, ())):
            shown = [row for arm in panel for row in ran.get(arm, ())]
            if shown:
                path = folder / "figures" / f"{task}-{number + 1}.png"
                # In later jobs teachers are what they have become, and no one line says how much they know.
                said = (
                    {"the reader, with its first session in memory": teacher_return(rows)}
                    if task not in _SEQUENCES
                    else {}
                )
                figures.append(
                    learning_curve.draw(shown, path, references=said, log_transitions=task not in _SEQUENCES)
                )
    told = [[*table.titled(columns), *lines] for columns, lines in tables.items() if lines]
    return "\n\n".join("\n".join(lines) for lines in told or [table.titled(_COLUMNS)]), figures


def teacher_return(rows: list[dict]) -> float:
    """Returns the IQM over seeds of what agents reach with their first session of the job in memory; nan without."""
    first = _first_returns(rows)
    return interquartile_mean(first)[0] if first else float("nan")


def _first_returns(rows: list[dict]) -> list[float]:
    """Returns, for each seed, what its agent reaches with its first session in memory, before the first night."""
    read = [row for row in rows if row["session_return"] is not None]
    return list({row["seed"]: row["session_return"] for row in sorted(read, key=lambda row: -row["real"])}.values())


def _lines_of_first(task: str, rows: list[dict], cells: list[str]) -> list[str]:
    """Returns the line of the agents before their first night, what they reach by a session in the place of {}; none
    where no session was lived."""
    if not (first := _first_returns(rows)):
        return []
    said = table.interval(interquartile_mean(first))
    return [table.joined([task, _FIRST, str(len(first)), *(cell.format(said) for cell in cells)])]


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
        _bits_held(final),
        table.when(reached, "reach it"),
        table.interval(interquartile_mean([row["other_session_return"] for row in final])),
    )
    return table.joined([task, arm, str(len(final)), *cells])


def _bits_held(rows: list[dict]) -> str:
    if rows[0]["retained_bits"] is None:
        return "-"
    held, told = (interquartile_mean([row[name] for row in rows])[0] for name in ("retained_bits", "available_bits"))
    return f"{held:.1f} of {told:.1f}"


def _line_of_states(task: str, arm: str, rows: list[dict]) -> str:
    """Returns the line of an arm whose students had one night; where its states came from is in its name."""
    night = ARMS[task][arm].consolidation
    success, elsewhere = (
        table.interval(interquartile_mean([row[name] for row in rows]))
        for name in ("student_return", "other_session_return")
    )
    counts = f"{night.rows_per_update:,}", f"{rows[0]['real']:,}"
    return table.joined([task, arm, str(len(rows)), *counts, success, _bits_held(rows), elsewhere])


def _draw_states(ran: dict[str, list[dict]], path: Path) -> Path:
    """Draws success after one night against the states that it learned from, by where they came from."""
    lines: dict[str, list] = {}
    for arm, rows in ran.items():
        states = ARMS["dreams"][arm].consolidation.rows_per_update
        source = arm.removeprefix(f"{states} ")
        lines.setdefault(source, []).append((states, [row["student_return"] for row in rows]))
    rows = [row for own in ran.values() for row in own]
    return against.draw(
        rows, path, lines=lines, x="states that the night learns from", y="mean return", logarithmic=True
    )
