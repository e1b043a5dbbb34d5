"""Exact values of JobWorld for somebody who has only a belief about the codebook: a product of one a key.

A chain's keys are drawn with replacement, so what is learned of a key at its first visit helps at the next, and chains
must not be taken key by key. But visits to one key depend on visits to another only through their number: the time in
which h keys are answered is the coefficient of y ** h in a product over keys of exponential generating functions,

    h! / K ** h  *  prod_k sum_n  y ** n / n!  *  G_kn(x),

where G_kn is the generating function of the decisions that n visits to key k take. That is exact for codebooks of any
size. Letters: T decisions, h and H keys of a chain, K keys, A answers, n visits.
"""

import dataclasses
import itertools
import math

import numpy as np

from dreamer.wake.envs import JobWorldConfig
from experiments.measures import known

MOST_CODEBOOKS = 4096  # seconds of enumeration


def codebooks(world: JobWorldConfig) -> np.ndarray:
    """Returns [A ** K, K], all codebooks.

    Raises:
      ValueError: there are too many to be enumerated.
    """
    count = world.num_answers**world.num_keys
    if count > MOST_CODEBOOKS:
        raise ValueError(
            f"jobworld.num_keys {world.num_keys} and num_answers {world.num_answers} make {count} codebooks, more than "
            f"the exact oracle enumerates ({MOST_CODEBOOKS}): take fewer, or leave jobworld.aliased at 0."
        )
    return np.array(list(itertools.product(range(world.num_answers), repeat=world.num_keys)))


def best_value(world: JobWorldConfig, belief: np.ndarray, *, gamma: float) -> float:
    """Returns the return that the best reader expects of an episode, over codebooks by its belief [K, A] and chains.

    The best is to answer by the likeliest of what is left: a key that is asked must be answered, each answer rules
    itself out, and the right one tells all there is to know of the key, so nothing is gained by another order.

    Raises:
      ValueError: keys are aliased, where looks are worth what all beliefs together say.
    """
    _check_seen(world)
    return _Chain(world, gamma).value(np.asarray(belief, float), world.chain_length, world.deadline)


def best_success(world: JobWorldConfig, belief: np.ndarray) -> float:
    """Returns the probability that the best reader finishes an episode's chain; arguments as of `best_value`."""
    return best_value(dataclasses.replace(world, feedback="end"), belief, gamma=1.0)


def best_q(
    world: JobWorldConfig,
    belief: np.ndarray,
    *,
    key: int,
    gamma: float,
    keys_left: int | None = None,
    decisions_left: int | None = None,
) -> np.ndarray:
    """Returns [A] what each answer to `key` is worth to the best reader, who learns from what comes of it.

    Args:
      world: the world.
      belief: [K, A] by now.
      key: which is asked.
      gamma: discount of each decision.
      keys_left: of the chain, this one included; None for a chain's first.
      decisions_left: until the deadline; None for an episode's first.

    Raises:
      ValueError: keys are aliased.
    """
    _check_seen(world)
    h = world.chain_length if keys_left is None else keys_left
    T = world.deadline if decisions_left is None else decisions_left
    return _Chain(world, gamma).q(np.asarray(belief, float), key, h, T)


def policy_success(world: JobWorldConfig, belief: np.ndarray, policy: np.ndarray) -> float:
    """Returns the probability that a policy finishes an episode's chain, over codebooks by a belief, and chains.

    Args:
      world: the world.
      belief: [K, A]; `bits.certain` for one codebook.
      policy: [S, B] as in `known.value`: it has no memory, and learns nothing within the episode.

    Raises:
      ValueError: keys are aliased, and there are too many codebooks to be enumerated.
    """
    belief, policy = np.asarray(belief, float), np.asarray(policy, float)
    known.require_all_asked(world)
    if world.num_aliased:
        books = codebooks(world)
        probs = belief[np.arange(world.num_keys), books].prod(axis=-1)
        return sum(p * known.success_rate(world, book, policy) for p, book in zip(probs, books, strict=True) if p)
    H, T = world.chain_length, world.deadline
    visits = np.zeros((world.num_keys, H + 1, T + 1))
    for key, answer in np.ndindex(*belief.shape):
        visits[key] += belief[key, answer] * _powers(_tries_at_random(world, policy[key, answer], T), H)
    return float(_finish_times(visits)[H].sum())


