"""E copies of a `JaxEnv` whose randomness is counted, not carried: key = (seed, use, copy, episode, decision).

Both drivers go through here, so the same counters give the same episode whether a session is one program on the
device or a loop on the host, alone or beside 1,023 others. Where rules change, they follow from (seed, copy, decision
of the copy's life). E environment copies, A actions.
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


def reset_copies(
    env: JaxEnv, seed: int | jax.Array, *, episode: jax.Array, life: jax.Array
) -> tuple[PyTree, jax.Array]:
    """Starts episode `episode` [E] of every copy at decision `life` [E] of its life; returns (state, obs) of [E]."""
    state, obs = jax.vmap(env.reset)(copy_keys(seed, "reset", episode))
    return _under_rules(env, seed, state, life), obs


def reset_ended(
    env: JaxEnv, seed: int | jax.Array, state: PyTree, obs: jax.Array, *, ended: jax.Array, episode: jax.Array
) -> tuple[PyTree, jax.Array]:
    """Starts episode `episode` [E] in the copies flagged by `ended` [E] and keeps (state, obs) of the others."""

    def restart():
        fresh = jax.vmap(env.restart)(copy_keys(seed, "reset", episode), state)
        return jax.tree.map(lambda new, old: jax.vmap(jnp.where)(ended, new, old), fresh, (state, obs))

    # Most decisions end no episode, and some resets (a shuffled puzzle) cost more than many steps.
    return jax.lax.cond(ended.any(), restart, lambda: (state, obs))


def step_copies(
    env: JaxEnv,
    seed: int | jax.Array,
    state: PyTree,
    action: jax.Array,
    *,
    episode: jax.Array,
    step: jax.Array,
    life: jax.Array,
) -> tuple[PyTree, jax.Array, jax.Array, jax.Array, jax.Array]:
    """Applies action [E] as decision `step` [E] of episode `episode` [E] and `life` [E] of the copy's life.

    Returns as `JaxEnv.step`, leading [E]; the state is under the rules of the next decision.
    """
    state, *facts = jax.vmap(env.step)(copy_keys(seed, "step", episode, step), state, action)
    return _under_rules(env, seed, state, life + 1), *facts


def _under_rules(env: JaxEnv, seed: int | jax.Array, state: PyTree, life: jax.Array) -> PyTree:
    if env.rules is None:
        return state
    return jax.vmap(env.rules, (None, 0, 0, 0))(seed, jnp.arange(life.shape[0]), life, state)
