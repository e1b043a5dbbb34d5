"""How it is scored: what the student without memory can do against real transitions, and what it holds of the job."""

import functools
import math
from pathlib import Path

import numpy as np

from dreamer.wake.envs.jobs import codebook
from experiments import table
from experiments.consolidation.runs import ARMS, DAYS, KEPT, LATE, OVERLAP, PANELS, PERIODS, SHARING
from experiments.figures import against, learning_curve
from experiments.measures import bits
from experiments.results import newest_of
from experiments.statistics import interquartile_mean

FOLDER = Path(__file__).parent
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
_OF_SEQUENCES = (
    "task", "arm", "seeds", "real transitions a job", "success without memory: first job, last job: IQM [95 %]",
    "in the jobs before, at the end; of what it was as each ended",
    "success in other jobs, by session: after the first job, after the last",
    "nats from the first agent: after the first job, after the last",
)  # fmt: skip
_OF_PERIODS = (
    "task", "arm", "seeds", "jobs", "bits an answer that yesterday's job leaves open",
    "success as a day begins, without memory: IQM [95 %]", "success that day, by session",
    "as the first day of a job begins",
    "success without memory as the first job ends, as the last ends",
)  # fmt: skip
_OF_SHARED = (
    "task", "arm", "seeds", "real transitions of a student", "bits an answer that its jobs leave open, I(A; Z | S)",
    "bits an answer: held, that one policy can hold, told", "success without memory: IQM [95 %]",
    "success that day, by session", "success in other jobs, by session",
)  # fmt: skip
_FIRST = "the first agent, by a session"
_SEQUENCES = ("sequence", *OVERLAP)


def analyse() -> tuple[str, list[Path]]:
    """Returns the tables as Markdown and the figures drawn, each arm by its newest configuration.

    Tasks and arms without rows are left out. What was not asked over many nights in one job has tables of its own.
    """
    tables, figures = {_COLUMNS: [], _OF_STATES: [], _OF_SEQUENCES: [], _OF_PERIODS: [], _OF_SHARED: []}, []
    for task, arms in ARMS.items():
        rows = newest_of(FOLDER / "results" / f"{task}.csv")
        ran = {arm: own for arm in arms if (own := [row for row in rows if row["arm"] == arm])}
        if not ran:
            continue
        if task in _SEQUENCES:
            tables[_OF_SEQUENCES] += [
                *[_line_of_sequence(task, arm, own) for arm, own in ran.items()],
                *_lines_of_first(task, rows, ["-", "-", "-", "{}", "0"]),
            ]
        elif task == "dreams":
            tables[_OF_STATES] += [
                *[_line_of_states(task, arm, own) for arm, own in ran.items()],
                *_lines_of_first(task, rows, ["0", "64", "-", "-", "{}"]),
            ]
            figures.append(_draw_states(ran, FOLDER / "figures" / f"{task}.png"))
        elif task in ("period", KEPT):
            tables[_OF_PERIODS] += [_line_of_period(task, arm, own) for arm, own in ran.items()]
            figures.append(_draw_periods(ran, FOLDER / "figures" / f"{task}.png"))
        elif task == "shared":
            tables[_OF_SHARED] += [_line_of_shared(task, arm, own) for arm, own in ran.items()]
            figures += _draw_shared(ran)
        else:
            common = min(max(row["real"] for row in own) for own in ran.values())
            teacher = teacher_return(rows)
            tables[_COLUMNS] += [_line(task, arm, own, teacher=teacher, common=common) for arm, own in ran.items()]
        for number, panel in enumerate(PANELS.get(task, ())):
            shown = [row for arm in panel for row in ran.get(arm, ())]
            if shown:
                path = FOLDER / "figures" / f"{task}-{number + 1}.png"
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


def bits_left_open(days: int | None, num_answers: int) -> float:
    """Returns the bits of an answer that whoever knows yesterday's job cannot know of today's, I(A; Z | S).

    Args:
      days: that a job lasts, so that one day in so many brings a new one, nobody knows which; None where it stays.
      num_answers: among which a new job draws evenly, A.
    """
    stays = 1 - 1 / days if days else 1.0
    today = np.full(num_answers, (1 - stays) / num_answers)
    today[0] += stays  # yesterday's answer
    return abs(float(bits.privilege_floor(today, np.eye(num_answers))))  # of certainty it is -0.0


def late_means(rows: list[dict], days: int | None) -> tuple[float, float, float]:
    """Returns the mean success of one run over its last `LATE` days: as a day begins without memory, then by session.

    The first is what the student of last night does before it has lived anything of the day; where the job stays it is
    what the student does in it. The third is the first of those days alone that begin a job; NaN where none does.

    Args:
      rows: of the run, one a day.
      days: that a job lasts; None where it stays.
    """
    rows = sorted(rows, key=lambda row: row["real"])
    before = rows[-LATE - 1 : -1]
    begins = [row["student_return"] if row["next_return"] is None else row["next_return"] for row in before]
    new = [begin for day, begin in enumerate(begins, len(rows) - LATE) if days and day % days == 0]
    within = [row["session_return"] for row in rows[-LATE:]]
    return float(np.mean(begins)), float(np.mean(within)), float(np.mean(new)) if new else float("nan")


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


