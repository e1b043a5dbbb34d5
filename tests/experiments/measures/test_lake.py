"""The perfect reader of a lake, held against all maps one by one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.core.ports import Agent
from dreamer.core.types import Evaluation, Transition
from dreamer.sleep.carriers import Carried
from dreamer.wake.envs import EnvConfig, LakeConfig
from dreamer.wake.envs.frozen_lake import make
from dreamer.wake.envs.lakes import maps, starts
from experiments.measures import bits, lake
from experiments.sessions.measure import bits_of_ways, directions
from tests.tiny import without_memory

SMALL = EnvConfig("FrozenLakeJob-v0", "lake", lake=LakeConfig(size=3, num_holes=2))


def seen_at(places):
    return jnp.pad(jax.nn.one_hot(jnp.array(places), 9), ((0, 0), (0, 1)))


def session_of(stands, onto, fell):
    """Returns steps [T] from cells onto cells, as a reader sees them; each ends an episode."""
    flags, nothing = jnp.array(fell), jnp.zeros(len(fell))
    return Transition(seen_at(stands), nothing, nothing, nothing, flags, ~flags, seen_at(onto))


def test_what_is_known_is_what_all_maps_that_agree_have_in_common():
    stands, onto, fell = [0, 2, 6, 7, 3], [1, 1, 3, 8, 4], [True, True, False, True, False]
    known = lake.hole_probs(SMALL, session_of(stands, onto, fell))
    holes, begin, agree = maps(3, 2), starts(3, 2), np.ones(19, bool)
    for t in range(5):
        agree = agree & begin[:, stands[t]]  # where it stands there is a way on
        np.testing.assert_allclose(known[t], holes[agree].mean(axis=0), rtol=1e-6, atol=1e-7)
        agree = agree & (holes[:, onto[t]] == (fell[t] and onto[t] != 8))  # the last cell is the goal
    assert known[1][1] == 1 and known[1][5] == 0  # who stands in the corner beside a hole has the other way
    assert known[3][3] == 0 and (known[:, 8] == 0).all()


def test_the_way_by_hand():
    way = jax.jit(functools.partial(lake.way, SMALL.lake))
    left, down, right, up = range(4)
    # . H .   with nothing else to fear: down, then either way round is as short.
    known = np.zeros(9)
    known[1] = 1
    np.testing.assert_array_equal(way(known, 0), np.eye(4)[down])
    np.testing.assert_allclose(way(known, 3), (np.eye(4)[down] + np.eye(4)[right]) / 2)
    # A risk ahead of 1 in 10 is worth a longer way only where that is safer.
    np.testing.assert_array_equal(way(known + 0.1 * np.eye(9)[4], 3), np.eye(4)[down])
    np.testing.assert_array_equal(way(known + 0.1 * (np.eye(9)[4] + np.eye(9)[7]), 6), np.eye(4)[right])
    np.testing.assert_array_equal(way(known, 2), np.eye(4)[down])
    np.testing.assert_array_equal(way(known, 5), np.eye(4)[down])


def test_what_can_be_foretold_is_what_those_do_who_know_the_maps_that_are_left():
    ways, possible = lake.ways(3, 2), np.arange(19) % 3 > 0
    found = lake.believed(SMALL.lake, possible)
    for cell in range(8):
        agree = possible & starts(3, 2)[:, cell]
        np.testing.assert_allclose(found[cell], ways[agree, cell].mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(found[8], 1 / 4)  # nobody goes on from the goal
    # Nothing else gains as much in the mean over the maps that are left: not knowing nothing, nor being surer.
    truth, before = ways * starts(3, 2)[..., None], lake.believed(SMALL.lake, np.ones(19, bool))
    surer = found**2 / (found**2).sum(axis=-1, keepdims=True)
    gained = [bits.gained_bits(one, before, truth[possible]).mean() for one in (found, before, surer)]
    assert gained[1] == 0 < gained[0] and gained[2] < gained[0]


def test_who_has_the_maps_is_found_out_and_who_reads_well_is_not():
    world, number, all_maps = LakeConfig(), np.arange(8), np.ones(len(maps(4, 5)), bool)
    nothing, everything = np.tile(all_maps, (8, 1)), np.eye(len(all_maps), dtype=bool)[number]
    before, knows = (
        np.log(np.maximum(one, 1e-30)) for one in (lake.believed(world, all_maps), lake.ways(4, 5)[number])
    )
    retained, available = bits_of_ways(world, before, all_maps, nothing, number)
    np.testing.assert_allclose(retained, 0, atol=1e-6)
    np.testing.assert_array_equal(available, 0)
    with pytest.raises(bits.LeakError):
        bits_of_ways(world, knows, all_maps, nothing, number)
    retained, available = bits_of_ways(world, knows, all_maps, everything, number)
    np.testing.assert_allclose(retained, available, rtol=1e-6)
    assert 5 < retained.mean() < 11


def test_without_a_leak_what_is_gained_beside_a_reader_who_is_told_in_turn_adds_up_to_odds():
    possible = np.arange(19) % 3 > 0
    number, before = np.flatnonzero(possible), lake.believed(SMALL.lake, np.ones(19, bool))
    truth = lake.ways(3, 2) * starts(3, 2)[..., None]
    told = np.stack([lake.believed_in_turn(SMALL.lake, possible, one) for one in number])
    np.testing.assert_allclose(told[:, 0], lake.believed(SMALL.lake, possible)[0][None].repeat(len(number), 0))
    for policy in (before, lake.believed(SMALL.lake, possible), (before + 1 / 4) / 2):
        odds = 2.0 ** bits.gained_bits(np.broadcast_to(policy, told.shape), told, truth[number])
        assert odds.mean() <= 1


def test_the_directions_of_an_agent_are_those_it_takes_as_an_episode_begins():
    env, config = make(SMALL.with_jobs(pool="test", job=0)), SMALL.lake
    states, obs = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 64))
    seen = lambda params, memory, obs: Evaluation(obs, None, None)  # noqa: E731
    found = directions(without_memory(Agent(None, seen, None, None)), SMALL, Carried((), ()))
    np.testing.assert_array_equal(found[lake.place_of(config, obs)], obs)


def test_with_the_map_the_reader_arrives_from_everywhere():
    config = LakeConfig()
    ahead = jnp.asarray(lake.neighbours(config))

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    @functools.partial(jax.vmap, in_axes=(None, 0))
    def arrives(holes, begin):
        def step(carry, _):
            place, arrived, fell = carry
            place = ahead[place, lake.way(config, holes, place).argmax()]
            return (place, arrived | (place == 15), fell | (holes[place] > 0) & ~arrived), None

        carry = begin, jnp.bool_(False), jnp.bool_(False)
        (_, arrived, fell), _ = jax.lax.scan(step, carry, length=10)
        return arrived & ~fell

    found = arrives(jnp.asarray(maps(4, 5), jnp.float32), jnp.arange(16))
    assert np.asarray(found)[starts(4, 5)].all()
