"""What a run reports: one JSON object a line, always, and the same rows to wandb where wanted."""

import dataclasses
import json
import math
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from dreamer.core.types import Meters
from dreamer.io.files import write_atomically

LOG_NAME = "log.jsonl"
WANDB_ID_NAME = "wandb_id.txt"
WandbMode = Literal["disabled", "offline", "online"]


class LogError(ValueError):
    """A log that cannot be written or read, and what to do about it."""


class WandbError(LogError):
    """wandb does not start; the log itself may be whole."""


class Log:
    """The rows of one run, in order. `close` it, or use it as a context."""

    def __init__(
        self,
        folder: str | Path,
        *,
        wandb_mode: WandbMode,
        project: str,
        config: Mapping[str, Any],
        resume_day: int | None = None,
    ):
        """Opens the log of a run folder.

        Args:
          folder: the run folder; the rows go to `log.jsonl` in it, wandb's files to `wandb/` in it.
          wandb_mode: `disabled` does not even import wandb.
          project: wandb's name for a group of runs.
          config: what wandb shows as the configuration.
          resume_day: None for a new run. Otherwise the day of the checkpoint that the run goes on from: rows of later
            days are cut, since the run lives those days again and writes the same rows.

        Raises:
          LogError: a new run finds a log, a resumed one finds a damaged log, or wandb does not start.
        """
        folder = Path(folder)
        if wandb_mode not in ("disabled", "offline", "online"):
            raise LogError(f"run.wandb is {wandb_mode!r}; pick --run.wandb disabled, offline or online.")
        self._path = folder / LOG_NAME
        self._num_rows = 0
        if resume_day is not None:
            self._num_rows = cut_log(self._path, resume_day)
        elif self._path.exists():
            raise LogError(f"{self._path} already exists. Pass another --run.folder, or --resume {folder}.")
        self._wandb = None if wandb_mode == "disabled" else _start_wandb(folder, wandb_mode, project, config=config)
        try:
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            self._finish_wandb()
            raise LogError(f"The log {self._path} cannot be written ({error}). Pass another --run.folder.") from error

    def write(self, day: int, meters: Meters, metrics: Mapping[str, Any]) -> None:
        """Writes one row: the day, every meter, and `metrics`.

        Args:
          day: the day the row belongs to; rows come in the order of days.
          meters: the counters after that day.
          metrics: scalars (Python, NumPy or JAX), strings or None by name. Numbers that JSON has no word for, NaN and
            the infinities, become null.

        Raises:
          LogError: a metric is not a scalar, or has the name of a meter.
        """
        row = {"day": int(day)} | dataclasses.asdict(meters)
        taken = sorted(row.keys() & metrics.keys())
        if taken:
            raise LogError(f"Metric {taken[0]!r} has the name of a column that every row has. Rename it.")
        row |= metrics
        row = {name: plain(name, value) for name, value in row.items()}
        self._file.write(json.dumps(row, allow_nan=False) + "\n")
        self._file.flush()
        if self._wandb is not None:
            # The step counts rows, not days, so that two rows of one day stay two.
            self._wandb.log({name: value for name, value in row.items() if value is not None}, step=self._num_rows)
        self._num_rows += 1

    def close(self) -> None:
        """Closes the file and wandb's run."""
        self._file.close()
        self._finish_wandb()

    def _finish_wandb(self) -> None:
        if self._wandb is not None:
            self._wandb.finish()
            self._wandb = None

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def read_log(path: str | Path) -> list[dict]:
    """Returns the rows of a `log.jsonl`, in order; a last line that a crash cut short is left out.

    Raises:
      LogError: no such file, or a line that is not a row.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LogError(f"The log {path} cannot be read ({error}). Pass a run folder that has one.") from error
    rows = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            row = json.loads(line)
            _ = int(row["day"])
        except (ValueError, KeyError, TypeError) as error:
            raise LogError(
                f"{path}, line {number}: not a row of a log ({type(error).__name__}: {error}). Take that line out; "
                f"the others are intact."
            ) from error
        rows.append(row)
    return rows


def cut_log(path: Path, last_day: int) -> int:
    """Drops the rows after `last_day` from the log, if there is one, and returns how many are left."""
    if not path.exists():
        return 0
    rows = [row for row in read_log(path) if row["day"] <= last_day]
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows).encode())
    return len(rows)


def plain(name: str, value: Any) -> Any:
    """Returns a scalar as JSON has it: null for what is not finite."""
    if value is None or isinstance(value, str | bool | int):
        return value
    array = np.asarray(value)
    if array.ndim == 0 and array.dtype.kind in "biu":
        return array.item()
    if array.ndim != 0 or not jax.numpy.issubdtype(array.dtype, jax.numpy.floating):
        raise LogError(f"Metric {name!r} is no scalar but {array.dtype}{list(array.shape)}. Reduce it before logging.")
    number = float(array)
    return number if math.isfinite(number) else None


def _start_wandb(folder: Path, mode: WandbMode, project: str, *, config: Mapping[str, Any]) -> Any:
    """Starts wandb's run, the same one again for a resumed folder."""
    try:
        id_path = folder / WANDB_ID_NAME
        if not id_path.exists():
            # An agent of a W&B sweep waits for the run that it named.
            named = os.environ.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else None
            write_atomically(id_path, (named or uuid.uuid4().hex[:12]).encode())
        # It takes our package `agents` for a library of that name and advertises a product for it.
        os.environ.setdefault("WANDB_DISABLE_WEAVE", "true")
        import wandb  # here, because it takes a second and opens a service that a disabled log has no use for

        run = wandb.init(
            project=project,
            id=id_path.read_text(),
            name=folder.resolve().name,
            dir=os.fspath(folder),
            config=dict(config),
            mode=mode,
            resume="allow",
            reinit="create_new",  # several seeds of one program write side by side
            settings=wandb.Settings(silent=True, console="off", init_timeout=60),
        )
        run.define_metric("*", step_metric="real")
    except Exception as error:  # whatever keeps wandb from starting (account, network, disk), the way out is the same
        raise WandbError(
            f"wandb did not start in mode {mode!r} ({type(error).__name__}: {error}). Pass --run.wandb disabled to do "
            f"without it: the rows are in {folder / LOG_NAME} in any case."
        ) from error
    return run
