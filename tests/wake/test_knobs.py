import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.core.keys import stream
from dreamer.wake.envs import EnvConfig, HostFromJax, KnobsConfig, for_evaluation, make_host, settled, with_knobs
from dreamer.wake.envs.base import DEVICE_SUITES, SUITES
from dreamer.wake.envs.jax_gymnax import make as make_bare
from dreamer.wake.envs.knobs import with_late_rewards
from dreamer.wake.envs.pure import pure_env
from dreamer.wake.host_session import HostSession
from dreamer.wake.session import begin, live
from tests import toys

SEED, EVERY = 7, 7
COUNTING = toys.counting()
ALL = KnobsConfig(continuing=True, visited_starts=0.5, reward_delay=2, drift_every=EVERY, slip=0.3, hold=2)


def turned(env=COUNTING, max_steps=None, **knobs):
    return with_knobs(env, EnvConfig("Catch-bsuite", "gymnax", max_steps=max_steps, knobs=KnobsConfig(**knobs)))


def random_act(params, keys, obs, action_mask, memory):
    return jax.vmap(jax.random.categorical)(keys, jnp.where(action_mask, 0.0, -jnp.inf)), memory


def always(action):
    return lambda params, keys, obs, action_mask, memory: (jnp.full(len(obs), action), memory)


@functools.partial(jax.jit, static_argnums=(0, 1), static_argnames=("num_envs", "num_steps"))
def whole_life(env, act, *, num_envs, num_steps):
    state = begin(env, seed=SEED, num_envs=num_envs)
    return live(env, act, None, state, seed=SEED, num_steps=num_steps)


def tape_of(env, act=random_act, num_envs=2, num_steps=24):
    return jax.device_get(whole_life(env, act, num_envs=num_envs, num_steps=num_steps)[1])


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def episodes(tape, copy):
    """Slices of the rows of a copy's episodes, the last of them perhaps unfinished."""
    ends = np.flatnonzero(tape.terminated[:, copy] | tape.truncated[:, copy]) + 1
    cuts = [0, *ends.tolist(), len(tape.reward)]
    return [slice(*pair) for pair in zip(cuts, cuts[1:], strict=False) if pair[0] < pair[1]]


def test_neutral_is_the_environment_itself():
    assert turned() is COUNTING
    assert settled(COUNTING, seed=0, life=9, num_envs=2) is COUNTING


def test_neutral_is_bit_for_bit_what_the_library_does():
    config = EnvConfig("Catch-bsuite", "gymnax", num_envs=2, knobs=KnobsConfig())
    bare = make_bare(config)
    tape = tape_of(bare, num_steps=120)

    @jax.jit
    def one_step(copy, episode, step, state, obs):
        keys = [stream(SEED, name, copy, episode, step) for name in ("act", "step")]
        action = jax.random.categorical(keys[0], jnp.zeros(3)).astype(jnp.int32)
        return action, bare.step(keys[1], state, action), bare.reset(stream(SEED, "reset", copy, episode + 1))

    for copy in range(2):
        episode, step, (state, obs) = 0, 0, jax.jit(bare.reset)(stream(SEED, "reset", copy, 0))
        for t in range(120):
            action, (state, next_obs, *facts), fresh = one_step(copy, episode, step, state, obs)
            lived = [tape.obs, tape.action, tape.next_obs, tape.reward, tape.terminated, tape.truncated]
            for stored, true in zip(lived, [obs, action, next_obs, *facts], strict=True):
                assert stored[t, copy].tobytes() == np.asarray(true).tobytes()
            if facts[1] | facts[2]:
                episode, step, (state, obs) = episode + 1, 0, fresh
            else:
                step, obs = step + 1, next_obs
        assert episode > 10


def test_a_reward_is_paid_late_and_an_end_pays_all():
    plain, late = tape_of(COUNTING), tape_of(turned(reward_delay=2))
    for copy in range(2):
        for rows in episodes(plain, copy)[:-1]:
            earned = plain.reward[rows, copy]
            paid = [0.0, 0.0, *earned][: len(earned)]
            paid[-1] = earned[max(0, len(earned) - 3) :].sum()
            np.testing.assert_array_equal(late.reward[rows, copy], paid)
    assert_same(late.replace(reward=plain.reward), plain)  # and nothing else is different


