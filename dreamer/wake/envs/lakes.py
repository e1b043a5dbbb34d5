"""Lakes: maps of holes in the ice as jobs, and the settings of the world that they are crossed in (`frozen_lake`).

Letters: N maps, C cells, row by row.
"""

import dataclasses
import functools
import itertools
import math

import numpy as np

from dreamer.wake.envs.jobs import check_job

_MOST_MAPS = 2**18
"""Of which all that can be crossed are kept, in a second or two."""


@dataclasses.dataclass(frozen=True)
class LakeConfig:
    """A square of ice to be crossed to its last cell, with holes that are not seen."""

    size: int = 4
    """Cells of a side."""
    num_holes: int = 5
    """Holes of every map; a job is one of all maps that can be crossed from the first cell."""
    deadline: int = 16
    """Decisions after which an episode is truncated."""
    pool: str = "distillation"
    """Which maps: `pretraining`, `distillation` or `test`; no map is in two of them."""
    job: int | None = 0
    """Number of the map in its pool; None gives every life one of its own, drawn from the pool."""

    def __post_init__(self):
        for name, least in (("size", 2), ("num_holes", 1), ("deadline", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"lake.{name} is {getattr(self, name)}: set {least} or more.")
        if (wanted := math.comb(self.num_cells - 2, self.num_holes)) > _MOST_MAPS:
            raise ValueError(
                f"lake.size {self.size} and num_holes {self.num_holes} make {wanted} maps, more than are enumerated "
                f"({_MOST_MAPS}): take a smaller lake, or fewer holes."
            )
        if self.deadline < (most := self.num_cells - self.num_holes - 1):
            raise ValueError(
                f"lake.deadline is {self.deadline}, but a way may take {most} steps: set {most} or more decisions."
            )
        maps = f"maps of size {self.size} with {self.num_holes} holes that can be crossed"
        check_job(self, "lake", f"{maps}: choose a smaller number, or another lake")

    @property
    def num_cells(self) -> int:
        """C"""
        return self.size**2

    @property
    def num_jobs(self) -> int:
        """N"""
        return len(maps(self.size, self.num_holes))


@functools.cache
def maps(size: int, num_holes: int) -> np.ndarray:
    """Returns [N, C] bool, the holes of each map: all that can be crossed, in an order that tells nothing.

    Neither the first nor the last cell is a hole, and from one to the other leads a way over the ice.
    """
    free = np.arange(1, size**2 - 1)
    chosen = np.array(list(itertools.combinations(free, num_holes)), int).reshape(-1, num_holes)
    holes = np.zeros((len(chosen), size**2), bool)
    np.put_along_axis(holes, chosen, True, axis=1)
    holes = holes[np.random.default_rng(0).permutation(len(holes))]
    return holes[_before_the_last(holes)[:, 0]]


@functools.cache
def starts(size: int, num_holes: int) -> np.ndarray:
    """Returns [N, C] bool, of each of `maps` the cells from which a way leads to the last, but for that itself."""
    found = _before_the_last(maps(size, num_holes))
    found[:, -1] = False
    return found


def _before_the_last(holes: np.ndarray) -> np.ndarray:
    """Returns [N, C] bool, the cells of maps [N, C] from which a way over the ice leads to the last."""
    size = math.isqrt(holes.shape[1])
    ice = ~holes.reshape(-1, size, size)
    reached = np.zeros_like(ice)
    reached[:, -1, -1] = True
    for _ in range(size**2):
        around = reached.copy()
        around[:, 1:] |= reached[:, :-1]
        around[:, :-1] |= reached[:, 1:]
        around[:, :, 1:] |= reached[:, :, :-1]
        around[:, :, :-1] |= reached[:, :, 1:]
        reached = around & ice
    return reached.reshape(holes.shape)
