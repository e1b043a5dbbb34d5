"""The replay against a plain-Python twin that keeps everything ever lived in a list a copy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer import replay
from dreamer.core.types import Transition
from dreamer.replay import ReplayConfig, room
from dreamer.replay.draw import draw
from dreamer.replay.frames import HostFrames

NUM_ACTIONS = 3
insert = jax.jit(replay.insert, donate_argnums=0)
sample = jax.jit(replay.sample, static_argnums=0, static_argnames=("batch_size", "length"))


class Life:
    """Random episodes of E copies. A frame is (copy, how many states that copy saw before, modulo 256), everywhere.

    Stacks of k > 1 frames are images [2, 3, k * 2], and their frames differ from pixel to pixel.
    """

    def __init__(self, num_envs, seed=0, end_prob=0.2, frame_stack=1):
        self.rng = np.random.default_rng(seed)
        self.end_prob = np.broadcast_to(end_prob, num_envs)
        self.frame_stack = frame_stack
        self.seen = np.zeros(num_envs, int)
        self.obs = [self._first(copy) for copy in range(num_envs)]
        self.lived = [[] for _ in range(num_envs)]
        self.frames = [[[0]] for _ in range(num_envs)]
        """Of each row, which states' frames its observation shows."""

    def _frame(self, copy):
        frame = np.array([copy, self.seen[copy] % 256], np.uint8)
        return frame if self.frame_stack == 1 else frame + 16 * np.arange(6, dtype=np.uint8).reshape(2, 3, 1)

    def _first(self, copy):
        return np.concatenate([self._frame(copy)] * self.frame_stack, axis=-1)

    def _tick(self):
        num_envs = len(self.seen)
        draw = self.rng.random(num_envs)
        terminated, truncated = draw < self.end_prob / 2, (draw >= self.end_prob / 2) & (draw < self.end_prob)
        obs, self.seen = self.obs, self.seen + 1
        next_obs = [np.concatenate([obs[copy][..., 2:], self._frame(copy)], axis=-1) for copy in range(num_envs)]
        tick = Transition(
            obs=np.stack(obs),
            action_mask=self.rng.random((num_envs, NUM_ACTIONS)) < 0.7,
            action=self.rng.integers(0, NUM_ACTIONS, num_envs, dtype=np.int32),
            reward=self.rng.normal(size=num_envs).astype(np.float32),
            terminated=terminated,
            truncated=truncated,
            next_obs=np.stack(next_obs),
        )
        ended = terminated | truncated
        self.seen = self.seen + ended  # a reset shows a state that no step led to
        self.obs = [self._first(copy) if ended[copy] else next_obs[copy] for copy in range(num_envs)]
        for copy in range(num_envs):
            self.lived[copy].append(jax.tree.map(lambda leaf, copy=copy: leaf[copy], tick))
            before = [] if ended[copy] else self.frames[copy][-1]
            self.frames[copy].append([*before, int(self.seen[copy])][-self.frame_stack :])
        return tick

    def day(self, num_ticks):
        return jax.tree.map(lambda *leaves: np.stack(leaves), *[self._tick() for _ in range(num_ticks)])

    def held(self, rows_per_copy):
        """The ticks whose rows and frames are all among the newest that rings of this size remember."""
        total = len(self.lived[0])
        return [
            tick
            for tick in range(max(0, total - rows_per_copy), total)
            if all(
                frames[tick][0] > lived_last - (rows_per_copy + self.frame_stack)
                for frames, lived_last in zip(self.frames, self._last_seen(), strict=True)
            )
        ]

    def _last_seen(self):
        """Of each copy, the number of the newest state that a step led to: a reset's is not stored before its row."""
        return [
            int(seen) - bool(rows[-1].terminated | rows[-1].truncated)
            for seen, rows in zip(self.seen, self.lived, strict=True)
        ]


def example(num_envs, frame_stack=1):
    return jax.tree.map(lambda leaf: leaf[0], Life(num_envs, frame_stack=frame_stack).day(1))


