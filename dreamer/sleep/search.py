"""Search in a world model: the teacher that makes a better policy out of the student's own. Two methods, on mctx.

`gumbel`: "Policy improvement by planning with Gumbel" (https://openreview.net/forum?id=bERaNdoegnO), the way of
EfficientZero V2. `puct`: MuZero's search (https://arxiv.org/abs/1911.08265), the way of EfficientZero
(https://arxiv.org/abs/2111.00210). Both normalise Q values over the whole tree, as EfficientZero does, with a floor on
the range: without the floor, noise between nearly equal values becomes a one-hot policy target.

Where `puct` departs from EfficientZero's: its N in the score is a node's own visits, as MuZero has it, not the sum of
its children's, so the first look at a new node follows the prior instead of chance; and the root's value counts among
its own samples, so `SearchResult.value` does not shrink towards 0.

Letters: B batch of roots, A actions, N simulations.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import mctx
from flax import struct

from dreamer.core import returns
from dreamer.core.ports import Agent, WorldModel
from dreamer.core.types import Evaluation, Params, PyTree

METHODS = ("gumbel", "puct")
IMPOSSIBLE = -1e9  # logit of an action that must not be taken; finite, so that masked rows never make a NaN


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """The teacher's search."""

    method: str = "gumbel"
    """`gumbel` (EfficientZero V2): sequential halving at the root and an improved policy. `puct` (EfficientZero):
    Dirichlet noise at the root, and the policy is where the visits went."""
    num_simulations: int | Literal["by_count"] = 16
    """N, world-model calls for each root; `by_count` is V2's 4 among fewer than 4 actions, 16 among more."""
    num_considered: int | Literal["by_count"] | None = None
    """`gumbel`: root actions that enter sequential halving. None considers all of them, up to 16; `by_count` is V2's 2
    of fewer than 4 actions, 4 of fewer than 16, 8 of more."""
    value_scale: float = 0.1
    """`gumbel`: how strongly a normalised Q value in [0, 1] moves a logit (c_scale of the paper)."""
    visit_offset: float = 50.0
    """`gumbel`: visits added before scaling (c_visit of the paper)."""
    min_q_range: float = 0.01
    """Smallest range, in reward units, that the tree's Q values are divided by (EfficientZero)."""
    relative_q_range: float = 0.05
    """Smallest range as a share of the running spread of returns: differences below it count as noise."""
    prior_power: float = 1.0
    """`gumbel`: power of the student's policy within the improved one. At 1 small advantages add up until the policy is
    certain; below 1 they are forgotten at that rate, which keeps it exploring (alpha in
    https://arxiv.org/abs/2003.14089)."""
    prior_weight: float = 1.25
    """`puct`: weight of the prior against the Q values (c_1 of MuZero)."""
    prior_growth: float = 19652.0
    """`puct`: visits at which that weight begins to grow (c_2 of MuZero)."""
    dirichlet_alpha: float = 0.3
    """`puct`: concentration of the noise at the root; below 1 it favours a few actions at a time."""
    dirichlet_share: float = 0.25
    """`puct`: share of the noise in the root's prior while exploring."""
    temperatures: tuple[float, ...] = (1.0, 0.5, 0.25)
    """`puct`: T of exploring decisions, sampled from visits^(1/T): first this, then that (see `cool_at`)."""
    cool_at: tuple[float, ...] = (0.5, 0.75)
    """`puct`: progress of the run, in [0, 1], from which the next of `temperatures` holds."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"search.method is {self.method!r}: give one of {', '.join(METHODS)}")
        for name in ("prior_power", "dirichlet_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"search.{name} is {getattr(self, name)}: give a number in [0, 1]")
        for name in ("num_simulations", "num_considered"):
            if isinstance(getattr(self, name), int) and getattr(self, name) < 1:
                raise ValueError(f"search.{name} is {getattr(self, name)}: give 1 or more")
        for name in ("value_scale", "min_q_range", "prior_weight", "prior_growth", "dirichlet_alpha"):
            if getattr(self, name) <= 0:
                raise ValueError(f"search.{name} is {getattr(self, name)}: give a positive number")
        for name in ("visit_offset", "relative_q_range"):
            if getattr(self, name) < 0:
                raise ValueError(f"search.{name} is {getattr(self, name)}: give 0 or more")
        if not self.temperatures or min(self.temperatures) <= 0:
            raise ValueError(f"search.temperatures is {self.temperatures}: give one or more positive numbers")
        if len(self.cool_at) + 1 != len(self.temperatures) or [0, *self.cool_at, 1] != sorted([0, *self.cool_at, 1]):
            raise ValueError(f"search.cool_at is {self.cool_at}: give rising shares, one fewer than temperatures")

    def simulations(self, num_actions: int) -> int:
        """Returns N where there are so many actions."""
        return (4 if num_actions < 4 else 16) if self.num_simulations == "by_count" else self.num_simulations

    def considered(self, num_actions: int) -> int:
        """Returns the number of root actions considered, or raises ValueError if there are not that many."""
        if self.num_considered is None:
            return min(num_actions, 16)
        if self.num_considered == "by_count":
            return 2 if num_actions < 4 else 4 if num_actions < 16 else 8
        if self.num_considered > num_actions:
            have = f"but the environment has {num_actions} actions: give at most {num_actions}, or None for all of them"
            raise ValueError(f"search.num_considered is {self.num_considered}, {have}")
        return self.num_considered


@struct.dataclass
class SearchResult:
    """What search says of B roots."""

    action: jax.Array
    """[B] int32 what the planner does: the survivor of sequential halving, or a draw from the visits."""
    policy: jax.Array
    """[B, A] improved policy."""
    value: jax.Array
    """[B] mean of the root's own value and all that was backed up to it (search-based value, SVE)."""
    visits: jax.Array
    """[B, A] int32 visits of each root action."""
    tree: mctx.Tree
    """[B, N + 1, ...] all nodes, the root first; embeddings are the probability that life has not ended before."""


