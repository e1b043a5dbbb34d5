"""EfficientZero's latent model for vectors and small images, with the continuation head the original lacks.

"Mastering Atari Games with Limited Data" (https://arxiv.org/abs/2111.00210) and "EfficientZero V2"
(https://arxiv.org/abs/2403.00564). Deviations: LayerNorm instead of BatchNorm (nothing to thread through search and
unrolls), a learned probability that life goes on (the originals never predict an end, so their search dreams of life
after death), and reward per step rather than a value prefix.

Letters: B batch, K unroll steps, L rows of a sequence (L >= K), A actions, D latent size.
"""

import dataclasses

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from dreamer.core import supports
from dreamer.core.ports import WorldModel
from dreamer.core.types import EnvSpec, Metrics, PyTree, SequenceBatch

_SMALLEST_GRID = 5  # cells a side; a 3 x 3 board would be convolved into a single cell
_LARGEST_GRID = 10  # cells a side; larger images are halved by further convolutions until they fit


@dataclasses.dataclass(frozen=True)
class EfficientZeroConfig:
    """Sizes and loss weights of the model."""

    latent_size: int = 128
    """D, width of the latent."""
    hidden_size: int = 128
    """Width of every hidden layer."""
    num_blocks: int = 1
    """Residual blocks in the encoder and in the dynamics."""
    num_channels: int = 16
    """Channels of the convolutional encoder, for image observations [H, W, C]."""
    projection_size: int = 128
    """Width of the consistency projection."""
    reward_support: supports.Support = supports.Support(-4.0, 4.0, 33, "signed_sqrt")
    """Atoms of the reward head."""
    reward_weight: float = 1.0
    """Weight of the reward cross-entropy."""
    continuation_weight: float = 1.0
    """Weight of the continuation cross-entropy."""
    consistency_weight: float = 2.0
    """Weight of the SimSiam-style consistency between dreamed and observed latents."""

    def __post_init__(self) -> None:
        for name in ("latent_size", "hidden_size", "num_channels", "projection_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"model.{name} is {getattr(self, name)}: give a positive width")
        if self.num_blocks < 0:
            raise ValueError(f"model.num_blocks is {self.num_blocks}: give 0 or more")
        for name in ("reward_weight", "continuation_weight", "consistency_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"model.{name} is {getattr(self, name)}: give 0 (off) or a positive weight")


class ResidualBlock(nn.Module):
    """x + MLP(LayerNorm(x)), the shape kept."""

    hidden_size: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the block's output, of the shape of `x` [..., width]."""
        y = nn.relu(nn.Dense(self.hidden_size)(nn.LayerNorm()(x)))
        return x + nn.Dense(x.shape[-1])(y)


class Encoder(nn.Module):
    """Representation: observation [B, *obs_shape] -> latent [B, D]; images are convolved first."""

    config: EfficientZeroConfig
    obs_rank: int

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        """Returns the latent of an observation."""
        is_byte = obs.dtype == jnp.uint8
        x = obs.astype(jnp.float32) / (255.0 if is_byte else 1.0)
        if self.obs_rank == 3:
            padding = "VALID" if min(x.shape[-3:-1]) > _SMALLEST_GRID else "SAME"
            x = nn.relu(nn.LayerNorm()(nn.Conv(self.config.num_channels, (3, 3), padding=padding)(x)))
            while max(x.shape[-3:-1]) > _LARGEST_GRID:
                x = nn.relu(nn.LayerNorm()(nn.Conv(self.config.num_channels, (3, 3), strides=2)(x)))
        else:
            x = x if obs.dtype == jnp.bool_ or is_byte else at_several_scales(x)
        x = x.reshape(*x.shape[: x.ndim - self.obs_rank], -1)
        x = nn.relu(nn.LayerNorm()(nn.Dense(self.config.hidden_size)(x)))
        x = nn.Dense(self.config.latent_size)(x)
        for _ in range(self.config.num_blocks):
            x = ResidualBlock(self.config.hidden_size)(x)
        return nn.LayerNorm(use_scale=False, use_bias=False)(x)


class Dynamics(nn.Module):
    """One dreamed step: (latent [B, D], action [B]) -> (latent [B, D], reward logits [B, bins], going-on logit [B])."""

    config: EfficientZeroConfig
    num_actions: int

    @nn.compact
    def __call__(self, latent: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns the next latent, reward logits and the logit of going on."""
        x = jnp.concatenate([latent, jax.nn.one_hot(action, self.num_actions)], axis=-1)
        x = nn.relu(nn.LayerNorm()(nn.Dense(self.config.hidden_size)(x)))
        x = latent + nn.Dense(self.config.latent_size)(x)
        for _ in range(self.config.num_blocks):
            x = ResidualBlock(self.config.hidden_size)(x)
        x = nn.LayerNorm(use_scale=False, use_bias=False)(x)
        # EfficientZero halves the gradient that arrives at each dreamed latent, from all heads and later steps alike.
        x = 0.5 * x + 0.5 * jax.lax.stop_gradient(x)
        outcome = nn.relu(nn.LayerNorm()(nn.Dense(self.config.hidden_size)(x)))
        reward_logits = nn.Dense(self.config.reward_support.num_bins, kernel_init=nn.initializers.zeros)(outcome)
        continuation_logit = nn.Dense(1, kernel_init=nn.initializers.zeros)(outcome)[..., 0]
        return x, reward_logits, continuation_logit


class Projector(nn.Module):
    """SimSiam's projection of both branches, and the predictor of the dreamed branch alone."""

    size: int

    def setup(self) -> None:
        """Makes the layers, which two methods share."""
        self.projection = nn.Sequential([nn.Dense(self.size), nn.LayerNorm(), nn.relu, nn.Dense(self.size)])
        self.normalise = nn.LayerNorm()
        self.prediction = nn.Sequential([nn.Dense(self.size), nn.LayerNorm(), nn.relu, nn.Dense(self.size)])

    def __call__(self, latent: jax.Array) -> jax.Array:
        """Returns the prediction [..., size] that the dreamed branch makes of the observed one."""
        return self.prediction(self.project(latent))

    def project(self, latent: jax.Array) -> jax.Array:
        """Returns the projection [..., size] of the observed branch."""
        return self.normalise(self.projection(latent))


def at_several_scales(x: jax.Array) -> jax.Array:
    """Returns [..., 4 * n] the numbers of `x` [..., n] seen at several scales, for vectors in unknown units.

    Without running statistics a coordinate that lives within 0.2 would drown beside one that lives within 3: CartPole's
    angle does, and its end at 0.21 goes unseen. Steeper squashings magnify the small, symlog keeps the large apart.
    """
    return jnp.concatenate([supports.symlog(x), *(jnp.tanh(scale * x) for scale in (0.5, 2.0, 8.0))], axis=-1)


def _cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    """Cosine similarity over the last axis, with EfficientZero's floor of 1e-5 on each norm."""
    norms = (jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-5) for x in (a, b))
    return jnp.sum((a / next(norms)) * (b / next(norms)), axis=-1)


def make_efficientzero(spec: EnvSpec, config: EfficientZeroConfig, *, num_unroll_steps: int) -> WorldModel:
    """Returns the model for environments of `spec`.

    Args:
      spec: observations are flattened, or convolved where they have three axes; uint8 is scaled by 1/255.
      config: sizes and weights.
      num_unroll_steps: K, how far `unroll` follows the real actions.
    """
    if len(spec.obs_shape) not in (1, 2, 3):
        raise ValueError(f"{spec.id}: observations of shape {spec.obs_shape} have no encoder; 1, 2 or 3 axes do")
    encoder = Encoder(config, len(spec.obs_shape))
    dynamics = Dynamics(config, spec.num_actions)
    projector = Projector(config.projection_size)

    def init(key: jax.Array, obs: jax.Array) -> PyTree:
        encoder_key, dynamics_key, projector_key = jax.random.split(key, 3)
        encoder_params = encoder.init(encoder_key, obs)
        latent = encoder.apply(encoder_params, obs)
        return {
            "encoder": encoder_params,
            "dynamics": dynamics.init(dynamics_key, latent, jnp.zeros(obs.shape[0], jnp.int32)),
            "projector": projector.init(projector_key, latent),
        }

    def observe(params: PyTree, obs: jax.Array) -> jax.Array:
        return encoder.apply(params["encoder"], obs)

    def step(params: PyTree, latent: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        latent, reward_logits, continuation_logit = dynamics.apply(params["dynamics"], latent, action)
        return latent, supports.expectation(config.reward_support, reward_logits), nn.sigmoid(continuation_logit)

    def unroll(params: PyTree, key: jax.Array, batch: SequenceBatch) -> tuple[jax.Array, jax.Array, Metrics]:
        del key  # this family draws nothing while it learns
        chex.assert_axis_dimension_gteq(batch.action, 1, num_unroll_steps)

        def dream_on(latent: jax.Array, action: jax.Array) -> tuple[jax.Array, tuple]:
            latent, reward_logits, continuation_logit = dynamics.apply(params["dynamics"], latent, action)
            return latent, (latent, reward_logits, continuation_logit)

        first = observe(params, batch.obs[:, 0])
        actions = batch.action[:, :num_unroll_steps]
        _, outputs = jax.lax.scan(dream_on, first, actions.T)
        dreamed, *heads = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), outputs)
        loss, metrics = unroll_loss(params, batch, dreamed, heads)
        return jnp.concatenate([first[:, None], dreamed], axis=1), loss, metrics

    def unroll_loss(params: PyTree, batch: SequenceBatch, dreamed: jax.Array, heads: tuple) -> tuple:
        reward_logits, continuation_logit = heads
        rows = jax.tree.map(lambda x: x[:, :num_unroll_steps], (batch.reward, batch.terminated, batch.valid))
        reward, terminated, valid = rows
        weight = valid.astype(jnp.float32)
        goes_on = 1.0 - terminated.astype(jnp.float32)
        reward_loss = weight * supports.cross_entropy(config.reward_support, reward_logits, reward)
        continuation_loss = weight * (nn.softplus(continuation_logit) - goes_on * continuation_logit)
        seen = observe(params, batch.obs[:, 1 : num_unroll_steps + 1])
        target = jax.lax.stop_gradient(projector.apply(params["projector"], seen, method="project"))
        prediction = projector.apply(params["projector"], dreamed)
        # Nothing is decided in a terminal state, so its latent need only say that it is one.
        consistency_loss = -weight * goes_on * _cosine(prediction, target)
        metrics = {
            "reward_loss": reward_loss.mean(),
            "continuation_loss": continuation_loss.mean(),
            "consistency_loss": consistency_loss.mean(),
        }
        loss = (
            config.reward_weight * reward_loss
            + config.continuation_weight * continuation_loss
            + config.consistency_weight * consistency_loss
        )
        return loss.sum(axis=1) / num_unroll_steps, metrics

    return WorldModel(init=init, observe=observe, step=step, unroll=unroll)
