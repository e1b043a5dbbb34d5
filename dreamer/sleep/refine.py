"""Trajectories refined before they are learned from: where an episode went wrong, and what of it to keep.

After a mistake the student is in states in which its teacher may be no teacher: one that it would never have come to,
whose label is a guess; or in which nothing more can be learned. "Trajectory-Refined Distillation" (TRD,
https://arxiv.org/abs/2606.08432) therefore has the teacher rewrite the trajectory, and distils along the rewrite. Here
it acts anew from the step where the harm was done.

Letters: T decisions; leading axes [...] of any shape; A actions.
"""

import dataclasses
import math

import chex
import jax
import jax.numpy as jnp

ARMS = ("raw", "truncate", "drop_failures", "rewrite", "recover", "fresh", "both")
"""What the student is trained on, T0 to T6, where t* is the first harmful step of an episode:

T0 `raw`: all its own states ("Self-Distilled Reasoner: On-Policy Self-Distillation for Large Language Models", OPSD,
  https://arxiv.org/abs/2601.18734).
T1 `truncate`: its own states up to and including t* ("Prune-OPD: Efficient and Reliable On-Policy Distillation for
  Long-Horizon Reasoning", https://arxiv.org/abs/2605.07804, and KAT, "Escaping the KL Agreement Trap in On-Policy
  Distillation", https://arxiv.org/abs/2606.09471, which end a rollout for other reasons).
T2 `drop_failures`: its own states of the episodes that succeed ("Filter, Then Reweight: Rethinking Optimization
  Granularity in On-Policy Distillation", https://arxiv.org/abs/2606.02684, which filters by the teacher's likelihood).
T3 `rewrite`: its own states before t*, and from t* on those of the teacher, who acts instead (TRD, whose teacher writes
  the whole anew).
T4 `recover`: its own states up to t*, and from the next on those of the teacher, who looks for a way out ("A Reduction
  of Imitation Learning and Structured Prediction to No-Regret Online Learning", DAgger,
  https://arxiv.org/abs/1011.0686, and ReTRy, "Distilling Realizable Students from Unrealizable Teachers",
  https://arxiv.org/abs/2505.09546).
T5 `fresh`: for each of its episodes one of the teacher's from the beginning, whatever the student did: better data, and
  no repair. The control.
T6 `both`: `rewrite` and `recover`, each state that the teacher came to weighted by how sure the dream of it is."""
DREAMED = ("rewrite", "recover", "fresh", "both")
"""The arms in which the teacher acts. That needs a rewind, which the real world does not give: it acts in the dream."""
_REPAIRED = ("rewrite", "recover", "both")
_HARMED = ("truncate", *_REPAIRED)


@dataclasses.dataclass(frozen=True)
class RefineConfig:
    """What becomes of the student's trajectories before it learns from them."""

    arm: str = "raw"
    """`raw`, `truncate`, `drop_failures`, `rewrite`, `recover`, `fresh` or `both`: T0 to T6 of `ARMS`."""
    harm: float = 0.1
    """Return that a decision may cost by the teacher's values, and is forgiven; the first that costs more is t*."""
    temperature: float = 0.1
    """Of the teacher's values, in return, as it repairs: near 0 it acts as seems best to it, far above as the student
    would."""

    def __post_init__(self) -> None:
        if self.arm not in ARMS:
            raise ValueError(f"refine.arm is {self.arm!r}: give one of {', '.join(ARMS)}")
        if not 0 <= self.harm < math.inf:
            raise ValueError(f"refine.harm is {self.harm}: give a return of 0 or more")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"refine.temperature is {self.temperature}: give a return above 0")
        for name, arms in (("harm", _HARMED), ("temperature", _REPAIRED)):
            if self.arm not in arms and getattr(self, name) != getattr(RefineConfig, name):
                raise ValueError(
                    f"refine.{name} is {getattr(self, name)}, which has no effect where arm is {self.arm!r}: leave it "
                    f"out, or give arm {' or '.join(arms)}"
                )

    @property
    def dreams(self) -> bool:
        """Whether the teacher acts in a dream."""
        return self.arm in DREAMED


def first_harm(advantage: jax.Array, ended: jax.Array, delta: float | jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns `harm` [T, ...] bool, True at t* of each episode, and `after` [T, ...] bool, True behind t* in it.

    t* is the first step of an episode whose advantage is below -delta; an episode without one has neither. What came
    before row 0 is not known: the rows up to the first end of each copy count as a whole episode.

    Args:
      advantage: [T, ...] the teacher's A_T(s, a) = Q_T(s, a) - V_T(s) of what was done, in reward units.
      ended: [T, ...] bool, this step is the last of its episode, terminated or truncated.
      delta: [] harm that is forgiven, in reward units, at least 0.
    """
    chex.assert_equal_shape([advantage, ended])

    def step(before: jax.Array, row: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        bad, last = row
        return (before | bad) & ~last, (bad & ~before, before)

    unharmed = jnp.zeros(advantage.shape[1:], bool)
    _, (harm, after) = jax.lax.scan(step, unharmed, (advantage < -delta, ended))
    return harm, after


def repair_policy(student_logits: jax.Array, q: jax.Array, temperature: float | jax.Array) -> jax.Array:
    """Returns [..., A] logits of the policy in proportion to pi_S exp(Q_T / temperature): how the teacher repairs.

    Of all policies it has the most E[Q_T] - temperature KL(pi || pi_S), so it repairs with the least change: from the
    student at a high temperature to the greedy teacher at a low one. The closed form of "Maximum a Posteriori Policy
    Optimisation" (https://arxiv.org/abs/1806.06920), and, with other scales of Q, the improved policy of "Policy
    improvement by planning with Gumbel" (https://openreview.net/forum?id=bERaNdoegnO).

    Args:
      student_logits: [..., A]; what has probability 0 in floats keeps it, whatever the teacher thinks of it.
      q: [..., A] the teacher's values, in reward units; arbitrary where the student's probability is 0.
      temperature: [] above 0, in reward units.
    """
    chex.assert_equal_shape([student_logits, q])
    possible = jax.nn.softmax(student_logits, axis=-1) > 0
    # The best possible value comes off first: whatever the temperature, one exponent is 0 and none is above.
    best = jnp.max(jnp.where(possible, q, -jnp.inf), axis=-1, keepdims=True)
    repaired = jax.nn.log_softmax(student_logits, axis=-1) + (q - best) / temperature
    return jax.nn.log_softmax(jnp.where(possible, repaired, -jnp.inf), axis=-1)
