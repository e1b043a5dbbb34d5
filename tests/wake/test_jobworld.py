import dataclasses
import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.wake.envs import (
    EnvConfig,
    JobWorldConfig,
    KnobsConfig,
    for_evaluation,
    jobs,
    jobworld,
    make_jax,
    with_knobs,
)
from dreamer.wake.session import begin, live
from experiments.measures import known

SEED = 5
SMALL = JobWorldConfig(num_keys=4, num_answers=3, chain_length=2, slack=2)


def settings(base=SMALL, **fields):
    return dataclasses.replace(base, **fields)


def config_of(world=SMALL, **fields):
    return EnvConfig("JobWorld-v0", "jobworld", jobworld=world, **fields)


def played(world, plan, *, env=None):
    """Plays an episode by `plan`, of (what: right, wrong or look) in turn; returns (states, views, rewards, ends)."""
    env = env or make_jax(config_of(world))
    state, obs = env.reset(jax.random.key(1))
    states, views, rewards, ends = [state], [jobworld.view(world, obs)], [], []
    step = jax.jit(env.step)
    for what in plan:
        right = int(state.codebook[state.chain[state.progress]])
        action = {"right": right, "wrong": (right + 1) % world.num_answers, "look": world.num_answers}[what]
        state, obs, reward, terminated, truncated = step(jax.random.key(2), state, jnp.int32(action))
        states.append(state)
        views.append(jobworld.view(world, obs))
        rewards.append(float(reward))
        ends.append((bool(terminated), bool(truncated)))
    return states, views, rewards, ends


def going_on(ends):
    return [True not in end for end in ends]


def test_a_chain_is_finished_by_right_answers_and_wrong_ones_cost_a_decision():
    states, views, rewards, ends = played(SMALL, ["right", "wrong", "right"])
    assert rewards == [0, 0, 1] and going_on(ends) == [True, True, False] and ends[-1] == (True, False)
    assert [int(view.progress) for view in views] == [0, 1, 1, 2]
    first, second = states[0].chain.tolist()
    assert [int(view.key) for view in views] == [first, second, second, -1]


def test_a_detour_is_idle_and_leads_back_to_the_same_key():
    world = settings(error="detour", detour=2, slack=3)
    _, views, rewards, ends = played(world, ["wrong", "right", "right", "right", "right"])
    assert [bool(view.idle) for view in views] == [False, True, True, False, False, False]
    assert [int(view.progress) for view in views] == [0, 0, 0, 0, 1, 2] and views[3].key == views[0].key
    assert rewards == [0, 0, 0, 0, 1] and ends[-1] == (True, False)  # in the last decision that there is


def test_a_dead_end_at_the_first_step_lasts_to_the_deadline_and_pays_nothing():
    _, views, rewards, ends = played(settings(error="dead_end"), ["wrong", "right", "right", "right"])
    assert [bool(view.idle) for view in views] == [False, True, True, True, True]
    assert rewards == [0] * 4 and going_on(ends) == [True, True, True, False] and ends[-1] == (True, False)
    survivable = settings(error="dead_end", dead_end_prob=0.0)
    assert played(survivable, ["wrong", "right", "right"])[2] == [0, 0, 1]


def test_feedback_at_each_step_sums_to_the_success():
    assert played(settings(feedback="step"), ["right", "wrong", "right"])[2] == [0.5, 0, 0.5]


def test_the_clock_truncates_where_it_is_set_below_the_deadline():
    env = make_jax(config_of(max_steps=2))
    assert env.max_steps == 2 and make_jax(config_of(max_steps=9)).max_steps == SMALL.deadline == 4
    assert played(SMALL, ["wrong", "wrong"], env=env)[3] == [(False, False), (False, True)]
    assert played(SMALL, ["wrong"] * 4)[3][-1] == (True, False)


def test_an_aliased_key_is_hidden_until_it_is_looked_at_or_answered():
    world = settings(aliased=1.0, look_cost=0.125, slack=4)
    assert make_jax(config_of(world)).spec.num_actions == 4
    states, views, rewards, _ = played(world, ["look", "right", "wrong", "right"])
    first, second = states[0].chain.tolist()
    assert [int(view.key) for view in views] == [-1, first, -1, second, -1]
    assert [int(view.answered) for view in views] == [-1, -1, first, -1, second]
    assert rewards == [-0.125, 0, 0, 1]


