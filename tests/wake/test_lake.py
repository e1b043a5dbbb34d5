"""Frozen lakes: what a step does, that every map can be crossed and is in one pool, and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.wake import session
from dreamer.wake.envs import EnvConfig, LakeConfig, frozen_lake, make_jax, of_job
from dreamer.wake.envs.jobs import POOLS, pool_jobs
from dreamer.wake.envs.lakes import maps, starts

LEFT, DOWN, RIGHT, UP = range(4)


def config_of(**settings):
    return EnvConfig("FrozenLakeJob-v0", "lake", lake=LakeConfig(**settings))


def walk(env, actions, state):
    """Returns (place, time, reward, terminated, truncated) after each action from a state."""
    seen = []
    for action in actions:
        state, obs, *told = jax.jit(env.step)(jax.random.key(0), state, jnp.int32(action))
        seen.append((int(obs[:-1].argmax()), float(obs[-1]), *(value.item() for value in told)))
    return seen, state


def number_of(holes, size=3):
    """Returns the job whose holes are these cells."""
    wanted = np.isin(np.arange(size**2), holes)
    return int(np.flatnonzero((maps(size, len(holes)) == wanted).all(axis=1))[0])


def test_a_life_by_hand():
    config = config_of(size=3, num_holes=2, deadline=6)
    env = of_job(config, number_of([1, 5]))  # . H .   . . H   . . .
    begun, obs = env.reset(jax.random.key(0))
    assert obs[-1] == 1 and obs[:-1].argmax() == begun.place and obs.sum() == 2
    assert not begun.holes[begun.place]
    at_first = begun.replace(place=jnp.int32(0))
    seen, state = walk(env, [UP, LEFT, RIGHT], at_first)
    assert [place for place, *_ in seen] == [0, 0, 1]  # off the ice nobody goes
    np.testing.assert_allclose([time for _, time, *_ in seen], [5 / 6, 4 / 6, 3 / 6])
    assert [told[2:] for told in seen] == [(0, False, False), (0, False, False), (0, True, False)]
    again, obs = env.restart(jax.random.key(7), state)  # the same map
    np.testing.assert_array_equal(again.holes, begun.holes)
    assert obs[-1] == 1
    seen, _ = walk(env, [DOWN, DOWN, RIGHT, RIGHT], at_first)
    assert [place for place, *_ in seen] == [3, 6, 7, 8] and seen[-1][2:] == (1, True, False)
    seen, _ = walk(env, [DOWN, UP] * 3, at_first)
    assert seen[-1][2:] == (0, False, True) and not any(cut for *_, cut in seen[:-1])
    seen, _ = walk(env, [DOWN, UP, DOWN, UP, DOWN, RIGHT], at_first)
    assert seen[-1][2:] == (0, False, True) and seen[-1][0] == 4
    seen, _ = walk(env, [DOWN, UP, DOWN, RIGHT, UP, UP], at_first)
    assert seen[4] == (1, pytest.approx(1 / 6), 0, True, False)
    seen, _ = walk(env, [DOWN, UP, DOWN, LEFT, RIGHT, RIGHT], at_first)
    assert seen[-1] == (5, 0.0, 0, True, False)  # to fall at the last moment is to fall


def test_an_episode_begins_wherever_a_way_leads_to_the_last_cell():
    config = config_of(size=3, num_holes=2, deadline=6)
    number = number_of([1, 5])  # the corner behind both is cut off
    env = of_job(config, number)
    keys = jax.random.split(jax.random.key(0), 200)
    met, counts = np.unique(jax.vmap(env.reset)(keys)[0].place, return_counts=True)
    np.testing.assert_array_equal(met, [0, 3, 4, 6, 7])
    np.testing.assert_array_equal(np.flatnonzero(starts(3, 2)[number]), met)
    assert counts.min() > 20
    state, _ = env.reset(keys[0])
    again, _ = jax.vmap(env.restart, (0, None))(keys, state)
    assert set(np.unique(again.place)) == set(met)


@pytest.mark.parametrize(
    ("size", "num_holes", "count"),
    [(2, 1, 2), (3, 2, 21 - 2), (4, 5, 1054)],  # of size 3, two pairs of holes cut off a corner
)
def test_all_maps_that_can_be_crossed_are_there_once(size, num_holes, count):
    found = maps(size, num_holes)
    assert found.shape == (count, size**2) and (found.sum(axis=1) == num_holes).all()
    assert len({row.tobytes() for row in found}) == count and not found[:, [0, -1]].any()
    ahead = frozen_lake.neighbours(LakeConfig(size=size, num_holes=num_holes, pool="pretraining"))
    for holes, begin in list(zip(found, starts(size, num_holes), strict=True))[:50]:
        reached, edge = {0}, [0]
        while edge:
            more = {int(cell) for cell in ahead[edge.pop()] if not holes[cell]} - reached
            reached |= more
            edge += more
        assert {*np.flatnonzero(begin), size**2 - 1} == reached  # from the first cell, too


def test_pools_share_no_map():
    pools = [pool_jobs(LakeConfig(pool=pool)) for pool in POOLS]
    assert [number for pool in pools for number in pool] == list(range(1054))
    first = [make_jax(config_of(pool=pool)).reset(jax.random.key(0))[0].holes for pool in POOLS]
    for pool, holes in zip(pools, first, strict=True):
        np.testing.assert_array_equal(holes, maps(4, 5)[pool[0]])


def test_every_life_may_have_a_map_of_its_own():
    env = make_jax(config_of(pool="pretraining", job=None))
    states, _ = jax.vmap(env.reset)(jax.random.split(jax.random.key(1), 64))
    known = {row.tobytes() for row in maps(4, 5)[:527]}
    met = {row.tobytes() for row in np.asarray(states.holes)}
    assert met <= known and len(met) > 40


def test_a_session_is_lived_under_one_map():
    env = make_jax(config_of(job=3))

    def act(params, keys, obs, action_mask, memory):
        return jax.vmap(lambda key: jax.random.randint(key, (), 0, 4))(keys), memory

    live = jax.jit(functools.partial(session.live, env, act, None, num_steps=200))
    _, lived = live(session.begin(env, seed=0, num_envs=1), seed=0)
    place = frozen_lake.place_of(config_of().lake, lived.next_obs)[:, 0]
    fell = np.asarray(lived.terminated[:, 0] & (lived.reward[:, 0] == 0))
    holes = maps(4, 5)[pool_jobs(config_of().lake)[3]]
    np.testing.assert_array_equal(holes[np.asarray(place)], fell)
    assert fell.sum() > 10


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 1}, "lake.size is 1: set 2 or more"),
        ({"num_holes": 0}, "lake.num_holes is 0: set 1 or more"),
        ({"deadline": 0}, "lake.deadline is 0: set 1 or more"),
        ({"deadline": 9}, "lake.deadline is 9, but a way may take 10 steps: set 10 or more"),
        ({"pool": "train"}, "lake.pool is 'train': choose one of pretraining, distillation, test"),
        ({"job": 263}, "lake.job is 263, but the pool 'distillation' holds 263 of the maps of size 4 with 5 holes"),
        ({"num_holes": 14}, "lake.job is 0, but the pool 'distillation' holds 0 of the maps"),
        ({"size": 6, "num_holes": 8}, "lake.size 6 and num_holes 8 make 18156204 maps, more than are enumerated"),
    ],
)
def test_bad_settings_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        LakeConfig(**settings)


def test_only_what_is_there_is_made():
    with pytest.raises(ValueError, match="unknown lake environment 'FrozenLake-v1'"):
        make_jax(EnvConfig("FrozenLake-v1", "lake"))
    with pytest.raises(ValueError, match="its settings are those of env.lake"):
        make_jax(EnvConfig("FrozenLakeJob-v0", "lake", kwargs=(("size", 8),)))
    with pytest.raises(ValueError, match="lake is set, but the suite is 'gymnax'"):
        EnvConfig("CartPole-v1", "gymnax", lake=LakeConfig(size=3, num_holes=2))
    with pytest.raises(ValueError, match="sessions are told apart by jobs; give 'jobworld' or 'lake'"):
        EnvConfig("CartPole-v1", "gymnax").job_world  # noqa: B018
