"""What an environment is to this project: two protocols, one configuration, and one way to say no to a wrong name.

Letters: E environment copies, A actions. An environment never resets itself and never knows who acts.
"""

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.core.types import EnvSpec, PyTree

SUITES = ("gymnasium", "gymnax", "jumanji")


@dataclasses.dataclass(frozen=True)
class EnvConfig:
    """Which environment, and how many copies of it."""

    id: str
    """The environment's name in its suite, e.g. `CartPole-v1`, `Breakout-MinAtar`, `sliding-tile`."""
    suite: str
    """`gymnasium` (host), `gymnax` or `jumanji` (both on the device)."""
    num_envs: int = 1
    """Copies that live side by side, E."""
    max_steps: int | None = None
    """Decisions after which an episode is truncated; None keeps the environment's own limit."""
    kwargs: tuple[tuple[str, bool | int | float | str], ...] = ()
    """Further arguments of the environment's constructor, names and values in turn: on the command line
    `--env.kwargs size 10` for `DeepSea-bsuite`, in Python `kwargs=(("size", 10),)`."""

    def __post_init__(self):
        if self.suite not in SUITES:
            raise unknown("suite", self.suite, SUITES)
        if self.num_envs < 1:
            raise ValueError(
                f"num_envs is {self.num_envs}: a session needs at least one environment, set it to 1 or more."
            )
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(
                f"max_steps is {self.max_steps}: set 1 or more decisions, or None for the environment's own limit."
            )


class JaxEnv(NamedTuple):
    """One copy of an environment as pure functions; vmap it for more. No function resets anything by itself.

    Every output is strongly typed and keeps its dtype from `reset` through any number of `step`s.
    """

    spec: EnvSpec
    reset: Callable
    """(key) -> (state, obs)"""
    step: Callable
    """(key, state, action) -> (state, obs, reward float32, terminated bool, truncated bool); never both flags."""
    action_mask: Callable
    """(state) -> [A] bool, True where the action is allowed."""
    render: Callable
    """(state) -> [H, W, 3] uint8 NumPy frame, or None where there is nothing to draw. Not for use under jit."""
    max_steps: int | None
    """Decisions after which an episode is truncated; None if it never is."""


class HostEnv(Protocol):
    """E copies of an environment that run outside JAX, in step with each other.

    The environment owns its seed: what happens in episode n of copy c is a function of (seed, c, n) and the actions,
    and of nothing else, so that a driver only ever counts.
    """

    spec: EnvSpec
    num_envs: int
    max_steps: int | None

    def reset(self, copies: np.ndarray, episodes: Sequence[int]) -> np.ndarray:
        """Starts episode `episodes[c]` in each flagged copy c and leaves the others as they are.

        Args:
          copies: [E] bool, the copies to restart; all of them at the first call.
          episodes: [E] episode numbers; those of unflagged copies are ignored.

        Returns:
          [E, *obs_shape] the current observation of every copy.
        """
        ...

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Applies action [E] to the copies, none of which may have ended without a reset since.

        Returns:
          obs [E, *obs_shape] before any reset, reward [E] float32, terminated [E] bool, truncated [E] bool.
        """
        ...

    def action_mask(self) -> np.ndarray:
        """Returns [E, A] bool, True where the action is allowed now."""
        ...

    def render(self, copy: int) -> np.ndarray | None:
        """Returns a [H, W, 3] uint8 frame of one copy, or None where there is nothing to draw."""
        ...

    def close(self) -> None:
        """Frees what the copies hold."""
        ...


def pure_env(
    spec: EnvSpec,
    *,
    reset: Callable,
    step: Callable,
    max_steps: int | None,
    action_mask: Callable | None = None,
    render: Callable | None = None,
) -> JaxEnv:
    """Returns a `JaxEnv` from functions that are loose about types and about the two end flags.

    Libraries give weakly typed scalars, and state leaves whose type differs between reset and step: each such
    difference compiles a session a second time, so all leaves are pinned to what `reset` gives. Where both flags are
    up, termination wins: the end would have come without the clock, and nothing follows it to bootstrap from.

    Args:
      spec: what the functions keep to; `obs_dtype` is cast to.
      reset: as in `JaxEnv`.
      step: as in `JaxEnv`, reward and flags of any numeric type.
      max_steps: as in `JaxEnv`.
      action_mask: as in `JaxEnv`; None allows every action in every state.
      render: as in `JaxEnv`; None draws nothing.
    """
    state_like, obs_like = jax.eval_shape(reset, jax.random.key(0))
    if obs_like.shape != spec.obs_shape:
        raise ValueError(f"{spec.id} declares observations of shape {spec.obs_shape} but resets to {obs_like.shape}.")

    def typed_reset(key):
        state, obs = reset(key)
        return jax.tree.map(_pinned, state, state_like), jnp.asarray(obs, spec.obs_dtype)

    def typed_step(key, state, action):
        state, obs, reward, terminated, truncated = step(key, state, action)
        terminated = jnp.asarray(terminated, bool)
        truncated = jnp.asarray(truncated, bool) & ~terminated
        state = jax.tree.map(_pinned, state, state_like)
        return state, jnp.asarray(obs, spec.obs_dtype), jnp.asarray(reward, jnp.float32), terminated, truncated

    def allow_all(state):
        del state
        return jnp.ones(spec.num_actions, bool)

    return JaxEnv(spec, typed_reset, typed_step, action_mask or allow_all, render or _draw_nothing, max_steps)


def unknown(what: str, name: str, known: Iterable[str]) -> ValueError:
    """Returns the error for a name that does not exist, with those that nearly have it, or all of a short list."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=5, cutoff=0.4)
    names = ", ".join(close if close and len(known) > 8 else known[:20])
    return ValueError(f"unknown {what} {name!r}; {'did you mean' if close else 'choose one of'}: {names}?")


def _pinned(leaf: jax.Array, like: jax.ShapeDtypeStruct) -> PyTree:
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return leaf
    return jax.lax.convert_element_type(jnp.asarray(leaf), like.dtype)


def _draw_nothing(state: PyTree) -> None:
    del state
