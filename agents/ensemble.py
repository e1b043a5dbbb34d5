"""A head for each member of an ensemble of models: they act as one, and each keeps its own opinion of a value.

Letters: B batch, M members, A actions.
"""

import jax
import jax.numpy as jnp

from dreamer.core.ports import Agent
from dreamer.core.types import Evaluation, PyTree
from world_models.layers import mean_of_members


def make_ensemble(agent: Agent, num_members: int) -> Agent:
    """Returns the agent on the latents [B, M, ...] of `world_models.ensemble`; its params lead with [M].

    Logits are the mean of the members' log-probabilities, so the policy is learned as one; the value is the mean of
    theirs, and its loss is each member's own, and then the mean. The gradients are those of sums: members that agree
    learn as one that is alone, however many they are.

    Args:
      agent: one member, without memory.
      num_members: M.
    """

    def init(key: jax.Array, latent: PyTree) -> PyTree:
        return jax.vmap(agent.init, (0, 1))(jax.random.split(key, num_members), latent)

    def evaluate(params: PyTree, memory: PyTree, latent: PyTree) -> Evaluation:
        each = jax.vmap(agent.evaluate, (0, None, 1), 1)(params, memory, latent)
        logits = mean_of_members(jax.nn.log_softmax(each.logits), 1)
        return Evaluation(logits, each.value.mean(axis=1), each.value_logits, each.value)

    def value_loss(evaluation: Evaluation, target: jax.Array) -> jax.Array:
        targets = jnp.broadcast_to(target[..., None], evaluation.values.shape)
        own = Evaluation(evaluation.logits, evaluation.values, evaluation.value_logits)
        return mean_of_members(agent.value_loss(own, targets), -1)

    return Agent(init=init, evaluate=evaluate, value_loss=value_loss, remember=agent.remember)
