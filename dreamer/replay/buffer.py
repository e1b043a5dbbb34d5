"""What really happened: two rings a copy, as functions on arrays, pure unless frames lie on the host.

Every frame is stored once.

A ring of *rows* holds what was decided and what came of it; all copies advance it together, one row a tick. A ring of
*frames* holds what was seen: one frame a state, which is the whole observation where the environment stacks none. The
state a decision led to is the one the next decision is taken in, so a tick stores one frame; an end stores one more,
for nothing is decided in an episode's last state. Copies advance this ring by themselves, and each row names the place
of its state in it. Stacks are made on sampling, from frames of the same episode. `ReplayConfig.placement` moves frames.

Own functions, because flashbax 0.1.3 (its trajectory buffers, read in source) starts sequences only at rows followed
by a full sequence, so the newest rows wait; its samples carry neither the slot nor the insertion count an age needs;
and edge masks, like the state after a ring's last row, would remain to be made here on top of it.

Letters: E environment copies, C rows a copy (`capacity // E`), k frames of a stack, S = C + k slots for frames a copy,
T ticks inserted, B batch, L rows of a sequence. A *tick* counts the rows of each copy, a *place* the states of one,
both from 0; they live at slots `tick % C` and `place % S` until overwritten.
"""

import dataclasses
import math

import chex
import jax
import jax.numpy as jnp
from flax import struct

from dreamer.core import returns, stacks
from dreamer.core.types import SequenceBatch, Transition
from dreamer.replay.draw import ReplayConfig, draw
from dreamer.replay.frames import HostFrames, empty_ring, put, take

_MIN_PRIORITY = 1e-6  # Keeps every lived row within reach, and its importance weight finite.


@struct.dataclass
class Rows:
    """What was decided and what came of it, [E, C, ...]; slots not yet stored hold zeros."""

    action_mask: jax.Array
    """[E, C, A] bool"""
    action: jax.Array
    """[E, C] int32"""
    reward: jax.Array
    """[E, C] float32"""
    terminated: jax.Array
    """[E, C] bool"""
    truncated: jax.Array
    """[E, C] bool"""
    place: jax.Array
    """[E, C] int32 place of the state the decision was taken in; it led to the next one."""
    begin: jax.Array
    """[E, C] int32 place of the first state of its episode."""


@struct.dataclass
class ReplayState:
    """The rings of all copies."""

    frames: jax.Array | HostFrames
    """[E, S, *frame_shape] the newest frame of each state, in the dtype it was seen in."""
    rows: Rows
    """The ring that all copies advance together."""
    priority: jax.Array
    """[E, C] float32, 0 where no row is held."""
    stored: jax.Array
    """[] int32 ticks ever stored; the next one goes to slot `stored % C`."""
    oldest: jax.Array
    """[] int32 first tick that is held whole: with all frames of its stack, in every copy."""
    next_place: jax.Array
    """[E] int32 place of the state that the next decision is taken in."""
    next_begin: jax.Array
    """[E] int32 place of the first state of that decision's episode."""
    frame_stack: int = struct.field(pytree_node=False)
    """k"""


def init(config: ReplayConfig, example: Transition, num_envs: int, *, frame_stack: int) -> ReplayState:
    """Returns an empty replay.

    Args:
      config: capacity and sampling.
      example: leaves [E, ...], arrays or `jax.ShapeDtypeStruct`; only shapes and dtypes are read.
      num_envs: environment copies, E.
      frame_stack: frames in one observation, k, from the environment's spec.

    Raises:
      ValueError: fewer than one row a copy, an example that does not lead with [E], or observations that are no stack.
    """
    rows_per_copy = config.capacity // num_envs
    if rows_per_copy < 1:
        raise ValueError(f"replay.capacity is {config.capacity}, below one row a copy: give {num_envs} or more")
    for name, leaf in _fields(example):
        if leaf.shape[:1] != (num_envs,):
            raise ValueError(f"replay.init: example.{name} has shape {leaf.shape}; lead with [num_envs={num_envs}].")
    frame_shape = stacks.frame_shape(example.obs.shape[1:], frame_stack)
    lead = (num_envs, rows_per_copy)
    facts = {name: jnp.zeros((*lead, *leaf.shape[1:]), leaf.dtype) for name, leaf in _fields(example, seen=False)}
    return ReplayState(
        frames=empty_ring((num_envs, rows_per_copy + frame_stack, *frame_shape), example.obs.dtype, config.placement),
        rows=Rows(**facts, place=jnp.zeros(lead, jnp.int32), begin=jnp.zeros(lead, jnp.int32)),
        priority=jnp.zeros(lead, jnp.float32),
        stored=jnp.int32(0),
        oldest=jnp.int32(0),
        next_place=jnp.zeros(num_envs, jnp.int32),
        next_begin=jnp.zeros(num_envs, jnp.int32),
        frame_stack=frame_stack,
    )


