"""Several models of one family, alike but for their first weights, behind one port: where they disagree, none knows.

Letters: B batch, M members, K unroll steps.
"""

import dataclasses

import jax
import jax.numpy as jnp

from dreamer.core.ports import WorldModel
from dreamer.core.types import Metrics, PyTree, SequenceBatch
from world_models.layers import mean_of_members


@dataclasses.dataclass(frozen=True)
class EnsembleConfig:
    """How many models and heads stand behind the two ports."""

    num_members: int = 1
    """M, models side by side, each with heads of its own, that differ in their first weights: an ensemble knows what it
    does not know, at M times the cost."""

    def __post_init__(self) -> None:
        if self.num_members < 1:
            raise ValueError(f"ensemble.num_members is {self.num_members}: give 1 (no ensemble) or more")


def make_ensemble(model: WorldModel, num_members: int) -> WorldModel:
    """Returns the ensemble. Its latent is each member's own, [B, M, ...] on every leaf; its params lead with [M].

    A step's reward and continuation are the members' means. All learn from the same rows, each by the gradient that it
    would have alone, and what they disagree about comes from their initialisation ("Simple and scalable predictive
    uncertainty estimation using deep ensembles", https://arxiv.org/abs/1612.01474, section 2.4).

    Args:
      model: one member.
      num_members: M, 2 or more.
    """
    if num_members < 2:
        raise ValueError(f"num_members is {num_members}: an ensemble needs 2 or more; one member is the model itself")

    def init(key: jax.Array, obs: jax.Array) -> PyTree:
        return jax.vmap(model.init, (0, None))(jax.random.split(key, num_members), obs)

    def observe(params: PyTree, obs: jax.Array) -> PyTree:
        return jax.vmap(model.observe, (0, None), 1)(params, obs)

    def members(params: PyTree, latent: PyTree, action: jax.Array) -> tuple[PyTree, jax.Array, jax.Array]:
        return jax.vmap(model.step, (0, 1, None), 1)(params, latent, action)

    def step(params: PyTree, latent: PyTree, action: jax.Array) -> tuple[PyTree, jax.Array, jax.Array]:
        latent, reward, continuation = members(params, latent, action)
        return latent, reward.mean(axis=1), continuation.mean(axis=1)

    def unroll(params: PyTree, key: jax.Array, batch: SequenceBatch) -> tuple[PyTree, jax.Array, Metrics]:
        keys = jax.random.split(key, num_members)
        latents, loss, metrics = jax.vmap(model.unroll, (0, 0, None))(params, keys, batch)
        latents = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 2), latents)  # [M, B, K + 1] -> [B, K + 1, M]
        return latents, mean_of_members(loss, 0), jax.tree.map(lambda metric: metric.mean(axis=0), metrics)

    return WorldModel(init=init, observe=observe, step=step, unroll=unroll, members=members)
