"""The replay against a plain-Python twin that keeps everything ever lived in a list a copy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer import replay
from dreamer.core.types import Transition
from dreamer.replay import ReplayConfig

NUM_ACTIONS = 3
insert = jax.jit(replay.insert, donate_argnums=0)
sample = jax.jit(replay.sample, static_argnums=0, static_argnames=("batch_size", "length"))


class Life:
    """Random episodes of E copies. A state is (copy, how many states that copy saw before, modulo 256)."""

    def __init__(self, num_envs, seed=0, end_prob=0.2):
        self.rng = np.random.default_rng(seed)
        self.end_prob = end_prob
        self.state = np.zeros(num_envs, int)
        self.lived = [[] for _ in range(num_envs)]

    def _tick(self):
        num_envs = len(self.state)
        terminated, truncated = self.rng.random((2, num_envs)) < self.end_prob / 2
        copies = np.arange(num_envs)
        tick = Transition(
            obs=np.stack([copies, self.state % 256], axis=1).astype(np.uint8),
            action_mask=self.rng.random((num_envs, NUM_ACTIONS)) < 0.7,
            action=self.rng.integers(0, NUM_ACTIONS, num_envs, dtype=np.int32),
            reward=self.rng.normal(size=num_envs).astype(np.float32),
            terminated=terminated,
            truncated=truncated,
            next_obs=np.stack([copies, (self.state + 1) % 256], axis=1).astype(np.uint8),
        )
        for copy in range(num_envs):
            self.lived[copy].append(jax.tree.map(lambda leaf, copy=copy: leaf[copy], tick))
        self.state += 1 + (terminated | truncated)  # a reset shows a state that no step led to
        return tick

    def day(self, num_ticks):
        return jax.tree.map(lambda *leaves: np.stack(leaves), *[self._tick() for _ in range(num_ticks)])


def example(num_envs):
    return jax.tree.map(lambda leaf: leaf[0], Life(num_envs).day(1))


def lives(days, *, num_envs, capacity, seed=0, end_prob=0.2):
    """Returns the life lived and the replay that stored it."""
    life = Life(num_envs, seed, end_prob)
    state = replay.init(ReplayConfig(capacity=capacity), example(num_envs), num_envs)
    for num_ticks in days:
        state = insert(state, life.day(num_ticks))
    return life, state


def walk(rows, start, length):
    """Returns the rows from `start` until the episode, or what was lived, ends: what a sequence has to hold."""
    walked = []
    for row in rows[start : start + length]:
        walked.append(row)
        if row.terminated or row.truncated:
            break
    return walked


def assert_sequence(batch, b, *, rows, start, length):
    walked = walk(rows, start, length)
    tail = [walked[-1]] * (length - len(walked))
    states = [walked[0].obs] + [row.next_obs for row in walked + tail]
    np.testing.assert_array_equal(batch.obs[b], states)
    np.testing.assert_array_equal(batch.valid[b], np.arange(length) < len(walked))
    np.testing.assert_array_equal(batch.action[b], [row.action for row in walked + tail])
    np.testing.assert_array_equal(batch.action_mask[b], [row.action_mask for row in walked + tail])
    np.testing.assert_array_equal(batch.reward[b], [row.reward for row in walked] + [0] * len(tail))
    np.testing.assert_array_equal(batch.terminated[b], [row.terminated for row in walked] + [False] * len(tail))


@pytest.mark.parametrize(
    ("num_envs", "capacity", "days", "length"),
    [
        (1, 8, (3,), 5),  # not full, sequences longer than what was lived
        (1, 8, (3, 4, 1, 3, 4, 3), 5),
        (3, 26, (4, 1, 3), 8),  # exactly full; sequences as long as the ring
        (3, 26, (4, 3, 4, 3, 1, 4, 1, 8), 5),
        (4, 4, (1, 1, 1), 1),  # a ring of one row a copy
    ],
)
def test_sequences_agree_with_the_twin(num_envs, capacity, days, length):
    life, state = lives(days, num_envs=num_envs, capacity=capacity)
    config, rows_per_copy, total = ReplayConfig(capacity=capacity), capacity // num_envs, sum(days)
    batch = jax.tree.map(np.asarray, sample(config, state, jax.random.key(1), batch_size=256, length=length))
    oldest = max(0, total - rows_per_copy)
    seen = set()
    for b in range(256):
        copy, slot = divmod(int(batch.index[b]), rows_per_copy)
        (start,) = [ordinal for ordinal in range(oldest, total) if ordinal % rows_per_copy == slot]
        assert_sequence(batch, b, rows=life.lived[copy], start=start, length=length)
        assert batch.age[b] == (total - 1 - start) * num_envs
        seen.add((copy, start))
    # Every row held can start a sequence, the newest and the oldest too; capacity bounds what is held.
    assert len(seen) == int(replay.num_stored(state)) == min(total, rows_per_copy) * num_envs <= capacity
    np.testing.assert_array_equal(batch.weight, np.ones(256))


def test_wrap_around_by_hand():
    """Ring of 4 rows, 6 lived without an end: rows 4 5 2 3 in the slots, the newest is row 5 in slot 1."""
    life, state = lives((4, 2), num_envs=1, capacity=4, end_prob=0.0)
    np.testing.assert_array_equal(state.rows.obs[0, :, 1], [4, 5, 2, 3])
    batch = sample(ReplayConfig(capacity=4), state, jax.random.key(0), batch_size=64, length=3)
    by_slot = {int(index): b for b, index in enumerate(batch.index)}
    across, newest = by_slot[3], by_slot[1]
    np.testing.assert_array_equal(batch.obs[across, :, 1], [3, 4, 5, 6])
    np.testing.assert_array_equal(batch.valid[across], [True, True, True])
    # After the newest row comes nothing: slot 2 holds row 2, which was lived before it.
    np.testing.assert_array_equal(batch.obs[newest, :, 1], [5, 6, 6, 6])
    np.testing.assert_array_equal(batch.valid[newest], [True, False, False])
    np.testing.assert_array_equal(batch.age[jnp.array([by_slot[2], newest])], [3, 0])


def test_any_split_into_days_stores_the_same():
    _, whole = lives((8, 3), num_envs=2, capacity=16, seed=4)
    _, split = lives((3, 1, 4, 3), num_envs=2, capacity=16, seed=4)
    jax.tree.map(np.testing.assert_array_equal, whole, split)


def test_dtypes_are_kept():
    _, state = lives((3,), num_envs=2, capacity=8)
    batch = sample(ReplayConfig(capacity=8), state, jax.random.key(0), batch_size=4, length=2)
    assert (state.rows.obs.dtype, state.rows.next_obs.dtype, batch.obs.dtype) == (jnp.uint8,) * 3
    assert (batch.action_mask.dtype, batch.terminated.dtype, batch.valid.dtype) == (jnp.bool_,) * 3
    assert (batch.action.dtype, batch.age.dtype, batch.index.dtype) == (jnp.int32,) * 3
    assert (batch.reward.dtype, batch.weight.dtype) == (jnp.float32,) * 2


def test_a_spec_is_example_enough():
    spec = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), example(2))
    jax.tree.map(
        np.testing.assert_array_equal,
        replay.init(ReplayConfig(capacity=8), spec, 2),
        replay.init(ReplayConfig(capacity=8), example(2), 2),
    )


def test_nothing_is_held_or_valid_before_the_first_row():
    state = replay.init(ReplayConfig(capacity=8), example(2), 2)
    assert int(replay.num_stored(state)) == 0
    assert not bool(jnp.any(sample(ReplayConfig(capacity=8), state, jax.random.key(0), batch_size=4, length=2).valid))


def test_uniform_sampling_is_uniform():
    _, state = lives((3,), num_envs=2, capacity=16)
    batch = sample(ReplayConfig(capacity=16), state, jax.random.key(2), batch_size=12_000, length=1)
    counts = np.bincount(batch.index, minlength=16)
    np.testing.assert_array_equal(counts > 0, np.arange(16) % 8 < 3)
    np.testing.assert_allclose(counts[counts > 0] / 12_000, 1 / 6, atol=0.02)


@pytest.mark.parametrize("days", [(3,), (8, 3)])
def test_priorities_shape_the_distribution_and_its_weights(days):
    _, state = lives(days, num_envs=2, capacity=16)
    held = np.flatnonzero(np.asarray(state.priority).reshape(-1) > 0)
    priority = np.zeros(16)
    priority[held] = 1.0 + np.arange(len(held)) ** 2
    state = replay.set_priorities(state, jnp.asarray(held), jnp.asarray(priority[held], jnp.float32))
    config = ReplayConfig(capacity=16, priority_exponent=0.5, importance_exponent=0.4)
    batch = jax.tree.map(np.asarray, sample(config, state, jax.random.key(3), batch_size=12_000, length=1))
    prob = priority**0.5 / np.sum(priority**0.5)
    np.testing.assert_allclose(np.bincount(batch.index, minlength=16) / 12_000, prob, atol=0.02)
    weight = (len(held) * prob[batch.index]) ** -0.4
    np.testing.assert_allclose(batch.weight, weight / weight.max(), rtol=1e-5)
    assert batch.valid.all()


def test_new_rows_get_the_highest_priority_held():
    life, state = lives((2,), num_envs=1, capacity=4)
    np.testing.assert_array_equal(state.priority, [[1, 1, 0, 0]])
    state = replay.set_priorities(state, jnp.array([0, 1]), jnp.array([5.0, 0.5]))
    state = insert(state, life.day(1))
    np.testing.assert_array_equal(state.priority, [[5, 0.5, 5, 0]])
    state = replay.set_priorities(state, jnp.array([0, 2]), jnp.array([0.25, 0.125]))
    state = insert(state, life.day(3))  # wraps: the row that got 0.25 is overwritten
    np.testing.assert_array_equal(state.priority, [[0.5, 0.5, 0.125, 0.5]])


def test_a_row_named_twice_takes_the_larger_priority_and_none_falls_to_zero():
    _, state = lives((3,), num_envs=1, capacity=4)
    state = replay.set_priorities(state, jnp.array([1, 1, 2]), jnp.array([0.75, 0.25, 0.0]))
    np.testing.assert_allclose(state.priority, [[1, 0.75, 1e-6, 0]])


def test_one_row_far_above_all_others_is_all_that_is_drawn():
    _, state = lives((3,), num_envs=2, capacity=4096)
    state = replay.set_priorities(state, jnp.array([2048 + 2]), jnp.array([1e8]))
    config = ReplayConfig(capacity=4096, priority_exponent=1.0, importance_exponent=1.0)
    batch = sample(config, state, jax.random.key(0), batch_size=512, length=2)
    np.testing.assert_array_equal(batch.index, np.full(512, 2050))
    np.testing.assert_array_equal(batch.weight, np.ones(512))


def test_a_day_and_its_batches_are_one_program_traced_once():
    life, state = lives((), num_envs=2, capacity=16)
    traces = []

    @functools.partial(jax.jit, donate_argnums=0)
    def day_and_sample(state, day, key):
        traces.append(None)
        state = replay.insert(state, day)
        return state, replay.sample(ReplayConfig(capacity=16), state, key, batch_size=4, length=3)

    for i in range(4):
        state, batch = day_and_sample(state, life.day(5), jax.random.key(i))
        assert bool(batch.valid[:, 0].all())
    assert len(traces) == 1
    assert int(state.stored) == 20


@pytest.mark.parametrize(
    ("message", "act"),
    [
        ("capacity=1 is below num_envs=2", lambda s: replay.init(ReplayConfig(capacity=1), example(2), 2)),
        ("example.obs .*num_envs=3", lambda s: replay.init(ReplayConfig(capacity=9), example(2), 3)),
        ("5 rows a copy into a ring of 4.*at least 10", lambda s: replay.insert(s, Life(2).day(5))),
        ("trajectory.obs is uint8", lambda s: replay.insert(s, Life(3).day(2))),
        (
            "trajectory.reward is float64.*float32",
            lambda s: replay.insert(s, (day := Life(2).day(2)).replace(reward=day.reward.astype(np.float64))),
        ),
        (
            "sequences of 5 rows.*at least 10",
            lambda s: replay.sample(ReplayConfig(capacity=8), s, jax.random.key(0), batch_size=1, length=5),
        ),
    ],
)
def test_misuse_is_refused_with_the_fix(message, act):
    state = replay.init(ReplayConfig(capacity=8), example(2), 2)
    with pytest.raises(ValueError, match=message):
        act(state)


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("capacity", dict(capacity=0)),
        ("priority_exponent", dict(priority_exponent=-0.5)),
        ("priority_exponent", dict(priority_exponent=float("nan"))),
        ("importance_exponent", dict(importance_exponent=1.5)),
    ],
)
def test_impossible_configs_are_refused(field, bad):
    with pytest.raises(ValueError, match=f"ReplayConfig.{field}"):
        ReplayConfig(**bad)