def _line_of_sequence(task: str, arm: str, rows: list[dict]) -> str:
    """Returns the line of an arm whose students lived in several jobs; what they kept was measured after each job."""
    ends = sorted({row["real"] for row in rows if row["old_kl"] is not None})
    first, last = ([row for row in rows if row["real"] == real] for real in (ends[0], ends[-1]))

    def said(rows: list[dict], name: str) -> str:
        return table.interval(interquartile_mean([row[name] for row in rows]))

    cells = (
        f"{ends[0]:,}",
        f"{said(first, 'student_return')}, {said(last, 'student_return')}",
        f"{said(last, 'earlier_return')}; {table.interval(interquartile_mean(_left(rows, ends)))}",
        *(f"{said(first, name)}, {said(last, name)}" for name in ("other_session_return", "old_kl")),
    )
    return table.joined([task, arm, str(len(last)), *cells])


def _left(rows: list[dict], ends: list[int]) -> list[float]:
    """Returns of each seed the success in all jobs but the last after all, as a share of what it was as each ended."""
    told = {(row["seed"], row["real"]): row for row in rows}
    return [
        told[seed, ends[-1]]["earlier_return"] / np.mean([told[seed, end]["student_return"] for end in ends[:-1]])
        for seed in sorted({seed for seed, _ in told})
    ]


def _of_seeds(arm: str, rows: list[dict]) -> list[tuple[float, float, float]]:
    """Returns `late_means` of every seed."""
    seeds = sorted({row["seed"] for row in rows})
    return [late_means([row for row in rows if row["seed"] == seed], PERIODS[arm]) for seed in seeds]


def _line_of_period(task: str, arm: str, rows: list[dict]) -> str:
    """Returns the line of an arm by how long its jobs last: of its late days, and as its first and last job end."""
    means, days = _of_seeds(arm, rows), PERIODS[arm] or DAYS
    columns = zip(*means, strict=True)
    said = [table.interval(interquartile_mean(own)) if np.isfinite(own).all() else "-" for own in columns]
    ends = sorted({row["real"] for row in rows})
    first, last = (
        table.interval(interquartile_mean([row["student_return"] for row in rows if row["real"] == real]))
        for real in (ends[days - 1], ends[-1])
    )
    return table.joined(
        [task, arm, str(len(means)), str(DAYS // days), f"{_open_bits(arm):.2f}", *said, f"{first}, {last}"]
    )


def _open_bits(arm: str) -> float:
    return bits_left_open(PERIODS[arm], ARMS["period"][arm].env.jobworld.num_answers)


@functools.cache
def shared_bits(arm: str) -> float:
    """Returns the bits an answer that nobody can know who does the jobs of a shared student and is not told which it is
    in, I(A; Z | S): the mean over the students of an arm."""
    config = ARMS["shared"][arm]
    world, number = config.env.jobworld, SHARING[arm]
    books = np.array([codebook(world, job) for job in config.jobs]).reshape(-1, number, world.num_keys)
    return float(np.mean([bits.shared_floor(own, num_answers=world.num_answers) for own in books]))


def _held_of_told(rows: list[dict], arm: str) -> tuple[list[float], list[float], float]:
    """Returns bits an answer of the last night: held and told, one a seed, and the most that one policy can hold."""
    world = ARMS["shared"][arm].env.jobworld
    held, told = ([row[name] / world.num_keys for row in rows] for name in ("retained_bits", "available_bits"))
    return held, told, math.log2(world.num_answers) - shared_bits(arm)


def _line_of_shared(task: str, arm: str, rows: list[dict]) -> str:
    final = [row for row in rows if row["final"]]
    held, told, most = _held_of_told(final, arm)
    names = ("student_return", "session_return", "other_session_return")
    returns = [table.interval(interquartile_mean([row[name] for row in final])) for name in names]
    said = f"{table.interval(interquartile_mean(held))}, {most:.2f}, {interquartile_mean(told)[0]:.2f}"
    real = f"{final[0]['real']:,}"
    return table.joined([task, arm, str(len(final)), real, f"{shared_bits(arm):.2f}", said, *returns])


def _draw_shared(ran: dict[str, list[dict]]) -> list[Path]:
    """Draws, against the bits that the jobs of a student leave open, what it holds of each and how well it does."""
    final = {arm: [row for row in rows if row["final"]] for arm, rows in ran.items()}
    asked = {"student_return": "without memory", "session_return": "that day's session in memory"}
    success = {
        said: [(shared_bits(arm), [row[name] for row in rows]) for arm, rows in final.items()]
        for name, said in asked.items()
    }
    of_arms = {shared_bits(arm): _held_of_told(rows, arm) for arm, rows in final.items()}
    held = {
        name: [(x, own[place]) for x, own in of_arms.items()]
        for place, name in enumerate(("its student holds", "the sessions tell"))
    }
    most = {"one policy can hold": [(x, own[2]) for x, own in of_arms.items()]}
    rows, x = [row for own in final.values() for row in own], "bits an answer that its jobs leave open, I(A; Z | S)"
    drawn = (("shared", success, {}, "mean return"), ("shared-bits", held, most, "bits an answer"))
    return [
        against.draw(rows, FOLDER / "figures" / f"{name}.png", lines=lines, exact=exact, x=x, y=y)
        for name, lines, exact, y in drawn
    ]


def _draw_periods(ran: dict[str, list[dict]], path: Path) -> Path:
    """Draws success against the bits that yesterday leaves open, with and without the day's session in memory."""
    points = [(_open_bits(arm), _of_seeds(arm, rows)) for arm, rows in ran.items()]
    lines = {
        said: [(x, [mean[place] for mean in means]) for x, means in points]
        for place, said in enumerate(("as a day begins, without memory", "that day, its session in memory"))
    }
    rows = [row for own in ran.values() for row in own]
    return against.draw(
        rows, path, lines=lines, x="bits an answer that yesterday's job leaves open, I(A; Z | S)", y="mean return"
    )
