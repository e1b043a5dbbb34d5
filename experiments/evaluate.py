"""Measuring and filming what a run folder holds: the deployed student by its file, the planner by its checkpoint."""

import dataclasses
from pathlib import Path

import imageio.v3 as iio
import jax
import numpy as np

from agents.acting import Act, make_planner
from dreamer.core.types import PyTree
from dreamer.io import Checkpoints, RunFolder
from dreamer.sleep.search import make_search
from dreamer.wake import Deployed, envs, session
from experiments.build import build
from experiments.config import Config, from_dict
from experiments.run import saved_state

_FILM_ENDINGS = (".gif", ".mp4")


def evaluate(path: str | Path, *, planner: bool = False, num_episodes: int = 32, seed: int = 0) -> np.ndarray:
    """Returns [num_episodes] undiscounted returns, one episode each from its own start.

    Args:
      path: a run folder.
      planner: search at every decision, instead of the deployed search-free student.
      num_episodes: environment copies that live one episode each.
      seed: equal seeds meet equal episodes.
    """
    config, act, params = _open(path, planner=planner)
    episode_seed = int(session.evaluation_seed(seed))
    env = envs.make_host(dataclasses.replace(config.env, num_envs=num_episodes), episode_seed)
    try:
        limit = env.max_steps or config.evaluation.max_steps
        return session.host_episode_returns(env, act, params, seed=episode_seed, max_steps=limit)
    finally:
        env.close()


def film(
    path: str | Path, target: str | Path, *, planner: bool = False, seed: int = 0, frames_per_second: int = 30
) -> tuple[Path, float]:
    """Films one episode to a GIF or MP4; returns the file and the episode's return.

    Raises:
      ValueError: another ending, or an environment that draws nothing.
      ImportError: MP4 without the package that encodes it; the message names the command that installs it.
    """
    target = Path(target)
    if target.suffix not in _FILM_ENDINGS:
        raise ValueError(f"--film {target}: give a name that ends in {' or '.join(_FILM_ENDINGS)}")
    config, act, params = _open(path, planner=planner)
    episode_seed = int(session.evaluation_seed(seed))
    env = envs.make_host(dataclasses.replace(config.env, num_envs=1), episode_seed, render=True)
    try:
        life = session.HostSession(env, act, seed=episode_seed)
        life.begin()
        frames, total = [env.render(0)], 0.0
        limit = env.max_steps or config.evaluation.max_steps
        while life.state.episode[0] == 0 and life.state.step[0] < limit:
            total += float(life.live(params, 1).reward[0, 0])
            frames.append(env.render(0))
    finally:
        env.close()
    if frames[0] is None:
        raise ValueError(f"{config.env.id} draws nothing: leave out --film")
    # After the last step the environment has begun its next episode, so its picture is left out.
    _write(target, np.stack(frames[:-1] or frames), frames_per_second)
    return target, total


def _write(target: Path, frames: np.ndarray, frames_per_second: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".gif":
        iio.imwrite(target, frames, duration=1000 / frames_per_second, loop=0)
        return
    try:
        iio.imwrite(target, frames, fps=frames_per_second, plugin="FFMPEG")
    except ImportError as error:
        raise ImportError("MP4 needs an encoder: pip install imageio-ffmpeg, or film to a .gif") from error


def _open(path: str | Path, *, planner: bool) -> tuple[Config, Act, PyTree]:
    """Returns the run's config, who acts, and with what."""
    folder = RunFolder.open(path)
    config = from_dict(folder.config)
    if planner:
        parts = build(dataclasses.replace(config, env=dataclasses.replace(config.env, num_envs=1)))
        like = jax.eval_shape(lambda: saved_state(build(config).init()))
        learner = Checkpoints(folder.checkpoints).restore(like).tree["learner"]
        search = make_search(parts.model, parts.agent, config.search, gamma=config.targets.gamma)
        act = make_planner(parts.model, parts.agent, search, greedy=True)
        return config, jax.jit(act), (learner.params, learner.return_spread)
    deployed = Deployed.load(folder.deployed)

    def student(params: PyTree, keys: jax.Array, obs: np.ndarray, action_mask: np.ndarray, memory: PyTree) -> tuple:
        del params, keys
        return deployed.act(obs, action_mask), memory

    return config, student, ()
