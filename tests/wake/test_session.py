import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.core.keys import stream
from dreamer.wake.envs import EnvConfig, HostFromJax, make_host, make_jax
from dreamer.wake.explore import make_explore
from dreamer.wake.host_session import HostSession, host_episode_returns
from dreamer.wake.session import (
    begin,
    episode_returns,
    evaluation_seed,
    live,
)
from tests import toys

SEED = 7
COUNTING = toys.counting()


def random_act(params, keys, obs, action_mask, memory):
    logits = jnp.where(action_mask, 0.0, -jnp.inf)
    return jax.vmap(jax.random.categorical)(keys, logits), memory


def constant_act(params, keys, obs, action_mask, memory):
    return jnp.full(obs.shape[0], params), memory


jitted_begin = jax.jit(begin, static_argnums=0, static_argnames="num_envs")
jitted_live = jax.jit(live, static_argnums=(0, 1), static_argnames=("num_steps", "remember", "explore"))
jitted_random_act = jax.jit(random_act)


def live_jitted(env, num_envs, num_steps, seed=SEED):
    state = jitted_begin(env, seed=seed, num_envs=num_envs)
    return jitted_live(env, random_act, None, state, seed=seed, num_steps=num_steps)


def host_session(env, num_envs, seed=SEED, **kwargs):
    return HostSession(HostFromJax(env, num_envs=num_envs, seed=seed), jitted_random_act, seed=seed, **kwargs)


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def expected_tape(copy, num_steps):
    """What a counting environment must have shown one copy: (tag, step, terminated, truncated) per decision."""
    rows, episode = [], 0
    while len(rows) < num_steps:
        tag = int(toys.counting_tag(stream(SEED, "reset", copy, episode)))
        length, terminates = toys.counting_plan(tag)
        rows += [
            (tag, step, step == length - 1 and terminates, step == length - 1 and not terminates)
            for step in range(length)
        ]
        episode += 1
    return rows[:num_steps]


@pytest.mark.parametrize("driver", ["jitted", "host"])
def test_nothing_is_lost_or_invented_at_resets(driver):
    num_envs, num_steps = 3, 20
    if driver == "jitted":
        _, tape = live_jitted(COUNTING, num_envs, num_steps)
    else:
        session = host_session(COUNTING, num_envs)
        session.begin()
        tape = session.live(None, num_steps)
    tape = jax.device_get(tape)
    assert tape.terminated.any() and tape.truncated.any()
    assert not (tape.terminated & tape.truncated).any()
    for copy in range(num_envs):
        for t, (tag, step, terminated, truncated) in enumerate(expected_tape(copy, num_steps)):
            assert tuple(tape.obs[t, copy, :2]) == (tag, step)
            assert tuple(tape.next_obs[t, copy, :2]) == (tag, step + 1)
            assert tape.next_obs[t, copy, 3] == tape.action[t, copy]
            assert tape.reward[t, copy] == tag % 7 + step
            assert (tape.terminated[t, copy], tape.truncated[t, copy]) == (terminated, truncated)


def test_one_copy_or_64_jitted_or_host_live_the_same_episodes():
    _, many = live_jitted(COUNTING, 64, 20)
    _, one = live_jitted(COUNTING, 1, 20)
    session = host_session(COUNTING, 64)
    session.begin()
    hosted = session.live(None, 20)
    assert_same(many, hosted)
    assert_same(jax.tree.map(lambda x: x[:, :1], many), one)
    assert [leaf.dtype for leaf in jax.tree.leaves(many)] == [leaf.dtype for leaf in jax.tree.leaves(hosted)]


def test_copies_and_seeds_live_different_episodes():
    states = [jitted_begin(COUNTING, seed=seed, num_envs=64) for seed in (SEED, SEED + 1)]
    tags = np.concatenate([state.obs[:, 0] for state in states])
    assert len(set(tags.tolist())) == 128


def test_a_session_cut_in_pieces_is_the_same_session_and_is_traced_once():
    traces = []

    def act(*args):
        traces.append(1)
        return random_act(*args)

    step = jax.jit(functools.partial(live, COUNTING, act, seed=SEED, num_steps=10), donate_argnums=1)
    state = jitted_begin(COUNTING, seed=SEED, num_envs=3)
    pieces = []
    for _ in range(2):
        state, piece = step(None, state)
        pieces.append(piece)
    assert len(traces) == 1
    whole_state, whole = live_jitted(COUNTING, 3, 20)
    assert_same(jax.tree.map(lambda *x: jnp.concatenate(x), *pieces), whole)
    assert_same(state, whole_state)


def test_gymnax_session_is_compiled_once():
    env = make_jax(EnvConfig(id="Catch-bsuite", suite="gymnax"))
    step = jax.jit(functools.partial(live, env, random_act, seed=SEED, num_steps=12), donate_argnums=1)
    state = jitted_begin(env, seed=SEED, num_envs=2)
    for _ in range(3):
        state, tape = step(None, state)
    assert step._cache_size() == 1
    session = host_session(env, 2)
    session.begin()
    for _ in range(3):
        hosted = session.live(None, 12)
    assert_same(tape, hosted)


