"""Returns of real and dreamed sequences: the only place that turns end flags and continuations into discounts.

Two ends are kept apart. Termination has continuation 0, so nothing after it counts. Truncation, like the last stored
row of a life still going on, ends only what is *known*: the return bootstraps from the value of the state reached.
Both drop out of one rule: past its last valid row a sequence stands still (reward 0, discount 1) in the state it
reached. Letters: B batch, L rows, P positions.
"""

import chex
import jax
import jax.numpy as jnp


def discounts(continuation: jax.Array, gamma: float) -> jax.Array:
    """Returns [...] the factor on everything after a row.

    Args:
      continuation: [...] probability that life goes on: 1 - terminated for real rows, the model's for dreamed ones.
      gamma: discount of one decision, in [0, 1].
    """
    return gamma * continuation


def sequence_valid(terminated: jax.Array, truncated: jax.Array, lived: jax.Array) -> jax.Array:
    """Returns [B, L] bool, a prefix of True: rows 0..i were all lived and none of rows 0..i-1 ended the episode.

    Args:
      terminated: [B, L] bool, arbitrary where not lived.
      truncated: [B, L] bool, arbitrary where not lived.
      lived: [B, L] bool, the row holds a real transition that followed the row before it.
    """
    chex.assert_rank(lived, 2)
    chex.assert_equal_shape([terminated, truncated, lived])
    ended = terminated | truncated
    ended_before = jnp.pad(ended, ((0, 0), (1, 0)))[:, :-1]
    broken = (~lived | ended_before).astype(jnp.int32)
    return jnp.cumsum(broken, axis=1) == 0


def n_step_returns(
    reward: jax.Array,
    discount: jax.Array,
    value: jax.Array,
    valid: jax.Array,
    *,
    n: int,
    num_positions: int,
    horizon: jax.Array | None = None,
) -> jax.Array:
    """Returns [B, P] the n-step bootstrapped return of the first P = `num_positions` states.

    From position k the window ends at m = min(k + n, number of valid rows), n or the row's own `horizon`, and

        G_k = r_k + d_k r_{k+1} + ... + (d_k ... d_{m-2}) r_{m-1} + (d_k ... d_{m-1}) value_m

    (Sutton & Barto, "Reinforcement Learning: An Introduction", 2nd ed., eq. 7.1, with one discount a row). Positions
    at or past the number of valid rows are 0: no decision was taken there.

    Args:
      reward: [B, L] reward of each row.
      discount: [B, L] from `discounts`; 0 at termination.
      value: [B, L + 1] value of each state, in reward units.
      valid: [B, L] bool, a prefix of True, from `sequence_valid`.
      n: rows of reward in a full window, at least 1.
      num_positions: how many leading states get a return, 1 to L.
      horizon: [B] int32 from 1 to n, rows of reward in the windows of each sequence; None is n for all.

    Raises:
      ValueError: `n` or `num_positions` out of range.
    """
    num_rows = valid.shape[1]
    if n < 1:
        raise ValueError(f"n_step_returns: n={n} rows of reward; use at least 1.")
    if not 1 <= num_positions <= num_rows:
        raise ValueError(f"n_step_returns: num_positions={num_positions}; use 1 to {num_rows}, the rows given.")
    reward, discount, value = _stand_still_after_end(reward, discount, value, valid)
    beyond = max(0, num_positions - 1 + n - num_rows)
    reward = jnp.pad(reward, ((0, 0), (0, beyond)))
    discount = jnp.pad(discount, ((0, 0), (0, beyond)), constant_values=1)
    value = jnp.pad(value, ((0, 0), (0, beyond)), mode="edge")
    returns = value[:, n : n + num_positions]
    for i in reversed(range(n)):
        rows = slice(i, i + num_positions)
        if horizon is not None:
            returns = jnp.where(i + 1 < horizon[:, None], returns, value[:, i + 1 : i + 1 + num_positions])
        returns = reward[:, rows] + discount[:, rows] * returns
    return jnp.where(valid[:, :num_positions], returns, 0)


def lambda_returns(
    reward: jax.Array, discount: jax.Array, value: jax.Array, valid: jax.Array, *, lam: float | jax.Array
) -> jax.Array:
    """Returns [B, L] the lambda-return of each row's first state, 0 where not valid.

        G_i = r_i + d_i ((1 - lam) value_{i+1} + lam G_{i+1}),  G = value of the state reached after the last valid row

    (Sutton & Barto, 2nd ed., section 12.1, in the recursive form of "High-dimensional continuous control using
    generalized advantage estimation", https://arxiv.org/abs/1506.02438). The ends obey the rule of `n_step_returns`.

    Args:
      reward: [B, L] reward of each row.
      discount: [B, L] from `discounts`; 0 at termination.
      value: [B, L + 1] value of each state, in reward units.
      valid: [B, L] bool, a prefix of True, from `sequence_valid`.
      lam: scalar or [B, L], how much row i trusts what was lived after it: 0 is one-step bootstrapping, 1 bootstraps
        at the end only.
    """
    reward, discount, value = _stand_still_after_end(reward, discount, value, valid)

    def backward(later: jax.Array, row: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        row_reward, row_discount, next_value, row_lam = row
        now = row_reward + row_discount * ((1 - row_lam) * next_value + row_lam * later)
        return now, now

    rows = (reward.T, discount.T, value[:, 1:].T, jnp.broadcast_to(lam, reward.shape).T)
    _, returns = jax.lax.scan(backward, value[:, -1], rows, reverse=True)
    return jnp.where(valid, returns.T, 0)


def _stand_still_after_end(
    reward: jax.Array, discount: jax.Array, value: jax.Array, valid: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Makes rows past the last valid one neutral: reward 0, discount 1, and the value of the state reached."""
    chex.assert_rank(valid, 2)
    chex.assert_equal_shape([reward, discount, valid])
    chex.assert_shape(value, (valid.shape[0], valid.shape[1] + 1))
    num_valid = jnp.sum(valid, axis=1, keepdims=True)
    state = jnp.minimum(jnp.arange(value.shape[1])[None], num_valid)
    value = jnp.take_along_axis(value, state, axis=1)
    return jnp.where(valid, reward, 0), jnp.where(valid, discount, 1), value
