"""Environments that show their state, for a model that is to step the environment itself.

The state's bytes lie beside those of the observation, so that a replay, which keeps observations, keeps states too, and
an eye that looks at the observation alone sees what it always saw.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.core.types import PyTree
from dreamer.wake.envs.base import JaxEnv


class Shown(NamedTuple):
    """An environment that shows its state, and how to read what it shows."""

    env: JaxEnv
    """Its observations are [bytes] uint8; all else is as it was."""
    read: Callable
    """[bytes] uint8 -> (state, obs), bit for bit."""


def showing_state(env: JaxEnv) -> Shown:
    """Returns an environment whose observations carry its state.

    Args:
      env: observations that are no stacks of frames, and a state of numbers.

    Raises:
      ValueError: frames are stacked, or a leaf of the state is a key.
    """
    if env.spec.frame_stack > 1:
        raise ValueError(
            f"env.oracle is set, but observations of {env.spec.id} are stacks of {env.spec.frame_stack} frames, beside "
            "which no state can lie: leave it out"
        )
    state, obs = jax.eval_shape(env.reset, jax.random.key(0))
    leaves, tree = jax.tree.flatten((state, obs))
    if any(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves):
        raise ValueError(f"env.oracle is set, but the state of {env.spec.id} carries a random key: leave it out")
    ends = np.cumsum([math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves])

    def show(state: PyTree, obs: jax.Array) -> jax.Array:
        return jnp.concatenate([_bytes_of(leaf) for leaf in jax.tree.leaves((state, obs))])

    def read(shown: jax.Array) -> tuple[PyTree, jax.Array]:
        found = [_read(part, leaf) for part, leaf in zip(jnp.split(shown, ends[:-1]), leaves, strict=True)]
        return jax.tree.unflatten(tree, found)

    def reset(key: jax.Array) -> tuple[PyTree, jax.Array]:
        state, obs = env.reset(key)
        return state, show(state, obs)

    def restart(key: jax.Array, state: PyTree) -> tuple[PyTree, jax.Array]:
        state, obs = env.restart(key, state)
        return state, show(state, obs)

    def step(key: jax.Array, state: PyTree, action: jax.Array) -> tuple:
        state, obs, *told = env.step(key, state, action)
        return state, show(state, obs), *told

    spec = dataclasses.replace(env.spec, obs_shape=(int(ends[-1]),), obs_dtype="uint8")
    return Shown(env._replace(spec=spec, reset=reset, restart=restart, step=step), read)


def _bytes_of(leaf: jax.Array) -> jax.Array:
    """Returns [bytes] uint8 of an array of any shape."""
    if leaf.dtype == bool:
        return leaf.astype(jnp.uint8).reshape(-1)
    return jax.lax.bitcast_convert_type(leaf, jnp.uint8).reshape(-1)


def _read(part: jax.Array, like: jax.ShapeDtypeStruct) -> jax.Array:
    """Returns the array that `_bytes_of` was given."""
    if like.dtype == bool:
        return part.reshape(like.shape).astype(bool)
    size = like.dtype.itemsize
    word = jnp.dtype(f"uint{8 * size}")
    # By shifts, the lowest byte first: a bitcast that changes the width cannot be exported for any batch size.
    shifts = jnp.arange(0, 8 * size, 8, dtype=word)
    words = jnp.sum(part.reshape(-1, size).astype(word) << shifts[None], axis=1, dtype=word)
    return jax.lax.bitcast_convert_type(words, like.dtype).reshape(like.shape)
