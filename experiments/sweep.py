"""Many runs of one question: every task, arm and seed, side by side, into rows that are never lost and never repeated.

A run lives in `runs/` and its rows are taken from there, so whatever is killed, the same sweep goes on where it was.
"""

import contextlib
import dataclasses
import importlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType

from dreamer.io import BusyError
from experiments import one_change
from experiments.config import Config
from experiments.results import final_of, read_rows, results_of, rows_of, run_of, write_rows
from experiments.run import Progress, run_or_resume
from experiments.sessions import run as sessions
from experiments.sessions.config import SessionsConfig
from experiments.workers import Ended, Tell

RECORD = Path(__file__).parent
"""Where the rows of this repository are, `QUESTION/results/TASK.csv`, and their figures, `QUESTION/figures`."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One run to make."""

    arm: str
    config: Config | SessionsConfig
    results: Path

    @property
    def title(self) -> str:
        """What the run is called on a screen."""
        return f"{self.config.name}, {self.arm}, seed {self.config.seed}"

    @property
    def run(self) -> tuple[str, str, int]:
        """What tells the run from all others in its file of rows, as `results.run_of`."""
        return self.arm, self.config.hash(), self.config.seed


@dataclasses.dataclass(frozen=True)
class Heard:
    """What a sweep hears of one of its runs."""

    title: str
    share: float
    """How much of the run is done, from 0 to 1."""
    student_return: float | None = None
    """Of the last evaluation, if there was one."""
    end: str | None = None
    """What it came to; None while it runs."""


CallEach = Callable[..., Iterator[Ended]]
"""`workers.call_each` or its like, with all but `tell` said: (call, items, tell=) -> calls as they end."""


class SweepError(RuntimeError):
    """Runs of a sweep that failed; those that did not have their rows."""


