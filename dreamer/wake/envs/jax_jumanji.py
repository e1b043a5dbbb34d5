"""Jumanji environments (https://github.com/instadeepai/jumanji) as `JaxEnv`s. An extra: the library is not required."""

import importlib.metadata

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.core.types import EnvSpec
from dreamer.wake.envs.base import EnvConfig, JaxEnv, unknown
from dreamer.wake.envs.frames import draw_planes
from dreamer.wake.envs.pure import pure_env

try:
    from jumanji.environments import SlidingTilePuzzle
    from jumanji.environments.logic.sliding_tile_puzzle.generator import RandomWalkGenerator
    from jumanji.environments.logic.sliding_tile_puzzle.reward import SparseRewardFn
except ImportError as error:
    raise ImportError(
        f"jumanji environments need an extra that is not installed ({error}): pip install -r requirements-jumanji.txt"
    ) from error


def make(config: EnvConfig) -> JaxEnv:
    """Returns one copy of the jumanji environment `config.id`; so far `sliding-tile`.

    Raises:
      ValueError: unknown id or unknown keyword.
    """
    if config.id != "sliding-tile":
        raise unknown("jumanji environment", config.id, ["sliding-tile"])
    try:
        return _sliding_tile(max_steps=config.max_steps or 50, **dict(config.kwargs))
    except TypeError as error:
        raise ValueError(f"kwargs {dict(config.kwargs)} do not fit {config.id}: {error}") from error


def _sliding_tile(*, max_steps: int, size: int = 3, num_random_moves: int = 10) -> JaxEnv:
    """Sliding tiles, shuffled by a random walk from the solved board; reward 1 for solving it, else 0.

    The observation is one plane a tile, [size, size, size ** 2] bool, the empty square first. Moves off the board are
    masked. A walk may end where it began: such a board is solved at the first return to it, as jumanji has it.
    """
    num_tiles = size**2
    # Jumanji ends an episode at its time limit as if the world had ended, so its clock is set out of reach.
    env = SlidingTilePuzzle(
        generator=RandomWalkGenerator(grid_size=size, num_random_moves=num_random_moves),
        reward_fn=SparseRewardFn(),
        time_limit=np.iinfo(np.int32).max,
    )
    spec = EnvSpec(
        id="sliding-tile",
        suite="jumanji",
        version=importlib.metadata.version("jumanji"),
        obs_shape=(size, size, num_tiles),
        obs_dtype="bool",
        num_actions=4,
    )

    def observe(observation):
        return jax.nn.one_hot(observation.puzzle, num_tiles, dtype=bool)

    def reset(key):
        with jax.numpy_rank_promotion("allow"):  # jumanji adds [2] to [4, 2]
            state, timestep = env.reset(key)
        return (state, timestep.observation.action_mask), observe(timestep.observation)

    def step(key, state, action):
        del key  # nothing is left to chance once the board is shuffled
        with jax.numpy_rank_promotion("allow"):
            state, timestep = env.step(state[0], action)
        obs, truncated = observe(timestep.observation), state.step_count >= max_steps
        return (state, timestep.observation.action_mask), obs, timestep.reward, timestep.last(), truncated

    def render(state):
        return draw_planes(jax.nn.one_hot(jnp.asarray(state[0].puzzle), num_tiles))

    return pure_env(
        spec,
        reset=reset,
        step=step,
        action_mask=lambda state: state[1],
        render=render,
        max_steps=max_steps,
    )