def test_late_rewards_that_no_end_settles_are_paid_in_later_episodes():
    plain, late = tape_of(COUNTING), tape_of(with_late_rewards(COUNTING, 4))
    np.testing.assert_array_equal(late.reward[4:], plain.reward[:-4])
    np.testing.assert_array_equal(late.reward[:4], 0)
    assert_same(late.replace(reward=plain.reward), plain)
    assert with_late_rewards(COUNTING, 0) is COUNTING


def test_a_continuing_world_starts_anew_and_tells_nobody():
    tape = tape_of(turned(continuing=True))
    assert not (tape.terminated | tape.truncated).any()
    np.testing.assert_array_equal(tape.next_obs[:-1], tape.obs[1:])
    for copy in range(2):
        num_starts = 0
        for obs, after, reward in zip(tape.obs[:, copy], tape.next_obs[:, copy], tape.reward[:, copy], strict=True):
            tag, step = obs[:2]
            assert reward == tag % 7 + step  # that of the end too
            ends = step + 1 == toys.counting_plan(tag)[0]
            num_starts += ends
            assert (after[0] != tag) == ends and after[1] == (0 if ends else step + 1)
        assert num_starts > 3


def test_a_continuing_life_is_truncated_by_max_steps_alone():
    env = turned(toys.corridor(2), continuing=True, max_steps=5)  # its own clock is of 8 decisions
    assert env.max_steps == 5 and turned(toys.corridor(2), continuing=True).max_steps is None
    tape = tape_of(env, always(1), num_envs=1, num_steps=10)
    np.testing.assert_array_equal(tape.reward[:, 0], [0, 1, 0, 1, 0, 0, 1, 0, 1, 0])
    np.testing.assert_array_equal(tape.obs[:, 0].argmax(axis=-1), [0, 1, 0, 1, 0, 0, 1, 0, 1, 0])
    np.testing.assert_array_equal(np.flatnonzero(tape.truncated[:, 0]), [4, 9])
    assert not tape.terminated.any()


def test_late_rewards_of_a_continuing_life_cross_its_restarts():
    plain = tape_of(turned(continuing=True))
    late = tape_of(turned(continuing=True, reward_delay=3))
    np.testing.assert_array_equal(late.reward[3:], plain.reward[:-3])
    np.testing.assert_array_equal(late.reward[:3], 0)
    plain = tape_of(turned(continuing=True, max_steps=12))
    late = tape_of(turned(continuing=True, max_steps=12, reward_delay=30))
    np.testing.assert_array_equal(np.flatnonzero(late.reward[:, 0]), [11, 23])  # only the clock is an end
    np.testing.assert_array_equal(late.reward.sum(axis=0), plain.reward.sum(axis=0))


def test_a_decision_is_held_until_the_world_ends():
    env = turned(toys.corridor(5), hold=2)
    assert env.max_steps == 20  # at the latest: of decisions that are never held
    right = tape_of(env, always(1), num_envs=1, num_steps=6)
    np.testing.assert_array_equal(right.obs[:, 0].argmax(axis=-1), [0, 2, 4] * 2)
    np.testing.assert_array_equal(right.reward[:, 0], [0, 0, 1] * 2)  # the last is over after one of its two steps
    np.testing.assert_array_equal(right.terminated[:, 0], [False, False, True] * 2)
    left = tape_of(turned(toys.corridor(5), hold=3), always(0), num_envs=1, num_steps=14)
    np.testing.assert_array_equal(np.flatnonzero(left.truncated[:, 0]), [6, 13])
    late = tape_of(turned(toys.corridor(5), hold=2, reward_delay=1), always(1), num_envs=1, num_steps=3)
    np.testing.assert_array_equal(late.reward[:, 0], [0, 0, 1])  # late by decisions, and an end pays all


