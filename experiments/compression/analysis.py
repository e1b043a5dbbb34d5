"""How it is scored: success and bits about the job against the bytes that carry them."""

import math
from pathlib import Path

from dreamer.sleep.carriers import MEMORIES
from experiments import table
from experiments.compression.runs import ARMS, CODED, NAPS, SIZES, arm
from experiments.figures import against
from experiments.results import newest_of
from experiments.statistics import interquartile_mean

FOLDER = Path(__file__).parent
_COLUMNS = (
    "task", "carrier", "seeds", "real transitions", "bytes stored", "bytes a transition",
    "success with what is carried: IQM [95 %]", "bits held", "of those told", "bits held a byte",
    "success in other jobs, by session",
)  # fmt: skip
_OF_CODES = (
    "task", "carrier", "seeds", "bytes stored", "success with what is stored: IQM [95 %]",
    "bytes of the shortest code that keeps 95 % of what was won: IQM [95 %]", "success with what it tells",
    "times as short", "bits told for each bit held before rounding",
)  # fmt: skip


def analyse() -> tuple[str, list[Path]]:
    """Returns the table as Markdown and the figures drawn, each arm by its newest configuration.

    Tasks and arms without rows are left out.
    """
    lines, codes, figures = table.titled(_COLUMNS), [], []
    for task, arms in ARMS.items():
        rows = [row for row in newest_of(FOLDER / "results" / f"{task}.csv") if row["final"]]
        ran = {name: own for name in arms if (own := [row for row in rows if row["arm"] == name])}
        if task == CODED:
            codes += [_line_of_code(task, name, own) for name, own in ran.items()]
            continue
        lines += [_line(task, name, own) for name, own in ran.items()]
        if ran and task != NAPS:
            told = interquartile_mean([row["available_bits"] for row in rows])[0]
            world = arms[next(iter(ran))].env.jobworld
            whole, said = world.num_keys * math.log2(world.num_answers), "H(z), all there is to know"
            one = {f"{said}, and I(session; z)": whole}
            bits = one if round(told, 1) == round(whole, 1) else {said: whole, "I(session; z)": told}
            figures += [
                _draw(ran, task, "student_return", "success with what is carried", {}),
                _draw(ran, task, "retained_bits", "bits about the job", bits),
            ]
    tables = [lines, [*table.titled(_OF_CODES), *codes]] if codes else [lines]
    return "\n\n".join("\n".join(own) for own in tables), figures


def _line_of_code(task: str, name: str, rows: list[dict]) -> str:
    """Returns the line of a carrier by its code, over the seeds in which a grid kept enough."""
    told = [row for row in rows if row["coded_bits"] is not None]
    size = int(rows[0]["carried_bytes"])
    cells = [f"{size:,}", table.interval(interquartile_mean([row["student_return"] for row in told or rows]))]
    if told:
        length = interquartile_mean([row["coded_bits"] / 8 for row in told])
        held = interquartile_mean([row["retained_bits"] for row in told])[0]
        cells += [
            table.interval(length, ",.0f"),
            table.interval(interquartile_mean([row["coded_return"] for row in told])),
            f"{size / length[0]:.0f}",
            f"{8 * length[0] / held:,.0f}",
        ]
    else:
        cells += ["-"] * 4
    return table.joined([task, name, f"{len(told)} of {len(rows)}", *cells])


def _line(task: str, name: str, rows: list[dict]) -> str:
    size, real = int(rows[0]["carried_bytes"]), rows[0]["real"]
    changes = ARMS[task][name].carrier.kind not in MEMORIES  # beside a memory the weights stay
    held, told = (interquartile_mean([row[name] for row in rows]) for name in ("retained_bits", "available_bits"))
    cells = (
        f"{real:,}",
        f"{size:,}",
        f"{size / real:,.0f}",
        table.interval(interquartile_mean([row["student_return"] for row in rows])),
        table.interval(held),
        f"{told[0]:.1f}",
        f"{held[0] / size:.5f}",
        table.interval(interquartile_mean([row["other_session_return"] for row in rows])) if changes else "as before",
    )
    return table.joined([task, name, str(len(rows)), *cells])


def _draw(ran: dict[str, list[dict]], task: str, name: str, said: str, references: dict[str, float]) -> Path:
    """Draws a measure against bytes, one line a kind of carrier."""
    lines = {
        kind: [
            (int(own[0]["carried_bytes"]), [row[name] for row in own])
            for size in sizes
            if (own := ran.get(arm(kind, size)))
        ]
        for kind, sizes in SIZES.items()
    }
    rows = [row for own in ran.values() for row in own]
    path = FOLDER / "figures" / f"{task}-{name}.png"
    lines = {kind: points for kind, points in lines.items() if points}
    return against.draw(
        rows, path, lines=lines, x="bytes that are stored", y=said, references=references, logarithmic=True
    )