def empty(num_envs, capacity, frame_stack=1):
    config = ReplayConfig(capacity=capacity)
    return replay.init(config, example(num_envs, frame_stack), num_envs, frame_stack=frame_stack)


def lives(days, *, num_envs, capacity, seed=0, end_prob=0.2, frame_stack=1):
    """Returns the life lived and the replay that stored it."""
    life, state = Life(num_envs, seed, end_prob, frame_stack), empty(num_envs, capacity, frame_stack)
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


def assert_agrees(life, state, *, capacity, length, num_draws=256):
    """All rows that the twin holds are drawn, no others, and their sequences are what was lived."""
    num_envs = len(life.lived)
    rows_per_copy, total, held = capacity // num_envs, len(life.lived[0]), life.held(capacity // num_envs)
    config = ReplayConfig(capacity=capacity)
    key = jax.random.key(total)
    batch = jax.tree.map(np.asarray, sample(config, state, key, batch_size=num_draws, length=length))
    seen = set()
    for b in range(num_draws):
        copy, slot = divmod(int(batch.index[b]), rows_per_copy)
        (start,) = [tick for tick in held if tick % rows_per_copy == slot]
        assert_sequence(batch, b, rows=life.lived[copy], start=start, length=length)
        assert batch.age[b] == (total - 1 - start) * num_envs
        seen.add((copy, start))
    assert len(seen) == int(replay.num_stored(state)) == len(held) * num_envs <= capacity
    np.testing.assert_array_equal(np.asarray(state.priority > 0).sum(axis=1), len(held))
    np.testing.assert_array_equal(batch.weight, np.ones(num_draws))


@pytest.mark.parametrize("frame_stack", [1, 3])
@pytest.mark.parametrize(
    ("num_envs", "capacity", "days", "length", "end_prob"),
    [
        (1, 8, (3,), 5, 0.2),  # not full, sequences longer than what was lived
        (1, 8, (3, 4, 1, 3, 4, 3), 5, 0.2),
        (3, 26, (4, 1, 3), 8, 0.0),  # exactly full; sequences as long as the ring
        (3, 26, (4, 3, 4, 3, 1, 4, 1, 8), 5, 0.2),
        (3, 26, (4, 3, 4, 3, 1, 4, 1, 8), 5, (0.0, 0.1, 0.7)),  # copies that advance at different rates
        (2, 12, (6, 6, 1), 3, 1.0),  # every step is an episode, and a day writes its ring of frames more than once
        (4, 4, (1, 1, 1), 1, 0.2),  # a ring of one row a copy
    ],
)
def test_sequences_agree_with_the_twin(num_envs, capacity, days, length, end_prob, frame_stack):
    life, state = lives(days, num_envs=num_envs, capacity=capacity, end_prob=end_prob, frame_stack=frame_stack)
    assert_agrees(life, state, capacity=capacity, length=length)


def test_random_days_agree_with_the_twin_all_the_way():
    rng = np.random.default_rng(3)
    life, state = Life(2, 5, (0.15, 0.4), 4), empty(2, 24, frame_stack=4)
    for num_ticks in rng.choice([1, 3, 12], size=20, p=[0.4, 0.4, 0.2]):
        state = insert(state, life.day(num_ticks))
        assert_agrees(life, state, capacity=24, length=6, num_draws=300)


def test_without_ends_all_of_the_capacity_is_held():
    for frame_stack in (1, 4):
        life, state = lives((8, 8, 3), num_envs=2, capacity=16, end_prob=0.0, frame_stack=frame_stack)
        assert int(replay.num_stored(state)) == 16 and life.held(8) == list(range(11, 19))


def test_each_end_costs_the_room_of_one_row():
    """Rings of 4 rows and 5 states. Three episodes of one decision are 6 states: the oldest, of row 0, is gone."""
    _, state = lives((3,), num_envs=1, capacity=4, end_prob=1.0)
    np.testing.assert_array_equal(state.rows.place, [[0, 2, 4, 0]])
    np.testing.assert_array_equal(state.frames[0, :, 1], [5, 1, 2, 3, 4])
    assert (int(state.oldest), int(state.stored), int(replay.num_stored(state))) == (1, 3, 2)
    np.testing.assert_array_equal(state.priority, [[0, 1, 1, 0]])