def test_rewards_of_a_held_decision_are_summed():
    plain, held = tape_of(COUNTING, num_steps=60), tape_of(turned(hold=3), num_steps=24)
    for copy in range(2):
        for rows, whole in zip(episodes(held, copy)[:-1], episodes(plain, copy), strict=False):
            assert held.obs[rows, copy][0, 0] == plain.obs[whole, copy][0, 0]  # the same episode
            earned = plain.reward[whole, copy]
            np.testing.assert_array_equal(
                held.reward[rows, copy], np.add.reduceat(earned, np.arange(0, len(earned), 3))
            )


def test_every_step_of_a_held_decision_has_a_key_of_its_own():
    def draw(key):
        return jax.random.uniform(key)

    paying = toys.toy(
        "draws",
        num_actions=2,
        start=lambda key: jnp.zeros(1),
        observe=lambda data, step: data,
        transition=lambda key, data, step, action: (data, draw(key), False, False),
        max_steps=9,
    )
    tape = tape_of(turned(paying, hold=3), num_envs=1, num_steps=2)
    for step in range(2):
        keys = jax.random.split(stream(SEED, "step", 0, 0, step), 3)
        np.testing.assert_allclose(tape.reward[step, 0], sum(map(draw, keys)), rtol=1e-6)


def test_an_episode_of_decisions_that_are_never_held_is_measured_whole():
    env = turned(toys.corridor(5)._replace(action_mask=lambda state: jnp.arange(2) == state[1] % 2), hold=4)
    right_then_left = lambda params, keys, obs, action_mask, memory: (action_mask.argmax(axis=-1), memory)  # noqa: E731
    tape = tape_of(env, right_then_left, num_envs=1, num_steps=20)
    np.testing.assert_array_equal(np.flatnonzero(tape.truncated[:, 0]), [19])
    assert env.max_steps == 20


def test_a_decision_that_is_no_longer_allowed_is_not_held():
    even = toys.corridor(5)._replace(action_mask=lambda state: jnp.stack([state[0] >= 0, state[0] % 2 == 0]))
    tape = tape_of(turned(even, hold=4), always(1), num_envs=1, num_steps=4)
    np.testing.assert_array_equal(tape.obs[:, 0].argmax(axis=-1), [0, 1, 3, 0])


def test_how_often_an_action_slips():
    tape = tape_of(turned(toys.action_matters(), slip=0.3), always(1), num_envs=64, num_steps=64)
    assert (tape.action == 1).all()  # what was decided
    assert abs((tape.reward == -1).mean() - 0.15) < 0.025  # half of the slips hit the other action
    sure = tape_of(turned(toys.action_matters(), slip=1.0), always(1), num_envs=64, num_steps=64)
    assert abs((sure.reward == -1).mean() - 0.5) < 0.04


def test_a_slip_stays_within_what_is_allowed():
    masked = COUNTING._replace(action_mask=lambda state: jnp.array([True, False, True]))
    done = tape_of(turned(masked, slip=1.0), always(0), num_envs=16, num_steps=32).next_obs[..., 3]
    assert set(np.unique(done)) == {0, 2} and 0.4 < (done == 2).mean() < 0.6


def meaning(copy, life):
    """What the actions of a copy do at one of its decisions, by the rule itself."""
    period = life // EVERY
    return np.asarray(jax.random.permutation(stream(SEED, "drift", copy, period), 3)) if period else np.arange(3)


def test_rules_drift_by_the_decisions_of_a_life_over_all_its_episodes():
    masked = COUNTING._replace(action_mask=lambda state: jnp.array([True, False, True]))
    tape = tape_of(turned(masked, drift_every=EVERY), num_steps=40)
    plain = tape_of(COUNTING, num_steps=40)
    np.testing.assert_array_equal(tape.obs[..., :3], plain.obs[..., :3])  # the same episodes, keys and all
    assert len(episodes(tape, 0)) > 8
    for copy in range(2):
        rules = [meaning(copy, life) for life in range(40)]
        for life, rule in enumerate(rules):
            assert tape.next_obs[life, copy, 3] == rule[tape.action[life, copy]]
            np.testing.assert_array_equal(tape.action_mask[life, copy], np.array([True, False, True])[rule])
        assert len({tuple(rule) for rule in rules}) > 2


