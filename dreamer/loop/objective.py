"""What a night of sessions minimises: the distance to a teacher, and what it is held against.

Letters: T decisions, N states that a night learns from, A actions.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from dreamer.core import divergences
from dreamer.core.ports import SessionAgent
from dreamer.core.types import Metrics, PyTree
from dreamer.loop.refinement import Rows
from dreamer.loop.rehearsal import Rehearsed, strayed
from dreamer.sleep import reinforce
from dreamer.sleep.carriers import Carrier
from dreamer.sleep.distill import DistillConfig, distill_loss, state_weights, trajectory_mean


def make_loss(
    slot: SessionAgent, objective: str, distill: DistillConfig, carrier: Carrier, *, credit_window: int = 0
) -> Callable:
    """Returns the pure `loss(learned, first, rows, before, policy, old, rehearsed)` -> (loss of a night [], metrics).

    Args:
      slot: the agent.
      objective: of `OBJECTIVES` of the nights.
      distill: how the student is moved.
      carrier: what of it is learned.
      credit_window: how many decisions' rewards count for one beside its own; 0 counts those of its episode.

    Args of the function:
      learned: of the student, as the carrier has it.
      first: parameters of the agent that was deployed first.
      rows: [N] what it learns from.
      before: [N, A] logits of who was deployed by day.
      policy: [N, A] probabilities of the teacher; () where the objective is not `distil`.
      old: as `make_day_and_night` says; () without an anchor.
      rehearsed: of the jobs before; () where they are not rehearsed.
    """

    def mean_of(terms: jax.Array, rows: Rows, counted: jax.Array) -> jax.Array:
        """Returns [] the mean over the episodes [N] that count of the means over those of their states that do."""
        return trajectory_mean(terms, rows.trajectory, rows.kept * counted[rows.trajectory])

    def own_returns(logits: jax.Array, rows: Rows, before: jax.Array) -> jax.Array:
        if credit_window:  # all decisions of the day are one group
            total, known = reinforce.windowed_returns(rows.lived.reward, credit_window)
            advantage = reinforce.group_advantage(total, jnp.where(known, 0, 1))
            terms = reinforce.reinforce_loss(logits, rows.lived.action, advantage, before=before)
            return jnp.where(known, terms, 0).sum() / known.sum()
        # One job: all of its whole episodes are one group. What did not come to its end has no return.
        advantage = reinforce.group_advantage(rows.total, jnp.where(rows.whole, 0, 1))
        terms = reinforce.reinforce_loss(logits, rows.lived.action, advantage[rows.trajectory], before=before)
        return mean_of(terms, rows, rows.whole)

    def towards_teacher(logits: jax.Array, rows: Rows, policy: jax.Array) -> jax.Array:
        weight = state_weights(distill, policy, logits, rows.lived.action, rows.trajectory)
        terms = distill_loss(logits, policy, weight * rows.certainty, beta=distill.beta, clip=distill.max_entry)
        return mean_of(terms, rows, jnp.ones_like(rows.whole))

    def cloned(logits: jax.Array, rows: Rows) -> jax.Array:
        good = rows.whole & (rows.total > 0)
        counted = jnp.ones_like(good) if objective == "clone" else good
        return mean_of(reinforce.clone_loss(logits, rows.lived.action), rows, counted)

    def loss(
        learned: PyTree,
        *,
        first: PyTree,
        rows: Rows,
        before: jax.Array,
        policy: jax.Array | tuple,
        old: tuple,
        rehearsed: Rehearsed | tuple,
    ) -> tuple[jax.Array, Metrics]:
        student = carrier.carried(learned, first)
        logits = student.logits_at(slot.agent, rows.lived.obs)
        kept = rows.kept / jnp.maximum(rows.kept.sum(), 1)
        metrics = {
            "entropy": (kept * divergences.entropy(logits)).sum(),
            "moved_kl": (kept * divergences.forward_kl(jax.nn.softmax(before), logits)).sum(),
        }
        if objective == "distil":
            total = towards_teacher(logits, rows, policy)
            metrics["teacher_kl"] = (kept * divergences.forward_kl(policy, logits)).sum()
        elif objective == "reinforce":
            total = own_returns(logits, rows, before)
        else:
            total = cloned(logits, rows)
        if distill.reinforce_weight and objective != "reinforce":
            total = total + distill.reinforce_weight * own_returns(logits, rows, before)
        if distill.anchor_weight:
            session, played = old
            held = divergences.forward_kl(played, slot.read_one(student.params, session)).mean()
            total = total + distill.anchor_weight * held
            metrics["anchor_kl"] = held
        if distill.rehearsal_weight:
            nats = strayed(slot, rehearsed, student).sum()
            total = total + distill.rehearsal_weight * nats
            metrics["rehearsal_kl"] = nats / jnp.maximum(rehearsed.num_ended, 1)
        return total, metrics | {"loss": total}

    return loss