@struct.dataclass
class _Extra:
    """What is read of the tree beside its statistics: [B, A] noise, [B] key of ties, [B] smallest Q range."""

    root_gumbel: jax.Array
    tie_key: jax.Array
    q_range: jax.Array


class _Method(NamedTuple):
    """What tells one search from another. Selection is mctx's port, of unbatched trees."""

    enter: Callable  # (logits [B, A], action_mask [B, A], keys [B], explore) -> logits, Gumbel noise [B, A], keys [B]
    select_root: Callable  # (key, tree, node) -> action
    select: Callable  # (key, tree, node, depth) -> action
    leave: Callable  # (tree, logits [B, A], progress) -> policy [B, A], action [B]


Search = Callable[..., SearchResult]


def make_search(model: WorldModel, agent: Agent, config: SearchConfig, *, gamma: float) -> Search:
    """Returns `search(params, memory, latent, action_mask, keys, *, explore, return_spread, progress)`.

    Args of the search:
      params: Params of model and agent.
      memory: the agent's memory at the roots.
      latent: [B, ...] roots.
      action_mask: [B, A] bool, False where an action is not allowed at the root.
      keys: [B] one key a root, so that a row's noise never depends on its neighbours.
      explore: 1 to explore, 0 to plan without noise.
      return_spread: scalar, running spread of returns in reward units (see `relative_q_range`).
      progress: scalar, share of the run in [0, 1] (see `cool_at`).
    """
    method = {"gumbel": _gumbel, "puct": _puct}[config.method](config)

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
        explore: float,
        return_spread: jax.Array | float,
        progress: jax.Array | float,
    ) -> SearchResult:
        evaluation: Evaluation = agent.evaluate(params.agent, memory, latent)
        chex.assert_equal_shape([evaluation.logits, action_mask])
        alive = jnp.ones(len(action_mask))
        logits = jnp.where(action_mask, evaluation.logits, IMPOSSIBLE)
        logits, gumbel, tie_keys = method.enter(logits, action_mask, keys, explore)
        q_range = jnp.maximum(config.min_q_range, config.relative_q_range * return_spread)
        tree = mctx.search(
            params,
            keys[0],  # unused: selection and expansion are deterministic given the row's own noise and key
            root=mctx.RootFnOutput(prior_logits=logits, value=evaluation.value, embedding=(latent, memory, alive)),
            recurrent_fn=expand,
            root_action_selection_fn=method.select_root,
            interior_action_selection_fn=method.select,
            num_simulations=config.simulations(logits.shape[1]),
            invalid_actions=jnp.logical_not(action_mask),
            extra_data=_Extra(gumbel, tie_keys, q_range * alive),
        )
        policy, action = method.leave(tree, logits, progress)
        summary, tree = tree.summary(), tree.replace(embeddings=tree.embeddings[-1], extra_data=None)
        visits = summary.visit_counts.astype(jnp.int32)
        return SearchResult(action.astype(jnp.int32), policy, summary.value, visits, tree)

    return search


