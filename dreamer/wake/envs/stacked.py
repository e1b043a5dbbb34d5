"""Observations that look back: the frames of the last decisions side by side, along the last axis, the oldest first."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dreamer.core import stacks
from dreamer.core.types import PyTree
from dreamer.wake.envs.base import JaxEnv


class _LookingBack(NamedTuple):
    """An environment's state, and what is seen of it now."""

    world: PyTree
    seen: jax.Array
    """[*obs_shape] all frames of the stack."""


def with_frame_stack(env: JaxEnv, num_frames: int) -> JaxEnv:
    """Returns an environment whose observations [..., C] are stacks [..., k * C]; with k = 1, `env` itself.

    An episode begins with copies of its first frame (`EnvSpec.frame_stack`).

    Args:
      env: observations of one axis at least, each a frame.
      num_frames: k.
    """
    if num_frames == 1:
        return env
    *sides, num_channels = env.spec.obs_shape
    spec = dataclasses.replace(env.spec, obs_shape=(*sides, num_frames * num_channels), frame_stack=num_frames)

    def began(world: PyTree, frame: jax.Array) -> tuple[_LookingBack, jax.Array]:
        seen = stacks.stack(jnp.stack([frame] * num_frames), axis=0)
        return _LookingBack(world, seen), seen

    def step(key: jax.Array, state: _LookingBack, action: jax.Array) -> tuple:
        world, frame, *told = env.step(key, state.world, action)
        seen = jnp.concatenate([state.seen[..., num_channels:], frame], axis=-1)
        return _LookingBack(world, seen), seen, *told

    def ruled(seed: jax.Array, copy: jax.Array, life: jax.Array, state: _LookingBack) -> _LookingBack:
        return state._replace(world=env.rules(seed, copy, life, state.world))

    return env._replace(
        spec=spec,
        reset=lambda key: began(*env.reset(key)),
        restart=lambda key, state: began(*env.restart(key, state.world)),
        step=step,
        action_mask=lambda state: env.action_mask(state.world),
        render=lambda state: env.render(state.world),
        rules=ruled if env.rules else None,
    )
