"""Makes the runs of a question over seeds: `python -m scripts.sweep sample_efficiency --tasks cartpole --seeds 5`."""

import functools
import shlex
import signal
from pathlib import Path
from typing import Annotated

import tyro

from dreamer.io.files import write_atomically
from experiments import sweep, workers
from experiments.space import Space, flags
from experiments.wandb_file import wandb_file as wandb_text
from scripts.display import INTERPRETER, SweepWatch, clear_errors, say


def main(
    question: Annotated[str, tyro.conf.Positional],
    tasks: tuple[str, ...] = (),
    arms: tuple[str, ...] = (),
    seeds: int = 5,
    processes: int = 2,
    ray: bool = False,
    trials: int | None = None,
    study: str | None = None,
    wandb_file: str | None = None,
    root: Path = sweep.RECORD,
) -> None:
    """Runs what has no rows yet, and appends rows to ROOT/QUESTION/results/; or searches the question's space.

    Args:
      question: a folder of experiments/.
      tasks: only these tasks.
      arms: only these arms.
      seeds: seeds 0 to this many, exclusive; of `--trials`, each has its own.
      processes: runs side by side, among which the cores are shared out.
      ray: make the runs as tasks of a Ray cluster instead: of $RAY_ADDRESS, or on this machine.
      trials: search the question's SPACE with Optuna, until its study has this many trials.
      study: database of the study, any that SQLAlchemy knows; without it a file in runs/studies/.
      wandb_file: only write the question's SPACE as a W&B sweep to this file.
      root: where rows lie; below a folder of its own a question is made again, beside its recorded rows.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    with clear_errors():
        chooses, searched = tasks or arms or root != sweep.RECORD, trials is not None or wandb_file is not None
        _require_one_kind(chooses_rows=bool(chooses), study=study, searched=searched)
        if wandb_file is not None:
            write_atomically(Path(wandb_file), wandb_text(_space(question), seeds=range(seeds)).encode())
            say(f"wrote {wandb_file}; to go on: wandb sweep {wandb_file}")
        elif trials is not None:
            _search(question, study, num_trials=trials, call_each=_call_each(processes, ray))
        else:
            todo = sweep.jobs(question, tasks=tasks, arms=arms, seeds=range(seeds), root=root)
            say(f"{len(todo)} runs to make; the others have rows already")
            with SweepWatch(len(todo)) as watch:
                sweep.sweep(todo, call_each=_call_each(processes, ray), hear=watch)


def _require_one_kind(*, chooses_rows: bool, study: str | None, searched: bool) -> None:
    if chooses_rows and searched:
        raise ValueError(
            "--tasks, --arms and --root are of runs that make rows: leave them out to search the question's SPACE"
        )
    if study and not searched:
        raise ValueError("--study is of a search: say how many --trials it is to have")


def _call_each(processes: int, ray: bool) -> sweep.CallEach:
    if not ray:
        return functools.partial(workers.call_each, num_processes=processes)
    from experiments import cluster  # an extra

    return cluster.call_each


def _space(question: str) -> Space:
    space = getattr(sweep.runs_of(question), "SPACE", None)
    if space is None:
        having = [name for name in sweep.questions() if hasattr(sweep.runs_of(name), "SPACE")]
        raise ValueError(f"{question} has no SPACE to search; there is one in {', '.join(having)}")
    return space


def _search(question: str, url: str | None, *, num_trials: int, call_each: sweep.CallEach) -> None:
    space = _space(question)
    from experiments import study as studies  # an extra

    url, name = url or f"sqlite:///runs/studies/{question}.db", studies.study_name(question, space)
    opened = studies.open_study(name, url)
    num_begun, num_missing = len(studies.begun_here(opened)), studies.num_missing(opened, num_trials)
    say(f"{num_missing} of {num_trials} trials to begin and {num_begun} to go on with in the study {name}")
    with SweepWatch(num_begun + num_missing) as watch:
        study = studies.search(name, url, space, num_trials=num_trials, call_each=call_each, hear=watch)
    if not (best := studies.best(study)):
        return say("no trial has ended yet")
    words = shlex.join(flags(space.config(best.params, seed=best.number)))
    say(f"best of {len(study.trials)}: trial {best.number}, deployed return {best.value:.2f}. To make it again:")
    say(f"  {INTERPRETER} -m scripts.train {words}")


if __name__ == "__main__":
    tyro.cli(main, prog="python -m scripts.sweep")