def _gumbel(config: SearchConfig) -> _Method:
    """Gumbel noise and sequential halving at the root, visits in proportion to the improved policy below it."""
    transform = functools.partial(completed_q, config=config)

    def enter(logits: jax.Array, action_mask: jax.Array, keys: jax.Array, explore: float) -> tuple:
        del action_mask  # the logits know
        return logits, explore * jax.vmap(lambda key: jax.random.gumbel(key, logits.shape[1:]))(keys), keys

    def select_root(key: jax.Array, tree: mctx.Tree, node_index: jax.Array) -> jax.Array:
        return mctx.gumbel_muzero_root_action_selection(
            key,
            tree,
            node_index,
            num_simulations=config.simulations(tree.num_actions),
            max_num_considered_actions=config.considered(tree.num_actions),
            qtransform=transform,
        )

    def leave(tree: mctx.Tree, logits: jax.Array, progress: jax.Array) -> tuple[jax.Array, jax.Array]:
        del progress
        visits = tree.summary().visit_counts
        advantage = jax.vmap(transform, (0, None))(tree, tree.ROOT_INDEX)
        survives = visits == visits.max(axis=-1, keepdims=True)
        score = jnp.where(survives, tree.extra_data.root_gumbel + logits + advantage, -jnp.inf)
        wanted = jnp.where(logits > IMPOSSIBLE, config.prior_power * logits + advantage, IMPOSSIBLE)
        return jax.nn.softmax(wanted), jnp.argmax(score, axis=-1)

    select = functools.partial(mctx.gumbel_muzero_interior_action_selection, qtransform=transform)
    return _Method(enter, select_root, select, leave)


def _puct(config: SearchConfig) -> _Method:
    """The best sum of normalised Q value and prior, less the more it was visited; Dirichlet noise at the root."""
    constants = {"pb_c_init": config.prior_weight, "pb_c_base": config.prior_growth}
    by_score = functools.partial(mctx.muzero_action_selection, **constants, qtransform=puct_q)

    def enter(logits: jax.Array, action_mask: jax.Array, keys: jax.Array, explore: float) -> tuple:
        noise_keys, act_keys, tie_keys = jnp.moveaxis(jax.vmap(lambda key: jax.random.split(key, 3))(keys), 1, 0)
        draws = jax.vmap(lambda key: jax.random.loggamma(key, config.dirichlet_alpha, logits.shape[1:]))(noise_keys)
        noise = jax.nn.softmax(jnp.where(action_mask, draws, IMPOSSIBLE))  # Dirichlet over what is allowed
        share = explore * config.dirichlet_share
        prior = jnp.log((1 - share) * jax.nn.softmax(logits) + share * noise)
        gumbel = explore * jax.vmap(lambda key: jax.random.gumbel(key, logits.shape[1:]))(act_keys)
        return jnp.maximum(prior, IMPOSSIBLE), gumbel, tie_keys

    def select(key: jax.Array, tree: mctx.Tree, node_index: jax.Array, depth: jax.Array | int) -> jax.Array:
        del key  # it would be another in another place of the batch
        return by_score(jax.random.fold_in(tree.extra_data.tie_key, node_index), tree, node_index, depth)

    def leave(tree: mctx.Tree, logits: jax.Array, progress: jax.Array) -> tuple[jax.Array, jax.Array]:
        del logits
        visit_probs = tree.summary().visit_probs
        passed = jnp.sum(progress >= jnp.array(config.cool_at, jnp.float32))
        temperature = jnp.array(config.temperatures, jnp.float32)[passed]
        # The largest of log-weights with Gumbel noise is a draw from the weights, and without it the most visited.
        score = tree.extra_data.root_gumbel + jnp.log(visit_probs) / temperature
        return visit_probs, jnp.argmax(score, axis=-1)

    return _Method(enter, functools.partial(select, depth=0), select, leave)


