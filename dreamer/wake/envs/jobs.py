"""Jobs, their numbers and pools; and those that are codebooks, with the settings of their world (`jobworld`).

Jobs are numbered, and a number is one job in every run, whatever the seed. In JobWorld a job is a codebook z: for each
of K keys one of A answers is right. Letters: K keys, A answers.
"""

import dataclasses
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.core.keys import stream

ERRORS = ("no_op", "detour", "dead_end")
FEEDBACKS = ("end", "step")
POOLS = {"pretraining": (0, 2), "distillation": (2, 3), "test": (3, 4)}  # quarters of all job numbers, from and to
_MOST_JOBS = 2**30  # job numbers are int32, and powers of A must not overflow
_ROUNDS = 4  # even, so that both halves of a codebook are as long as they were


@dataclasses.dataclass(frozen=True)
class JobWorldConfig:
    """A chain of keys to be answered by a hidden codebook, which persists from episode to episode."""

    num_keys: int = 8
    """K, keys of the codebook."""
    num_answers: int = 4
    """A, answers that a key may have; one is right."""
    chain_length: int = 4
    """H, keys to be answered in an episode, each drawn from all that the job asks."""
    slack: int = 12
    """Decisions that an episode may take beyond the H of a flawless one; then it is lost."""
    error: str = "no_op"
    """What a wrong answer does, beside the decision it takes: `no_op` nothing, `detour` costs `detour` decisions more,
    `dead_end` makes success impossible in this episode, with probability `dead_end_prob`."""
    detour: int = 3
    """Decisions of a detour, in which nothing that is done matters."""
    dead_end_prob: float = 1.0
    """Probability that a wrong answer leads into a dead end, where `error` is `dead_end`; else it is a no-op."""
    feedback: str = "end"
    """What is paid: `end` 1 for a finished chain, `step` 1 / H for each right answer. Progress is always seen."""
    aliased: float = 0.0
    """Share of the keys that all look the same until they are looked at, by one action more, or answered."""
    look_cost: float = 0.02
    """What a look costs in reward, beside the decision it takes."""
    pool: str = "distillation"
    """Which jobs: `pretraining`, `distillation` or `test`; no codebook is in two of them."""
    job: int | None = 0
    """Number of the job in its pool; None gives every life one of its own, drawn from the pool."""
    period: int = 0
    """Episodes of a life under one codebook, after which it is redrawn for all who do this job; 0 for ever."""
    redrawn_prob: float = 1.0
    """Probability of each key, by itself, to be redrawn from all A answers when the codebook is."""
    cue: bool = False
    """Whether an observation tells that this is the first episode under its codebook."""
    blocks: int = 1
    """Blocks of equally many keys, of which a job asks one, by its number in turn: jobs of other blocks contradict it
    nowhere, and every key tells which block it is. 1 asks all."""

    def __post_init__(self):
        for name, least in (("num_keys", 1), ("num_answers", 2), ("chain_length", 1), ("slack", 0), ("detour", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"jobworld.{name} is {getattr(self, name)}: set {least} or more.")
        for name, known in (("error", ERRORS), ("feedback", FEEDBACKS)):
            if getattr(self, name) not in known:
                raise ValueError(f"jobworld.{name} is {getattr(self, name)!r}: choose one of {', '.join(known)}.")
        for name in ("dead_end_prob", "redrawn_prob", "aliased"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"jobworld.{name} is {getattr(self, name)}: set a number from 0 to 1.")
        if self.aliased and self.num_aliased < 2:
            raise ValueError(
                f"jobworld.aliased is {self.aliased}, {self.num_aliased} of {self.num_keys} keys, but it takes two to "
                "be taken for each other: set 0, or a share of two keys or more."
            )
        if self.blocks < 1 or self.num_keys % self.blocks or (self.blocks > 1 and self.aliased):
            raise ValueError(
                f"jobworld.blocks is {self.blocks} of {self.num_keys} keys, {self.num_aliased} of them aliased: set 1, "
                "or without aliased keys a number of blocks that divides them."
            )
        if self.look_cost < 0:
            raise ValueError(f"jobworld.look_cost is {self.look_cost}: set 0 or more.")
        if self.period < 0:
            raise ValueError(f"jobworld.period is {self.period}: set 0 or more episodes, 0 for ever.")
        for name, part, off in (
            ("detour", "error", self.error != "detour"),
            ("dead_end_prob", "error", self.error != "dead_end"),
            ("redrawn_prob", "period", not self.period),
        ):
            if off and getattr(self, name) != getattr(JobWorldConfig, name):
                raise ValueError(
                    f"jobworld.{name} is {getattr(self, name)}, which has no effect where {part} is "
                    f"{getattr(self, part)!r}: leave it out, or set {part}."
                )
        check_job(
            self,
            "jobworld",
            f"jobs of {self.num_keys} keys and {self.num_answers} answers: choose a smaller number, or more keys",
        )

    @property
    def num_jobs(self) -> int:
        """How many jobs have a number: all A ** K codebooks, or 2 ** 30 of them."""
        return min(self.num_answers**self.num_keys, _MOST_JOBS)

    @property
    def num_aliased(self) -> int:
        """Keys that look the same, the last ones of all K: codebooks are random, so it does not matter which."""
        return round(self.aliased * self.num_keys)

    @property
    def num_actions(self) -> int:
        """A, and the look where there is anything to look at."""
        return self.num_answers + (self.num_aliased > 0)

    @property
    def deadline(self) -> int:
        """Decisions after which an unfinished episode is lost."""
        return self.chain_length + self.slack

    @property
    def error_delay(self) -> int:
        """Decisions lost by a wrong answer beyond the one it takes."""
        return self.detour if self.error == "detour" else 0

    @property
    def fatal_prob(self) -> float:
        """Probability that a wrong answer makes success impossible."""
        return self.dead_end_prob if self.error == "dead_end" else 0.0


def keys_asked(config: JobWorldConfig, number: int | jax.Array) -> jax.Array:
    """Returns [K / blocks] int32 the keys that job `number` asks."""
    size = config.num_keys // config.blocks
    return jnp.asarray(number, jnp.int32) % config.blocks * size + jnp.arange(size)


class Numbered(Protocol):
    """Settings of a world that is one of many jobs."""

    pool: str
    job: int | None
    num_jobs: int


def pool_jobs(config: Numbered) -> range:
    """Returns the job numbers of `config.pool`: pools are disjoint ranges, and together they are all numbers."""
    quarters = [config.num_jobs * quarter // 4 for quarter in POOLS[config.pool]]
    return range(*quarters)


def check_job(config: Numbered, name: str, of: str) -> None:
    """Refuses a pool that there is not, and a job that it does not hold; `of` says what there is of jobs, and what to
    do."""
    if config.pool not in POOLS:
        raise ValueError(f"{name}.pool is {config.pool!r}: choose one of {', '.join(POOLS)}.")
    jobs = pool_jobs(config)
    if (config.job or 0) not in range(len(jobs)):
        raise ValueError(f"{name}.job is {config.job}, but the pool {config.pool!r} holds {len(jobs)} of the {of}.")


def session_seed(seed: int | jax.Array, number: int | jax.Array) -> jax.Array:
    """Returns the uint32 seed of the session that a run of `seed` lives in job `number`."""
    return jax.random.bits(stream(seed, "job", number), dtype=jnp.uint32)


def codebook(config: JobWorldConfig, number: int | jax.Array) -> jax.Array:
    """Returns [K] int32, the right answer of each key in job `number`; different numbers give different codebooks.

    The number's digits to base A go through a Feistel network, whose every round adds to one half of them, modulo A,
    what a fixed function says of the other: a permutation of all codebooks whatever that function is ("How to
    construct pseudorandom permutations from pseudorandom functions", https://doi.org/10.1137/0217022; modulo A instead
    of 2, and a hash as function). So pools share no codebook, by construction.

    Args:
      config: K and A; nothing else is read.
      number: [] of `pool_jobs`; may be traced.
    """
    K, A = config.num_keys, config.num_answers
    # A power past the largest number is one that no number has a digit for.
    powers = np.array([min(A**place, _MOST_JOBS) for place in range(K)], np.uint32)
    digits = jnp.asarray(number, jnp.uint32) // powers % A
    left, right = digits[: K // 2], digits[K // 2 :]
    for turn in range(_ROUNDS):
        seen = _hash((right * _odd_powers(len(right))).sum(dtype=jnp.uint32) + np.uint32(turn))
        left, right = right, (left + _hash(seen + _odd_powers(len(left))) % A) % A
    return jnp.concatenate([left, right]).astype(jnp.int32)


def redrawn(config: JobWorldConfig, answers: jax.Array, *, number: jax.Array, episode: jax.Array) -> jax.Array:
    """Returns the codebook [K] that follows `answers` [K] in job `number` at the beginning of `episode` of a life."""
    redraw_key, answer_key = jax.random.split(stream(0, "redraw", number, episode))
    fresh = jax.random.randint(answer_key, answers.shape, 0, config.num_answers)
    return jnp.where(jax.random.bernoulli(redraw_key, config.redrawn_prob, answers.shape), fresh, answers)


def drifted(answers: jax.Array, *, num_changed: int, num_answers: int, key: jax.Array) -> jax.Array:
    """Returns the codebook [K] in which so many keys, drawn by `key`, have another answer than in `answers` [K]."""
    order_key, answer_key = jax.random.split(key)
    chosen = jax.random.permutation(order_key, len(answers)) < num_changed
    other = (answers + jax.random.randint(answer_key, answers.shape, 1, num_answers)) % num_answers
    return jnp.where(chosen, other, answers)


def _odd_powers(count: int) -> np.ndarray:
    """Returns [count] uint32, none of which vanishes in a product, so that every digit counts."""
    return np.array([pow(0x9E3779B1, place + 1, 2**32) for place in range(count)], np.uint32)


def _hash(bits: jax.Array) -> jax.Array:
    """Returns uint32s in which every bit depends on all 32 given: MurmurHash3's finaliser (public domain)."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        bits = (bits ^ (bits >> shift)) * np.uint32(factor)
    return bits ^ (bits >> 16)
