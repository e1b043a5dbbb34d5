"""Makes the runs of a question over seeds: `python -m scripts.sweep sample_efficiency --tasks cartpole --seeds 5`."""

import sys
from typing import Annotated

import tyro

from experiments import sweep
from scripts.display import console


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
    try:
        todo = sweep.jobs(question, tasks=tasks, arms=arms, seeds=range(seeds))
        console.print(f"{len(todo)} runs to make; the others have rows already")
        sweep.sweep(todo, num_processes=processes, say=lambda line: console.print(line, highlight=False))
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        console.print(f"[bold red]error:[/bold red] {error}", highlight=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    tyro.cli(main)
