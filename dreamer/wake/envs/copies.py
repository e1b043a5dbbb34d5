"""E copies of a `JaxEnv` whose randomness is counted, not carried: key = (seed, use, copy, episode, decision).

Both drivers go through here, so the same counters give the same episode whether a session is one program on the
device or a loop on the host, alone or beside 1,023 others. E environment copies, A actions.
"""

import jax
import jax.numpy as jnp

from dreamer.core.keys import stream
from dreamer.core.types import PyTree
from dreamer.wake.envs.base import JaxEnv


def copy_keys(seed: int | jax.Array, name: str, *counters: jax.Array) -> jax.Array:
    """Returns typed keys [E], one a copy, for the stream `name` at that copy's counters, each [E] int32."""
    copies = jnp.arange(counters[0].shape[0])
    return jax.vmap(lambda *numbers: stream(seed, name, *numbers))(copies, *counters)


def reset_copies(env: JaxEnv, seed: int | jax.Array, episode: jax.Array) -> tuple[PyTree, jax.Array]:
    """Starts episode `episode` [E] of every copy; returns (state, obs) with leading [E]."""
    return jax.vmap(env.reset)(copy_keys(seed, "reset", episode))


def reset_ended(
    env: JaxEnv, seed: int | jax.Array, state: PyTree, obs: jax.Array, *, ended: jax.Array, episode: jax.Array
) -> tuple[PyTree, jax.Array]:
    """Starts episode `episode` [E] in the copies flagged by `ended` [E] and keeps (state, obs) of the others."""

    def restart():
        fresh = reset_copies(env, seed, episode)
        return jax.tree.map(lambda new, old: jax.vmap(jnp.where)(ended, new, old), fresh, (state, obs))

    # Most decisions end no episode, and some resets (a shuffled puzzle) cost more than many steps.
    return jax.lax.cond(ended.any(), restart, lambda: (state, obs))


def step_copies(
    env: JaxEnv, seed: int | jax.Array, state: PyTree, action: jax.Array, *, episode: jax.Array, step: jax.Array
) -> tuple[PyTree, jax.Array, jax.Array, jax.Array, jax.Array]:
    """Applies action [E] as decision `step` [E] of episode `episode` [E]; returns as `JaxEnv.step`, leading [E]."""
    return jax.vmap(env.step)(copy_keys(seed, "step", episode, step), state, action)
