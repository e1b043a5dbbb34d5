"""Frozen Lake as a job: the map of holes is hidden, and stays from episode to episode.

The ice of Gymnasium's FrozenLake, not slippery, where one of many maps is the job (`lakes`), and an episode begins in
any cell from which the last can be reached. An observation is float32:

    place  [C]  one-hot, the cell that the agent stands on, row by row
    time   [1]  decisions left / the deadline

A step into a hole ends the episode with nothing, one onto the last cell with a reward of 1; a step off the ice stays
where it was. Actions are left, down, right, up.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from dreamer.core.types import EnvSpec
from dreamer.wake.envs.base import EnvConfig, JaxEnv
from dreamer.wake.envs.lakes import LakeConfig, maps, starts
from dreamer.wake.envs.pure import numbered, pure_env

_ID, _VERSION = "FrozenLakeJob-v0", "0"
_STEPS = ((0, -1), (1, 0), (0, 1), (-1, 0))


@struct.dataclass
class LakeState:
    """Where one copy stands."""

    holes: jax.Array
    """[C] bool, the map."""
    starts: jax.Array
    """[C] bool, where an episode may begin."""
    place: jax.Array
    """[] int32 the cell."""
    step: jax.Array
    """[] int32 decisions taken."""


def make(config: EnvConfig) -> JaxEnv:
    """Returns one copy of the lake of `config.lake`, of the map that it names or of one of each life's own.

    Raises:
      ValueError: another id than `FrozenLakeJob-v0`, or `kwargs`, of which it has none.
    """
    return _world(config, numbered(config, _ID))


def of_job(config: EnvConfig, number: int | jax.Array) -> JaxEnv:
    """Returns the lake whose map is job `number` of all, as `jobworld.of_job`."""
    return _world(config, lambda key: jnp.asarray(number, jnp.int32))


def neighbours(lake: LakeConfig) -> np.ndarray:
    """Returns [C, 4] int, the cell that each action leads to."""
    row, column = np.divmod(np.arange(lake.num_cells), lake.size)
    ahead = [
        np.clip(row + down, 0, lake.size - 1) * lake.size + np.clip(column + right, 0, lake.size - 1)
        for down, right in _STEPS
    ]
    return np.stack(ahead, axis=1)


def place_of(lake: LakeConfig, obs: jax.Array) -> jax.Array:
    """Returns [...] int32 the cell that observations [..., C + 1] show."""
    return obs[..., : lake.num_cells].argmax(axis=-1).astype(jnp.int32)


def _world(config: EnvConfig, number_of) -> JaxEnv:
    """Returns the lake whose lives have the map `number_of` (the key of their first reset)."""
    lake, last = config.lake, config.lake.num_cells - 1
    limit = lake.deadline if config.max_steps is None else min(config.max_steps, lake.deadline)
    all_maps, all_starts = (jnp.asarray(of(lake.size, lake.num_holes)) for of in (maps, starts))
    ahead = jnp.asarray(neighbours(lake), jnp.int32)

    def observe(state: LakeState) -> jax.Array:
        time = (lake.deadline - state.step) / lake.deadline
        return jnp.append(jax.nn.one_hot(state.place, lake.num_cells), time).astype(jnp.float32)

    def begun(key: jax.Array, holes: jax.Array, starts: jax.Array) -> tuple[LakeState, jax.Array]:
        place = jax.random.categorical(key, jnp.where(starts, 0.0, -jnp.inf)).astype(jnp.int32)
        state = LakeState(holes, starts, place, jnp.int32(0))
        return state, observe(state)

    def reset(key: jax.Array) -> tuple[LakeState, jax.Array]:
        key, job_key = jax.random.split(key)
        number = number_of(job_key)
        return begun(key, all_maps[number], all_starts[number])

    def restart(key: jax.Array, state: LakeState) -> tuple[LakeState, jax.Array]:
        key, _ = jax.random.split(key)  # the same episode as a life that begins with it
        return begun(key, state.holes, state.starts)

    def step(key: jax.Array, state: LakeState, action: jax.Array) -> tuple:
        del key
        state = state.replace(place=ahead[state.place, action], step=state.step + 1)
        arrived = state.place == last
        return state, observe(state), arrived, arrived | state.holes[state.place], state.step >= limit

    spec = EnvSpec(
        id=_ID,
        suite="lake",
        version=_VERSION,
        obs_shape=(lake.num_cells + 1,),
        obs_dtype="float32",
        num_actions=len(_STEPS),
    )
    return pure_env(spec, reset=reset, step=step, max_steps=limit)._replace(restart=restart)
