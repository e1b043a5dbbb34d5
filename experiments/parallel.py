"""How the program of one seed on one device becomes one of several seeds, or of several devices.

Letters: S seeds of a group.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from dreamer.core import mesh
from dreamer.core.types import Params, PyTree
from dreamer.sleep.search import Search, SearchResult
from experiments.config import Config


def each_seed(function: Callable, num_seeds: int, *, in_axes: int | tuple = 0) -> Callable:
    """Returns the function for a group of seeds; for one it is the function itself, bit for bit."""
    return function if num_seeds == 1 else jax.vmap(function, in_axes)


def seeds_of(config: Config, num_seeds: int) -> jax.Array:
    """Returns the seeds of a group, [S] uint32, or the one seed, []."""
    return jnp.uint32(config.seed) if num_seeds == 1 else config.seed + jnp.arange(num_seeds, dtype=jnp.uint32)


def devices_for(config: Config, num_devices: int | None, *, on_device: bool) -> mesh.Devices:
    """Returns the devices, which can share all rows evenly; `on_device` says where the environment lives."""
    devices = mesh.over(num_devices)
    targets, batch_size = config.targets, config.loop.batch_size
    num_dreams = config.imagine.num_dreams(batch_size)
    awake, dreaming = (targets.num_searched(rows) * targets.num_roots for rows in (batch_size, batch_size - num_dreams))
    searched = "the number of states searched again, targets.research_fraction * {} * " + f"{targets.num_roots},"
    devices.require_shares(
        {
            "loop.batch_size": batch_size,
            "the number of imagined rows, (1 - imagine.real_share) * loop.batch_size,": num_dreams,
            "env.num_envs": config.env.num_envs if on_device else 0,
            searched.format("imagine.real_share * loop.batch_size" if num_dreams else "loop.batch_size"): dreaming,
            searched.format("loop.batch_size"): awake if config.imagine.begin_after else dreaming,
        }
    )
    return devices


def spread_roots(search: Search, devices: mesh.Devices) -> Search:
    """Returns the search with its roots, each with its mask and key, over the devices."""

    def spread(params: Params, memory: PyTree, *rows: PyTree, **settings: jax.Array | float) -> SearchResult:
        memory, *rows = devices.spread((memory, *rows))
        return search(params, memory, *rows, **settings)

    return spread
