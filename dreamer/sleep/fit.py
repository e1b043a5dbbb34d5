"""The loss of the night: world model, policy and value along one unroll from replayed states.

Letters: B batch, K unroll steps, A actions.
"""

import dataclasses

import jax

from dreamer.core.ports import Agent, WorldModel
from dreamer.core.types import DreamTargets, Metrics, Params, PyTree, SequenceBatch
from dreamer.sleep.distill import distill_loss


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """Weights of the agent's losses; the world model weighs its own."""

    policy_weight: float = 1.0
    """Weight of the distillation of search into the policy."""
    value_weight: float = 0.25
    """Weight of the value cross-entropy."""

    def __post_init__(self) -> None:
        for name in ("policy_weight", "value_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"fit.{name} is {getattr(self, name)}: give 0 (off) or a positive weight")


def fit_loss(
    params: Params,
    key: jax.Array,
    batch: SequenceBatch,
    targets: DreamTargets,
    *,
    model: WorldModel,
    agent: Agent,
    config: FitConfig,
) -> tuple[jax.Array, tuple[Metrics, jax.Array]]:
    """Returns the scalar loss, and (metrics, [B] weighted absolute value error of the first state, for priorities).

    The model's latents carry their own half-gradient; the loss is the mean over K + 1 positions and B rows, weighted
    by importance.
    """
    latents, model_loss, metrics = model.unroll(params.model, key, batch)
    loss, error, found = agent_loss(params, latents, targets, agent=agent, config=config)
    loss = (batch.weight * (model_loss + loss)).mean()
    return loss, (metrics | found | {"loss": loss}, error)


def agent_loss(
    params: Params, latents: PyTree, targets: DreamTargets, *, agent: Agent, config: FitConfig
) -> tuple[jax.Array, jax.Array, Metrics]:
    """Returns the loss [B] of policy and value on latents [B, P, ...], the mean over the P states of each row.

    And [B] the weighted absolute value error of the first state, and metrics.
    """
    evaluation = jax.vmap(lambda latent: agent.evaluate(params.agent, (), latent), 1, 1)(latents)
    policy_loss = distill_loss(evaluation.logits, targets.policy, targets.policy_weight)
    value_loss = targets.value_weight * agent.value_loss(evaluation, targets.value)
    loss = (config.policy_weight * policy_loss + config.value_weight * value_loss).mean(axis=1)
    # A row whose value is not learned from would keep its error, and be drawn for ever.
    error = jax.lax.stop_gradient(targets.value_weight[:, 0] * abs(evaluation.value[:, 0] - targets.value[:, 0]))
    metrics = {
        "policy_loss": policy_loss.sum() / (targets.policy_weight.sum() + 1e-8),
        "value_loss": value_loss.mean(),
        "value_error": error.mean(),
        "value_target": targets.value[:, 0].mean(),
    }
    return loss, error, metrics
