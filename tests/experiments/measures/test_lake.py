"""The perfect reader of a lake, held against all maps one by one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.core.types import Transition
from dreamer.wake.envs import EnvConfig, LakeConfig
from dreamer.wake.envs.lakes import maps
from experiments.measures import lake

SMALL = EnvConfig("FrozenLakeJob-v0", "lake", lake=LakeConfig(size=3, num_holes=2))


def session_of(places, fell):
    """Returns steps [T] onto cells, as a reader sees them."""
    seen = jnp.pad(jax.nn.one_hot(jnp.array(places), 9), ((0, 0), (0, 1)))
    flags = jnp.array(fell)
    nothing = jnp.zeros(len(fell))
    return Transition(seen, seen, seen, nothing, flags, ~flags, seen)


def test_what_is_known_is_what_all_maps_that_agree_have_in_common():
    places, fell = [1, 3, 4, 8], [True, False, False, True]  # the last is the goal, and no hole
    known = lake.hole_probs(SMALL, session_of(places, fell))
    holes = maps(3, 2)
    np.testing.assert_allclose(known[0], holes.mean(axis=0), rtol=1e-6)
    for number in range(1, 5):
        agree = holes
        for place, hole in list(zip(places, fell, strict=True))[:number]:
            agree = agree[agree[:, place] == (hole and place != 8)]
        np.testing.assert_allclose(known[number], agree.mean(axis=0), rtol=1e-6)
    assert known[1][1] == 1 and known[1][8] == 0 and known[4][3] == 0


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


def test_with_the_map_the_reader_always_arrives():
    config = LakeConfig()
    ahead = jnp.asarray(lake.neighbours(config))

    @jax.jit
    @jax.vmap
    def arrives(holes):
        def step(place, _):
            place = ahead[place, lake.way(config, holes, place).argmax()]
            return place, holes[place]

        last, fell = jax.lax.scan(step, jnp.int32(0), length=14)
        del last
        return fell.any()

    assert not arrives(jnp.asarray(maps(4, 5), jnp.float32)).any()
