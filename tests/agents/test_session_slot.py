import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import memories
from agents.session_slot import SessionSlotConfig, make_session_slot
from dreamer.core.types import Transition
from dreamer.wake.session import begin, live
from tests import tiny, toys

B, T, M, A = 2, 4, 6, 3
CONFIGS = {kind: SessionSlotConfig(width=8, num_heads=2, num_slots=M, memory=kind) for kind in memories.KINDS}
SLOTS = {kind: make_session_slot(tiny.spec(num_actions=A), config) for kind, config in CONFIGS.items()}
of_both = pytest.mark.parametrize("kind", memories.KINDS)


@functools.cache
def first_params(kind):
    return jax.jit(SLOTS[kind].agent.init)(jax.random.key(0), jnp.zeros((1, 3)))


@functools.cache
def params(kind):
    rng = np.random.default_rng(1)  # nothing is learned yet, so that what heads say be not uniform
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) / 3, first_params(kind))


@functools.cache
def session():
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(B, T + 1, 3)).astype(np.float32)
    ended = rng.random((B, T)) < 0.3
    return Transition(
        obs=obs[:, :-1],
        action_mask=np.ones((B, T, A), bool),
        action=rng.integers(A, size=(B, T)).astype(np.int32),
        reward=rng.normal(size=(B, T)).astype(np.float32),
        terminated=ended,
        truncated=np.zeros_like(ended),
        next_obs=obs[:, 1:],
    )


@functools.cache
def compiled(kind):
    slot = SLOTS[kind]
    return slot, params(kind), *(jax.jit(part) for part in (slot.agent.evaluate, slot.agent.remember, slot.read))


def at(t, tape):
    return jax.tree.map(lambda leaf: leaf[:, t], tape)


def close(one, other):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), one, other)


@of_both
def test_acting_through_a_session_is_reading_it_in_one_pass(kind):
    slot, weights, evaluate, remember, read = compiled(kind)
    whole, memory = read(weights, session()), slot.empty(B, T)
    for t in range(T):
        close(evaluate(weights, memory, session().obs[:, t]), at(t, whole))
        memory = remember(weights, memory, at(t, session()))
    np.testing.assert_array_equal(memory.count, [T, T])
    close(jax.jit(slot.recall)(weights, session()), memory)
    changed = session().replace(reward=session().reward + np.eye(T)[1].astype(np.float32))
    other = read(weights, changed)
    close(other.logits[:, :2], whole.logits[:, :2])  # what is not yet lived says nothing
    assert (abs(other.logits[:, 2:] - whole.logits[:, 2:]).max(axis=-1) > 1e-4).all()


@of_both
def test_one_session_is_read_and_recalled_by_several_copies_as_in_a_batch(kind):
    slot, weights, _, _, read = compiled(kind)
    one = jax.tree.map(lambda leaf: leaf[0], session())
    close(slot.read_one(weights, one), read(weights, session()).logits[0])
    memory, batch = slot.recall_in(weights, one, 3), slot.recall(weights, session())
    close(memory, jax.tree.map(lambda leaf: np.repeat(leaf[:1], 3, axis=0), batch))
    assert slot.recall_in(weights, (), 3) == ()


def test_fast_weights_are_written_by_the_delta_rule():
    # One head of width 2. Two writes to one key: at half strength half of what is missing is added; at full strength
    # just the new value is called up. What has another key stays.
    far = 40.0  # a SiLU leaves it as it is
    key = np.array([[[[far, 0]], [[0, far]], [[far, 0]]]], np.float32)  # [1, 3, 1, 2]
    value = np.array([[[[2, 4]], [[1, 1]], [[6, 0]]]], np.float32)
    query = np.array([[[[far, 0]]] * 2 + [[[0, far]]]], np.float32)
    both = np.concatenate([key, query], axis=1), np.concatenate([key, query], axis=1)
    strength = np.array([[0.5, 1, 1, 0, 0, 0]], np.float32)[..., None]
    values = np.concatenate([value, np.full_like(value, 9)], axis=1)  # of queries nothing is written
    past = memories.KINDS["fast_weights"].nothing(1, 0, (1, 1, 2))[:, :, 0]
    after = np.array([1, 2, 3, 0, 2, 3])
    heard, weights = memories.recite(*both, values, strength=strength, past=past, full=None, after=after)
    np.testing.assert_allclose(heard[0, :, 0], [[1, 2], [1, 1], [6, 0], [0, 0], [1, 2], [1, 1]], atol=1e-5)
    np.testing.assert_allclose(weights, [[[[[6, 1], [0, 1]]]]], atol=1e-5)
    again, _ = memories.recite(
        query, query, value, strength=strength[:, 3:], past=weights, full=None, after=np.zeros(3, int)
    )
    np.testing.assert_allclose(again[0, :, 0], [[6, 0], [6, 0], [1, 1]], atol=1e-5)