def test_stacks_by_hand():
    """Frames 0 1 2 | 3 4, the bar a reset: a stack of three begins with copies and never shows what was before."""
    life = Life(1, end_prob=0.0, frame_stack=3)
    day = life.day(2)
    life.end_prob = np.ones(1)
    state = empty(1, 8, frame_stack=3)
    second = jax.tree.map(lambda *leaves: np.concatenate(leaves), day, life.day(2))  # both its decisions end
    state = insert(state, second)
    np.testing.assert_array_equal(state.frames[0, :8, 0, 0, 1], [0, 1, 2, 3, 4, 5, 0, 0])
    batch = sample(ReplayConfig(capacity=8), state, jax.random.key(0), batch_size=64, length=3)
    by_slot = {int(index): b for b, index in enumerate(batch.index)}
    shown = np.asarray(batch.obs[:, :, 0, 0, 1::2])
    np.testing.assert_array_equal(shown[by_slot[0]], [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3]])
    np.testing.assert_array_equal(shown[by_slot[3]], [[4, 4, 4], [4, 4, 5], [4, 4, 5], [4, 4, 5]])
    np.testing.assert_array_equal(batch.valid[by_slot[3]], [True, False, False])


def test_wrap_around_by_hand():
    """Rings of 4 rows and 5 states, 6 rows lived without an end: rows 4 5 2 3 in the slots, the newest in slot 1."""
    life, state = lives((4, 2), num_envs=1, capacity=4, end_prob=0.0)
    np.testing.assert_array_equal(state.rows.place, [[4, 5, 2, 3]])
    np.testing.assert_array_equal(state.frames[0, :, 1], [5, 6, 2, 3, 4])
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
    _, whole = lives((8, 3), num_envs=2, capacity=16, seed=4, frame_stack=2)
    _, split = lives((3, 1, 4, 3), num_envs=2, capacity=16, seed=4, frame_stack=2)
    jax.tree.map(np.testing.assert_array_equal, whole, split)


def test_dtypes_are_kept():
    _, state = lives((3,), num_envs=2, capacity=8)
    batch = sample(ReplayConfig(capacity=8), state, jax.random.key(0), batch_size=4, length=2)
    assert (state.frames.dtype, batch.obs.dtype) == (jnp.uint8,) * 2
    assert (batch.action_mask.dtype, batch.terminated.dtype, batch.valid.dtype) == (jnp.bool_,) * 3
    assert (batch.action.dtype, batch.age.dtype, batch.index.dtype) == (jnp.int32,) * 3
    assert (batch.reward.dtype, batch.weight.dtype) == (jnp.float32,) * 2


def test_a_spec_is_example_enough():
    spec = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), example(2))
    jax.tree.map(
        np.testing.assert_array_equal,
        replay.init(ReplayConfig(capacity=8), spec, 2, frame_stack=1),
        empty(2, 8),
    )


def test_nothing_is_held_or_valid_before_the_first_row():
    state = empty(2, 8)
    assert int(replay.num_stored(state)) == 0
    assert not bool(jnp.any(sample(ReplayConfig(capacity=8), state, jax.random.key(0), batch_size=4, length=2).valid))


@pytest.mark.parametrize("days", [(3,), (8, 5)])
def test_uniform_sampling_is_uniform_over_the_rows_held(days):
    life, state = lives(days, num_envs=2, capacity=16, end_prob=(0.1, 0.5))
    held = life.held(8)
    batch = sample(ReplayConfig(capacity=16), state, jax.random.key(2), batch_size=12_000, length=1)
    counts = np.bincount(batch.index, minlength=16)
    np.testing.assert_array_equal(counts.reshape(2, 8) > 0, np.broadcast_to(np.isin(range(8), np.mod(held, 8)), (2, 8)))
    np.testing.assert_allclose(counts[counts > 0] / 12_000, 1 / (2 * len(held)), atol=0.02)


