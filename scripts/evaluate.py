"""Measures a run's agent: `python -m scripts.evaluate RUN_FOLDER [--planner] [--episodes 32] [--film episode.gif]`."""

import sys
from typing import Annotated

import tyro

from experiments.evaluate import evaluate, film
from experiments.run import use_compilation_cache
from experiments.statistics import interquartile_mean
from scripts.display import console


def main(
    folder: Annotated[str, tyro.conf.Positional],
    planner: bool = False,
    episodes: int = 32,
    seed: int = 0,
    film_to: Annotated[str | None, tyro.conf.arg(name="film")] = None,
) -> None:
    """Measures the deployed, search-free agent of a run folder, or its planner.

    Args:
      folder: the run folder.
      planner: search at every decision instead.
      episodes: episodes to measure, each from its own start.
      seed: equal seeds meet equal episodes.
      film_to: also film one episode to this .gif or .mp4 file.
    """
    use_compilation_cache()
    try:
        returns = evaluate(folder, planner=planner, num_episodes=episodes, seed=seed)
        filmed = film(folder, film_to, planner=planner, seed=seed) if film_to else None
    except (ValueError, OSError, ImportError) as error:
        console.print(f"[bold red]error:[/bold red] {error}", highlight=False, soft_wrap=True)
        sys.exit(1)
    who = "planner (with search)" if planner else "deployed student (no search)"
    centre, low, high = interquartile_mean(returns)
    console.print(
        f"{who}: mean return {returns.mean():.1f} over {episodes} episodes "
        f"({returns.min():.1f} to {returns.max():.1f}); IQM {centre:.1f}, 95 % interval {low:.1f} to {high:.1f}",
        highlight=False,
        soft_wrap=True,
    )
    if filmed:
        console.print(f"filmed an episode of return {filmed[1]:.1f} to {filmed[0]}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    tyro.cli(main)