class _Chain:
    """What is left of a chain to the best reader, by belief [K, A], keys and decisions left."""

    def __init__(self, world: JobWorldConfig, gamma: float):
        self._world, self._gamma = world, gamma

    def value(self, belief: np.ndarray, h: int, T: int) -> float:
        """Before a key is seen."""
        times = _finish_times(self._visits(belief, h, T))
        return self._paid(times[1:], h)

    def value_at(self, belief: np.ndarray, key: int, h: int, T: int) -> float:
        """With `key` asked, the first of h."""
        if T <= 0:
            return 0.0
        visits = self._visits(belief, h, T)
        later = visits[:, :h].copy()
        later[key] = visits[key, 1:]  # one visit more than are drawn
        return self._paid(_finish_times(later), h)

    def q(self, belief: np.ndarray, key: int, h: int, T: int) -> np.ndarray:
        """Of each answer to `key`."""
        world, back = self._world, 1 + self._world.error_delay
        reward = 1 / world.chain_length if world.feedback == "step" else float(h == 1)
        q = np.zeros(world.num_answers)
        if T <= 0:
            return q
        for answer, prob in enumerate(belief[key]):
            told, ruled_out = belief.copy(), belief.copy()
            told[key] = np.eye(world.num_answers)[answer]
            q[answer] = prob * (reward + self._gamma * self.value(told, h - 1, T - 1))
            ruled_out[key, answer] = 0.0
            if ruled_out[key].sum() > 0:
                ruled_out[key] /= ruled_out[key].sum()
                again = self._gamma**back * self.value_at(ruled_out, key, h, T - back)
                q[answer] += (1 - prob) * (1 - world.fatal_prob) * again
        return q

    def _visits(self, belief: np.ndarray, h: int, T: int) -> np.ndarray:
        """Returns [K, h + 1, T + 1]: the first visit finds the answer, likeliest first, and later ones know it."""
        visits = np.zeros((len(belief), h + 1, T + 1))
        visits[:, 0, 0] = 1.0
        for key, row in enumerate(belief):
            for tries, prob in enumerate(np.sort(row)[::-1]):
                for n in range(1, h + 1):
                    at = n + tries * (1 + self._world.error_delay)
                    if at <= T:
                        visits[key, n, at] += prob * (1 - self._world.fatal_prob) ** tries
        return visits

    def _paid(self, times: np.ndarray, h: int) -> float:
        """Returns what is paid for keys answered at the times [h, T + 1], the first row those of one key."""
        discounts = self._gamma ** np.maximum(np.arange(times.shape[1]) - 1.0, 0.0)
        paid = times @ discounts
        return float(paid.sum() / self._world.chain_length if self._world.feedback == "step" else paid[h - 1 : h].sum())


def _finish_times(visits: np.ndarray) -> np.ndarray:
    """Returns [h + 1, T + 1], the probability that 0 ... h drawn keys take exactly so many decisions.

    Args:
      visits: [K, h + 1, T + 1] of each key, the probability that n visits take exactly so many decisions.
    """
    K, h, T = visits.shape[0], visits.shape[1] - 1, visits.shape[2] - 1
    total = np.zeros((h + 1, T + 1))
    total[0, 0] = 1.0
    factorials = np.array([math.factorial(n) for n in range(h + 1)], float)
    for times in visits / factorials[:, None]:
        product = np.zeros_like(total)
        for n, m in itertools.product(range(h + 1), repeat=2):
            if n + m <= h:
                product[n + m] += np.convolve(total[n], times[m])[: T + 1]
        total = product
    return total * factorials[:, None] / float(K) ** np.arange(h + 1)[:, None]


def _tries_at_random(world: JobWorldConfig, prob: float, T: int) -> np.ndarray:
    """Returns [T + 1] the probability that somebody who is right with `prob` each time takes so many decisions."""
    times = np.zeros(T + 1)
    survives = (1 - prob) * (1 - world.fatal_prob)
    for tries, at in enumerate(range(1, T + 1, 1 + world.error_delay)):
        times[at] = prob * survives**tries
    return times


def _powers(times: np.ndarray, most: int) -> np.ndarray:
    """Returns [most + 1, T + 1], the times [T + 1] of 0 ... `most` independent visits."""
    powers = np.zeros((most + 1, len(times)))
    powers[0, 0] = 1.0
    for n in range(most):
        powers[n + 1] = np.convolve(powers[n], times)[: len(times)]
    return powers


def _check_seen(world: JobWorldConfig) -> None:
    known.require_all_asked(world)
    if world.num_aliased:
        raise ValueError(
            f"jobworld.aliased is {world.aliased}, where the best reader's looks depend on all beliefs together: its "
            "exact values need 0; known.best_q has them for somebody who knows the codebook."
        )
