"""How it is scored: success and bits about the job against the bytes that carry them."""

import math
from pathlib import Path

from dreamer.sleep.carriers import MEMORIES
from experiments import table
from experiments.compression.runs import ARMS, CODED, DECAY, FAST, JOBS, ON_LAKE, PLAIN, SIZES, arm
from experiments.figures import against
from experiments.results import newest_of
from experiments.statistics import interquartile_mean

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
_OF_DECAY = (
    "task", "carrier", "seeds", "bytes stored", "updates a job", "success in the first job as it ends: IQM [95 %]",
    "in the last", *(f"in the jobs before, after {jobs}" for jobs in range(2, JOBS + 1)),
    "success in other jobs, by session: after the first, after the last",
)  # fmt: skip
_TABLES = {CODED: _OF_CODES, DECAY: _OF_DECAY}


def analyse(folder: Path) -> tuple[str, list[Path]]:
    """Returns the tables as Markdown and the figures drawn, each arm by its newest configuration.

    Tasks and arms without rows are left out. Fast weights are drawn beside the rest.
    """
    tables, found = {_COLUMNS: [], _OF_CODES: [], _OF_DECAY: []}, {}
    for task, arms in ARMS.items():
        rows = newest_of(folder, task)
        found[task] = {name: own for name in arms if (own := [row for row in rows if row["arm"] == name])}
        for name, own in found[task].items():
            line = {CODED: _line_of_code, DECAY: _line_of_decay}.get(task, _line)
            tables[_TABLES.get(task, _COLUMNS)].append(line(task, name, own))
    beside = {PLAIN: {"fast weights, of other agents": found[FAST]}}
    figures = [path for task in SIZES for path in _figures(folder / "figures", task, found[task], beside.get(task, {}))]
    told = [[*table.titled(columns), *lines] for columns, lines in tables.items() if lines]
    return "\n\n".join("\n".join(lines) for lines in told or [table.titled(_COLUMNS)]), figures


def _figures(
    folder: Path, task: str, found: dict[str, list[dict]], beside: dict[str, dict[str, list[dict]]]
) -> list[Path]:
    """Draws success and bits of a task against bytes; none without rows.

    Args:
      folder: of figures.
      task: which.
      found: arm -> its rows.
      beside: what is said of more lines -> arm -> its rows.
    """
    ran = {name: _final(own) for name, own in found.items()}
    if not ran:
        return []
    lines = {kind: [ran.get(arm(kind, size), []) for size in sizes] for kind, sizes in SIZES[task].items()}
    lines |= {said: [_final(own) for own in arms.values()] for said, arms in beside.items()}
    told = interquartile_mean([row["available_bits"] for rows in ran.values() for row in rows])[0]
    if task == ON_LAKE:
        bits = {"what the session tells of the ways": told}
    else:
        world = ARMS[task][next(iter(ran))].env.jobworld
        whole, said = world.num_keys * math.log2(world.num_answers), "H(z), all there is to know"
        if whole - told < 0.01 * whole:  # one line would lie on the other
            also = ", and I(session; z)" if f"{told:.1f}" == f"{whole:.1f}" else f"; I(session; z) is {told:.1f}"
            bits = {said + also: whole}
        else:
            bits = {said: whole, "I(session; z)": told}
    return [
        _draw(folder / f"{task}-student_return.png", lines, "student_return", "success with what is carried", {}),
        _draw(folder / f"{task}-retained_bits.png", lines, "retained_bits", "bits about the job", bits, least=0.0),
    ]


def _final(rows: list[dict]) -> list[dict]:
    return [row for row in rows if row["final"]]


def _line_of_code(task: str, name: str, rows: list[dict]) -> str:
    """Returns the line of a carrier by its code, over the seeds in which a grid kept enough."""
    rows = _final(rows)
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


def _line_of_decay(task: str, name: str, rows: list[dict]) -> str:
    """Returns the line of a carrier whose students lived in several jobs, one session in each."""
    ends = sorted({row["real"] for row in rows})

    def said(number: int, measure: str) -> str:
        return table.interval(interquartile_mean([row[measure] for row in rows if row["real"] == ends[number]]))

    size, updates = (int(rows[0][name]) for name in ("carried_bytes", "updates"))
    cells = [f"{size:,}", f"{updates:,}", *(said(number, "student_return") for number in (0, -1))]
    cells += [said(number, "earlier_return") for number in range(1, len(ends))]
    elsewhere = ", ".join(said(number, "other_session_return") for number in (0, -1))
    return table.joined([task, name, str(len(_final(rows))), *cells, elsewhere])


def _line(task: str, name: str, rows: list[dict]) -> str:
    rows = _final(rows)
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


def _draw(
    path: Path,
    runs: dict[str, list[list[dict]]],
    name: str,
    said: str,
    references: dict[str, float],
    *,
    least: float | None = None,
) -> Path:
    """Draws a measure against bytes, one line a kind of carrier; `runs` are its rows by size, where there are some. A
    carrier that is sure and wrong has less than no bits, which would leave no room for the others."""
    lines = {
        kind: [(int(own[0]["carried_bytes"]), [row[name] for row in own]) for own in sizes if own]
        for kind, sizes in runs.items()
        if any(sizes)
    }
    rows = [row for sizes in runs.values() for own in sizes for row in own]
    return against.draw(
        rows,
        path,
        lines=lines,
        x="bytes that are stored",
        y=said,
        references=references,
        logarithmic=True,
        least=least,
    )
