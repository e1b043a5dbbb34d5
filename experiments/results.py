"""Rows of results: written by runs, read by figures, never typed by hand. One row is one evaluation of one run."""

import csv
import dataclasses
import io
from collections.abc import Iterable
from pathlib import Path

from dreamer.core.types import Meters
from dreamer.io import RunFolder, read_log
from dreamer.io.files import locked, write_atomically
from experiments.config import Config, from_dict
from experiments.sessions.config import SessionsConfig, sessions_from_dict

FIELDS = (
    "name", "arm", "env_id", "env_version", "config_hash", "commit", "seed", "dream_ratio", "actor", "episodes",
    *(field.name for field in dataclasses.fields(Meters)), "final",
    "student_return", "student_return_min", "student_return_max", "planner_return",
    "reward_error_5", "continuation_error_5",
    "session_return", "other_session_return", "retained_bits", "available_bits",
    "earlier_return", "old_kl", "next_return",
    "recovered_20", "recovered_40", "recovered_60", "recovered_80", "labels_right_before", "labels_right_after",
    "savable_20", "savable_40", "savable_60", "savable_80",
    "return_x2", "return_x4", "return_x8", "return_x16",
    "independent_x2", "independent_x4", "independent_x8", "independent_x16", "carried_bytes",
    "coded_bits", "coded_return",
    "return_x1", "adapted_x1", "adapted_x2", "adapted_x4", "adapted_x8", "adapted_x16",
    "told_right_before", "told_right_after",
    *(f"regret_{step}" for step in range(6)), *(f"surprise_{step}" for step in range(6)),
    "wrong_alone", "wrong_alone_after", "wrong_remembering", "wrong_remembering_after",
    *(f"stake_{step}" for step in range(6)),
)  # fmt: skip
"""Columns: who and what, the meters at the evaluation, the mean, lowest and highest return over its episodes, and how
far the model is from what happens after 5 dreamed steps (`dreamer.sleep.honesty`); of an agent with a session slot the
returns with a session of this job in memory, and in other jobs with one of theirs, and the bits of a job that its
weights hold and that its data could tell (`experiments.sessions`); where jobs follow one another the return without
memory in those before, and in that of the next day; and how far its policy is, in sessions of jobs that it never met,
from that of the agent that was deployed first, in nats; and of failed episodes without memory the share that a teacher
saves who takes over after so many percent of them, how often its likeliest answer is right up to the first mistake and
behind it, and the share that somebody saves who knows the job; the return in chains that are so many times as long, and
what it would be if their parts were independent; and the bytes that carry what a student learned, the bits in which a
code tells it, rounded, and the return of what it tells; and where jobs have drifted before longer chains are asked, the
return in chains as before, and all of these with a new session in memory; and how often a night's labels of what the
student lived by day are right, up to the first mistake of an episode and behind it; and of failed episodes, so many
decisions behind their first mistake, how much success the teacher's likeliest answer gives away, and how many bits its
policy is from that of who knows the job; and in longer chains the share of keys that are answered wrongly when first
asked, and after a first answer that was made a wrong one, without memory and with the episode in it; and how much a
wrong answer would have given away where the teacher's was counted. New ones come last, so that rows written before
them stay readable."""


class ResultsError(ValueError):
    """Rows that cannot be read, and what to do about it."""


def rows_of(path: str | Path, *, arm: str) -> list[dict]:
    """Returns the evaluations of a run folder as rows of `FIELDS`, in order.

    Args:
      path: a run folder.
      arm: what the run is called in a comparison, e.g. `dreaming` or `no dreams`.
    """
    folder = RunFolder.open(path)
    config = config_of(folder)
    evaluated = [row for row in read_log(folder.log) if row.get("student_return") is not None]
    about = {
        "name": config.name,
        "arm": arm,
        "env_id": folder.spec.id,
        "env_version": f"{folder.spec.suite} {folder.spec.version}",
        "config_hash": folder.config_hash,
        "commit": folder.commit,
        "seed": config.seed,
        **config.row,
    }
    rows = []
    for row in evaluated:
        final = config.finished(row["real"], row["updates"])
        merged = about | row | {"final": int(final), "seconds": round(row["seconds"], 1)}
        rows.append({name: merged.get(name) for name in FIELDS})
    return rows


