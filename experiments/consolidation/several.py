"""What is told of students in several jobs, one after another or at once: lines of tables, and figures."""

import functools
import math
from pathlib import Path

import numpy as np

from dreamer.wake.envs.jobs import codebook
from experiments import table
from experiments.consolidation.runs import ARMS, DAYS, LATE, PERIODS, REFERENCE, SHARING
from experiments.figures import against
from experiments.measures import bits
from experiments.statistics import interquartile_mean

OF_SEQUENCES = (
    "task", "arm", "seeds", "real transitions a job", "success without memory: first job, last job: IQM [95 %]",
    "in the jobs before, at the end; of what it was as each ended",
    "success in other jobs, by session: after the first job, after the last",
    "nats from the first agent: after the first job, after the last",
)  # fmt: skip
OF_PERIODS = (
    "task", "arm", "seeds", "jobs", "bits an answer that yesterday's job leaves open",
    "success as a day begins, without memory: IQM [95 %]", "success that day, by session",
    "as the first day of a job begins",
    "success without memory as the first job ends, as the last ends",
)  # fmt: skip
OF_SHARED = (
    "task", "arm", "seeds", "real transitions of a student", "bits an answer that its jobs leave open, I(A; Z | S)",
    "bits an answer: held, that one policy can hold, told", "success without memory: IQM [95 %]",
    "success that day, by session", "success in other jobs, by session",
)  # fmt: skip


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


def line_of_sequence(task: str, arm: str, rows: list[dict]) -> str:
    """Returns the line of an arm whose students lived in several jobs; what they kept was measured after each job."""
    ends = _ends(rows)
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


def _ends(rows: list[dict]) -> list[int]:
    """Returns after how many real transitions each job ended."""
    return sorted({row["real"] for row in rows if row["old_kl"] is not None})


def draw_earlier(ran: dict[str, list[dict]], path: Path) -> Path:
    """Draws, as each job but the first ends, success in those before it."""
    lines = {
        arm: [
            (number, [row["earlier_return"] for row in rows if row["real"] == end])
            for number, end in enumerate(_ends(rows)[1:], 2)
        ]
        for arm, rows in ran.items()
    }
    alone = {arm: arm.removesuffix(", anchored").removesuffix(", rehearsing") for arm in ran}
    kin = {arm: REFERENCE if same == "the same" else same for arm, same in alone.items()}
    rows, y = [row for own in ran.values() for row in own], "mean return in all but the last of them"
    return against.draw(rows, path, lines=lines, kin=kin, x="jobs lived in so far", y=y)


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


def line_of_period(task: str, arm: str, rows: list[dict]) -> str:
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
def _shared_bits(arm: str) -> float:
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
    return held, told, math.log2(world.num_answers) - _shared_bits(arm)


def line_of_shared(task: str, arm: str, rows: list[dict]) -> str:
    """Returns the line of an arm whose students have several jobs at once, after the last night."""
    final = [row for row in rows if row["final"]]
    held, told, most = _held_of_told(final, arm)
    names = ("student_return", "session_return", "other_session_return")
    returns = [table.interval(interquartile_mean([row[name] for row in final])) for name in names]
    said = f"{table.interval(interquartile_mean(held))}, {most:.2f}, {interquartile_mean(told)[0]:.2f}"
    real = f"{final[0]['real']:,}"
    return table.joined([task, arm, str(len(final)), real, f"{_shared_bits(arm):.2f}", said, *returns])


def draw_shared(ran: dict[str, list[dict]], folder: Path) -> list[Path]:
    """Draws, against the bits that the jobs of a student leave open, what it holds of each and how well it does."""
    final = {arm: [row for row in rows if row["final"]] for arm, rows in ran.items()}
    asked = {"student_return": "without memory", "session_return": "that day's session in memory"}
    success = {
        said: [(_shared_bits(arm), [row[name] for row in rows]) for arm, rows in final.items()]
        for name, said in asked.items()
    }
    of_arms = {_shared_bits(arm): _held_of_told(rows, arm) for arm, rows in final.items()}
    held = {
        name: [(x, own[place]) for x, own in of_arms.items()]
        for place, name in enumerate(("its student holds", "the sessions tell"))
    }
    most = {"one policy can hold": [(x, own[2]) for x, own in of_arms.items()]}
    rows, x = [row for own in final.values() for row in own], "bits an answer that its jobs leave open, I(A; Z | S)"
    drawn = (("shared", success, {}, "mean return"), ("shared-bits", held, most, "bits an answer"))
    return [
        against.draw(rows, folder / f"{name}.png", lines=lines, exact=exact, x=x, y=y)
        for name, lines, exact, y in drawn
    ]


def draw_periods(ran: dict[str, list[dict]], path: Path) -> Path:
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
