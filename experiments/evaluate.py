"""Measuring and filming what a run folder holds: the deployed student by its file, the rest by its checkpoint."""

from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as iio
import jax
import numpy as np
from PIL import Image

from agents.acting import Act, make_planner, make_student
from dreamer.core.types import PyTree
from dreamer.io import Checkpoints, RunFolder, Versions
from dreamer.loop import Deployment, in_force
from dreamer.sleep.honesty import Honesty
from dreamer.sleep.update import LearnerState
from dreamer.wake import Deployed, envs, host_session, session
from dreamer.wake.envs import EnvConfig, HostEnv
from experiments import folders
from experiments.build import Parts, build
from experiments.config import Config, from_dict
from experiments.drivers import actor_of
from experiments.honesty import NUM_COPIES, as_learned, on_host_of
from experiments.recover import saved_state
from experiments.results import config_of
from experiments.sessions.config import SessionsConfig
from experiments.sessions.measure import of_success

_FILM_ENDINGS = (".gif", ".mp4")


def evaluate(
    path: str | Path, *, planner: bool = False, version: int | None = None, num_episodes: int = 32, seed: int = 0
) -> np.ndarray:
    """Returns [num_episodes] undiscounted returns, one episode each from its own start, in the run's `measured_world`.

    Args:
      path: a run folder.
      planner: search at every decision with the newest checkpoint, instead of the deployed search-free student.
      version: of the student, by its number in the lineage of a run with a gate; None takes the one in force.
      num_episodes: environment copies that live one episode each.
      seed: equal seeds meet equal episodes.

    Raises:
      ValueError: no run folder, nothing deployed or saved in it yet, no such version, or no episodes asked for.
    """
    if num_episodes < 1:
        raise ValueError(f"episodes is {num_episodes}: give 1 or more")
    config, act, params, real = _open(path, planner=planner, version=version)
    episode_seed = int(session.evaluation_seed(seed))
    env = make_world(config, real, measured_world(config, num_episodes), seed=episode_seed)
    try:
        return _returns(env, act, params, config, episode_seed)
    finally:
        env.close()


def film(
    path: str | Path,
    target: str | Path,
    *,
    planner: bool = False,
    version: int | None = None,
    seed: int = 0,
    frames_per_second: int = 30,
) -> tuple[Path, float]:
    """Films the first episode that `evaluate` meets, to its last state; returns the file and the episode's return.

    Args:
      path: a run folder.
      target: the .gif or .mp4 file to write.
      planner: as in `evaluate`.
      version: as in `evaluate`.
      seed: as in `evaluate`.
      frames_per_second: decisions shown in a second.

    Raises:
      ValueError: as `evaluate`; another ending, or an environment that draws nothing.
      ImportError: MP4 without the package that encodes it; the message names the command that installs it.
    """
    target = film_path(target, option="--film")
    config, act, params, real = _open(path, planner=planner, version=version)
    episode_seed = int(session.evaluation_seed(seed))
    env = make_world(config, real, measured_world(config, 1), seed=episode_seed, render=True)
    filmed = _Filmed(env)
    try:
        (total,) = _returns(filmed, act, params, config, episode_seed)
    finally:
        env.close()
    write_film(target, np.stack(filmed.frames), frames_per_second)
    return target, float(total)


def honesty(path: str | Path, *, seed: int = 0) -> Honesty:
    """Returns the errors [H] of the newest checkpoint's model along decisions that its student lives now.

    Args:
      path: a run folder.
      seed: as in `evaluate`.

    Raises:
      ValueError: no run folder, or nothing saved in it yet.
    """
    parts, acting, real = open_checkpoint(path)
    episode_seed = int(session.evaluation_seed(seed))
    env = make_world(parts.config, real, as_learned(parts.config.env, NUM_COPIES), seed=episode_seed)
    try:
        student = make_student(parts.model, parts.agent, greedy=True)
        return on_host_of(student, parts.model, parts.config)(env, actor_of(parts.config, acting), episode_seed)
    finally:
        env.close()


def measured_world(config: Config | SessionsConfig, num_envs: int) -> EnvConfig:
    """Returns what the agent of a run is measured in: of one that lives sessions where success alone is paid, as rows
    tell it."""
    world = of_success(config.env) if isinstance(config, SessionsConfig) else config.env
    return envs.for_evaluation(world, num_envs)


