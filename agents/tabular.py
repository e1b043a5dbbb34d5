"""A policy and a value for each state, behind the agent port: no network between an idea and its effect.

With `world_models.tabular`, whose latent is the state's number, every quantity of a night can be worked out by hand.
Letters: B batch, S states, A actions.
"""

import jax
import jax.numpy as jnp

from dreamer.core.ports import Agent
from dreamer.core.types import Evaluation, PyTree, Transition


def make_tabular_agent(num_states: int, num_actions: int) -> Agent:
    """Returns the memoryless agent whose params are `{"logits": [S, A], "value": [S]}`, zeros before learning.

    The value is learned by half the squared error, so `Evaluation.value_logits` is [..., 1], the value itself.
    """

    def init(key: jax.Array, latent: jax.Array) -> PyTree:
        del key, latent
        return {"logits": jnp.zeros((num_states, num_actions)), "value": jnp.zeros(num_states)}

    def evaluate(params: PyTree, memory: PyTree, latent: jax.Array) -> Evaluation:
        del memory
        value = params["value"][latent]
        return Evaluation(params["logits"][latent], value, value[..., None])

    def value_loss(evaluation: Evaluation, target: jax.Array) -> jax.Array:
        return 0.5 * (evaluation.value_logits[..., 0] - target) ** 2

    def remember(params: PyTree, memory: PyTree, transition: Transition) -> PyTree:
        del params, transition
        return memory

    return Agent(init=init, evaluate=evaluate, value_loss=value_loss, remember=remember)