def num_bytes(state: ReplayState) -> tuple[int, int]:
    """Returns the bytes that a replay, of arrays or their shapes, takes on the device, and its frames on the host."""
    on_device = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return on_device, state.frames.nbytes if isinstance(state.frames, HostFrames) else 0


def insert(state: ReplayState, trajectory: Transition) -> ReplayState:
    """Returns the replay with T rows more a copy, each with the highest priority now held (1 if empty).

    Every copy's rows must go on from its last stored row, or follow an end flag: a life broken off elsewhere (a
    session given up in mid-episode) has to be marked truncated on its last row before it is stored.

    A row is held until its slot, or a frame of its stack, is overwritten in any copy; so ends in one of them cost all
    a tick, and copies remain equally deep: uniform sampling needs no weighing.

    Args:
      state: the replay; donate it where jitted.
      trajectory: [T, E, ...] in order of time, T at most C.

    Raises:
      ValueError: a field's shape or dtype differs from what the replay was made for, or T exceeds C.
    """
    _check_trajectory(state, trajectory)
    rows_per_copy, num_slots = state.priority.shape[1], state.frames.shape[1]
    trajectory = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), trajectory)
    place, begin, ended = _places(state, trajectory)
    newest = place[:, -1:] + 1  # the state that the last decision led to
    beyond = newest - num_slots  # the last place that is overwritten

    copies = jnp.arange(len(place))[:, None]
    frames = state.frames
    for obs, where, wanted in (
        (trajectory.next_obs, place + 1, True),
        (trajectory.obs, place, place == begin),  # every other state is what the row before it led to
    ):
        # Of two frames for one slot neither is sure to be written last: the older is sent out of bounds, and dropped.
        slots = jnp.where(wanted & (where > beyond), where % num_slots, num_slots)
        frames = put(frames, copies, slots, stacks.newest(obs, state.frame_stack))

    stored = state.stored + place.shape[1]
    slots = (state.stored + jnp.arange(place.shape[1])) % rows_per_copy
    lived = Rows(**dict(_fields(trajectory, seen=False)), place=place, begin=begin)
    rows = jax.tree.map(lambda ring, leaf: ring.at[:, slots].set(leaf, unique_indices=True), state.rows, lived)
    needed = jnp.maximum(rows.place - state.frame_stack + 1, rows.begin)  # the place of the oldest frame of its stack
    tick = stored - 1 - (stored - 1 - jnp.arange(rows_per_copy)) % rows_per_copy
    held = jnp.all(needed > beyond, axis=0) & (tick >= 0)
    highest = jnp.where(state.stored == 0, 1, jnp.max(state.priority))
    priority = state.priority.at[:, slots].set(highest, unique_indices=True)
    next_place = newest[:, 0] + ended[:, -1]
    return state.replace(
        frames=frames,
        rows=rows,
        priority=jnp.where(held, priority, 0),
        stored=stored,
        oldest=stored - jnp.sum(held),
        next_place=next_place,
        next_begin=jnp.where(ended[:, -1], next_place, begin[:, -1]),
    )


def num_stored(state: ReplayState) -> jax.Array:
    """Returns [] int32, the real transitions now held over all copies."""
    return (state.stored - state.oldest) * state.priority.shape[0]


