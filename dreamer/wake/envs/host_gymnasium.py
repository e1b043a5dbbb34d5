"""Gymnasium environments (https://gymnasium.farama.org) as a `HostEnv`: E synchronous copies without auto-reset."""

import itertools
import os
from collections.abc import Sequence

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from dreamer.core.types import EnvSpec
from dreamer.wake.envs.base import EnvConfig, HostEnv, episode_seed, unknown

# JAX computes in 32 bits, so a 64-bit observation would lose its other half at the first network anyway.
_NARROWED = {"float64": "float32", "int64": "int32", "uint64": "uint32"}
# Pictures are taken without a screen or a loudspeaker, which pygame would look for and miss aloud.
_NO_DEVICES = {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}


def make(config: EnvConfig, seed: int, *, render: bool = False) -> HostEnv:
    """Returns `config.num_envs` copies of the gymnasium environment `config.id`.

    Raises:
      ValueError: unknown id, unknown keyword, or a space other than a Box observation with Discrete actions.
      ImportError: the environment needs a package that is not installed; the message names it.
    """
    copies = itertools.count()
    arguments = dict(config.kwargs)
    if config.max_steps is not None:
        arguments["max_episode_steps"] = config.max_steps
    if render:
        arguments["render_mode"] = "rgb_array"
        for name, value in _NO_DEVICES.items():
            os.environ.setdefault(name, value)
    try:
        env = gym.make_vec(
            config.id,
            num_envs=config.num_envs,
            vectorization_mode="sync",
            vector_kwargs={"autoreset_mode": gym.vector.AutoresetMode.DISABLED},
            wrappers=[
                lambda copy: _Checked(copy, config.id, next(copies)),
                lambda copy: _looking_back(copy, config.frame_stack),
            ],
            disable_env_checker=True,  # it only warns; `_Checked` stops
            **arguments,
        )
    except gym.error.UnregisteredEnv as error:
        raise unknown("gymnasium environment", config.id, gym.registry) from error
    except gym.error.DependencyNotInstalled as error:
        raise ImportError(f"{config.id}: {error}") from error
    except TypeError as error:
        raise ValueError(f"kwargs {dict(config.kwargs)} do not fit {config.id}: {error}") from error
    return _HostGymnasium(env, config, seed)


class _HostGymnasium:
    """See `HostEnv`. Episode n of copy c is seeded by (seed, c, n)."""

    def __init__(self, env: gym.vector.VectorEnv, config: EnvConfig, seed: int):
        action_space, obs_space = env.single_action_space, env.single_observation_space
        obs_dtype = obs_space.dtype.name
        self.spec = EnvSpec(
            id=config.id,
            suite="gymnasium",
            version=gym.__version__,
            obs_shape=obs_space.shape,
            obs_dtype=_NARROWED.get(obs_dtype, obs_dtype),
            num_actions=int(action_space.n),
            frame_stack=config.frame_stack,
        )
        self.num_envs = config.num_envs
        self.max_steps = env.envs[0].get_wrapper_attr("spec").max_episode_steps
        self._env = env
        self._seed = seed
        self._first_action = int(action_space.start)
        self._begun = False

    def reset(self, copies: np.ndarray, episodes: Sequence[int]) -> np.ndarray:
        """See `HostEnv.reset`."""
        copies = np.asarray(copies, bool)
        if not self._begun and not copies.all():
            raise ValueError(f"{self.spec.id}: the first reset must start every copy, got copies={copies}.")
        self._begun = True
        seeds = [episode_seed(self._seed, copy, int(episode)) for copy, episode in enumerate(episodes)]
        obs, _ = self._env.reset(seed=seeds, options={"reset_mask": copies})
        return obs.astype(self.spec.obs_dtype, copy=False)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """See `HostEnv.step`."""
        obs, reward, terminated, truncated, _ = self._env.step(np.asarray(action, np.int64) + self._first_action)
        obs = obs.astype(self.spec.obs_dtype, copy=False)
        return obs, reward.astype(np.float32), terminated, truncated & ~terminated

    def action_mask(self) -> np.ndarray:
        """See `HostEnv.action_mask`; gymnasium has no convention for forbidden actions."""
        return np.ones((self.num_envs, self.spec.num_actions), bool)

    def render(self, copy: int) -> np.ndarray | None:
        """See `HostEnv.render`."""
        env = self._env.envs[copy]
        try:
            return env.render() if env.render_mode == "rgb_array" else None
        except gym.error.DependencyNotInstalled as error:
            raise ImportError(f"a picture of {self.spec.id} needs a package: {error}") from error

    def close(self) -> None:
        """See `HostEnv.close`."""
        self._env.close()


def _looking_back(env: gym.Env, num_frames: int) -> gym.Env:
    """Returns an environment whose observations are stacks of `num_frames`, side by side along the last axis."""
    if num_frames == 1:
        return env
    env = gym.wrappers.FrameStackObservation(env, num_frames, padding_type="reset")

    def beside(frames: np.ndarray) -> np.ndarray:
        return np.concatenate(list(frames), axis=-1)

    box = env.observation_space
    return gym.wrappers.TransformObservation(
        env, beside, spaces.Box(beside(box.low), beside(box.high), dtype=box.dtype)
    )


class _Checked(gym.Wrapper):
    """Stops at the first thing that a copy says against its own spaces, before a batch buffer casts it away."""

    def __init__(self, env: gym.Env, env_id: str, copy: int):
        super().__init__(env)
        _check_spaces(env, env_id)
        self._where = f"{env_id}, copy {copy}"
        self._step = 0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        obs, info = self.env.reset(seed=seed, options=options)
        self._step = 0
        return self._check(obs), info

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._step += 1
        if not np.isfinite(reward):
            raise ValueError(
                f"{self._where}, step {self._step}: the reward is {reward}; an environment must give a number."
            )
        return self._check(obs), reward, terminated, truncated, info

    def _check(self, obs: np.ndarray) -> np.ndarray:
        space, obs = self.env.observation_space, np.asarray(obs)
        problem = ""
        if obs.shape != space.shape:
            problem = f"has shape {obs.shape}, but the space declares {space.shape}"
        elif not np.can_cast(obs.dtype, space.dtype, "same_kind"):
            problem = f"has dtype {obs.dtype}, but the space declares {space.dtype}"
        elif not np.isfinite(obs).all():
            problem = f"holds NaN or infinity: {np.array2string(obs, threshold=16)}"
        if problem:
            raise ValueError(
                f"{self._where}, step {self._step}: the observation {problem}; fix or wrap the environment."
            )
        return obs


def _check_spaces(env: gym.Env, env_id: str) -> None:
    supported = "supported: a Box observation with Discrete actions; wrap the environment to get there"
    if not isinstance(env.observation_space, spaces.Box):
        raise ValueError(f"{env_id} has observations {env.observation_space}; {supported}.")
    if not isinstance(env.action_space, spaces.Discrete):
        raise ValueError(f"{env_id} has actions {env.action_space}; {supported}.")