@of_both
def test_a_memory_is_what_its_last_places_hold(kind):
    slot, weights, evaluate, _, _ = compiled(kind)
    places, obs = {"cache": T, "fast_weights": 1}[kind], session().obs[:, -1]
    memory = slot.recall(weights, session())
    held = slot.holding(slot.last(memory, places))
    close(evaluate(weights, held, obs), evaluate(weights, memory, obs))
    most = CONFIGS[kind].num_places
    with pytest.raises(ValueError, match=f"a memory of {most} places has no last {most + 1}: ask for fewer"):
        slot.last(memory, most + 1)


@of_both
def test_what_was_lived_is_in_memory_over_the_ends_of_episodes(kind):
    env = toys.corridor(2)
    config = SessionSlotConfig(num_layers=1, width=8, num_heads=2, num_slots=10, memory=kind)
    slot = make_session_slot(env.spec, config)
    like = jax.eval_shape(slot.agent.init, jax.random.key(0), jnp.zeros((1, 2)))
    rng = np.random.default_rng(2)
    weights = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), like)

    def act(params, keys, obs, action_mask, memory):
        logits = slot.agent.evaluate(params, memory, obs).logits
        return jax.vmap(jax.random.categorical)(keys, logits / 10), memory  # now one action, now the other

    @jax.jit
    def day(params):
        state = begin(env, seed=0, num_envs=1, memory=slot.empty(1, 10))
        state, tape = live(env, act, params, state, seed=0, num_steps=9, remember=slot.agent.remember)
        _, last = live(env, act, params, state, seed=0, num_steps=1, remember=slot.agent.remember)
        session = jax.tree.map(lambda *parts: jnp.concatenate(parts).swapaxes(0, 1), tape, last)
        return state.episode, slot.agent.evaluate(params, state.memory, state.obs), slot.read(params, session)

    episode, now, whole = day(weights)
    assert episode[0] > 0
    close(now, at(-1, whole))


@of_both
def test_an_empty_memory_is_the_student_without_context(kind):
    slot, weights, evaluate, remember, _ = compiled(kind)
    obs = session().obs[:, 0]
    alone = evaluate(weights, (), obs)
    close(evaluate(weights, slot.empty(B, M), obs), alone)
    full = remember(weights, slot.empty(B, M), at(0, session()))
    assert (abs(evaluate(weights, full, obs).logits - alone.logits).max(axis=-1) > 1e-4).all()
    np.testing.assert_array_equal(evaluate(first_params(kind), (), obs).logits, 0)  # uniform before learning


@of_both
def test_a_session_longer_than_the_slot_is_refused(kind):
    slot, weights, evaluate, remember, read = compiled(kind)
    message = "the session has 7 decisions, but session_slot.num_slots is 6: raise it to 7, or live a shorter session"
    with pytest.raises(ValueError, match=message):
        slot.empty(B, M + 1)
    with pytest.raises(ValueError, match=message):
        read(weights, jax.tree.map(lambda leaf: np.repeat(leaf, 2, axis=1)[:, : M + 1], session()))
    memory = slot.empty(B, M).replace(count=jnp.array([M, M - 1]))  # whoever counted wrongly acts on nothing
    memory = remember(weights, memory, at(0, session()))
    assert np.isnan(evaluate(weights, memory, session().obs[:, 0]).logits).all(axis=-1).tolist() == [True, False]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(num_slots=0), "session_slot.num_slots is 0: give 1 or more"),
        (dict(memory="diary"), "session_slot.memory is 'diary': give one of cache, fast_weights"),
        (dict(width=30), "session_slot.width is 30, no multiple of its num_heads 4: give 32"),
    ],
)
def test_a_wrong_size_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        SessionSlotConfig(**fields)
