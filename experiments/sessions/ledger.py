"""What students retain of their jobs, held against what a perfect reader of all that was lived could tell.

Exact: of JobWorld, whose codebooks are read key by key, and of lakes, of all whose maps those that are left are known.
Letters: J jobs, K keys, A answers; of lakes N maps, C cells, A actions.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.core.ports import SessionAgent
from dreamer.core.types import PyTree, Transition
from dreamer.sleep.carriers import Carried
from dreamer.wake.envs.jobs import codebook, keys_asked, pool_jobs
from experiments.measures import lake
from experiments.measures.beliefs import prior, read_on
from experiments.measures.bits import check_shared
from experiments.sessions.config import DistillationConfig
from experiments.sessions.measure import answers, bits_of, bits_of_ways, directions


class Ledger(NamedTuple):
    """The first three are pure and of one job; the last is of all."""

    first: PyTree
    """What is believed before anything was lived: [K, A], or of lakes [N] which maps are possible."""
    read: Callable[[PyTree, jax.Array, Sequence[Transition]], PyTree]
    """(belief, number of the night in the job, what was lived of the job) -> the belief after it."""
    told: Callable[[Carried], PyTree]
    """(student) -> its answers, logits [K, A] or [C, A]."""
    row: Callable[[PyTree, PyTree, int], dict[str, float]]
    """(answers, beliefs, number of the job in the sequence), of all [J] -> mean bits retained and available, of what a
    job asks; raises LeakError where students know more than they were told, or one policy can hold."""


def make_ledger(config: DistillationConfig, slot: SessionAgent, numbers: jax.Array) -> Ledger:
    """Returns the ledger of a run, whose students do the jobs [J, S] in turn."""
    if config.env.suite == "lake":
        pretrained = pool_jobs(config.agent.env.lake)  # whoever knew those by heart would know that it is none of them
        first = lake.begin(config.env).at[pretrained.start : pretrained.stop].set(False)
        read_one = functools.partial(lake.after, config.env)

        def read_through(belief: jax.Array, lived: Transition) -> jax.Array:
            return jax.lax.scan(lambda belief, one: (read_one(belief, one), None), belief, lived)[0]

        def bits(told: np.ndarray, belief: np.ndarray, stage: int) -> tuple[np.ndarray, np.ndarray]:
            return bits_of_ways(config.env.lake, told, np.asarray(first), belief, np.asarray(numbers)[:, stage])

        told = functools.partial(directions, slot, config.env)
    else:
        world = config.env.jobworld
        first, read_through = prior(world), functools.partial(read_on, world)
        truth, asked = (
            np.asarray(jax.vmap(jax.vmap(functools.partial(of_number, world)))(numbers))
            for of_number in (codebook, keys_asked)
        )

        def bits(told: np.ndarray, belief: np.ndarray, stage: int) -> tuple[np.ndarray, np.ndarray]:
            rows = np.arange(len(truth))[:, None], asked[:, stage]
            retained, available = bits_of(told[rows], belief[rows], truth[:, stage][rows])
            for begin in range(0, len(truth), config.shared_by):
                own = slice(begin, begin + config.shared_by)
                check_shared(retained[own], truth[own, stage], num_answers=world.num_answers)
            return retained, available

        told = functools.partial(answers, slot, config.env)

    def read(belief: PyTree, night: jax.Array, lived: Sequence[Transition]) -> PyTree:
        return functools.reduce(read_through, lived, jnp.where(night == 0, first, belief))

    def row(told: np.ndarray, belief: PyTree, stage: int) -> dict[str, float]:
        retained, available = bits(told, np.asarray(belief), stage)
        return {"retained_bits": float(retained.mean()), "available_bits": float(available.mean())}

    return Ledger(first, read, told, row)
