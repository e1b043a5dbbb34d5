import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.wake import recorded
from dreamer.wake.envs import HostFromJax
from dreamer.wake.host_session import HostSession
from dreamer.wake.session import begin, live
from tests import toys

SEED, NUM_ENVS, NUM_STEPS = 3, 2, 3
COUNTING = toys.counting()


@jax.jit
def random_act(params, keys, obs, action_mask, memory):
    logits = jnp.where(action_mask, 0.0, -jnp.inf)
    return jax.vmap(jax.random.categorical)(keys, logits), memory


class Unseeded(HostFromJax):
    """An environment that never begins the same episode again."""

    count = 0

    def reset(self, copies, episodes):
        Unseeded.count += 100
        return super().reset(copies, np.asarray(episodes) + Unseeded.count)


def host_days(env=HostFromJax):
    days = recorded.HostDays(HostSession(env(COUNTING, num_envs=NUM_ENVS, seed=SEED), random_act, seed=SEED))
    days.begin()
    return days


def days_of(tape):
    return recorded.Days(tape.__getitem__, [True] * len(tape))


def lived(host, num_days):
    return [host.live(None, NUM_STEPS) for _ in range(num_days)]


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("num_remembered", range(1, 6))
def test_life_goes_on_as_if_nothing_had_happened(num_remembered):
    tape = lived(host_days(), 7)
    host = host_days()
    assert host.remember(days_of(tape[:num_remembered]), first=num_remembered)
    for day, again in zip(tape[num_remembered:], lived(host, 7 - num_remembered), strict=True):
        assert_same(day, again)


def test_recorded_days_come_first():
    tape = lived(host_days(), 5)
    host = host_days()
    assert host.remember(days_of(tape[:4]), first=2)
    for day, again in zip(tape[2:], lived(host, 3), strict=True):
        assert_same(day, again)


def test_nothing_to_remember():
    host = host_days()
    assert host.remember(days_of([]), first=0)
    assert_same(host.live(None, NUM_STEPS), lived(host_days(), 1)[0])


def test_to_begin_forgets_what_was_recorded():
    tape = lived(host_days(), 3)
    host = host_days()
    host.remember(days_of(tape), first=1)
    host.begin()
    for day, again in zip(tape, lived(host, 3), strict=True):
        assert_same(day, again)


def test_what_cannot_be_replayed_ends_and_begins_anew():
    first = host_days(Unseeded)
    tape = lived(first, 3)
    while (first.session.state.step == 0).any():  # every copy is to be in mid-episode
        tape += lived(first, 1)
    host = host_days(Unseeded)
    days = days_of(tape)
    assert not host.remember(days, first=len(tape) - 1)
    last = host.live(None, NUM_STEPS)
    assert_same(last, days[-1])
    assert (last.terminated[-1] | last.truncated[-1]).all()
    assert_same(last.replace(truncated=tape[-1].truncated), tape[-1])  # and nothing else was changed
    np.testing.assert_array_equal(host.session.state.episode, recorded.episodes_begun([*tape[:-1], last]))
    np.testing.assert_array_equal(host.session.state.step, 0)
    assert (host.live(None, NUM_STEPS).obs[0, :, 1] == 0).all()  # decision 0 of an episode


def test_days_are_read_when_asked_for_and_cut_where_the_next_does_not_go_on():
    tape, read = lived(host_days(), 4), []
    days = recorded.Days(lambda day: read.append(day) or tape[day], [True, True, False, True])
    assert len(days) == 4 and read == []
    assert_same(days[0], tape[0])
    assert_same(days[1], recorded.cut(tape[1]))
    assert_same(days[-1], tape[3])
    assert read == [0, 1, 3]
    days.cut_last()
    assert_same(days[3], recorded.cut(tape[3]))
    assert_same(days[2], tape[2])
    with pytest.raises(IndexError):
        days[4]
    np.testing.assert_array_equal(recorded.episodes_begun(days), recorded.episodes_begun(list(days)))


def test_a_cut_ends_only_what_goes_on():
    terminated = np.array([[False, True], [False, True]])
    day = jax.tree.map(np.asarray, lived(host_days(), 1)[0])
    day = day.replace(terminated=terminated, truncated=np.array([[True, False], [False, False]]))
    after = recorded.cut(day)
    np.testing.assert_array_equal(after.truncated, [[True, False], [True, False]])
    np.testing.assert_array_equal(after.terminated, terminated)
    np.testing.assert_array_equal(day.truncated, [[True, False], [False, False]])  # the record stays


def test_the_jitted_driver_begins_at_any_episode():
    jitted_live = jax.jit(live, static_argnums=(0, 1), static_argnames="num_steps")
    state = jax.jit(begin, static_argnums=0, static_argnames="num_envs")(COUNTING, seed=SEED, num_envs=NUM_ENVS)
    while not (state.episode >= 2).all() or (state.step != 0).any():
        state, _ = jitted_live(COUNTING, random_act, None, state, seed=SEED, num_steps=1)
    jitted_begin = jax.jit(begin, static_argnums=0, static_argnames="num_envs")
    counters = {"episode": np.asarray(state.episode), "life": np.asarray(state.life)}
    anew = jitted_begin(COUNTING, seed=SEED, num_envs=NUM_ENVS, **counters)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), anew) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), state
    )
    assert_same(anew, state)