def test_a_life_that_begins_late_begins_under_the_rules_of_its_day():
    env = turned(drift_every=EVERY)
    state = begin(env, seed=SEED, num_envs=2, episode=4, life=3 * EVERY)
    np.testing.assert_array_equal(state.env_state[1], [meaning(copy, 3 * EVERY) for copy in range(2)])
    np.testing.assert_array_equal(state.life, [3 * EVERY] * 2)


def test_an_agent_is_measured_under_the_rules_last_lived_under():
    env = turned(drift_every=EVERY)
    start = jax.jit(lambda life: settled(env, seed=SEED, life=life, num_envs=1).reset(jax.random.key(0))[0][1])
    for life, last in ((0, 0), (EVERY, EVERY - 1), (EVERY + 1, EVERY), (3 * EVERY, 3 * EVERY - 1)):
        np.testing.assert_array_equal(start(life), meaning(0, last))
    now = settled(env, seed=SEED, life=3 * EVERY, num_envs=1)
    tape = tape_of(now, num_envs=3, num_steps=4 * EVERY)  # longer than a period, and many episodes
    np.testing.assert_array_equal(tape.next_obs[..., 3], meaning(0, 2 * EVERY)[tape.action])
    now = settled(env, seed=SEED, life=3 * EVERY, num_envs=4)
    starts = jax.vmap(now.reset)(jax.random.split(jax.random.key(0), 64))[0][1]
    assert {tuple(start) for start in starts.tolist()} == {tuple(meaning(c, 2 * EVERY).tolist()) for c in range(4)}


@pytest.mark.parametrize("prob", [0.5, 1.0])
def test_episodes_start_where_the_copy_has_been(prob):
    tape = tape_of(turned(toys.counting(max_length=9), visited_starts=prob), num_envs=16, num_steps=100)
    again, starts = 0, 0
    for copy in range(16):
        seen, (first, *later) = set(), episodes(tape, copy)
        assert tape.obs[first][0, copy, 1] == 0
        for before, rows in zip([first, *later], later, strict=False):
            seen |= {row.tobytes() for row in tape.next_obs[before, copy][:-1]}  # but for the end
            visited = tape.obs[rows.start, copy].tobytes() in seen
            assert visited or tape.obs[rows.start, copy, 1] == 0
            assert visited or prob < 1 or not seen
            steps = tape.obs[rows, copy, 1]  # it is the state that comes back, not a picture of it
            np.testing.assert_array_equal(steps, np.arange(len(steps)) + steps[0])
            again, starts = again + (visited and bool(seen)), starts + bool(seen)
    assert starts > 200 and abs(again / starts - prob) < 0.12


def test_what_is_kept_is_a_fair_sample_of_what_was_visited():
    clock = toys.toy(
        "clock",
        num_actions=1,
        start=lambda key: jnp.zeros(1),
        observe=lambda data, step: jnp.full(1, step, jnp.int32),
        transition=lambda key, data, step, action: (data, 0.0, False, False),
        obs_dtype="int32",
    )
    state, _ = whole_life(turned(clock, visited_starts=0.1), always(0), num_envs=256, num_steps=200)
    kept = np.asarray(state.env_state[1].obs)[..., 0]
    assert (np.diff(np.sort(kept)) > 0).all() and kept.shape == (256, 64)
    share = np.bincount(kept.ravel(), minlength=201)[1:] / 256
    assert (abs(share - 0.32) < 0.15).all() and abs(share[:100].mean() - share[100:].mean()) < 0.03


def keyed():
    """Draws from a key that it carries, and forbids an action."""

    def step(key, state, action):
        inner, key = state[0] + action, jax.random.split(state[1])[0]
        obs = jax.random.uniform(key, (2,))
        return (inner, key), obs, obs[0], jax.random.bernoulli(key, 0.3), False

    return pure_env(
        dataclasses.replace(COUNTING.spec, obs_shape=(2,), obs_dtype="float32"),
        reset=lambda key: ((jnp.int32(0), key), jax.random.uniform(key, (2,))),
        step=step,
        action_mask=lambda state: jnp.arange(3) != state[0] % 3,
        max_steps=None,
    )


