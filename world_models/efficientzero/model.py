"""The model behind the port: parameters, one look, one dreamed step, and the losses along the real actions.

Letters: B batch, K unroll steps, L rows of a sequence (L >= K), A actions.
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from dreamer.core import supports, trees
from dreamer.core.ports import WorldModel
from dreamer.core.types import EnvSpec, Latent, Metrics, PyTree, SequenceBatch
from world_models.efficientzero.config import EfficientZeroConfig
from world_models.efficientzero.dynamics import Dynamics, first_prefix, prefix_targets
from world_models.efficientzero.representation import DenseEncoder, Projector, ResidualEncoder, is_large


def _cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    """Cosine similarity over the last axis, with EfficientZero's floor of 1e-5 on each norm."""
    # The floor lies under the root: at 0, where a black screen and a zero action lead at first, a norm has no gradient.
    norms = (jnp.sqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 1e-10)) for x in (a, b))
    return jnp.sum((a / next(norms)) * (b / next(norms)), axis=-1)


def make_efficientzero(spec: EnvSpec, config: EfficientZeroConfig, *, num_unroll_steps: int) -> WorldModel:
    """Returns the model for environments of `spec`. Its latent is a `Latent`.

    Args:
      spec: observations are flattened, or convolved where they have three axes; uint8 is scaled by 1/255.
      config: sizes and weights.
      num_unroll_steps: K, how far `unroll` follows the real actions.
    """
    obs_rank = len(spec.obs_shape)
    if obs_rank not in (1, 2, 3):
        raise ValueError(f"{spec.id}: observations of shape {spec.obs_shape} have no encoder; 1, 2 or 3 axes do")
    if config.torso == "residual" and obs_rank != 3:
        raise ValueError(
            f"model.torso is residual, for images [H, W, C], but {spec.id} has observations of shape {spec.obs_shape}: "
            "give dense"
        )
    if config.torso == "relational" and (spec.obs_dtype != "bool" or obs_rank != 3 or is_large(spec.obs_shape)):
        raise ValueError(
            f"model.torso is relational, for binary boards [H, W, C] of at most 10 cells a side, but {spec.id} has "
            f"{spec.obs_dtype} observations of shape {spec.obs_shape}: give dense"
        )
    encoder = (
        ResidualEncoder(config) if config.torso == "residual" else DenseEncoder(config, obs_rank, spec.frame_stack)
    )
    dynamics = Dynamics(config, spec.num_actions)
    projector = Projector(config)

    def init(key: jax.Array, obs: jax.Array) -> PyTree:
        encoder_key, dynamics_key, projector_key = jax.random.split(key, 3)
        encoder_params = encoder.init(encoder_key, obs)
        latent = observe({"encoder": encoder_params}, obs)
        return {
            "encoder": encoder_params,
            "dynamics": dynamics.init(dynamics_key, latent, jnp.zeros(obs.shape[0], jnp.int32)),
            "projector": projector.init(projector_key, latent.state.reshape(obs.shape[0], -1)),
        }

    def observe(params: PyTree, obs: jax.Array) -> Latent:
        return Latent(encoder.apply(params["encoder"], obs), first_prefix(config, obs.shape[0]))

    def step(params: PyTree, latent: Latent, action: jax.Array) -> tuple[Latent, jax.Array, jax.Array]:
        latent, reward, _, continuation_logit = dynamics.apply(params["dynamics"], latent, action)
        if not config.continuation_weight:  # a head that learns nothing would say a half for ever
            return latent, reward, jnp.ones_like(continuation_logit)
        return latent, reward, nn.sigmoid(continuation_logit)

    def unroll(params: PyTree, key: jax.Array, batch: SequenceBatch) -> tuple[Latent, jax.Array, Metrics]:
        del key  # this family draws nothing while it learns
        chex.assert_axis_dimension_gteq(batch.action, 1, num_unroll_steps)

        def dream_on(latent: Latent, action: jax.Array) -> tuple[Latent, tuple]:
            latent, _, reward_logits, continuation_logit = dynamics.apply(params["dynamics"], latent, action)
            return latent, (latent, reward_logits, continuation_logit)

        first = observe(params, batch.obs[:, 0])
        actions = batch.action[:, :num_unroll_steps]
        _, outputs = jax.lax.scan(dream_on, first, actions.T)
        dreamed, *heads = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), outputs)
        loss, metrics = unroll_loss(params, batch, dreamed.state, heads)
        return trees.then(first, outputs[0]), loss, metrics

    def unroll_loss(params: PyTree, batch: SequenceBatch, dreamed: jax.Array, heads: tuple) -> tuple:
        reward_logits, continuation_logit = heads
        rows = jax.tree.map(lambda x: x[:, :num_unroll_steps], (batch.reward, batch.terminated, batch.valid))
        reward, terminated, valid = rows
        weight = valid.astype(jnp.float32)
        goes_on = 1.0 - terminated.astype(jnp.float32)
        earned = prefix_targets(reward, config.value_prefix) if config.value_prefix else reward
        reward_loss = weight * supports.cross_entropy(config.reward_support, reward_logits, earned)
        continuation_loss = weight * (nn.softplus(continuation_logit) - goes_on * continuation_logit)
        seen = encoder.apply(params["encoder"], batch.obs[:, 1 : num_unroll_steps + 1])
        seen, dreamed = (x.reshape(*valid.shape, -1) for x in (seen, dreamed))
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