@pytest.mark.parametrize("days", [(3,), (8, 3)])
def test_priorities_shape_the_distribution_and_its_weights(days):
    _, state = lives(days, num_envs=2, capacity=16, end_prob=(0.1, 0.5))
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
    life, state = lives((2,), num_envs=1, capacity=4, end_prob=0.0)
    np.testing.assert_array_equal(state.priority, [[1, 1, 0, 0]])
    state = replay.set_priorities(state, jnp.array([0, 1]), jnp.array([5.0, 0.5]))
    state = insert(state, life.day(1))
    np.testing.assert_array_equal(state.priority, [[5, 0.5, 5, 0]])
    state = replay.set_priorities(state, jnp.array([0, 2]), jnp.array([0.25, 0.125]))
    state = insert(state, life.day(3))  # wraps: the row that got 0.25 is overwritten
    np.testing.assert_array_equal(state.priority, [[0.5, 0.5, 0.125, 0.5]])


def test_a_row_named_twice_takes_the_larger_priority_and_none_falls_to_zero():
    _, state = lives((3,), num_envs=1, capacity=4, end_prob=0.0)
    state = replay.set_priorities(state, jnp.array([1, 1, 2]), jnp.array([0.75, 0.25, 0.0]))
    np.testing.assert_allclose(state.priority, [[1, 0.75, 1e-6, 0]])


def test_one_row_far_above_all_others_is_all_that_is_drawn():
    _, state = lives((3,), num_envs=2, capacity=4096)
    state = replay.set_priorities(state, jnp.array([2048 + 2]), jnp.array([1e8]))
    config = ReplayConfig(capacity=4096, priority_exponent=1.0, importance_exponent=1.0)
    batch = sample(config, state, jax.random.key(0), batch_size=512, length=2)
    np.testing.assert_array_equal(batch.index, np.full(512, 2050))
    np.testing.assert_array_equal(batch.weight, np.ones(512))


@pytest.mark.parametrize(
    ("settings", "progress", "lighter"),
    [
        (dict(importance_exponent=0.5), 0.75, 0.5),  # 4 times the probability, to the power of -0.5
        (dict(importance_exponent=0.5, importance_final=1.0), 0.0, 0.5),
        (dict(importance_exponent=0.5, importance_final=1.0), 0.5, 4**-0.75),
        (dict(importance_exponent=0.5, importance_final=1.0), 1.0, 0.25),
        (dict(importance_exponent=0.5, importance_final=0.0), 1.0, 1.0),
        (dict(importance_exponent=1.0, min_weight=0.3), 0.0, 0.3),
        (dict(importance_exponent=1.0, min_weight=0.2), 0.0, 0.25),
    ],
)
def test_importance_weights_by_hand(settings, progress, lighter):
    config, priority, key = (
        ReplayConfig(priority_exponent=1.0, **settings),
        jnp.array([4.0, 1.0, 0.0]),
        jax.random.key(0),
    )
    rank, weight = draw(config, priority, key, eventful=None, num_rows=2, batch_size=64, progress=jnp.float32(progress))
    np.testing.assert_allclose(weight, np.where(rank == 0, lighter, 1.0), rtol=1e-6)
    assert 0 < (rank == 1).sum() < 32