class _Filmed:
    """A `HostEnv` of one copy that keeps a picture of every state, also of the last before a reset."""

    def __init__(self, env: HostEnv):
        self.spec = env.spec
        self.num_envs = env.num_envs
        self.max_steps = env.max_steps
        self.frames: list[np.ndarray] = []
        self._env = env

    def reset(self, copies: np.ndarray, episodes: Sequence[int]) -> np.ndarray:
        obs = self._env.reset(copies, episodes)
        if not self.frames:  # what follows the filmed episode is not filmed
            self._expose()
        return obs

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        outcome = self._env.step(action)
        self._expose()
        return outcome

    def action_mask(self) -> np.ndarray:
        return self._env.action_mask()

    def render(self, copy: int) -> np.ndarray | None:
        return self._env.render(copy)

    def close(self) -> None:
        self._env.close()

    def _expose(self) -> None:
        frame = self._env.render(0)
        if frame is None:
            raise ValueError(f"{self.spec.suite} {self.spec.id} draws nothing: leave out --film")
        self.frames.append(frame)


def make_world(config: Config, real: int, task: EnvConfig, *, seed: int, render: bool = False) -> HostEnv:
    """Returns the copies of the run's world that `task` says, as it is after `real` transitions."""
    if not envs.is_jax(task):
        return envs.make_host(task, seed, render=render)
    copies = config.env.num_envs
    env = envs.settled(envs.make_jax(task), seed=config.seed, life=real // copies, num_envs=copies)
    return envs.HostFromJax(env, num_envs=task.num_envs, seed=seed)


def _returns(env: HostEnv, act: Act, params: PyTree, config: Config, seed: int) -> np.ndarray:
    limit = env.max_steps or config.evaluation.max_steps
    return host_session.host_episode_returns(env, act, params, seed=seed, max_steps=limit)


def film_path(target: str | Path, *, option: str) -> Path:
    """Returns the file that `option` names, or raises ValueError where films cannot be written to such a file."""
    target = Path(target)
    if target.suffix not in _FILM_ENDINGS:
        raise ValueError(f"{option} {target}: give a name that ends in {' or '.join(_FILM_ENDINGS)}")
    return target


def write_film(target: Path, frames: np.ndarray, frames_per_second: float) -> None:
    """Writes frames [F, H, W, 3] uint8 to a .gif or .mp4 file.

    Raises:
      ImportError: MP4 without the package that encodes it; the message names the command that installs it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".gif":
        # Ten times as fast as imageio's way, which looks for the best palette of every frame.
        pictures = [Image.fromarray(frame).quantize(64, Image.Quantize.FASTOCTREE) for frame in frames]
        pictures[0].save(target, save_all=True, append_images=pictures[1:], duration=1000 / frames_per_second, loop=0)
        return
    try:
        iio.imwrite(target, frames, fps=frames_per_second, plugin="FFMPEG")
    except ImportError as error:
        raise ImportError("MP4 needs an encoder: pip install imageio-ffmpeg, or film to a .gif") from error


def _open(path: str | Path, *, planner: bool, version: int | None) -> tuple[Config | SessionsConfig, Act, PyTree, int]:
    """Returns the run's config, who acts, with what, and after how many real transitions."""
    folder = RunFolder.open(path)
    config = config_of(folder)
    folders.require_world(folder, config.env.id)
    if planner and version is not None:
        raise ValueError(
            f"version is {version}, but the planner is that of the newest checkpoint: leave out --planner or --version"
        )
    if planner:
        parts, acting, real = open_checkpoint(path)
        act = make_planner(parts.model, parts.agent, parts.search, greedy=True)
        return config, jax.jit(act), actor_of(config, acting), real
    if version is None and not folder.deployed.exists():
        raise ValueError(
            f"{path} has not deployed an agent yet, which a run does at its end: go on with it by --resume {path}, or "
            "measure the planner of its newest checkpoint"
        )
    deployed = Deployed.load(folder.deployed if version is None else Versions(folder.versions).require(version))

    def student(params: PyTree, keys: jax.Array, obs: np.ndarray, action_mask: np.ndarray, memory: PyTree) -> tuple:
        del params, keys
        return deployed.act(obs, action_mask), memory

    return config, student, (), deployed.meters["real"]


def open_checkpoint(path: str | Path) -> tuple[Parts, LearnerState | Deployment, int]:
    """Returns a run's parts, and who acts by its newest checkpoint after how many real transitions.

    That checkpoint must be whole: an older one is another agent. What lives on the host in the parts is freed.
    """
    folder = RunFolder.open(path)
    checkpoints, config = Checkpoints(folder.checkpoints), from_dict(folder.config)
    folders.require_world(folder, config.env.id)
    parts = build(config)
    try:
        like = jax.eval_shape(lambda: saved_state(parts.init()))
    finally:
        parts.close()
    days = checkpoints.days
    saved = checkpoints.restore(like, day=days[-1] if days else None)
    return parts, in_force(saved.tree["learner"], saved.tree["deployed"]), saved.counters["real"]
