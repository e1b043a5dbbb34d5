"""Gumbel MuZero search in a world model: the teacher that makes a better policy out of the student's own.

"Policy improvement by planning with Gumbel" (https://openreview.net/forum?id=bERaNdoegnO), on mctx, with the tree-wide
normalisation of Q values of EfficientZero and a floor on its range: without the floor, noise between nearly equal
values becomes a one-hot policy target.

Letters: B batch of roots, A actions, N simulations.
"""

import dataclasses
import functools
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import mctx
from flax import struct

from dreamer.core import returns
from dreamer.core.ports import Agent, WorldModel
from dreamer.core.types import Evaluation, Params, PyTree

_IMPOSSIBLE = -1e9  # logit of an action that must not be taken; finite, so that masked rows never make a NaN


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """Gumbel MuZero search."""

    num_simulations: int = 16
    """N, world-model calls for each root."""
    num_considered: int | None = None
    """Root actions that enter sequential halving; None considers all of them, up to 16."""
    value_scale: float = 0.1
    """How strongly a normalised Q value in [0, 1] moves a logit (c_scale of the paper)."""
    visit_offset: float = 50.0
    """Visits added before scaling (c_visit of the paper)."""
    min_q_range: float = 0.01
    """Smallest range, in reward units, that the tree's Q values are divided by (EfficientZero)."""
    relative_q_range: float = 0.05
    """Smallest range as a share of the running spread of returns: differences below it count as noise."""

    prior_power: float = 1.0
    """Power of the student's policy within the improved one. At 1 small advantages add up until the policy is certain;
    below 1 they are forgotten at that rate, which keeps it exploring (alpha in https://arxiv.org/abs/2003.14089)."""

    def __post_init__(self) -> None:
        if not 0 <= self.prior_power <= 1:
            raise ValueError(f"search.prior_power is {self.prior_power}: give a power in [0, 1]")
        if self.num_simulations < 1:
            raise ValueError(f"search.num_simulations is {self.num_simulations}: give 1 or more")
        if self.num_considered is not None and self.num_considered < 1:
            raise ValueError(f"search.num_considered is {self.num_considered}: give 1 or more, or None for all actions")
        for name in ("value_scale", "min_q_range"):
            if getattr(self, name) <= 0:
                raise ValueError(f"search.{name} is {getattr(self, name)}: give a positive number")
        for name in ("visit_offset", "relative_q_range"):
            if getattr(self, name) < 0:
                raise ValueError(f"search.{name} is {getattr(self, name)}: give 0 or more")

    def considered(self, num_actions: int) -> int:
        """Returns the number of root actions considered, or raises ValueError if there are not that many."""
        if self.num_considered is None:
            return min(num_actions, 16)
        if self.num_considered > num_actions:
            raise ValueError(
                f"search.num_considered is {self.num_considered}, but the environment has {num_actions} actions: "
                f"give at most {num_actions}, or None for all of them"
            )
        return self.num_considered


@struct.dataclass
class SearchResult:
    """What search says of B roots."""

    action: jax.Array
    """[B] int32 the survivor of sequential halving: what the planner does."""
    policy: jax.Array
    """[B, A] improved policy."""
    value: jax.Array
    """[B] mean of the root's own value and all that was backed up to it (search-based value, SVE)."""
    visits: jax.Array
    """[B, A] int32 visits of each root action."""


@struct.dataclass
class _Extra:
    """What action selection reads of the tree beside its statistics: [B, A] noise, [B] smallest Q range."""

    root_gumbel: jax.Array
    q_range: jax.Array


Search = Callable[..., SearchResult]