@pytest.mark.parametrize(
    ("settings", "priority", "eventful", "expected"),
    [
        (dict(), [1.0, 1.0, 1.0, 1.0, 0.0], [0, 1, 0, 0, 1], [1 / 8, 5 / 8, 1 / 8, 1 / 8, 0]),
        (dict(priority_exponent=1.0), [3.0, 1.0, 1.0, 0.0, 0.0], [1, 1, 0, 0, 0], [0.675, 0.225, 0.1, 0, 0]),
        (dict(), [1.0, 1.0, 0.0, 0.0, 0.0], [0, 0, 1, 0, 0], [0.5, 0.5, 0, 0, 0]),  # no row held is eventful
        (dict(importance_exponent=1.0), [1.0, 1.0, 0.0, 0.0, 0.0], [0, 1, 0, 0, 0], [0.25, 0.75, 0, 0, 0]),
    ],
)
def test_half_of_the_rows_are_drawn_from_eventful_ones(settings, priority, eventful, expected):
    config, num = ReplayConfig(event_share=0.5, **settings), 40_000
    rank, weight = draw(
        config,
        jnp.array(priority),
        jax.random.key(0),
        eventful=jnp.array(eventful, bool),
        num_rows=jnp.sum(jnp.array(priority) > 0),
        batch_size=num,
        progress=0.0,
    )
    np.testing.assert_allclose(np.bincount(rank, minlength=5) / num, expected, atol=0.01)
    assert (np.bincount(rank, minlength=5)[np.equal(expected, 0)] == 0).all()
    by_hand = np.array([1.0, 1 / 3]) if settings.get("importance_exponent") else np.ones(5)
    np.testing.assert_allclose(weight, by_hand[rank], rtol=1e-5)


def test_what_happens_within_reach_is_an_event():
    nothing = jnp.zeros((2, 8), bool)
    rows = empty(2, 16).rows.replace(
        reward=jnp.zeros((2, 8)).at[0, 2].set(-1.0).at[0, 7].set(1.0),
        terminated=nothing.at[1, 1].set(True),
        truncated=nothing.at[0, 6].set(True),
    )
    # Tick 11 is the newest, at slot 3; slot 4 is the oldest. Slot 6 is truncated, so nothing after it is to come.
    state = empty(2, 16).replace(rows=rows, stored=jnp.int32(12))
    expected = [[1, 1, 1, 0, 0, 0, 0, 1], [1, 1, 0, 0, 0, 0, 0, 1]]
    np.testing.assert_array_equal(replay.eventful(state, 3), np.array(expected, bool))
    np.testing.assert_array_equal(replay.eventful(state, 1), (rows.reward != 0) | rows.terminated)
    # A lone event in the oldest row is none of the newest row's.
    state = state.replace(rows=rows.replace(reward=jnp.zeros((2, 8)).at[0, 4].set(1.0), terminated=nothing))
    np.testing.assert_array_equal(replay.eventful(state, 3)[0], [0, 0, 0, 0, 1, 0, 0, 0])


@pytest.mark.parametrize("days", [(6,), (9, 20, 7)])  # a ring of 20 that is not full, one written over
def test_rows_near_events_agree_with_the_twin(days):
    life, state = lives(days, num_envs=2, capacity=40)
    paid = np.random.default_rng(1).random((2, 20)) < 0.1  # by slot; the life's own rewards are never 0
    state = state.replace(rows=state.rows.replace(reward=jnp.asarray(paid, jnp.float32)))
    events, near = replay.eventful(state, 3), set()
    for copy, lived in enumerate(life.lived):
        for start in life.held(20):
            walked = walk(lived, start, 3)
            happens = any(paid[copy, (start + i) % 20] or row.terminated for i, row in enumerate(walked))
            assert bool(events[copy, start % 20]) == happens
            near |= {copy * 20 + start % 20} if happens else set()
    config = ReplayConfig(capacity=40, event_share=0.99)
    batch = sample(config, state, jax.random.key(0), batch_size=2000, length=3, events=events)
    assert 0 < len(near) < 2 * len(life.held(20)) and near <= set(np.asarray(batch.index))
    assert 0.985 < np.isin(batch.index, list(near)).mean() < 1


def test_the_sampler_hands_its_progress_on():
    _, state = lives((2,), num_envs=1, capacity=4, end_prob=0.0)
    state = replay.set_priorities(state, jnp.array([0, 1]), jnp.array([4.0, 1.0]))
    config = ReplayConfig(capacity=4, priority_exponent=1.0, importance_final=1.0)
    batch = sample(config, state, jax.random.key(0), batch_size=64, length=1, progress=jnp.float32(0.5))
    np.testing.assert_allclose(batch.weight, np.where(batch.index == 0, 0.5, 1.0), rtol=1e-6)


