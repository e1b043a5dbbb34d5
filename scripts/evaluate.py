"""Measures a run: `python -m scripts.evaluate RUN_FOLDER [--planner] [--version N] [--honesty] [--film FILE]`."""

from typing import Annotated

import tyro

from experiments.evaluate import evaluate, film, honesty
from experiments.run import use_compilation_cache
from experiments.statistics import interquartile_mean
from scripts.display import clear_errors, say, show_honesty


def main(
    folder: Annotated[str, tyro.conf.Positional],
    planner: bool = False,
    version: int | None = None,
    episodes: int = 32,
    seed: int = 0,
    honest: Annotated[bool, tyro.conf.arg(name="honesty")] = False,
    film_to: Annotated[str | None, tyro.conf.arg(name="film")] = None,
) -> None:
    """Measures the deployed, search-free agent of a run folder, or its planner.

    Args:
      folder: the run folder.
      planner: search at every decision instead.
      version: of a run with a gate, this version of the agent instead of the one in force.
      episodes: episodes to measure, each from its own start.
      seed: equal seeds meet equal episodes.
      honest: also hold what the newest checkpoint's model dreams against what really happens, step by step.
      film_to: also film one episode to this .gif or .mp4 file.
    """
    use_compilation_cache()
    with clear_errors():
        returns = evaluate(folder, planner=planner, version=version, num_episodes=episodes, seed=seed)
        who = "planner (with search)" if planner else "deployed student (no search)"
        centre, low, high = interquartile_mean(returns)
        told = f"; IQM {centre:.2f}, 95 % interval {low:.2f} to {high:.2f}" if episodes > 1 else ""
        say(
            f"{who}: mean return {returns.mean():.2f} over {episodes} episode{'s' * (episodes > 1)} "
            f"({returns.min():.4g} to {returns.max():.4g}){told}"
        )
        if honest:
            show_honesty(honesty(folder, seed=seed))
        if film_to:
            path, total = film(folder, film_to, planner=planner, version=version, seed=seed)
            say(f"filmed an episode of return {total:.2f} to {path}")


if __name__ == "__main__":
    tyro.cli(main, prog="python -m scripts.evaluate")
