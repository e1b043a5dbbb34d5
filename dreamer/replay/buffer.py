"""What really happened: a ring of real transitions a copy, as pure functions on device arrays.

Own functions, because flashbax 0.1.3 (its trajectory buffers, read in source) starts sequences only at rows followed
by a full sequence, so the newest rows wait; its samples carry neither the slot nor the insertion count an age needs;
and edge masks, like the state after a ring's last row, would remain to be made here on top of it.

Letters: E environment copies, C rows a copy (`capacity // E`), T ticks inserted, B batch, L rows of a sequence. A row's
*ordinal* is how many rows of its copy were stored before it; it lives at slot `ordinal % C`, until overwritten.
"""

import dataclasses
import math

import chex
import jax
import jax.numpy as jnp
from flax import struct

from dreamer.core import returns
from dreamer.core.types import SequenceBatch, Transition

_MIN_PRIORITY = 1e-6  # Keeps every lived row within reach, and its importance weight finite.


@dataclasses.dataclass(frozen=True)
class ReplayConfig:
    """How much is remembered, and what is remembered more often."""

    capacity: int = 100_000
    """Real transitions held at most, over all environment copies; the oldest leave first."""
    priority_exponent: float = 0.0
    """0 samples start rows uniformly, 1 in proportion to their priority."""
    importance_exponent: float = 0.0
    """0 leaves the bias of prioritised sampling in, 1 corrects it fully by the weight of each sequence."""

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise ValueError(f"ReplayConfig.capacity={self.capacity}: hold at least 1 transition.")
        if not (math.isfinite(self.priority_exponent) and self.priority_exponent >= 0):
            raise ValueError(f"ReplayConfig.priority_exponent={self.priority_exponent}: use 0 (uniform) or more.")
        if not 0 <= self.importance_exponent <= 1:
            raise ValueError(f"ReplayConfig.importance_exponent={self.importance_exponent}: use 0 to 1.")


@struct.dataclass
class ReplayState:
    """The rings of all copies, which advance together."""

    rows: Transition
    """[E, C, ...] in the dtypes they were lived in; slots not yet stored hold zeros."""
    priority: jax.Array
    """[E, C] float32, 0 where nothing was stored yet."""
    stored: jax.Array
    """[] int32 rows ever stored in each copy; the next one goes to slot `stored % C`."""


def init(config: ReplayConfig, example: Transition, num_envs: int) -> ReplayState:
    """Returns an empty replay.

    Args:
      config: capacity and sampling.
      example: leaves [E, ...], arrays or `jax.ShapeDtypeStruct`; only shapes and dtypes are read.
      num_envs: environment copies, E.

    Raises:
      ValueError: fewer than one row a copy, or an example that does not lead with [E].
    """
    rows_per_copy = config.capacity // num_envs
    if rows_per_copy < 1:
        raise ValueError(
            f"ReplayConfig.capacity={config.capacity} is below num_envs={num_envs}: hold at least one row a copy."
        )
    for name, leaf in _fields(example):
        if leaf.shape[:1] != (num_envs,):
            raise ValueError(f"replay.init: example.{name} has shape {leaf.shape}; lead with [num_envs={num_envs}].")
    rows = jax.tree.map(lambda leaf: jnp.zeros((num_envs, rows_per_copy, *leaf.shape[1:]), leaf.dtype), example)
    return ReplayState(rows, jnp.zeros((num_envs, rows_per_copy), jnp.float32), jnp.int32(0))


def insert(state: ReplayState, trajectory: Transition) -> ReplayState:
    """Returns the replay with T rows more a copy, each with the highest priority now held (1 if empty).

    Every copy's rows must go on from its last stored row, or follow an end flag: a life broken off elsewhere (a
    session given up in mid-episode) has to be marked truncated on its last row before it is stored.

    Args:
      state: the replay; donate it where jitted.
      trajectory: [T, E, ...] in order of time, T at most C.

    Raises:
      ValueError: a field's shape or dtype differs from what the replay was made for, or T exceeds C.
    """
    num_envs, rows_per_copy = state.priority.shape
    num_ticks = trajectory.reward.shape[0]
    if num_ticks > rows_per_copy:
        raise ValueError(
            f"replay.insert: {num_ticks} rows a copy into a ring of {rows_per_copy}; raise ReplayConfig.capacity to at "
            f"least {num_ticks * num_envs} or insert in parts."
        )
    for (name, leaf), (_, ring) in zip(_fields(trajectory), _fields(state.rows), strict=True):
        expected = (num_ticks, num_envs, *ring.shape[2:])
        if leaf.shape != expected or leaf.dtype != ring.dtype:
            raise ValueError(
                f"replay.insert: trajectory.{name} is {leaf.dtype}{list(leaf.shape)}, the replay was made for "
                f"{ring.dtype}{list(expected)}; give it rows of the environment it was made for."
            )
    slots = (state.stored + jnp.arange(num_ticks)) % rows_per_copy
    rows = jax.tree.map(
        lambda ring, leaf: ring.at[:, slots].set(jnp.swapaxes(leaf, 0, 1), unique_indices=True), state.rows, trajectory
    )
    highest = jnp.where(state.stored == 0, 1, jnp.max(state.priority))
    priority = state.priority.at[:, slots].set(highest, unique_indices=True)
    return ReplayState(rows, priority, state.stored + num_ticks)


