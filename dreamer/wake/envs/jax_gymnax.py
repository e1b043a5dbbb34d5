"""Gymnax environments (https://github.com/RobertTLange/gymnax) as `JaxEnv`s, without their auto-reset."""

import importlib.metadata

import gymnax
import jax
import numpy as np
from gymnax.environments import spaces

from dreamer.core.types import EnvSpec
from dreamer.wake.envs.base import EnvConfig, JaxEnv, unknown
from dreamer.wake.envs.frames import draw_planes
from dreamer.wake.envs.pure import pure_env


def make(config: EnvConfig) -> JaxEnv:
    """Returns one copy of the gymnax environment `config.id`.

    `config.kwargs` reach the constructor (`size` of `DeepSea-bsuite`) or, where they name one, the environment's
    parameters (`randomize_actions`). MinAtar observations are binary planes and are kept as bool.

    Raises:
      ValueError: unknown id, unknown keyword, or a space that is not an array observation with discrete actions.
    """
    env, params = _make(config)
    action_space = env.action_space(params)
    if not isinstance(action_space, spaces.Discrete):
        raise ValueError(f"{config.id} has actions {type(action_space).__name__}; supported: Discrete.")
    obs_like = jax.eval_shape(lambda key: env.reset_env(key, params)[0], jax.random.key(0))
    if not hasattr(obs_like, "dtype"):
        raise ValueError(f"{config.id} has observations {type(obs_like).__name__}; supported: one array.")
    spec = EnvSpec(
        id=config.id,
        suite="gymnax",
        version=importlib.metadata.version("gymnax"),
        obs_shape=obs_like.shape,
        obs_dtype="bool" if config.id.endswith("-MinAtar") else np.dtype(obs_like.dtype).name,
        num_actions=int(env.num_actions),
    )

    def reset(key):
        obs, state = env.reset_env(key, params)
        return state, obs

    def step(key, state, action):
        # `env.step` would reset by itself and hand the next episode's observation over as this one's.
        obs, state, reward, terminated, _ = env.step_env(key, state, action, params)
        return state, obs, reward, terminated, env.is_truncated(state, params)

    def render(state):
        obs = np.asarray(env.get_obs(state, params))
        return draw_planes(obs) if obs.ndim in (2, 3) else None

    return pure_env(spec, reset=reset, step=step, render=render, max_steps=int(params.max_steps_in_episode))


def _make(config: EnvConfig) -> tuple:
    """Returns gymnax's (environment, parameters)."""
    if config.id not in gymnax.registered_envs:
        raise unknown("gymnax environment", config.id, gymnax.registered_envs)
    defaults = gymnax.make(config.id)[1]
    parameters = {name: value for name, value in config.kwargs if hasattr(defaults, name)}
    arguments = {name: value for name, value in config.kwargs if not hasattr(defaults, name)}
    try:
        env, params = gymnax.make(config.id, **arguments)
    except TypeError as error:
        raise ValueError(f"kwargs {arguments} do not fit {config.id}: {error}") from error
    if config.max_steps is not None:
        parameters["max_steps_in_episode"] = config.max_steps
    return env, params.replace(**parameters)