def shapes(capacity, tick, num_envs, *, frame_stack, placement="device"):
    config = ReplayConfig(capacity=capacity, placement=placement)
    return jax.eval_shape(lambda: replay.init(config, tick, num_envs, frame_stack=frame_stack))


def test_bytes_are_known_before_anything_is_allocated():
    state = empty(3, 26, frame_stack=4)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert replay.num_bytes(shapes(26, example(3, 4), 3, frame_stack=4)) == replay.num_bytes(state) == (size, 0)
    assert state.frames.shape == (3, 8 + 4, 2, 3, 2)
    on_host = shapes(26, example(3, 4), 3, frame_stack=4, placement="host")
    assert replay.num_bytes(on_host) == (size - state.frames.nbytes, state.frames.nbytes)


def test_a_hundred_thousand_atari_transitions_hold_in_three_gigabytes():
    leaves = {"obs": ((96, 96, 12), jnp.uint8), "action_mask": ((18,), bool), "action": ((), jnp.int32)}
    leaves |= {"reward": ((), jnp.float32), "terminated": ((), bool), "truncated": ((), bool)}
    leaves = {name: jax.ShapeDtypeStruct((4, *shape), dtype) for name, (shape, dtype) in leaves.items()}
    tick = Transition(**leaves, next_obs=leaves["obs"])
    size, on_host = replay.num_bytes(shapes(100_000, tick, 4, frame_stack=4))
    frames, rows = 4 * (25_000 + 4) * 96 * 96 * 3, 100_000 * (18 + 4 + 4 + 1 + 1 + 4 + 4 + 4)
    assert size == frames + rows + 2 * 4 + 2 * 4 * 4 < 3e9 and on_host == 0
    placed = shapes(100_000, tick, 4, frame_stack=4, placement="host")
    assert replay.num_bytes(placed) == (size - frames, frames)


def test_what_does_not_fit_is_refused_before_it_is_allocated():
    replay.require_room(900, 1000, capacity=10, where="device")
    message = r"capacity is 10, .* 1,001 bytes of the 500 that the device has.*give at most 4, or .*placement host"
    with pytest.raises(ValueError, match=message):
        replay.require_room(1001, 500, capacity=10, where="device")
    with pytest.raises(ValueError, match="that the host has, .*give at most 4$"):
        replay.require_room(1001, 500, capacity=10, where="host")
    # Of a CPU those of the host, which has no allocator with a limit.
    assert replay.host_bytes() >= replay.device_bytes(jax.devices("cpu")[0]) > 2**28


@pytest.mark.parametrize(("said", "limit"), [("1048576\n", 2**20), ("max\n", None), (f"{2**63 - 4096}", None)])
def test_a_container_has_no_more_than_it_may_take(said, limit, tmp_path, monkeypatch):
    whole = replay.host_bytes()
    file = tmp_path / "memory.max"
    file.write_text(said)
    monkeypatch.setattr(room, "LIMITS", (tmp_path / "none", file))
    assert replay.host_bytes() == limit or limit is None and replay.host_bytes() >= whole


def test_a_ring_on_the_host_is_empty_before_its_first_frame_and_once_it_is_released():
    ring = HostFrames((1, 3, 2), np.uint8)
    np.testing.assert_array_equal(ring.read(np.zeros((1, 1), int), np.array([[0, 2]])), np.zeros((1, 2, 2)))
    ring.write(np.zeros((1, 1), int), np.array([[2, 3]]), np.array([[[5, 6], [7, 8]]]))  # the second is nowhere
    np.testing.assert_array_equal(ring.array[0], [[0, 0], [0, 0], [5, 6]])
    ring.release()
    ring.release()
    np.testing.assert_array_equal(ring.array, np.zeros((1, 3, 2)))


