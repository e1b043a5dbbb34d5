"""What is known of a lake's holes by who has read a session, and the way that it would take.

Whether a cell is a hole is seen when it is stepped on, and where an episode begins there is a way to the last cell. So
the posterior over all maps is uniform over those that agree with what was seen. Letters: T decisions, N maps, C cells,
A actions.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.core.types import Transition
from dreamer.wake.envs import EnvConfig, LakeConfig
from dreamer.wake.envs.frozen_lake import neighbours, place_of
from dreamer.wake.envs.lakes import maps, starts

_PATIENCE = 0.99
"""What a step costs to the reader, as a factor: of two ways that are as safe it takes the shorter."""
_TIE = 1e-5


def begin(config: EnvConfig) -> jax.Array:
    """Returns [N] bool, which maps are possible before anything was seen: all."""
    return jnp.ones(len(maps(config.lake.size, config.lake.num_holes)), bool)


def after(config: EnvConfig, possible: jax.Array, transition: Transition) -> jax.Array:
    """Returns [N] bool, which of the maps that were possible are so after one more transition []."""
    lake = config.lake
    onto = place_of(lake, transition.next_obs)
    fell = transition.terminated & (onto != lake.num_cells - 1)
    holes = jnp.asarray(maps(lake.size, lake.num_holes))
    return _with_a_way(config, possible, transition.obs) & (holes[:, onto] == fell)


def holes_among(config: EnvConfig, possible: jax.Array, obs: jax.Array) -> jax.Array:
    """Returns [C] the probability of a hole in each cell by the maps [N] that were possible before `obs` was seen; NaN
    where none is left."""
    lake = config.lake
    left = _with_a_way(config, possible, obs)
    return left @ jnp.asarray(maps(lake.size, lake.num_holes), jnp.float32) / left.sum()


def hole_probs(config: EnvConfig, session: Transition) -> jax.Array:
    """Returns [T, C] the exact probability of a hole in each cell, by all that is seen when each decision is taken.

    Pure. Transitions that no single map explains give NaN.

    Args:
      config: the world that was lived in.
      session: [T] consecutive transitions of one life.
    """

    def read(possible: jax.Array, transition: Transition) -> tuple[jax.Array, jax.Array]:
        return after(config, possible, transition), holes_among(config, possible, transition.obs)

    return jax.lax.scan(read, begin(config), session)[1]


@functools.cache
def ways(size: int, num_holes: int) -> np.ndarray:
    """Returns [N, C, A] the policy of who knows the map, for each of all maps."""
    lake = LakeConfig(size, num_holes, deadline=size**2)
    of_map = jax.vmap(functools.partial(way, lake), (None, 0))
    return np.asarray(jax.jit(jax.vmap(of_map, (0, None)))(maps(size, num_holes) * 1.0, np.arange(size**2)))


def believed(lake: LakeConfig, possible: np.ndarray) -> np.ndarray:
    """Returns [..., C, A] how likely each action is to be that of who knows the map, by the maps [..., N] that are
    possible, in each cell from which there is a way on: nobody to whom the same maps are possible can foretell it
    better. Uniform where no possible map has one.
    """
    left = np.asarray(possible)[..., None] & starts(lake.size, lake.num_holes)  # [..., N, C]
    told, count = np.einsum("...nc,nca->...ca", left, ways(lake.size, lake.num_holes)), left.sum(axis=-2)[..., None]
    return np.where(count > 0, told / np.maximum(count, 1), 1 / told.shape[-1])


def believed_in_turn(lake: LakeConfig, possible: np.ndarray, number: int) -> np.ndarray:
    """Returns [C, A] as `believed`, but in each cell by somebody who has been told, too, which of the cells before it
    have a way on in map `number`, and which; and whether this one has.

    So what is gained on it adds up to odds, as it does of keys that are independent: without a leak 2 ** that is 1 or
    less in the mean.

    Args:
      lake: the settings.
      possible: [N] the maps that are possible before anything is told; the true one among them.
      number: of the true map.
    """
    found, begun = [], starts(lake.size, lake.num_holes)
    way = ways(lake.size, lake.num_holes)
    for cell in range(lake.num_cells):
        possible = possible & (begun[:, cell] == begun[number, cell])
        found.append(way[possible, cell].mean(axis=0))
        if begun[number, cell]:
            possible = possible & (way[:, cell] == way[number, cell]).all(axis=-1)
    return np.stack(found)


def _with_a_way(config: EnvConfig, possible: jax.Array, obs: jax.Array) -> jax.Array:
    """Returns [N] bool, the possible maps in which there is a way on from the cell that is seen."""
    lake = config.lake
    return possible & jnp.asarray(starts(lake.size, lake.num_holes))[:, place_of(lake, obs)]


def way(lake: LakeConfig, holes: jax.Array, place: jax.Array) -> jax.Array:
    """Returns [A] the policy at a cell of whoever takes the way likeliest to be safe, cell by cell; ties shared.

    A good guess, and no optimal one: cells are taken to be holes independently of each other, no step is taken to find
    out, and no deadline is looked at. With the map it is the shortest way.

    Args:
      lake: the settings.
      holes: [C] the probability of a hole in each cell.
      place: [] the cell.
    """
    ahead, last = jnp.asarray(neighbours(lake)), lake.num_cells - 1
    goal = jnp.arange(lake.num_cells) == last

    def worth(value: jax.Array) -> jax.Array:
        return _PATIENCE * ((1 - holes) * value)[ahead]

    def sweep(_: int, value: jax.Array) -> jax.Array:
        return jnp.where(goal, 1.0, worth(value).max(axis=1))

    q = worth(jax.lax.fori_loop(0, lake.num_cells, sweep, goal.astype(jnp.float32)))[place]
    best = q >= q.max() * (1 - _TIE)
    return best / best.sum()
