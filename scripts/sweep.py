"""Makes the runs of a question over seeds: `python -m scripts.sweep sample_efficiency --tasks cartpole --seeds 5`."""

from typing import Annotated

import tyro

from experiments import sweep
from scripts.display import clear_errors, say


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
      processes: runs side by side.
    """
    with clear_errors():
        todo = sweep.jobs(question, tasks=tasks, arms=arms, seeds=range(seeds))
        say(f"{len(todo)} runs to make; the others have rows already")
        sweep.sweep(todo, num_processes=processes, say=say)


if __name__ == "__main__":
    tyro.cli(main)
