"""The search-free student: a policy head and a categorical value head on the world model's latent.

Letters: D latent size, A actions.
"""

import dataclasses

import flax.linen as nn
import jax

from dreamer.core import supports
from dreamer.core.ports import Agent
from dreamer.core.types import EnvSpec, Evaluation, PyTree, Transition


@dataclasses.dataclass(frozen=True)
class ActorCriticConfig:
    """Sizes of the agent."""

    hidden_size: int = 128
    """Width of the one hidden layer of each head."""
    value_support: supports.Support = supports.Support(-20.0, 20.0, 81, "signed_sqrt")
    """Atoms of the value head."""

    def __post_init__(self) -> None:
        if self.hidden_size < 1:
            raise ValueError(f"agent.hidden_size is {self.hidden_size}: give a positive width")


class Heads(nn.Module):
    """Latent [..., D] -> policy logits [..., A], value logits [..., bins]; both exactly uniform before learning."""

    config: ActorCriticConfig
    num_actions: int

    @nn.compact
    def __call__(self, latent: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns policy logits and value logits."""
        logits = []
        for size in (self.num_actions, self.config.value_support.num_bins):
            hidden = nn.relu(nn.LayerNorm()(nn.Dense(self.config.hidden_size)(latent)))
            logits.append(nn.Dense(size, kernel_init=nn.initializers.zeros)(hidden))
        return logits[0], logits[1]


def make_actor_critic(spec: EnvSpec, config: ActorCriticConfig) -> Agent:
    """Returns the memoryless agent for environments of `spec`."""
    heads = Heads(config, spec.num_actions)

    def evaluate(params: PyTree, memory: PyTree, latent: jax.Array) -> Evaluation:
        del memory
        logits, value_logits = heads.apply(params, latent)
        return Evaluation(logits, supports.expectation(config.value_support, value_logits), value_logits)

    def value_loss(evaluation: Evaluation, target: jax.Array) -> jax.Array:
        return supports.cross_entropy(config.value_support, evaluation.value_logits, target)

    def remember(params: PyTree, memory: PyTree, transition: Transition) -> PyTree:
        del params, transition
        return memory

    return Agent(init=heads.init, evaluate=evaluate, value_loss=value_loss, remember=remember)
