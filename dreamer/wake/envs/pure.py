"""How a device environment is made: from functions that are loose about types and ends, and for the job it is in."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from dreamer.core.types import EnvSpec, PyTree
from dreamer.wake.envs.base import EnvConfig, JaxEnv, unknown
from dreamer.wake.envs.jobs import pool_jobs


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

    return JaxEnv(
        spec,
        reset=typed_reset,
        restart=lambda key, state: typed_reset(key),
        step=typed_step,
        action_mask=action_mask or allow_all,
        render=render or _draw_nothing,
        max_steps=max_steps,
    )


def numbered(config: EnvConfig, only: str) -> Callable[[jax.Array], int | jax.Array]:
    """Returns (key) -> the number of a life's job: the one that the settings name, or one drawn from their pool.

    Args:
      config: of a suite of jobs, `config.job_world`.
      only: the id of its one environment.

    Raises:
      ValueError: another id, or `kwargs`, of which there are none.
    """
    if config.id != only:
        raise unknown(f"{config.suite} environment", config.id, [only])
    if config.kwargs:
        raise ValueError(
            f"kwargs {dict(config.kwargs)} do not fit {only}: its settings are those of env.{config.suite}."
        )
    jobs, job = pool_jobs(config.job_world), config.job_world.job
    return lambda key: jax.random.randint(key, (), jobs.start, jobs.stop) if job is None else jobs[job]


def _pinned(leaf: jax.Array, like: jax.ShapeDtypeStruct) -> PyTree:
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return leaf
    return jax.lax.convert_element_type(jnp.asarray(leaf), like.dtype)


def _draw_nothing(state: PyTree) -> None:
    del state