def test_prompts_are_what_is_seen_at_the_start():
    world = settings(aliased=0.5)
    seen = np.asarray(jobworld.prompts(world))
    shown = jobworld.view(world, seen)
    np.testing.assert_array_equal(shown.key, [0, 1, 2, 3, -1])
    assert (shown.progress == 0).all() and not shown.idle.any()
    starts = jax.vmap(make_jax(config_of(world)).reset)(jax.random.split(jax.random.key(0), 32))[1]
    met = {row.tobytes() for row in np.asarray(starts)}
    assert met == {row.tobytes() for row in seen[[0, 1, 4]]}  # the others are aliased and not yet looked at


@pytest.mark.parametrize("world", [settings(num_answers=2), settings(num_keys=3), settings(num_keys=1)])
def test_job_numbers_are_all_codebooks_each_once(world):
    numbers = jnp.arange(world.num_jobs)
    books = {tuple(book) for book in jax.vmap(functools.partial(jobs.codebook, world))(numbers).tolist()}
    assert books == set(itertools.product(range(world.num_answers), repeat=world.num_keys))


def test_a_job_asks_one_block_of_the_keys_by_its_number():
    world = settings(num_keys=6, blocks=3)
    assert [jobs.keys_asked(world, number).tolist() for number in range(4)] == [[0, 1], [2, 3], [4, 5], [0, 1]]
    assert jobs.keys_asked(SMALL, 7).tolist() == [0, 1, 2, 3]
    for number in (0, 4):
        env = jobworld.of_job(config_of(world), number)
        chains = jax.vmap(lambda key, env=env: env.reset(key)[0].chain)(jax.random.split(jax.random.key(0), 64))
        assert set(np.unique(chains)) == set(jobs.keys_asked(world, number).tolist())
    with pytest.raises(ValueError, match="jobworld.blocks is 3, but exact values are those of jobs that ask all keys"):
        known.success_rate(world, np.zeros(6, int))


def test_pools_share_neither_numbers_nor_codebooks_nor_streams():
    pools = [jobs.pool_jobs(settings(num_answers=2, pool=pool)) for pool in jobs.POOLS]
    assert [number for pool in pools for number in pool] == list(range(16))  # disjoint, and together all
    books = [{tuple(jobs.codebook(settings(num_answers=2), number).tolist()) for number in pool} for pool in pools]
    assert len(books[0] | books[1] | books[2]) == sum(map(len, books)) == 16
    seeds = {int(jobs.session_seed(SEED, number)) for pool in pools for number in pool}
    assert len(seeds) == 16


def test_codebooks_of_large_jobs_look_random():
    world = JobWorldConfig(num_keys=40, num_answers=4)
    assert world.num_jobs == 2**30
    books = np.asarray(jax.jit(jax.vmap(functools.partial(jobs.codebook, world)))(jnp.arange(256)))
    counts = (books[:, :, None] == np.arange(4)).mean(axis=0)
    assert abs(counts - 0.25).max() < 0.14  # 5 standard deviations
    assert abs((books[1:] == books[:-1]).mean() - 0.25) < 0.03


def random_act(params, keys, obs, action_mask, memory):
    return jax.vmap(jax.random.categorical)(keys, jnp.where(action_mask, 0.0, -jnp.inf)), memory


def sessions(numbers, *, at_once, num_steps=12):
    """Lives one session in each job, `at_once` of them side by side."""
    config = config_of(settings(aliased=0.5, period=2, pool="pretraining"))

    def session(number):
        env, seed = jobworld.of_job(config, number), jobs.session_seed(SEED, number)
        return live(env, random_act, None, begin(env, seed=seed, num_envs=1), seed=seed, num_steps=num_steps)

    return jax.device_get(jax.jit(functools.partial(jax.lax.map, session, batch_size=at_once))(numbers))


def test_a_session_is_the_same_alone_and_among_64():
    numbers = jnp.arange(64) % 40
    among = sessions(numbers, at_once=64)
    jax.tree.map(np.testing.assert_array_equal, sessions(numbers, at_once=1), among)
    _, tape = among
    assert tape.terminated.any() and (tape.obs[40:] == tape.obs[:24]).all() and (tape.obs[1:40] != tape.obs[0]).any()


