"""What a perfect reader of a session knows of a lake's holes, and the way that it would take.

Whether a cell is a hole is seen when it is stepped on, so the posterior over all maps is uniform over those that agree
with what was seen. Letters: T decisions, N maps, C cells, A actions.
"""

import jax
import jax.numpy as jnp

from dreamer.core.types import Transition
from dreamer.wake.envs import EnvConfig, LakeConfig
from dreamer.wake.envs.frozen_lake import neighbours, place_of
from dreamer.wake.envs.lakes import maps

_PATIENCE = 0.99
"""What a step costs to the reader, as a factor: of two ways that are as safe it takes the shorter."""
_TIE = 1e-5


def hole_probs(config: EnvConfig, session: Transition) -> jax.Array:
    """Returns [T + 1, C] the probability of a hole in each cell: before every transition, and after the last.

    Pure. Transitions that no single map explains give NaN.

    Args:
      config: the world that was lived in.
      session: [T] consecutive transitions of one life.
    """
    lake = config.lake
    holes = jnp.asarray(maps(lake.size, lake.num_holes))
    place = place_of(lake, session.next_obs)
    fell = session.terminated & (place != lake.num_cells - 1)
    agrees = fell[:, None] == holes[:, place].T  # [T, N]
    possible = jnp.concatenate([jnp.ones((1, len(holes)), bool), jnp.cumprod(agrees, axis=0).astype(bool)])
    return possible @ holes.astype(jnp.float32) / possible.sum(axis=1, keepdims=True)


def way(lake: LakeConfig, holes: jax.Array, place: jax.Array) -> jax.Array:
    """Returns [A] the policy at a cell of whoever takes the way that is likeliest to be safe, ties shared.

    It goes by each cell's own probability, as if they were independent, and does not look for holes on purpose: with a
    map it is the shortest way, without one a good guess.

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