def num_stored(state: ReplayState) -> jax.Array:
    """Returns [] int32, the real transitions now held over all copies."""
    num_envs, rows_per_copy = state.priority.shape
    return jnp.minimum(state.stored, rows_per_copy) * num_envs


def sample(config: ReplayConfig, state: ReplayState, key: jax.Array, *, batch_size: int, length: int) -> SequenceBatch:
    """Returns B sequences that start at any row held, with replacement.

    Rows run on in the same copy over the edges of days and of the ring, and are valid until the episode ends or the
    newest row is reached: never on into the oldest. Past that the last valid row and the state it led to repeat, with
    reward 0 and no termination. From an empty replay nothing is valid; check `num_stored` first.

    Args:
      config: the config the replay was made with.
      state: the replay.
      key: typed key, consumed.
      batch_size: sequences, B.
      length: rows of each, L, at most C.

    Raises:
      ValueError: sequences longer than a copy's ring.
    """
    num_envs, rows_per_copy = state.priority.shape
    if not 1 <= length <= rows_per_copy:
        raise ValueError(
            f"replay.sample: sequences of {length} rows from rings of {rows_per_copy}; use 1 to {rows_per_copy}, or "
            f"raise ReplayConfig.capacity to at least {length * num_envs}."
        )
    copy, slot, weight = _draw_starts(config, state, key, batch_size)
    oldest = jnp.maximum(state.stored - rows_per_copy, 0)
    start = oldest + (slot - oldest) % rows_per_copy

    step = jnp.arange(length)[None]
    ordinal = start[:, None] + step
    copies = copy[:, None]
    terminated, truncated = (
        flag[copies, ordinal % rows_per_copy] for flag in (state.rows.terminated, state.rows.truncated)
    )
    valid = returns.sequence_valid(terminated, truncated, ordinal < state.stored)
    last = jnp.maximum(jnp.sum(valid, axis=1, keepdims=True) - 1, 0)
    slots = (start[:, None] + jnp.minimum(step, last)) % rows_per_copy
    first_obs = state.rows.obs[copies, slots[:, :1]]
    return SequenceBatch(
        obs=jnp.concatenate([first_obs, state.rows.next_obs[copies, slots]], axis=1),
        action_mask=state.rows.action_mask[copies, slots],
        action=state.rows.action[copies, slots],
        reward=jnp.where(valid, state.rows.reward[copies, slots], 0),
        terminated=terminated & valid,
        valid=valid,
        age=(state.stored - 1 - start) * num_envs,
        weight=weight,
        index=copy * rows_per_copy + slot,
    )


def set_priorities(state: ReplayState, index: jax.Array, priority: jax.Array) -> ReplayState:
    """Returns the replay with new priorities; a row named twice takes the larger.

    Args:
      state: the replay as it was sampled: after an `insert` an index may mean a newer row.
      index: [B] int32 from `SequenceBatch.index`.
      priority: [B] float32, at least 0 and finite; below 1e-6 counts as 1e-6.
    """
    chex.assert_rank([index, priority], 1)
    chex.assert_equal_shape([index, priority])
    priority = jnp.maximum(priority, _MIN_PRIORITY).astype(jnp.float32)
    # Cleared, then raised: the order in which equal indices are written is not defined, that of a maximum is no matter.
    flat = state.priority.reshape(-1).at[index].set(0).at[index].max(priority)
    return state.replace(priority=flat.reshape(state.priority.shape))


def _draw_starts(
    config: ReplayConfig, state: ReplayState, key: jax.Array, batch_size: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns copy, slot and importance weight, each [B], of rows drawn as p(row) ~ priority ** exponent.

    "Prioritized experience replay", https://arxiv.org/abs/1511.05952, eq. 1 and section 3.4. Rows are ranked with the
    slot first and the copy second: in that order the rows held come before all empty slots, full ring or not.
    """
    num_envs = state.priority.shape[0]
    num_rows = jnp.maximum(num_stored(state), 1)
    if config.priority_exponent == 0:
        rank = jax.random.randint(key, (batch_size,), 0, num_rows)
        return rank % num_envs, rank // num_envs, jnp.ones(batch_size, jnp.float32)
    priority = state.priority.T.reshape(-1)
    mass = jnp.where(priority > 0, priority, 0) ** config.priority_exponent
    cumulative = jnp.cumsum(mass)
    target = jax.random.uniform(key, (batch_size,)) * cumulative[-1]
    # A parallel float32 sum is not quite monotone (measured at 100,000 rows): the clip keeps empty slots out of reach.
    rank = jnp.minimum(jnp.searchsorted(cumulative, target, side="right"), num_rows - 1)
    prob = mass[rank] / cumulative[-1]
    weight = (num_rows * prob) ** -config.importance_exponent
    return rank % num_envs, rank // num_envs, weight / jnp.max(weight)


def _fields(transition: Transition) -> list[tuple[str, jax.Array]]:
    """Returns (name, leaf) of each field of a transition, in order."""
    return [(field.name, getattr(transition, field.name)) for field in dataclasses.fields(transition)]
