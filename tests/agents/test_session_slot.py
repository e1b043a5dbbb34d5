import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.session_slot import SessionSlotConfig, make_session_slot
from dreamer.core.types import Transition
from dreamer.wake.session import begin, live
from tests import tiny, toys

B, T, M, A = 2, 4, 6, 3
SLOT = make_session_slot(tiny.spec(num_actions=A), SessionSlotConfig(width=8, num_heads=2, num_slots=M))
AGENT = SLOT.agent


@functools.cache
def first_params():
    return jax.jit(AGENT.init)(jax.random.key(0), jnp.zeros((1, 3)))


@functools.cache
def params():
    rng = np.random.default_rng(1)  # nothing is learned yet, so that what heads say be not uniform
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) / 3, first_params())


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


evaluate, remember, read = jax.jit(AGENT.evaluate), jax.jit(AGENT.remember), jax.jit(SLOT.read)


def at(t, tape):
    return jax.tree.map(lambda leaf: leaf[:, t], tape)


def close(one, other):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), one, other)


def test_acting_through_a_session_is_reading_it_in_one_pass():
    whole, memory = read(params(), session()), SLOT.empty(B, T)
    for t in range(T):
        close(evaluate(params(), memory, session().obs[:, t]), at(t, whole))
        memory = remember(params(), memory, at(t, session()))
    np.testing.assert_array_equal(memory.count, [T, T])
    close(jax.jit(SLOT.recall)(params(), session()), memory)
    changed = session().replace(reward=session().reward + np.eye(T)[1].astype(np.float32))
    other = read(params(), changed)
    close(other.logits[:, :2], whole.logits[:, :2])  # what is not yet lived says nothing
    assert (abs(other.logits[:, 2:] - whole.logits[:, 2:]).max(axis=-1) > 1e-4).all()


def test_one_session_is_read_and_recalled_by_several_copies_as_in_a_batch():
    one = jax.tree.map(lambda leaf: leaf[0], session())
    close(SLOT.read_one(params(), one), SLOT.read(params(), session()).logits[0])
    memory, batch = SLOT.recall_in(params(), one, 3), SLOT.recall(params(), session())
    close(memory, jax.tree.map(lambda leaf: np.repeat(leaf[:1], 3, axis=0), batch))
    assert SLOT.recall_in(params(), (), 3) == ()


def test_what_was_lived_is_in_memory_over_the_ends_of_episodes():
    env = toys.corridor(2)
    slot = make_session_slot(env.spec, SessionSlotConfig(num_layers=1, width=8, num_heads=2, num_slots=10))
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


def test_an_empty_memory_is_the_student_without_context():
    obs = session().obs[:, 0]
    alone = evaluate(params(), (), obs)
    close(evaluate(params(), SLOT.empty(B, M), obs), alone)
    full = remember(params(), SLOT.empty(B, M), at(0, session()))
    assert (abs(evaluate(params(), full, obs).logits - alone.logits).max(axis=-1) > 1e-4).all()
    np.testing.assert_array_equal(evaluate(first_params(), (), obs).logits, 0)  # uniform before learning


def test_a_session_longer_than_the_slot_is_refused():
    message = "the session has 7 decisions, but session_slot.num_slots is 6: raise it to 7, or live a shorter session"
    with pytest.raises(ValueError, match=message):
        SLOT.empty(B, M + 1)
    with pytest.raises(ValueError, match=message):
        SLOT.read(params(), jax.tree.map(lambda leaf: np.repeat(leaf, 2, axis=1)[:, : M + 1], session()))
    memory = SLOT.empty(B, M).replace(count=jnp.array([M, M - 1]))  # whoever counted wrongly acts on nothing
    memory = remember(params(), memory, at(0, session()))
    assert np.isnan(evaluate(params(), memory, session().obs[:, 0]).logits).all(axis=-1).tolist() == [True, False]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(num_slots=0), "session_slot.num_slots is 0: give 1 or more"),
        (dict(width=30), "session_slot.width is 30, no multiple of its num_heads 4: give 32"),
    ],
)
def test_a_wrong_size_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        SessionSlotConfig(**fields)
