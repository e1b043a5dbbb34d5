"""The search-free student: a policy head and a categorical value head on the world model's latent.

Letters: B batch, D latent size, h x w cells, C channels, A actions.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from dreamer.core import supports
from dreamer.core.ports import Agent
from dreamer.core.types import EnvSpec, Evaluation, Latent, PyTree, Transition
from world_models.layers import COMPUTE_DTYPES, ConvBlock, hidden, reduced


@dataclasses.dataclass(frozen=True)
class ActorCriticConfig:
    """Sizes of the agent."""

    hidden_size: int = 128
    """Width of the one hidden layer of each head (32 in EfficientZero)."""
    reduced_channels: int = 16
    """Channels that each head reduces a cell to before it reads the grid as a whole, for latents that are grids."""
    value_support: supports.Support = supports.Support(-20.0, 20.0, 81, "signed_sqrt")
    """Atoms of the value head."""
    compute_dtype: str = "float32"
    """What hidden layers compute in: `float32` or `bfloat16`. Parameters and what comes out are float32 either way."""

    def __post_init__(self) -> None:
        for name in ("hidden_size", "reduced_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"agent.{name} is {getattr(self, name)}: give a positive width")
        if self.compute_dtype not in COMPUTE_DTYPES:
            raise ValueError(f"agent.compute_dtype is {self.compute_dtype!r}: give one of {', '.join(COMPUTE_DTYPES)}")


class Heads(nn.Module):
    """Latent -> policy logits [B, A], value logits [B, bins]; both exactly uniform before learning.

    A state that is a grid [B, h, w, C] passes one residual block for both heads, as in EfficientZero; a vector [B, D]
    is read as it is.
    """

    config: ActorCriticConfig
    num_actions: int

    @nn.compact
    def __call__(self, latent: Latent) -> tuple[jax.Array, jax.Array]:
        """Returns policy logits and value logits."""
        x, dtype = latent.state, jnp.dtype(self.config.compute_dtype)
        is_grid = x.ndim == 4
        if is_grid:
            x = ConvBlock(x.shape[-1], dtype=dtype)(x)
        logits = []
        for size in (self.num_actions, self.config.value_support.num_bins):
            features = reduced(x, self.config.reduced_channels, dtype) if is_grid else x
            outcome = hidden(features, self.config.hidden_size, dtype)
            logits.append(nn.Dense(size, kernel_init=nn.initializers.zeros)(outcome))
        return logits[0], logits[1]


def make_actor_critic(spec: EnvSpec, config: ActorCriticConfig) -> Agent:
    """Returns the memoryless agent for environments of `spec`, on models whose latent is a `Latent`."""
    heads = Heads(config, spec.num_actions)

    def evaluate(params: PyTree, memory: PyTree, latent: Latent) -> Evaluation:
        del memory
        logits, value_logits = heads.apply(params, latent)
        return Evaluation(logits, supports.expectation(config.value_support, value_logits), value_logits)

    def value_loss(evaluation: Evaluation, target: jax.Array) -> jax.Array:
        return supports.cross_entropy(config.value_support, evaluation.value_logits, target)

    def remember(params: PyTree, memory: PyTree, transition: Transition) -> PyTree:
        del params, transition
        return memory

    return Agent(init=heads.init, evaluate=evaluate, value_loss=value_loss, remember=remember)