def sample(
    config: ReplayConfig,
    state: ReplayState,
    key: jax.Array,
    *,
    batch_size: int,
    length: int,
    events: jax.Array | None = None,
    progress: float | jax.Array = 0.0,
) -> SequenceBatch:
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
      events: [E, C] bool, the slots of rows that `event_share` draws from, as `eventful` tells them; None without one.
      progress: [] see `draw`, for `importance_final`.

    Raises:
      ValueError: sequences longer than a copy's ring, or an `event_share` without events.
    """
    num_envs, rows_per_copy = state.priority.shape
    if not 1 <= length <= rows_per_copy:
        raise ValueError(
            f"replay.sample: sequences of {length} rows from rings of {rows_per_copy}; use 1 to {rows_per_copy}, or "
            f"raise replay.capacity to {length * num_envs} or more"
        )
    held = {"eventful": None if events is None else _by_age(state, events), "num_rows": num_stored(state)}
    rank, weight = draw(config, _by_age(state, state.priority), key, **held, batch_size=batch_size, progress=progress)
    copy, start = rank % num_envs, state.oldest + rank // num_envs
    step, copies = jnp.arange(length)[None], copy[:, None]
    tick = start[:, None] + step
    terminated, truncated = (
        flag[copies, tick % rows_per_copy] for flag in (state.rows.terminated, state.rows.truncated)
    )
    valid = returns.sequence_valid(terminated, truncated, tick < state.stored)
    last = jnp.maximum(jnp.sum(valid, axis=1, keepdims=True) - 1, 0)
    slots = (start[:, None] + jnp.minimum(step, last)) % rows_per_copy
    return SequenceBatch(
        obs=_states(state, copy, slots[:, 0], last + 1, length),
        action_mask=state.rows.action_mask[copies, slots],
        action=state.rows.action[copies, slots],
        reward=jnp.where(valid, state.rows.reward[copies, slots], 0),
        terminated=terminated & valid,
        valid=valid,
        age=(state.stored - 1 - start) * num_envs,
        weight=weight,
        index=copy * rows_per_copy + slots[:, 0],
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


def eventful(state: ReplayState, reach: int) -> jax.Array:
    """Returns [E, C] bool: is there a reward other than 0, or a termination, in a row or in the `reach` - 1 after it?

    Rows of another episode do not count. Of a slot that holds no row nothing is said; its priority is 0.
    """
    event = (state.rows.reward != 0) | state.rows.terminated
    slot = jnp.arange(event.shape[1])[None]
    goes_on = ~(state.rows.terminated | state.rows.truncated) & (slot != (state.stored - 1) % event.shape[1])
    soon = event
    for _ in range(reach - 1):
        soon = event | (goes_on & jnp.roll(soon, -1, axis=1))
    return soon


def _by_age(state: ReplayState, ring: jax.Array) -> jax.Array:
    """Returns [C * E] a ring [E, C] by tick, then copy: what is held comes first."""
    return jnp.roll(ring.T, -state.oldest, axis=0).reshape(-1)


def _check_trajectory(state: ReplayState, trajectory: Transition) -> None:
    """Refuses a trajectory [T, E, ...] that is not of the replay's environment, or longer than its rings."""
    num_envs, rows_per_copy = state.priority.shape
    num_ticks = trajectory.reward.shape[0]
    if num_ticks > rows_per_copy:
        raise ValueError(
            f"replay.insert: {num_ticks} rows a copy into a ring of {rows_per_copy}; raise replay.capacity to "
            f"{num_ticks * num_envs} or more, or insert in parts."
        )
    frame = state.frames.shape[2:]
    obs = ((*frame[:-1], state.frame_stack * frame[-1]) if state.frame_stack > 1 else frame, state.frames.dtype)
    for name, leaf in _fields(trajectory):
        ring = getattr(state.rows, name, None)
        shape, dtype = obs if ring is None else (ring.shape[2:], ring.dtype)
        if leaf.shape != (num_ticks, num_envs, *shape) or leaf.dtype != dtype:
            raise ValueError(
                f"replay.insert: trajectory.{name} is {leaf.dtype}{list(leaf.shape)}, the replay was made for "
                f"{dtype}{[num_ticks, num_envs, *shape]}; give it rows of the environment it was made for."
            )


def _places(state: ReplayState, trajectory: Transition) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns, each [E, T], where the states of new rows [E, T] go, where their episodes began, and where those end."""
    ended = trajectory.terminated | trajectory.truncated
    ends_before = jnp.cumsum(ended, axis=1, dtype=jnp.int32) - ended
    place = state.next_place[:, None] + jnp.arange(ended.shape[1])[None] + ends_before
    begins = jnp.pad(ended, ((0, 0), (1, 0)))[:, :-1]
    begin = jax.lax.cummax(jnp.where(begins, place, state.next_begin[:, None]), axis=1)
    return place, begin, ended


def _states(state: ReplayState, copy: jax.Array, slot: jax.Array, last: jax.Array, length: int) -> jax.Array:
    """Returns the states [B, L + 1, *obs_shape] from rows on, by copy and slot [B]; the one `last` [B, 1] repeats."""
    place, begin = (ring[copy, slot][:, None] for ring in (state.rows.place, state.rows.begin))
    older = state.frame_stack - 1
    # Every frame leaves the ring once. Before an episode's first come copies of it.
    window = jnp.maximum(place + jnp.minimum(jnp.arange(-older, length + 1)[None], last), begin)
    frames = take(state.frames, copy[:, None], window % state.frames.shape[1])
    if not older:
        return frames
    newest = jnp.minimum(jnp.arange(length + 1)[None], last)[..., None] + older
    of_stacks = newest - jnp.arange(older, -1, -1)[None, None]
    return stacks.stack(frames[jnp.arange(len(copy))[:, None, None], of_stacks], axis=2)


def _fields(transition: Transition, *, seen: bool = True) -> list[tuple[str, jax.Array]]:
    """Returns (name, leaf) of each field of a transition, in order; without `seen`, of all but observations."""
    names = [field.name for field in dataclasses.fields(transition)]
    return [(name, getattr(transition, name)) for name in names if seen or name not in ("obs", "next_obs")]
