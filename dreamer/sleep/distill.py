"""Distillation: the search-free student is moved towards its teacher's policy.

Actions are few, so every divergence is an exact sum over all of them, and nothing is sampled. States come from the
student's own rollouts, as flat rows that say which trajectory they are of.

Letters: B batch, N states, A actions; leading axes [...] of any shape.
"""

import dataclasses
import math

import chex
import jax
import jax.numpy as jnp

from dreamer.core import divergences

STATE_WEIGHTS = ("uniform", "trust", "perplexity")


@dataclasses.dataclass(frozen=True)
class DistillConfig:
    """What the student loses where it differs from its teacher, and what it loses beside that."""

    beta: float = 0.0
    """Which divergence: 0 is forward KL(teacher || student), 1 is reverse KL(student || teacher), and between are the
    mixtures of `core.divergences.generalised_jsd`; 0.5 is the Jensen-Shannon divergence."""
    clip: float | None = None
    """Nats that one action may add to the divergence of a state at most, lest states in which little is at stake
    outvote the others; None does not clip."""
    state_weight: str = "uniform"
    """What a state counts for: `uniform` all the same; `trust` more where the teacher thinks more of what the student
    did than the student does; `perplexity` less in trajectories that the teacher would hardly have lived."""
    gate_scale: float = 5.0
    """Slope of `trust`, per nat."""
    perplexity_temperature: float = 1.0
    """Temperature of `perplexity`: PPL^(-1 / perplexity_temperature). A high one makes all trajectories equal."""
    anchor_weight: float = 0.0
    """Weight of staying with what the first agent played in a session of its pre-training; 0 forgets freely."""
    rehearsal_weight: float = 0.0
    """What each job before counts for against the present one: the student is held, in the states of the last part of
    that job's last day, to what it played there as the job ended. Functional regularisation ("Measuring and
    regularizing networks in function space", https://arxiv.org/abs/1805.08289: there the L2 norm of probabilities, here
    KL); its kin is dark experience replay (https://arxiv.org/abs/2004.07211), which keeps logits all along and needs no
    ends of jobs. 0 keeps none of them."""
    reinforce_weight: float = 0.0
    """Weight of a policy gradient on the same transitions' rewards; 0 learns from the teacher alone."""

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= 1:
            raise ValueError(f"distill.beta is {self.beta}: give 0 (forward KL) to 1 (reverse KL)")
        if self.clip is not None and not 0 < self.clip < math.inf:
            raise ValueError(f"distill.clip is {self.clip}: give nats above 0, or None to clip nothing")
        if self.state_weight not in STATE_WEIGHTS:
            raise ValueError(f"distill.state_weight is {self.state_weight!r}: give one of {', '.join(STATE_WEIGHTS)}")
        for name in ("gate_scale", "perplexity_temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"distill.{name} is {getattr(self, name)}: give a number above 0")
        for name in ("anchor_weight", "rehearsal_weight", "reinforce_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"distill.{name} is {getattr(self, name)}: give 0 (off) or more")
        for name, needed in (("gate_scale", "trust"), ("perplexity_temperature", "perplexity")):
            if self.state_weight != needed and getattr(self, name) != getattr(DistillConfig, name):
                raise ValueError(
                    f"distill.{name} is {getattr(self, name)}, which has no effect where state_weight is "
                    f"{self.state_weight!r}: leave it out, or give state_weight {needed}"
                )

    @property
    def max_entry(self) -> float:
        """`clip` as a number, for `distill_loss`: infinity where nothing is clipped."""
        return math.inf if self.clip is None else self.clip


def distill_loss(
    logits: jax.Array, policy: jax.Array, weight: jax.Array, *, beta: float = 0.0, clip: float = math.inf
) -> jax.Array:
    """Divergence of the student from the teacher's policy, [...], weighted row by row; by default forward KL.

    Forward KL is the policy term of "Policy improvement by planning with Gumbel"
    (https://openreview.net/forum?id=bERaNdoegnO). No gradient reaches the teacher.

    Args:
      logits: [..., A] the student's action logits.
      policy: [..., A] the teacher's probabilities.
      weight: [...] rows with weight 0 count for nothing.
      beta, clip: which divergence, as in `core.divergences.generalised_jsd`; static.
    """
    chex.assert_equal_shape([logits, policy])
    return weight * divergences.generalised_jsd(jax.lax.stop_gradient(policy), logits, beta=beta, clip=clip)


def trajectory_mean(values: jax.Array, trajectory: jax.Array, weight: jax.Array) -> jax.Array:
    """Returns [] the mean over trajectories of the weighted mean within each, so that long ones count no more.

    Trajectories without weight are left out; where none has any it is 0.

    Args:
      values: [N] anything, also not finite, where the weight is 0.
      trajectory: [N] int32 from 0 to N - 1, which trajectory each state is of; in any order.
      weight: [N] 0 or more, what a state counts for within its own trajectory, and no further: whatever is to count
        beside other trajectories, as `state_weights`, must be in `values` already.
    """
    means, totals = _means(values, trajectory, weight)
    counted = totals > 0
    return jnp.sum(jnp.where(counted, means, 0)) / jnp.maximum(jnp.sum(counted), 1)


def _means(values: jax.Array, trajectory: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns [N] the weighted mean of each trajectory, by id, 0 without weight; and [N] the sum of its weights."""
    chex.assert_rank(values, 1)
    chex.assert_equal_shape([values, trajectory, weight])
    weighted = weight * jnp.where(weight > 0, values, 0)
    sums, totals = (jax.ops.segment_sum(x, trajectory, num_segments=len(values)) for x in (weighted, weight))
    return sums / jnp.where(totals > 0, totals, 1), totals


def state_weights(
    config: DistillConfig,
    teacher_probs: jax.Array,
    student_logits: jax.Array,
    action: jax.Array,
    trajectory: jax.Array,
) -> jax.Array:
    """Returns [N] what each state's divergence is multiplied by, the `weight` of `distill_loss`; without gradient.

    * `uniform`: 1.
    * `trust`: sigmoid(gate_scale * (log p_T(a) - log p_S(a))) of the action a that was taken: 1/2 where they agree on
      it. The weight of a distillation beside a policy gradient in "Self-Distilled Agentic Reinforcement Learning"
      (SDAR, https://arxiv.org/abs/2605.15155).
    * `perplexity`: PPL^(-1 / temperature), the same for all states of a trajectory, where PPL = exp(mean of
      -log p_T(action taken)) is the teacher's perplexity on it. From "SCOPE: Signal-Calibrated On-Policy Distillation
      Enhancement with Dual-Path Adaptive Weighting" (https://arxiv.org/abs/2604.10688); there it is normalised over the
      failures under one prompt, and successes are cloned instead. Here it is as it stands, in [0, 1], on all.

    Args:
      config: which of them.
      teacher_probs: [N, A]
      student_logits: [N, A]; only `trust` asks the student.
      action: [N] int32 what the student did.
      trajectory: [N] int32 from 0 to N - 1, which trajectory each state is of.
    """
    chex.assert_rank(teacher_probs, 2)
    chex.assert_equal_shape([teacher_probs, student_logits])
    chex.assert_shape([action, trajectory], teacher_probs.shape[:1])
    if config.state_weight == "trust":
        logs = jnp.log(teacher_probs) - jax.nn.log_softmax(student_logits, axis=-1)
        weights = jax.nn.sigmoid(config.gate_scale * jnp.take_along_axis(logs, action[:, None], axis=-1)[:, 0])
    elif config.state_weight == "perplexity":
        taken = jnp.take_along_axis(teacher_probs, action[:, None], axis=-1)[:, 0]
        surprise, _ = _means(-jnp.log(taken), trajectory, jnp.ones_like(taken))
        weights = jnp.exp(-surprise / config.perplexity_temperature)[trajectory]
    else:
        weights = jnp.ones(action.shape)
    return jax.lax.stop_gradient(weights)