def life_of(world, *, num_episodes):
    """Returns the states at the starts of a life's episodes."""
    env = make_jax(config_of(world))
    states = [env.reset(jax.random.key(0))[0]]
    restart = jax.jit(env.restart)
    for number in range(1, num_episodes):
        states.append(restart(jax.random.key(number), states[-1])[0])
    return states


def test_a_job_persists_or_is_redrawn_every_period_for_all_who_do_it():
    forever = np.stack([state.codebook for state in life_of(SMALL, num_episodes=6)])
    assert (forever == forever[0]).all()
    world = JobWorldConfig(num_keys=200, num_answers=4, period=3, redrawn_prob=0.5)
    states = life_of(world, num_episodes=7)
    books = np.stack([state.codebook for state in states])
    changed = (books[1:] != books[:-1]).mean(axis=1)
    assert (changed[[0, 1, 3, 4]] == 0).all() and abs(changed[[2, 5]] - 0.375).max() < 0.15
    again = jobs.redrawn(world, states[0].codebook, number=states[0].number, episode=jnp.int32(3))
    np.testing.assert_array_equal(again, books[3])  # of number and episode alone


def test_a_cue_tells_the_first_episode_under_a_codebook():
    for period, told in ((0, [1, 0, 0, 0, 0]), (2, [1, 0, 1, 0, 1])):
        world = settings(cue=True, period=period)
        env = make_jax(config_of(world))
        state, obs = env.reset(jax.random.key(0))
        seen = [float(obs[-1])]
        for _ in range(4):
            state, obs = env.restart(jax.random.key(0), state)
            seen.append(float(obs[-1]))
        assert seen == told


def test_each_life_may_have_a_job_of_its_own_from_its_pool():
    world = JobWorldConfig(job=None, pool="test")
    states, _ = jax.vmap(make_jax(config_of(world)).reset)(jax.random.split(jax.random.key(0), 16))
    assert len(set(states.number.tolist())) == 16 and set(states.number.tolist()) <= set(jobs.pool_jobs(world))
    number = states.number[3]
    np.testing.assert_array_equal(states.codebook[3], jobs.codebook(world, number))
    one = make_jax(config_of(settings(job=1))).reset(jax.random.key(0))[0]
    assert int(one.number) == jobs.pool_jobs(SMALL)[1]


def test_types_are_strong_and_keep_through_a_life():
    env = make_jax(config_of(settings(aliased=0.5, error="detour", cue=True, period=1)))
    begun = jax.eval_shape(env.reset, jax.random.key(0))
    after = jax.eval_shape(env.step, jax.random.key(0), begun[0], jnp.int32(0))
    again = jax.eval_shape(env.restart, jax.random.key(0), after[0])
    kinds = [jax.tree.map(lambda x: (x.shape, x.dtype), pair) for pair in (begun, after[:2], again)]
    assert kinds[0] == kinds[1] == kinds[2] and begun[1].shape == env.spec.obs_shape
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((begun, after, again)))


