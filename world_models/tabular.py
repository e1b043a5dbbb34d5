"""A world model that is known exactly: the tables of a small deterministic decision process.

For worlds whose values can be worked out beforehand, so that what is left to judge is the search or the learner.
Letters: B batch, K unroll steps, S states, A actions.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.core.ports import WorldModel
from dreamer.core.types import Metrics, PyTree, SequenceBatch


def make_tabular(
    next_state: np.ndarray, reward: np.ndarray, continuation: np.ndarray, *, num_unroll_steps: int
) -> WorldModel:
    """Returns the model that looks everything up. Its latent is the state's number, [B] int32.

    It is never trained: its params are `{}`, and `unroll` follows the real actions through the tables at zero loss.
    `observe` takes state numbers [B], integer, or one-hot rows [B, S]; a row without a one, as some worlds show after
    their end, reads as state 0.

    Args:
      next_state: [S, A] integers in [0, S).
      reward: [S, A] finite.
      continuation: [S, A] probability in [0, 1] that life goes on, 0 where the step ends it.
      num_unroll_steps: K, how far `unroll` follows the real actions.

    Raises:
      ValueError: tables that are no decision process; the message names the table.
    """
    next_state, reward, continuation = (np.asarray(table) for table in (next_state, reward, continuation))
    _check_tables(next_state, reward, continuation)
    num_states = next_state.shape[0]
    transition = jnp.asarray(next_state, jnp.int32)
    rewards, continuations = jnp.asarray(reward, jnp.float32), jnp.asarray(continuation, jnp.float32)

    def init(key: jax.Array, obs: jax.Array) -> PyTree:
        del key, obs
        return {}

    def observe(params: PyTree, obs: jax.Array) -> jax.Array:
        del params
        if obs.ndim == 1 and jnp.issubdtype(obs.dtype, jnp.integer):
            return obs.astype(jnp.int32)
        if obs.ndim != 2 or obs.shape[1] != num_states:
            raise ValueError(
                f"tabular: observations are {obs.dtype}{list(obs.shape)}; give state numbers [B], integer, or one-hot "
                f"rows [B, {num_states}]"
            )
        return jnp.argmax(obs, axis=-1).astype(jnp.int32)

    def step(params: PyTree, latent: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        del params
        return transition[latent, action], rewards[latent, action], continuations[latent, action]

    def unroll(params: PyTree, key: jax.Array, batch: SequenceBatch) -> tuple[jax.Array, jax.Array, Metrics]:
        del key

        def follow(state: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
            state = transition[state, action]
            return state, state

        first = observe(params, batch.obs[:, 0])
        _, later = jax.lax.scan(follow, first, batch.action[:, :num_unroll_steps].T)
        return jnp.concatenate([first[:, None], later.T], axis=1), jnp.zeros(first.shape), {}

    return WorldModel(init=init, observe=observe, step=step, unroll=unroll)


def _check_tables(next_state: np.ndarray, reward: np.ndarray, continuation: np.ndarray) -> None:
    shapes = next_state.shape, reward.shape, continuation.shape
    if next_state.ndim != 2 or next_state.size == 0 or len(set(shapes)) > 1:
        raise ValueError(
            f"tabular: next_state, reward and continuation have shapes {shapes}; give three tables of one shape [S, A]"
        )
    num_states = len(next_state)
    if not np.issubdtype(next_state.dtype, np.integer) or next_state.min() < 0 or next_state.max() >= num_states:
        raise ValueError(f"tabular: next_state must hold integers in [0, {num_states}), its own rows")
    if not np.isfinite(reward).all():
        raise ValueError("tabular: reward must be finite everywhere")
    if not ((continuation >= 0) & (continuation <= 1)).all():
        raise ValueError("tabular: continuation must hold probabilities in [0, 1]: 0 ends life, 1 goes on")