@pytest.mark.parametrize("continuing", [True, False])
def test_all_at_once_jitted_or_host_whole_or_in_pieces(continuing):
    env = turned(keyed(), **dataclasses.asdict(dataclasses.replace(ALL, continuing=continuing)))
    end, tape = whole_life(env, random_act, num_envs=3, num_steps=30)
    assert (tape.terminated | tape.truncated).any() != continuing
    step = jax.jit(functools.partial(live, env, random_act, seed=SEED, num_steps=15), donate_argnums=1)
    state, pieces = jax.jit(functools.partial(begin, env, seed=SEED, num_envs=3))(), []
    for _ in range(2):
        state, piece = step(None, state)
        pieces.append(piece)
    assert step._cache_size() == 1
    assert_same(jax.tree.map(lambda *rows: jnp.concatenate(rows), *pieces), tape)
    np.testing.assert_array_equal(state.life, end.life)
    host = HostSession(HostFromJax(env, num_envs=3, seed=SEED), jax.jit(random_act), seed=SEED)
    host.begin()
    assert_same(host.live(None, 30), tape)
    for counter in ("episode", "step", "life"):
        np.testing.assert_array_equal(getattr(host.state, counter), getattr(end, counter))


def test_sliding_tiles_with_all_knobs():
    pytest.importorskip("jumanji")
    config = EnvConfig("sliding-tile", "jumanji", num_envs=2, max_steps=9, knobs=ALL)
    session = HostSession(make_host(config, 0), jax.jit(random_act), seed=0)
    session.begin()
    tape = session.live(None, 20)
    assert not tape.terminated.any() and np.flatnonzero(tape.truncated[:, 0]).tolist() == [8, 17]


def test_what_belongs_to_the_task_and_what_to_training():
    config = EnvConfig("Catch-bsuite", "gymnax", max_steps=40, knobs=ALL)
    task = for_evaluation(config, 5)
    assert task.knobs == dataclasses.replace(ALL, continuing=False, visited_starts=0.0)
    assert (task.num_envs, task.max_steps) == (5, None)  # that was the limit of the one life
    episodic = dataclasses.replace(config, knobs=dataclasses.replace(ALL, continuing=False))
    assert for_evaluation(episodic, 5).max_steps == 40
    assert make_host(task, 0).max_steps == make_bare(dataclasses.replace(config, max_steps=None)).max_steps


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"slip": 1.5}, "knobs.slip is 1.5: set a probability from 0 to 1, 0 for none"),
        ({"visited_starts": -0.1}, "knobs.visited_starts is -0.1: set a probability"),
        ({"reward_delay": -1}, "knobs.reward_delay is -1: set 0 or more decisions, 0 for none"),
        ({"drift_every": -3}, "knobs.drift_every is -3: set 0 or more decisions"),
        ({"hold": 0}, "knobs.hold is 0: set 1 step of the world for each decision, or more"),
    ],
)
def test_a_wrong_knob_is_refused(knobs, message):
    with pytest.raises(ValueError, match=message):
        KnobsConfig(**knobs)


@pytest.mark.parametrize("suite", sorted(set(SUITES) - set(DEVICE_SUITES)))
@pytest.mark.parametrize("field", dataclasses.fields(KnobsConfig), ids=lambda field: field.name)
def test_no_knob_reaches_the_host(suite, field):
    knobs = KnobsConfig(**{field.name: getattr(ALL, field.name)})
    with pytest.raises(
        ValueError,
        match=f"knobs.{field.name} is .*{suite} environments run on the host.*leave it at {field.default}, or .*gymnax",
    ):
        EnvConfig("CartPole-v1", suite, knobs=knobs)


@pytest.mark.parametrize("name", ["continuing", "visited_starts"])
def test_stacks_of_frames_begin_with_an_episode(name):
    with pytest.raises(ValueError, match=f"knobs.{name} is .*stacked are stacks of 3 frames.*leave it out"):
        turned(toys.stacked(), **{name: getattr(ALL, name)})