def make_search(model: WorldModel, agent: Agent, config: SearchConfig, *, gamma: float) -> Search:
    """Returns `search(params, memory, latent, action_mask, keys, *, gumbel_scale, return_spread)`.

    Args of the search:
      params: Params of model and agent.
      memory: the agent's memory at the roots.
      latent: [B, ...] roots.
      action_mask: [B, A] bool, False where an action is not allowed at the root.
      keys: [B] one key a root, so that a row's noise never depends on its neighbours.
      gumbel_scale: 1 to explore, 0 to plan without noise.
      return_spread: scalar, running spread of returns in reward units (see `relative_q_range`).
    """

    def expand(params: Params, key: jax.Array, action: jax.Array, embedding: PyTree) -> tuple:
        del key  # a deterministic model draws nothing
        latent, memory, alive = embedding
        latent, reward, continuation = model.step(params.model, latent, action)
        evaluation = agent.evaluate(params.agent, memory, latent)
        discount = returns.discounts(continuation, gamma)
        output = mctx.RecurrentFnOutput(
            reward=reward, discount=discount, prior_logits=evaluation.logits, value=evaluation.value
        )
        return output, (latent, memory, alive * continuation)

    def search(
        params: Params,
        memory: PyTree,
        latent: PyTree,
        action_mask: jax.Array,
        keys: jax.Array,
        *,
        gumbel_scale: float,
        return_spread: jax.Array | float,
    ) -> SearchResult:
        evaluation: Evaluation = agent.evaluate(params.agent, memory, latent)
        chex.assert_equal_shape([evaluation.logits, action_mask])
        batch_size, num_actions = action_mask.shape
        logits = jnp.where(action_mask, evaluation.logits, _IMPOSSIBLE)
        gumbel = gumbel_scale * jax.vmap(lambda key: jax.random.gumbel(key, (num_actions,)))(keys)
        q_range = jnp.maximum(config.min_q_range, config.relative_q_range * return_spread)
        transform = functools.partial(completed_q, config=config)
        tree = mctx.search(
            params,
            keys[0],  # unused: selection and expansion are deterministic given the noise above
            root=mctx.RootFnOutput(
                prior_logits=logits, value=evaluation.value, embedding=(latent, memory, jnp.ones(batch_size))
            ),
            recurrent_fn=expand,
            root_action_selection_fn=functools.partial(
                mctx.gumbel_muzero_root_action_selection,
                num_simulations=config.num_simulations,
                max_num_considered_actions=config.considered(num_actions),
                qtransform=transform,
            ),
            interior_action_selection_fn=functools.partial(
                mctx.gumbel_muzero_interior_action_selection, qtransform=transform
            ),
            num_simulations=config.num_simulations,
            invalid_actions=jnp.logical_not(action_mask),
            extra_data=_Extra(gumbel, jnp.broadcast_to(q_range, (batch_size,))),
        )
        return _read_root(tree, transform, logits, config.prior_power)

    return search


def _read_root(tree: mctx.Tree, transform: Callable, logits: jax.Array, prior_power: float) -> SearchResult:
    """Reads improved policy, best action and value off the root, [B] each."""
    summary = tree.summary()
    visits = summary.visit_counts
    advantage = jax.vmap(transform, (0, None))(tree, tree.ROOT_INDEX)
    survives = visits == visits.max(axis=-1, keepdims=True)
    score = jnp.where(survives, tree.extra_data.root_gumbel + logits + advantage, -jnp.inf)
    return SearchResult(
        action=jnp.argmax(score, axis=-1).astype(jnp.int32),
        policy=jax.nn.softmax(jnp.where(logits > _IMPOSSIBLE, prior_power * logits + advantage, _IMPOSSIBLE)),
        value=summary.value,
        visits=visits.astype(jnp.int32),
    )


def completed_q(tree: mctx.Tree, node_index: jax.Array, *, config: SearchConfig) -> jax.Array:
    """Returns what to add to a node's [A] logits: its Q values, completed, normalised over the tree, and scaled.

    Unvisited actions get the mixed value of appendix D of the Gumbel paper. The range is taken over every visited edge
    of the tree and floored (see `SearchConfig`).

    Args:
      tree: one unbatched search tree.
      node_index: scalar.
      config: scales and floors.
    """
    chex.assert_rank(node_index, 0)
    edge_q = tree.children_rewards + tree.children_discounts * tree.children_values  # [N + 1, A]
    # A dream past its own end is worth nothing, so it must not stretch the range either.
    alive = tree.embeddings[-1] > 0.5  # [N + 1]
    seen = (tree.children_visits > 0) & alive[:, None]
    low = jnp.min(jnp.where(seen, edge_q, jnp.inf))
    high = jnp.max(jnp.where(seen, edge_q, -jnp.inf))
    low, high = (jnp.where(seen.any(), bound, 0.0) for bound in (low, high))
    q, visits = edge_q[node_index], tree.children_visits[node_index]
    probs = jnp.where(visits > 0, jax.nn.softmax(tree.children_prior_logits[node_index]), 0.0)
    visited_q = jnp.sum(probs * q) / jnp.maximum(jnp.sum(probs), jnp.finfo(probs.dtype).tiny)
    mixed = (tree.raw_values[node_index] + visits.sum() * visited_q) / (1 + visits.sum())
    completed = jnp.where(visits > 0, q, mixed)
    centred = (completed - low) / jnp.maximum(high - low, tree.extra_data.q_range)
    return (config.visit_offset + visits.max()) * config.value_scale * jnp.clip(centred, 0.0, 1.0)
