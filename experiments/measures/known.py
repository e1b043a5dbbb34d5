"""Exact values of JobWorld for somebody who knows the codebook, and of policies in a known one: backward induction.

Letters: T decisions left, H keys left, K keys, A answers, S symbols (the keys, then the hidden one where keys are
aliased), B actions (the answers, then the look). The clock is the world's own deadline: what
`env.max_steps` or knobs make of the world is not known here.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from dreamer.wake.envs import JobWorldConfig


def best_q(world: JobWorldConfig, codebook: np.ndarray, *, gamma: float) -> np.ndarray:
    """Returns [T + 1, H + 1, S, B] the optimal action values where the codebook [K] is known.

    At place [t, h, s]: t decisions and h keys are left, and s is seen. Whoever sees the hidden symbol knows the
    codebook, but not which of the aliased keys is asked.
    """
    return _backward(world, codebook, lambda q: q.max(axis=-1), gamma=gamma)[0]


def value(world: JobWorldConfig, codebook: np.ndarray, policy: np.ndarray | None = None, *, gamma: float) -> float:
    """Returns the discounted return expected at the start of an episode, over all chains.

    Args:
      world: the world.
      codebook: [K] the right answers.
      policy: [S, B] what is played at each symbol, whatever the clock; None plays the best with the codebook known.
      gamma: discount of each decision.
    """
    choose = (lambda q: q.max(axis=-1)) if policy is None else (lambda q: (q * policy).sum(axis=-1))
    return float(_backward(world, codebook, choose, gamma=gamma)[1])


def success_rate(world: JobWorldConfig, codebook: np.ndarray, policy: np.ndarray | None = None) -> float:
    """Returns the probability that an episode's chain is finished in time; arguments as of `value`."""
    counted = dataclasses.replace(world, feedback="end", look_cost=0.0)
    return value(counted, codebook, policy, gamma=1.0)


def require_all_asked(world: JobWorldConfig) -> None:
    """Refuses worlds whose jobs ask a block of the keys: exact values are those of jobs that ask all."""
    if world.blocks > 1:
        raise ValueError(
            f"jobworld.blocks is {world.blocks}, but exact values are those of jobs that ask all keys: set 1."
        )


def _backward(world: JobWorldConfig, codebook: np.ndarray, choose: Callable, *, gamma: float) -> tuple:
    """Returns the action values [T + 1, H + 1, S, B] of who plays by `choose`, (action values) -> values, and the value
    of an episode's start."""
    require_all_asked(world)
    T, H, K, M = world.deadline, world.chain_length, world.num_keys, world.num_aliased
    S, back = K + (M > 0), 1 + world.error_delay
    right = np.eye(world.num_answers, dtype=bool)[np.asarray(codebook)]  # [K, A]
    paid = np.full(H, 1 / H) if world.feedback == "step" else np.eye(H)[0]  # with h keys left, h from 1 on
    q = np.zeros((T + 1, H + 1, S, world.num_actions))
    at_key, fresh = np.zeros((T + 1, H + 1, S)), np.zeros((T + 1, H + 1))
    for t in range(1, T + 1):
        onward = paid + gamma * fresh[t - 1, :-1]
        again = at_key[max(t - back, 0), 1:, :K] * gamma**back * (1 - world.fatal_prob)
        answers = np.where(right, onward[:, None, None], again[:, :, None])
        looks = gamma * at_key[t - 1, 1:, :K, None] - world.look_cost
        q[t, 1:, :K] = np.concatenate([answers, looks], axis=-1)[..., : world.num_actions]
        if M:
            q[t, 1:, K] = q[t, 1:, K - M : K].mean(axis=1)
        at_key[t, 1:] = choose(q[t, 1:])
        hidden = M / K * at_key[t, 1:, K] if M else 0.0
        fresh[t, 1:] = at_key[t, 1:, : K - M].sum(axis=-1) / K + hidden
    return q, fresh[T, H]