@pytest.mark.parametrize(("frame_stack", "num_envs", "capacity"), [(1, 2, 8), (3, 3, 26)])
def test_frames_on_the_host_are_those_on_the_device(frame_stack, num_envs, capacity):
    """Over several turns of the ring; stored and drawn in one program, under a condition and in a loop, as a night."""
    placed = {place: ReplayConfig(capacity=capacity, placement=place) for place in ("device", "host")}
    states = {
        place: replay.init(config, example(num_envs, frame_stack), num_envs, frame_stack=frame_stack)
        for place, config in placed.items()
    }

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def turn(config, state, day, store, seed):
        state = jax.lax.cond(store, replay.insert, lambda state, _: state, state, day)

        def one(number, total):
            key = jax.random.fold_in(jax.random.key(seed), number)
            batch = replay.sample(config, state, key, batch_size=64, length=4)
            return total + batch.obs.astype(jnp.int32)

        shape = jax.eval_shape(lambda: replay.sample(config, state, jax.random.key(0), batch_size=64, length=4)).obs
        return state, jax.lax.fori_loop(0, 3, one, jnp.zeros(shape.shape, jnp.int32))

    life = Life(num_envs, 5, 0.2, frame_stack)
    for number in range(9):
        day = life.day(3)
        drawn = {}
        for place, config in placed.items():
            states[place], drawn[place] = turn(config, states[place], day, number != 4, number)
        np.testing.assert_array_equal(drawn["host"], drawn["device"])
    np.testing.assert_array_equal(states["host"].frames.array, states["device"].frames)
    assert (
        isinstance(states["host"].frames, HostFrames) and states["host"].frames.nbytes == states["device"].frames.nbytes
    )


def test_a_placement_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="replay.placement is 'disk': give one of device, host"):
        ReplayConfig(placement="disk")


def test_a_day_and_its_batches_are_one_program_traced_once():
    life, state = lives((), num_envs=2, capacity=16, frame_stack=2)
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
        ("replay.capacity is 1, below one row a copy: give 2 or more", lambda s: empty(2, 1)),
        ("example.obs .*num_envs=3", lambda s: replay.init(ReplayConfig(capacity=9), example(2), 3, frame_stack=1)),
        (
            r"shape \(2,\) are no stack of 3 frames: give EnvSpec.frame_stack",
            lambda s: replay.init(ReplayConfig(capacity=9), example(2), 2, frame_stack=3),
        ),
        ("5 rows a copy into a ring of 4.*replay.capacity to 10 or more", lambda s: replay.insert(s, Life(2).day(5))),
        ("trajectory.obs is uint8", lambda s: replay.insert(s, Life(3).day(2))),
        (
            "trajectory.reward is float64.*float32",
            lambda s: replay.insert(s, (day := Life(2).day(2)).replace(reward=day.reward.astype(np.float64))),
        ),
        (
            "sequences of 5 rows.*replay.capacity to 10 or more",
            lambda s: replay.sample(ReplayConfig(capacity=8), s, jax.random.key(0), batch_size=1, length=5),
        ),
        (
            "event_share is 0.5: give events",
            lambda s: replay.sample(ReplayConfig(event_share=0.5), s, jax.random.key(0), batch_size=1, length=1),
        ),
    ],
)
def test_misuse_is_refused_with_the_fix(message, act):
    state = empty(2, 8)
    with pytest.raises(ValueError, match=message):
        act(state)


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("capacity", dict(capacity=0)),
        ("priority_exponent", dict(priority_exponent=-0.5)),
        ("priority_exponent", dict(priority_exponent=float("nan"))),
        ("importance_exponent", dict(importance_exponent=1.5)),
        ("importance_final", dict(importance_final=-0.1)),
        ("min_weight", dict(min_weight=1.1)),
        ("event_share", dict(event_share=1.0)),
        ("event_share", dict(event_share=-0.1)),
    ],
)
def test_impossible_configs_are_refused(field, bad):
    with pytest.raises(ValueError, match=f"replay.{field} is "):
        ReplayConfig(**bad)