def config_of(folder: RunFolder) -> Config | SessionsConfig:
    """Returns the config that a run folder was made with, of whichever kind; errors as of `config.from_dict`."""
    return sessions_from_dict(folder.config) if "kind" in folder.config else from_dict(folder.config)


def write_rows(path: str | Path, rows: Iterable[dict]) -> None:
    """Adds rows to a CSV file, which is made where it does not exist; after a crash the old file or the new is there.

    Several processes may add at once: none of their rows is lost, and an evaluation that is there is not added again.

    Raises:
      ResultsError: the file is damaged or has other columns, so that adding would garble it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path):
        before = read_rows(path) if path.exists() else []
        known = set(map(_evaluation, before))
        text = io.StringIO()
        writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*before, *(row for row in rows if _evaluation(row) not in known)])
        write_atomically(path, text.getvalue().encode())


def run_of(row: dict) -> tuple[str, str, int]:
    """Returns what tells the run of a row from all others: arm, config hash, seed."""
    return row["arm"], row["config_hash"], row["seed"]


def _evaluation(row: dict) -> tuple:
    return *run_of(row), row["real"], row["updates"]


def read_rows(path: str | Path) -> list[dict]:
    """Returns the rows of a CSV file that `write_rows` wrote; numbers are numbers, empty cells and missing ones None.

    Raises:
      ResultsError: no such file, or not one of ours.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            columns = tuple(reader.fieldnames or ())
            if columns != FIELDS[: len(columns)] or "planner_return" not in columns:
                raise ResultsError(f"{path} does not have the columns of results: give a file that a sweep wrote")
            return [_read_row(path, reader.line_num, row, columns) for row in reader]
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"{path} cannot be read ({error}): run the sweep that writes it first") from error


def newest(rows: list[dict]) -> list[dict]:
    """Returns, for each arm, the rows of the configuration that was run last: curves of two are never mixed."""
    last = {row["arm"]: row["config_hash"] for row in rows}
    return [row for row in rows if row["config_hash"] == last[row["arm"]]]


def results_of(folder: Path, task: str) -> Path:
    """Returns the file of a task's rows in the folder of a question; those whose place newer ones took are of the task
    `earlier/TASK`."""
    return folder / "results" / f"{task}.csv"


def newest_of(folder: Path, task: str) -> list[dict]:
    """Returns the `newest` rows of a task of the question in `folder`, none where no sweep has written any yet."""
    path = results_of(folder, task)
    return newest(read_rows(path)) if path.exists() else []


def final_of(folder: Path, task: str) -> list[dict]:
    """Returns those of `newest_of` that end their runs: one a run."""
    return [row for row in newest_of(folder, task) if row["final"]]


_TEXT = {"name", "arm", "env_id", "env_version", "config_hash", "commit", "actor"}
_EXACT = {"seed", "dream_ratio", "episodes", "real", "replayed", "dreamed", "searched", "updates", "final"}


def _value(name: str, cell: str) -> str | int | float | None:
    if cell == "":
        return None
    if name in _TEXT:
        return cell
    return int(cell) if name in _EXACT else float(cell)


def _read_row(path: str | Path, line: int, row: dict, columns: tuple[str, ...]) -> dict:
    try:
        if set(row) != set(columns) or None in row.values():
            raise ValueError("it does not have a cell for every column")
        return {name: _value(name, row.get(name, "")) for name in FIELDS}
    except ValueError as error:
        raise ResultsError(f"{path}, line {line}: {error}. Take that line out, and sweep again what it held") from error