def questions() -> list[str]:
    """Returns the names of the folders of `experiments/` that hold a question."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob("*/runs.py"))


def runs_of(question: str) -> ModuleType:
    """Returns a question's `runs.py`.

    Raises:
      ValueError: no such question, where the message lists what there is, or none of the runs that it should name.
    """
    try:
        module = importlib.import_module(f"experiments.{question}.runs")
    except ModuleNotFoundError as error:
        if error.name not in (f"experiments.{question}", f"experiments.{question}.runs"):
            raise
        raise ValueError(f"there is no question {question!r}: choose one of {', '.join(questions())}") from error
    if not hasattr(module, "ARMS"):
        raise ValueError(f"{module.__file__} has no ARMS: give {{task: {{arm: config}}}}, the first arm the reference")
    return module


def analyse(question: str, root: Path) -> tuple[str, list[Path]]:
    """Returns the table as Markdown of the rows that a question has below `root`, and the figures drawn of them: by its
    `analysis.py`, or by `one_change`."""
    module = runs_of(question)
    if Path(module.__file__).with_name("analysis.py").exists():
        return importlib.import_module(f"experiments.{question}.analysis").analyse(root / question)
    return one_change.analyse(root / question, module.ARMS)


def made_again(question: str, root: Path) -> list[str]:
    """Returns a line for each task that has rows below `root`: how its runs end beside the recorded runs of the same
    arm, configuration and seed. None where `root` is the record itself."""
    lines = []
    for task in runs_of(question).ARMS if root.resolve() != RECORD.resolve() else ():
        recorded, anew = ({run_of(row): row for row in final_of(where / question, task)} for where in (RECORD, root))
        both = [run for run in anew if run in recorded]
        apart = [anew[run]["student_return"] - recorded[run]["student_return"] for run in both]
        said = [f"{apart.count(0.0)} of {len(both)} runs end at the recorded return, to the last digit"] if both else []
        if any(apart):
            said.append(
                f"anew less recorded is {sum(apart) / len(both):+.3f} in the mean, {max(apart, key=abs):+.3f} at most"
            )
        if alone := len(anew) - len(both):
            said.append(f"{alone} without a recorded run beside them")
        if anew:
            commits = ", ".join(sorted({row["commit"] for row in anew.values()}))
            lines.append(f"{task}, by commit {commits}: {'; '.join(said)}")
    return lines


def jobs(question: str, *, tasks: tuple[str, ...], arms: tuple[str, ...], seeds: range, root: Path) -> list[Job]:
    """Returns the runs of a question that have no rows yet.

    Args:
      question: a folder of `experiments/` with a `runs.py`.
      tasks: names of its tasks; none means all.
      arms: names of its arms, each of one of the tasks at least; none means all.
      seeds: of every arm.
      root: where rows are looked for and added to, as in `RECORD`.

    Raises:
      ValueError: no such question, task or arm; the message lists what there is.
    """
    module = runs_of(question)
    _require("task", tasks, module.ARMS)
    chosen = [configs for task, configs in module.ARMS.items() if not tasks or task in tasks]
    _require("arm", arms, {arm: None for configs in chosen for arm in configs})
    found = []
    for task, configs in module.ARMS.items():
        if tasks and task not in tasks:
            continue
        results = results_of(root / question, task)
        wanted = [
            Job(arm, dataclasses.replace(config, seed=seed), results)
            for seed in seeds
            for arm, config in configs.items()
            if not arms or arm in arms
        ]
        known = _runs_in(results)
        found += [job for job in wanted if job.run not in known]
    return found


def sweep(todo: list[Job], *, call_each: CallEach, hear: Callable[[Heard], None]) -> None:
    """Makes the runs and adds the rows of each as it ends.

    Args:
      todo: from `jobs`.
      call_each: how the runs are made side by side.
      hear: told of every run how far it is, and what it came to.

    Raises:
      SweepError: after all runs, if some failed.
    """
    num_failed = 0
    pending = (job for job in todo if job.run not in _runs_in(job.results))  # another sweep may have made it since
    with contextlib.closing(call_each(make, pending, tell=hear)) as calls:
        for job, made, error in calls:
            if error is None and made[0]:
                write_rows(job.results, made[0])
            num_failed += error is not None
            hear(Heard(job.title, 1.0, end=_end(made, error)))
    if num_failed:
        raise SweepError(f"{num_failed} of {len(todo)} runs failed; the same command makes only those again")


def make(job: Job, tell: Tell) -> tuple[list[dict], list[str]]:
    """Makes the run of a job, or goes on with it; returns its rows, if it has come to some, and what is to be said."""
    try:
        folder, messages = _run(job, tell)
    except BusyError as busy:
        return [], [f"left to another sweep. {busy}"]
    rows = rows_of(folder, arm=job.arm)
    if not (rows and rows[-1]["final"]):
        raise ValueError(f"the log of {folder} ends before its run: move the folder away, and sweep again")
    return rows, messages


def _run(job: Job, tell: Tell) -> tuple[Path, list[str]]:
    """Makes the run of a job, of whichever kind, or goes on with it; returns its folder and what is to be said."""
    if isinstance(job.config, Config):
        return run_or_resume(job.config, watch=lambda progress: tell(heard(job.title, progress)))
    return sessions.run_or_resume(job.config, watch=lambda share, score: tell(Heard(job.title, share, score)))


def heard(title: str, progress: Progress) -> Heard:
    """Returns how far a run is: days without updates and nights without days both count."""
    loop, meters = progress.config.loop, progress.meters
    share = (meters.real + meters.updates) / (loop.real_transitions + loop.num_updates)
    return Heard(title, share, progress.student_return)


def _end(made: tuple[list[dict], list[str]] | None, error: str | None) -> str:
    if error is not None:
        return f"failed, {error}"
    rows, messages = made
    if not rows:
        return " ".join(messages)
    last = rows[-1]
    what = f"deployed return {last['student_return']:.2f} after {last['real']:,} real transitions"
    return "; ".join([f"{what}, {last['seconds']:.0f} s", *messages])


def _runs_in(results: Path) -> set[tuple[str, str, int]]:
    """Returns the runs that a file has rows of, none where there is no file yet."""
    return set(map(run_of, read_rows(results))) if results.exists() else set()


def _require(what: str, names: Iterable[str], known: dict) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"there is no {what} {name!r}: choose from {', '.join(map(repr, known))}")
