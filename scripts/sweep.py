"""Makes the runs of a question over seeds: `python -m scripts.sweep sample_efficiency --tasks cartpole --seeds 5`."""

import functools
import signal
from typing import Annotated

import tyro

from experiments import sweep, workers
from scripts.display import SweepWatch, clear_errors, say


def main(
    question: Annotated[str, tyro.conf.Positional],
    tasks: tuple[str, ...] = (),
    arms: tuple[str, ...] = (),
    seeds: int = 5,
    processes: int = 2,
) -> None:
    """Runs what has no rows yet, and appends rows to experiments/QUESTION/results/.

    Args:
      question: a folder of experiments/.
      tasks: only these tasks.
      arms: only these arms.
      seeds: seeds 0 to this many, exclusive.
      processes: runs side by side, among which the cores are shared out.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    with clear_errors():
        todo = sweep.jobs(question, tasks=tasks, arms=arms, seeds=range(seeds))
        say(f"{len(todo)} runs to make; the others have rows already")
        with SweepWatch(len(todo)) as watch:
            sweep.sweep(todo, call_each=functools.partial(workers.call_each, num_processes=processes), hear=watch)


if __name__ == "__main__":
    tyro.cli(main)