def completed_q(tree: mctx.Tree, node_index: jax.Array, *, config: SearchConfig) -> jax.Array:
    """Returns what to add to a node's [A] logits: its Q values, completed, normalised over the tree, and scaled.

    Unvisited actions get the mixed value of appendix D of the Gumbel paper.

    Args:
      tree: one unbatched search tree.
      node_index: scalar.
      config: scales.
    """
    q, visits = _edge_q(tree)[node_index], tree.children_visits[node_index]
    probs = jnp.where(visits > 0, jax.nn.softmax(tree.children_prior_logits[node_index]), 0.0)
    visited_q = jnp.sum(probs * q) / jnp.maximum(jnp.sum(probs), jnp.finfo(probs.dtype).tiny)
    mixed = (tree.raw_values[node_index] + visits.sum() * visited_q) / (1 + visits.sum())
    completed = jnp.where(visits > 0, q, mixed)
    return (config.visit_offset + visits.max()) * config.value_scale * _normalised(tree, completed)


def puct_q(tree: mctx.Tree, node_index: jax.Array) -> jax.Array:
    """Returns a node's [A] Q values in one unbatched tree, completed and normalised: EfficientZero's, in [0, 1].

    Unvisited actions get the mean Q of those visited; below the root, the mean that held for the node above counts as
    one more.
    """
    seen = tree.children_visits > 0
    edge_q = _edge_q(tree)
    total, count = jnp.where(seen, edge_q, 0.0).sum(axis=1), seen.sum(axis=1)  # [N + 1]

    def up(carry: tuple) -> tuple:
        node, mean, share = carry
        share = share / (count[node] + 1)
        return tree.parents[node], mean + share * total[node], share

    start = (jnp.asarray(node_index, jnp.int32), jnp.float32(0.0), jnp.float32(1.0))
    # Not `!=`: in a row that waits for others to finish, mctx asks for node -1, and there is no way up from there.
    root, mean, share = jax.lax.while_loop(lambda carry: carry[0] > tree.ROOT_INDEX, up, start)
    mean = mean + share * total[root] / jnp.maximum(count[root], 1)
    return _normalised(tree, jnp.where(seen[node_index], edge_q[node_index], mean))


def _edge_q(tree: mctx.Tree) -> jax.Array:
    """Returns [N + 1, A] the Q value of every edge, meaningless where not visited."""
    return tree.children_rewards + tree.children_discounts * tree.children_values


def _normalised(tree: mctx.Tree, q: jax.Array) -> jax.Array:
    """Returns [A] Q values in [0, 1], by the range of every visited edge of the tree, floored (see `SearchConfig`)."""
    chex.assert_rank(q, 1)  # one tree at a time
    # A dream past its own end is worth nothing, so it must not stretch the range either.
    alive = tree.embeddings[-1] > 0.5  # [N + 1]
    seen, edge_q = (tree.children_visits > 0) & alive[:, None], _edge_q(tree)
    low, high = jnp.min(jnp.where(seen, edge_q, jnp.inf)), jnp.max(jnp.where(seen, edge_q, -jnp.inf))
    low, high = (jnp.where(seen.any(), bound, 0.0) for bound in (low, high))
    return jnp.clip((q - low) / jnp.maximum(high - low, tree.extra_data.q_range), 0.0, 1.0)
