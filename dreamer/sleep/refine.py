"""Trajectories refined before they are learned from: where an episode went wrong, and what of it to keep.

After a mistake the student is in states in which its teacher may be no teacher: one that it would never have come to,
whose label is a guess. "Trajectory-Refined Distillation" (TRD, https://arxiv.org/abs/2606.08432) therefore has the
teacher rewrite the trajectory, and distils along the rewrite. Here it acts anew from the step where the harm was done.

Letters: T decisions, E environment copies, A actions; leading axes [...] of any shape.
"""

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
T3 `rewrite`: from the state of t* on, the teacher acts instead (TRD, whose teacher writes the whole anew).
T4 `recover`: from the state after t* on, the teacher finds a way out ("A Reduction of Imitation Learning and Structured
  Prediction to No-Regret Online Learning", DAgger, https://arxiv.org/abs/1011.0686, and ReTRy, "Distilling Realizable
  Students from Unrealizable Teachers", https://arxiv.org/abs/2505.09546).
T5 `fresh`: the teacher acts from the beginning, whatever the student did: better data, and no repair. The control.
T6 `both`: `rewrite` and `recover`."""
OWN_STATES = ARMS[:3]
"""The arms whose states are the student's own; those of the others are lived or dreamed by the teacher."""


def first_harm(advantage: jax.Array, ended: jax.Array, delta: float | jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns `harm` [T, E] bool, True at t* of each episode, and `after` [T, E] bool, True behind t* in its episode.

    t* is the first step of an episode whose advantage is below -delta; an episode without one has neither. What came
    before row 0 is not known: the rows up to the first end of each copy count as a whole episode.

    Args:
      advantage: [T, E] the teacher's A_T(s, a) = Q_T(s, a) - V_T(s) of what was done, in reward units.
      ended: [T, E] bool, this step is the last of its episode, terminated or truncated.
      delta: [] harm that is forgiven, in reward units, at least 0.
    """
    chex.assert_rank(advantage, 2)
    chex.assert_equal_shape([advantage, ended])

    def step(before: jax.Array, row: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        bad, last = row
        return (before | bad) & ~last, (bad & ~before, before)

    unharmed = jnp.zeros(advantage.shape[1:], bool)
    _, (harm, after) = jax.lax.scan(step, unharmed, (advantage < -delta, ended))
    return harm, after


def of_episode(at_end: jax.Array, ended: jax.Array) -> jax.Array:
    """Returns [T, E] bool, at every step what is True of its episode's last: how `kept` wants to know of success.

    Args:
      at_end: [T, E] bool, looked at where an episode ended.
      ended: [T, E] bool, as in `first_harm`. An episode that is still going on at row T - 1 gives False.
    """
    chex.assert_rank(ended, 2)
    chex.assert_equal_shape([at_end, ended])

    def step(later: jax.Array, row: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        said, last = row
        now = jnp.where(last, said, later)
        return now, now

    return jax.lax.scan(step, jnp.zeros(ended.shape[1:], bool), (at_end, ended), reverse=True)[1]


def kept(arm: str, harm: jax.Array, after: jax.Array, success: jax.Array) -> jax.Array:
    """Returns [T, E] float32, 1 for those of the student's own states that an arm learns from, 0 for the others.

    Args:
      arm: one of `ARMS`, static. Those that are not in `OWN_STATES` keep none.
      harm, after: [T, E] bool, from `first_harm`; t* itself is kept, so of `harm` only the shape is looked at.
      success: [T, E] bool, True at all steps of an episode that succeeds, from `of_episode`.

    Raises:
      ValueError: no such arm.
    """
    chex.assert_equal_shape([harm, after, success])
    if arm not in ARMS:
        raise ValueError(f"kept: arm is {arm!r}: give one of {', '.join(ARMS)}")
    everything = jnp.ones(harm.shape, bool)
    own = {"raw": everything, "truncate": ~after, "drop_failures": success}
    return own.get(arm, ~everything).astype(jnp.float32)


def repair_policy(student_logits: jax.Array, q: jax.Array, temperature: float | jax.Array) -> jax.Array:
    """Returns [..., A] probabilities in proportion to pi_S exp(Q_T / temperature): how the teacher acts in a rewrite.

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
    return jax.nn.softmax(jnp.where(possible, repaired, -jnp.inf), axis=-1)