def test_knobs_are_those_of_any_environment():
    bare = jobworld.make(config_of())
    assert with_knobs(bare, config_of(knobs=KnobsConfig())) is bare  # neutral: the world itself
    config = config_of(settings(feedback="step"), knobs=KnobsConfig(continuing=True, reward_delay=2))
    env = make_jax(config)
    tape = jax.jit(lambda: live(env, random_act, None, begin(env, seed=SEED, num_envs=1), seed=SEED, num_steps=16)[1])()
    shown = jobworld.view(config.jobworld, jnp.concatenate([tape.obs[:, 0], tape.next_obs[-1:, 0]])).progress
    right = np.maximum(np.diff(shown), 0)  # a finished chain is not seen: the next has begun
    assert not (tape.terminated | tape.truncated).any() and right.sum() > 1
    assert (tape.reward[2:, 0] >= 0.5 * right[:-2]).all() and (tape.reward[:2] == 0).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(num_keys=0), "jobworld.num_keys is 0: set 1 or more"),
        (dict(num_answers=1), "jobworld.num_answers is 1: set 2 or more"),
        (dict(slack=-1), "jobworld.slack is -1: set 0 or more"),
        (dict(error="typo"), "jobworld.error is 'typo': choose one of no_op, detour, dead_end"),
        (dict(feedback="none"), "jobworld.feedback is 'none': choose one of end, step"),
        (dict(pool="train"), "jobworld.pool is 'train': choose one of pretraining, distillation, test"),
        (dict(dead_end_prob=2.0), "jobworld.dead_end_prob is 2.0: set a number from 0 to 1"),
        (dict(aliased=0.2), "jobworld.aliased is 0.2, 1 of 4 keys, but it takes two"),
        (dict(look_cost=-0.1), "jobworld.look_cost is -0.1: set 0 or more"),
        (
            dict(detour=2),
            "jobworld.detour is 2, which has no effect where error is 'no_op': leave it out, or set error",
        ),
        (dict(redrawn_prob=0.5), "jobworld.redrawn_prob is 0.5, which has no effect where period is 0"),
        (dict(blocks=3), "jobworld.blocks is 3 of 4 keys, 0 of them aliased: set 1, or without"),
        (dict(blocks=2, aliased=0.5), "jobworld.blocks is 2 of 4 keys, 2 of them aliased"),
        (dict(blocks=0), "jobworld.blocks is 0"),
        (dict(period=-1), "jobworld.period is -1: set 0 or more episodes"),
        (dict(job=99), "jobworld.job is 99, but the pool 'distillation' holds 20 of the jobs of 4 keys and 3 answers"),
        (dict(num_keys=1, num_answers=2), "jobworld.job is 0, but the pool 'distillation' holds 0"),
        (dict(num_keys=1, num_answers=2, job=None), "jobworld.job is None, but the pool 'distillation' holds 0"),
    ],
)
def test_a_wrong_setting_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        settings(**fields)


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ValueError, match="unknown jobworld environment 'JobWorld'; did you mean: JobWorld-v0"):
        make_jax(EnvConfig("JobWorld", "jobworld"))
    with pytest.raises(ValueError, match="kwargs .*num_keys.* do not fit JobWorld-v0: its settings are those of"):
        make_jax(EnvConfig("JobWorld-v0", "jobworld", kwargs=(("num_keys", 3),)))
    with pytest.raises(ValueError, match="jobworld is set, but the suite is 'gymnax'"):
        EnvConfig("CartPole-v1", "gymnax", jobworld=SMALL)
    with pytest.raises(ValueError, match="jobworld.period is 2 and knobs.visited_starts 0.5, but a visited state"):
        config_of(settings(period=2), knobs=KnobsConfig(visited_starts=0.5))
    with pytest.raises(ValueError, match="jobworld.period is 2, but an agent is measured in lives of its own"):
        for_evaluation(config_of(settings(period=2)), 4)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"error": "detour", "detour": 2, "slack": 5},
        {"error": "dead_end", "dead_end_prob": 0.5},
        {"aliased": 0.5, "slack": 6},
        {"cue": True, "period": 2},
        {"cue": True},
    ],
)
def test_a_state_in_which_something_is_seen_shows_just_that(fields):
    world = settings(**fields)
    env = make_jax(config_of(world))

    def act(params, keys, obs, mask, memory):
        return jax.vmap(lambda key: jax.random.randint(key, (), 0, world.num_actions))(keys), memory

    _, tape = live(env, act, (), begin(env, seed=SEED, num_envs=4), seed=SEED, num_steps=40)
    seen = jnp.concatenate([tape.obs, tape.next_obs]).reshape(-1, *env.spec.obs_shape)
    state_of = jax.vmap(functools.partial(jobworld.as_seen, world, jobs.codebook(world, 3)))
    states, others = (state_of(jax.random.split(jax.random.key(n), len(seen)), seen) for n in (0, 1))
    np.testing.assert_allclose(jax.vmap(functools.partial(jobworld._observe, world))(states), seen, atol=1e-6)
    assert (states.chain != others.chain).any()  # the keys to come are drawn
    stepped = jax.vmap(env.step)(jax.random.split(jax.random.key(0), len(seen)), states, jnp.zeros(len(seen), int))
    jax.tree.map(lambda leaf, like: chex.assert_equal(leaf.dtype, like.dtype), stepped[0], states)
