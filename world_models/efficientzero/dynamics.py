"""One dreamed step: how an action moves the latent, and what reward and continuation are read off where it leads.

Letters: B batch, D latent size, h x w cells, C channels, A actions, H horizon of the value prefix.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from dreamer.core import supports
from dreamer.core.types import Latent
from world_models.efficientzero.config import EfficientZeroConfig
from world_models.efficientzero.representation import ResidualBlock
from world_models.layers import ConvBlock, conv_norm, hidden, reduced


@struct.dataclass
class Prefix:
    """The value prefix so far: what a latent carries beside its state, so that search and unroll cannot differ."""

    cell: tuple[jax.Array, jax.Array]
    """The LSTM's two states, [B, lstm_size] each."""
    value: jax.Array
    """[B] float32 rewards of the dream since its last restart, added up, in reward units."""
    depth: jax.Array
    """[B] int32 dreamed steps since the observed state."""


def first_prefix(config: EfficientZeroConfig, batch_size: int) -> Prefix | tuple:
    """Returns what an observed latent carries: nothing lived yet, or () where each reward stands alone."""
    if not config.value_prefix:
        return ()
    zeros = jnp.zeros((batch_size, config.lstm_size), config.compute_dtype)
    return Prefix((zeros, zeros), jnp.zeros(batch_size), jnp.zeros(batch_size, jnp.int32))


def prefix_targets(reward: jax.Array, horizon: int) -> jax.Array:
    """Returns [B, K] undiscounted sums of `reward` [B, K] up to each step, each row restarted every `horizon` steps."""
    num_rows, num_steps = reward.shape
    chunks = jnp.pad(reward, ((0, 0), (0, -num_steps % horizon))).reshape(num_rows, -1, horizon)
    return jnp.cumsum(chunks, axis=2).reshape(num_rows, -1)[:, :num_steps]


def restarted(prefix: Prefix, horizon: int) -> Prefix:
    """Returns the prefix that the next step adds to: nothing yet at every `horizon`-th depth, counted from 0."""
    anew = prefix.depth % horizon == 0
    cell = jax.tree.map(lambda x: jnp.where(anew[:, None], 0, x), prefix.cell)
    return prefix.replace(cell=cell, value=jnp.where(anew, 0, prefix.value))


class Dynamics(nn.Module):
    """(latent [B], action [B]) -> (latent, reward [B], reward logits [B, bins], going-on logit [B]).

    With a value prefix the logits are of the sum, and the reward is what this step added to it, in reward units.
    """

    config: EfficientZeroConfig
    num_actions: int

    @nn.compact
    def __call__(self, latent: Latent, action: jax.Array) -> tuple[Latent, jax.Array, jax.Array, jax.Array]:
        """Returns the next latent, the reward, its logits and the logit of going on."""
        config, dtype, is_grid = self.config, jnp.dtype(self.config.compute_dtype), self.config.torso == "residual"
        state = (_move_grid if is_grid else _move_vector)(config, latent.state, action, self.num_actions)
        # EfficientZero halves the gradient that arrives at each dreamed latent, from all heads and later steps alike.
        state = 0.5 * state + 0.5 * jax.lax.stop_gradient(state)
        if is_grid:
            earned, alive = (reduced(state, config.reduced_channels, dtype) for _ in range(2))
        else:
            earned = alive = hidden(state, config.hidden_size, dtype)
        if config.value_prefix:
            before = restarted(latent.recurrent, config.value_prefix)
            cell, earned = nn.OptimizedLSTMCell(config.lstm_size, dtype=dtype)(before.cell, earned)
            earned = nn.relu(nn.LayerNorm(dtype=dtype)(earned))
        if is_grid:
            earned, alive = (hidden(x, config.hidden_size, dtype) for x in (earned, alive))
        reward_logits = nn.Dense(config.reward_support.num_bins, kernel_init=nn.initializers.zeros)(earned)
        continuation_logit = nn.Dense(1, kernel_init=nn.initializers.zeros)(alive)[..., 0]
        reward = supports.expectation(config.reward_support, reward_logits)
        if not config.value_prefix:
            return Latent(state), reward, reward_logits, continuation_logit
        recurrent = Prefix(jax.tree.map(lambda x: x.astype(dtype), cell), reward, before.depth + 1)
        return Latent(state, recurrent), reward - before.value, reward_logits, continuation_logit


def _move_vector(config: EfficientZeroConfig, state: jax.Array, action: jax.Array, num_actions: int) -> jax.Array:
    """Returns the next state [B, D], as part of the module that calls it."""
    dtype = jnp.dtype(config.compute_dtype)
    shown = jax.nn.one_hot(action, num_actions)
    if config.action_embedding:
        shown = hidden(shown, config.action_embedding, dtype)
    x = hidden(jnp.concatenate([state, shown], axis=-1), config.hidden_size, dtype)
    x = state + nn.Dense(config.latent_size, dtype=dtype)(x)
    for _ in range(config.num_blocks):
        x = ResidualBlock(config.hidden_size, dtype)(x)
    return nn.LayerNorm(use_scale=False, use_bias=False, dtype=dtype)(x)


def _move_grid(config: EfficientZeroConfig, state: jax.Array, action: jax.Array, num_actions: int) -> jax.Array:
    """Returns the next state [B, h, w, C], as part of the module that calls it."""
    dtype = jnp.dtype(config.compute_dtype)
    shown = (action / num_actions).astype(dtype)[:, None]
    if config.action_embedding:
        # One cell speaks for the plane, whose cells are equal. Were the bias 0 at first, the norm would make all
        # actions but the first look alike: one number times a vector. Both are drawn as the papers' library does.
        init = nn.initializers.uniform(2.0)
        dense = nn.Dense(
            config.action_embedding,
            dtype=dtype,
            kernel_init=lambda *args: init(*args) - 1.0,
            bias_init=lambda *args: init(*args) - 1.0,
        )
        shown = nn.relu(nn.LayerNorm(dtype=dtype)(dense(shown)))
    plane = jnp.broadcast_to(shown[:, None, None], (*state.shape[:-1], shown.shape[-1]))
    x = conv_norm(jnp.concatenate([state, plane], axis=-1), config.num_channels, dtype=dtype)
    x = nn.relu(x + state)
    for _ in range(config.num_blocks):
        x = ConvBlock(config.num_channels, dtype=dtype)(x)
    return x
