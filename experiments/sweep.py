"""Many runs of one question: every task, arm and seed, side by side in processes, into rows that are never repeated."""

import dataclasses
import importlib
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from experiments.config import Config
from experiments.results import read_rows, rows_of, write_rows
from experiments.run import run


@dataclasses.dataclass(frozen=True)
class Job:
    """One run to make."""

    arm: str
    config: Config
    results: Path


def questions() -> list[str]:
    """Returns the names of the folders of `experiments/` that hold a question."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob("*/runs.py"))


def jobs(question: str, *, tasks: tuple[str, ...], arms: tuple[str, ...], seeds: range) -> list[Job]:
    """Returns the runs of a question that have no rows yet.

    Args:
      question: a folder of `experiments/` with a `runs.py`.
      tasks: names of its tasks; none means all.
      arms: names of its arms; none means all.
      seeds: of every arm.

    Raises:
      ValueError: no such question, task or arm; the message lists what there is.
    """
    try:
        module = importlib.import_module(f"experiments.{question}.runs")
    except ModuleNotFoundError as error:
        if error.name not in (f"experiments.{question}", f"experiments.{question}.runs"):
            raise
        raise ValueError(f"there is no question {question!r}: choose one of {', '.join(questions())}") from error
    _require("task", tasks, module.ARMS)
    found = []
    for task, configs in module.ARMS.items():
        if tasks and task not in tasks:
            continue
        _require("arm", arms, configs)
        results = Path(module.__file__).parent / "results" / f"{task}.csv"
        known = (
            {(row["arm"], row["config_hash"], row["seed"]) for row in read_rows(results)} if results.exists() else ()
        )
        for seed in seeds:
            for arm, config in configs.items():
                if (not arms or arm in arms) and (arm, config.hash(), seed) not in known:
                    found.append(Job(arm, dataclasses.replace(config, seed=seed), results))
    return found


class SweepError(RuntimeError):
    """Runs of a sweep that failed; those that did not have their rows."""


def sweep(todo: list[Job], *, num_processes: int, say: Callable[[str], None]) -> None:
    """Makes the runs and appends the rows of each as it ends; an interrupted sweep goes on where it stopped.

    Args:
      todo: from `jobs`.
      num_processes: runs side by side.
      say: told of each run that ends, well or not.

    Raises:
      SweepError: after all runs, if some failed.
    """
    if num_processes < 1:
        raise ValueError(f"num_processes is {num_processes}: give 1 or more")
    context = multiprocessing.get_context("spawn")  # JAX does not survive a fork
    num_failed = 0
    with ProcessPoolExecutor(num_processes, mp_context=context) as pool:
        futures = {pool.submit(_make, job): job for job in todo}
        try:
            for future in as_completed(futures):
                job = futures[future]
                name = f"{job.config.name}, {job.arm}, seed {job.config.seed}"
                if error := future.exception():
                    num_failed += 1
                    say(f"{name}: failed, {type(error).__name__}: {error}")
                    continue
                write_rows(job.results, future.result())
                last = future.result()[-1]
                say(
                    f"{name}: deployed return {last['student_return']:.2f} after {last['real']:,} real transitions, "
                    f"{last['seconds']:.0f} s"
                )
        except BaseException:  # an interrupt: runs that have not begun are not to begin
            pool.shutdown(cancel_futures=True)
            raise
    if num_failed:
        raise SweepError(f"{num_failed} of {len(todo)} runs failed; the same command makes only those again")


def _make(job: Job) -> list[dict]:
    return rows_of(run(job.config).folder, arm=job.arm)


def _require(what: str, names: tuple[str, ...], known: dict) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"there is no {what} {name!r}: choose from {', '.join(known)}")
