"""A `JaxEnv` under the host driver: state held here, one jitted step, NumPy out."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.core.types import PyTree
from dreamer.wake.envs.base import JaxEnv
from dreamer.wake.envs.copies import reset_copies, reset_ended, step_copies

# Compiled once an environment, whatever the seed and however many sessions.
_begin = jax.jit(reset_copies, static_argnums=0)
_restart = jax.jit(reset_ended, static_argnums=0)
_advance = jax.jit(step_copies, static_argnums=0)


@functools.partial(jax.jit, static_argnums=0)
def _action_mask(env: JaxEnv, state: PyTree) -> jax.Array:
    return jax.vmap(env.action_mask)(state)


class HostFromJax:
    """E copies of a `JaxEnv` as a `HostEnv`, living the episodes that the jitted driver lives under the same seed."""

    def __init__(self, env: JaxEnv, *, num_envs: int, seed: int):
        self.spec = env.spec
        self.num_envs = num_envs
        self.max_steps = env.max_steps
        self._env = env
        self._seed = np.uint32(seed)
        self._state = None
        self._obs = None
        self._episode = np.zeros(num_envs, np.int32)
        self._step = np.zeros(num_envs, np.int32)
        self._life = np.zeros(num_envs, np.int32)

    def reset(self, copies: np.ndarray, episodes: Sequence[int]) -> np.ndarray:
        """See `HostEnv.reset`."""
        if self._state is None and not np.all(copies):
            raise ValueError(f"{self.spec.id}: the first reset must start every copy, got copies={copies}.")
        self._episode = np.where(copies, episodes, self._episode).astype(np.int32)
        self._step = np.where(copies, 0, self._step).astype(np.int32)
        if self._state is None:
            self._state, self._obs = _begin(self._env, self._seed, episode=self._episode, life=self._life)
        else:
            self._state, self._obs = _restart(
                self._env, self._seed, self._state, self._obs, ended=np.asarray(copies, bool), episode=self._episode
            )
        return np.asarray(self._obs)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """See `HostEnv.step`."""
        action = jnp.asarray(action, jnp.int32)
        self._state, self._obs, *facts = _advance(
            self._env, self._seed, self._state, action, episode=self._episode, step=self._step, life=self._life
        )
        self._step, self._life = self._step + 1, self._life + 1
        reward, terminated, truncated = jax.device_get(facts)
        return np.asarray(self._obs), reward, terminated, truncated

    def action_mask(self) -> np.ndarray:
        """See `HostEnv.action_mask`."""
        return np.asarray(_action_mask(self._env, self._state))

    def render(self, copy: int) -> np.ndarray | None:
        """See `HostEnv.render`."""
        return self._env.render(jax.tree.map(lambda leaf: leaf[copy], self._state))

    def close(self) -> None:
        """Forgets the state."""
        self._state = self._obs = None
