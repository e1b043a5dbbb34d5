"""What students retain of their jobs, held against what a perfect reader of all that was lived could tell.

Exact in JobWorld, whose codebooks are read key by key; of other worlds nothing is kept. Letters: J jobs, K keys,
A answers.
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
from dreamer.wake.envs.jobs import codebook
from experiments.measures.beliefs import prior, read_on
from experiments.sessions.config import DistillationConfig
from experiments.sessions.measure import answers, bits_of


class Ledger(NamedTuple):
    """The first three are pure and of one job; the last is of all."""

    first: PyTree
    """The belief [K, A] before anything was lived."""
    read: Callable[[PyTree, jax.Array, Sequence[Transition]], PyTree]
    """(belief, number of the night in the job, what was lived of the job) -> the belief after it."""
    told: Callable[[Carried], PyTree]
    """(student) -> its answers, logits [K, A]."""
    row: Callable[[PyTree, PyTree, int], dict[str, float]]
    """(answers [J, K, A], beliefs [J, K, A], number of the job in the sequence) -> mean bits retained and available;
    raises LeakError where students know more than they were told."""


def make_ledger(config: DistillationConfig, slot: SessionAgent, numbers: jax.Array) -> Ledger:
    """Returns the ledger of a run, whose students do the jobs [J, S] in turn."""
    if config.env.suite != "jobworld":
        return Ledger((), lambda belief, night, lived: (), lambda student: (), lambda told, belief, stage: {})
    world = config.env.jobworld
    truth = np.asarray(jax.vmap(jax.vmap(functools.partial(codebook, world)))(numbers))

    def read(belief: jax.Array, night: jax.Array, lived: Sequence[Transition]) -> jax.Array:
        known = jnp.where(night == 0, prior(world), belief)
        return functools.reduce(functools.partial(read_on, world), lived, known)

    def row(told: np.ndarray, belief: jax.Array, stage: int) -> dict[str, float]:
        retained, available = bits_of(told, np.asarray(belief), truth[:, stage])
        return {"retained_bits": float(retained.mean()), "available_bits": float(available.mean())}

    return Ledger(prior(world), read, lambda student: answers(slot, config.env, student), row)