@pytest.mark.parametrize("driver", ["jitted", "host"])
def test_memory_takes_in_every_transition_and_sees_the_ends(driver):
    def remember(params, memory, transition):
        ended = transition.terminated | transition.truncated
        return {"lived": memory["lived"] + 1, "episodes": memory["episodes"] + ended}

    memory = {"lived": jnp.zeros(2, jnp.int32), "episodes": jnp.zeros(2, jnp.int32)}
    if driver == "jitted":
        state = jitted_begin(COUNTING, seed=SEED, num_envs=2, memory=memory)
        state, _ = jitted_live(COUNTING, random_act, None, state, seed=SEED, num_steps=15, remember=remember)
    else:
        session = host_session(COUNTING, 2, remember=jax.jit(remember))
        session.begin(memory)
        session.live(None, 15)
        state = session.state
    np.testing.assert_array_equal(state.memory["lived"], [15, 15])
    np.testing.assert_array_equal(state.memory["episodes"], state.episode)


def explored(epsilon, spell, *, num_envs, num_steps, mask=(1, 1, 1), first=0):
    """Returns the actions [T, E] of copies that decide on 0 at decisions `first` ... of their lives."""
    explore, masks = make_explore(epsilon, spell=spell), jnp.broadcast_to(jnp.array(mask, bool), (num_envs, 3))

    @jax.jit
    def at(life):
        return explore(jnp.uint32(SEED), jnp.full(num_envs, life), masks, jnp.zeros(num_envs, jnp.int32))

    return np.asarray(jax.lax.map(at, first + jnp.arange(num_steps)))


def test_a_share_of_decisions_is_drawn_from_all_that_are_allowed():
    actions = explored(0.3, 1, num_envs=400, num_steps=10, mask=(1, 0, 1))
    np.testing.assert_allclose(np.bincount(actions.ravel(), minlength=3) / 4000, [0.85, 0, 0.15], atol=0.03)
    assert (explored(1.0, 1, num_envs=9, num_steps=5, mask=(0, 0, 1)) == 2).all()
    assert make_explore(0.0) is None


def test_a_spell_holds_one_action_in_a_copy_that_is_left_to_chance():
    actions = explored(0.5, 4, num_envs=300, num_steps=12)
    spells = actions.reshape(3, 4, 300)
    assert (spells == spells[:, :1]).all()
    np.testing.assert_allclose(np.bincount(spells[:, 0].ravel(), minlength=3) / 900, [4 / 6, 1 / 6, 1 / 6], atol=0.06)
    assert all((spells[one] != spells[other]).any() for one, other in ((0, 1), (1, 2)))  # each is drawn anew
    np.testing.assert_array_equal(explored(0.5, 4, num_envs=300, num_steps=6, first=6), actions[6:])
    # What is not allowed gives way to another action, which is held as well.
    masked = explored(0.5, 4, num_envs=300, num_steps=4, mask=(1, 0, 1))
    allowed = actions[:4] != 1
    np.testing.assert_array_equal(masked[allowed], actions[:4][allowed])
    assert (masked == masked[:1]).all() and set(masked[~allowed]) == {0, 2}


@pytest.mark.parametrize("driver", ["jitted", "host"])
def test_what_is_left_to_chance_is_what_is_lived(driver):
    """Spells go on over the ends of episodes, under both drivers, and the record holds what was carried out."""
    num_envs, num_steps, explore = 6, 24, make_explore(0.5, spell=8)
    if driver == "jitted":
        state = jitted_begin(COUNTING, seed=SEED, num_envs=num_envs)
        _, lived = jitted_live(
            COUNTING, constant_act, 0, state, seed=SEED, num_steps=num_steps, remember=None, explore=explore
        )
    else:
        env = HostFromJax(COUNTING, num_envs=num_envs, seed=SEED)
        session = HostSession(env, jax.jit(constant_act), seed=SEED, explore=jax.jit(explore))
        session.begin()
        lived = session.live(0, num_steps)
    mask = jnp.ones((num_envs, COUNTING.spec.num_actions), bool)
    expected = [
        explore(jnp.uint32(SEED), jnp.full(num_envs, life), mask, jnp.zeros(num_envs, jnp.int32))
        for life in range(num_steps)
    ]
    np.testing.assert_array_equal(lived.action, expected)
    assert len(np.unique(np.asarray(lived.action)[:8], axis=0)) == 1 and (lived.terminated | lived.truncated)[:7].any()


def test_evaluation_lives_exactly_one_episode_in_each_copy():
    seed = int(evaluation_seed(SEED))
    returns = jax.jit(functools.partial(episode_returns, COUNTING, random_act, seed=seed, num_episodes=6))(None)
    expected = []
    for copy in range(6):
        tag = int(toys.counting_tag(stream(seed, "reset", copy, 0)))
        expected.append(sum(tag % 7 + step for step in range(toys.counting_plan(tag)[0])))
    np.testing.assert_allclose(returns, expected)
    host = HostFromJax(COUNTING, num_envs=6, seed=seed)
    for _ in range(2):  # again on the same copies: the same episodes
        np.testing.assert_allclose(host_episode_returns(host, jitted_random_act, None, seed=seed), expected)


def test_evaluation_stops_at_the_limit_and_asks_for_one():
    evaluate = functools.partial(episode_returns, toys.corridor(3), constant_act, seed=0, num_episodes=2)
    np.testing.assert_array_equal(evaluate(1), [1.0, 1.0])
    np.testing.assert_array_equal(evaluate(1, max_steps=2), [0.0, 0.0])
    np.testing.assert_array_equal(evaluate(0), [0.0, 0.0])
    endless = toys.corridor(3)._replace(max_steps=None)
    with pytest.raises(ValueError, match=r"corridor-3 has no time limit.*max_steps"):
        episode_returns(endless, constant_act, 1, seed=0, num_episodes=1)


def test_evaluation_seeds_differ_from_training_and_from_each_other():
    seeds = {SEED, int(evaluation_seed(SEED)), int(evaluation_seed(SEED, 1)), int(evaluation_seed(SEED + 1))}
    assert len(seeds) == 4


def actions_since_reset(tape, steps):
    return [tape.action[len(tape.action) - steps[copy] :, copy] for copy in range(tape.action.shape[1])]


def test_a_restored_host_session_goes_on_as_if_nothing_had_happened():
    env = toys.counting(max_length=9)
    first = host_session(env, 4)
    first.begin()
    past = first.live(None, 20)
    saved = first.state
    assert len(set(saved.step.tolist())) > 1  # copies of unequal pasts arrive together
    second = host_session(env, 4)
    assert second.restore(saved, actions_since_reset(past, saved.step)).all()
    assert_same(second.state, saved)
    assert_same(second.live(None, 8), first.live(None, 8))


def test_a_gymnasium_session_is_restored_from_its_seed():
    config = EnvConfig(id="CartPole-v1", suite="gymnasium", num_envs=3)
    first, second = (HostSession(make_host(config, SEED), jitted_random_act, seed=SEED) for _ in range(2))
    first.begin()
    past = first.live(None, 50)
    assert first.state.episode.all() and len(set(first.state.step.tolist())) > 1
    assert second.restore(first.state, actions_since_reset(past, first.state.step)).all()
    assert_same(second.state, first.state)
    assert_same(second.live(None, 30), first.live(None, 30))


def test_a_session_is_restored_at_its_very_beginning():
    first, second = host_session(COUNTING, 3), host_session(COUNTING, 3)
    saved = first.begin()
    assert second.restore(saved, [np.zeros(0, np.int32)] * 3).all()
    assert_same(second.live(None, 4), first.live(None, 4))


def test_a_session_is_restored_from_a_record_of_transitions_alone():
    first, second = host_session(COUNTING, 4), host_session(COUNTING, 4)
    first.begin()
    for _ in range(20):
        past = first.live(None, 20)
        if (first.state.step == 0).any():
            break
    assert (first.state.step == 0).any() and (first.state.step > 0).any()
    record = first.state.replace(obs=past.next_obs[-1], action_mask=None)  # of an ended episode: its last observation
    assert second.restore(record, actions_since_reset(past, record.step)).all()
    assert_same(second.state, first.state)


def test_an_episode_that_cannot_be_replayed_is_named_and_begun_anew():
    env = toys.counting(max_length=9)
    first = host_session(env, 4)
    first.begin()
    past = first.live(None, 20)
    second = host_session(env, 4, seed=SEED + 1)  # another world
    faithful = second.restore(first.state, actions_since_reset(past, first.state.step))
    np.testing.assert_array_equal(faithful, first.state.step == 0)  # no decision, nothing to contradict
    assert not faithful.all()
    second.restart(np.array([True, False, True, False]))
    np.testing.assert_array_equal(second.state.episode - first.state.episode, [1, 0, 1, 0])
    np.testing.assert_array_equal(second.state.step[[0, 2]], [0, 0])
    tag = int(toys.counting_tag(stream(SEED + 1, "reset", 2, int(second.state.episode[2]))))
    assert tuple(second.state.obs[2, :2]) == (tag, 0)


def test_restoring_needs_every_action_since_the_reset():
    session = host_session(toys.corridor(8), 2)
    session.begin()
    past = session.live(None, 3)
    with pytest.raises(ValueError, match=r"corridor-8 needs each copy's actions since its episode began"):
        session.restore(session.state, actions_since_reset(past, [3, 2]))
