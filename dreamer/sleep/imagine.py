"""Imagined rollouts: from replayed states on, the student acts in the model and its teacher says what it thinks of it.

A dream teaches the agent alone. It is no evidence about the world, so no gradient of it reaches the world model.

Letters: B batch, D dreams, H dreamed steps, M members of an ensemble (1 without one), A actions.
"""

import dataclasses
import math
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from flax import struct

from dreamer.core import returns, trees
from dreamer.core.ports import Agent, WorldModel
from dreamer.core.types import DreamTargets, Evaluation, Metrics, Params, PyTree
from dreamer.sleep.fit import FitConfig, agent_loss
from dreamer.sleep.search import Search

POLICY_SOURCES = ("search", "none")
VALUE_SOURCES = ("search", "lambda", "expansion")
OF_DREAMS = "dream_"
"""What the names of all metrics of dreams begin with."""


@dataclasses.dataclass(frozen=True)
class ImagineConfig:
    """What the student dreams beyond the K steps that are unrolled along its real actions."""

    real_share: float = 1.0
    """Share of the rows of each batch that are real sequences; the others are imagined rollouts. 1 imagines nothing."""
    horizon: int = 5
    """H, steps that the student takes in each rollout."""
    branches: int = 1
    """Rollouts that begin in the same replayed state."""
    begin_after: int = 0
    """Real transitions from whose updates on there are rollouts; before, every row is real."""
    policy_source: str = "search"
    """Policy targets of dreamed states: `search` at each of them, or `none`: long dreams are cheap where they teach the
    value alone."""
    value_source: str = "search"
    """Value targets of dreamed states: the root's of `search`; `lambda`-returns along the dream (DreamerV3); or an
    `expansion` over all horizons, each weighted by how well an ensemble agrees on it (STEVE)."""
    trace_decay: float = 0.95
    """Lambda of the lambda-returns."""
    doubt_scale: float = 0.0
    """How fast rows lose weight with the ensemble's disagreement: exp(-doubt_scale * the standard deviations of its
    one-step values on the way, added up, as shares of the running spread of returns). 0 trusts every dream."""

    def __post_init__(self) -> None:
        if not 0 < self.real_share <= 1:
            raise ValueError(f"imagine.real_share is {self.real_share}: give a share above 0, 1 to imagine nothing")
        if not 0 <= self.trace_decay <= 1:
            raise ValueError(f"imagine.trace_decay is {self.trace_decay}: give a share in [0, 1]")
        for name in ("horizon", "branches"):
            if getattr(self, name) < 1:
                raise ValueError(f"imagine.{name} is {getattr(self, name)}: give 1 or more")
        for name in ("begin_after", "doubt_scale"):
            if getattr(self, name) < 0:
                raise ValueError(f"imagine.{name} is {getattr(self, name)}: give 0 or more")
        for name, known in (("policy_source", POLICY_SOURCES), ("value_source", VALUE_SOURCES)):
            if getattr(self, name) not in known:
                raise ValueError(f"imagine.{name} is {getattr(self, name)!r}: give one of {', '.join(known)}")
        if self.policy_source == "none" and self.value_source == "search":
            raise ValueError(
                "imagine.value_source is 'search', but policy_source is 'none', which searches nothing: give 'lambda' "
                "or 'expansion'"
            )

    def num_dreams(self, batch_size: int) -> int:
        """D, imagined rows of a batch: what the configured share of real ones, rounded up, leaves."""
        return batch_size - math.ceil(round(self.real_share * batch_size, 6))

    @property
    def num_searched(self) -> int:
        """States of each rollout that are searched."""
        return self.horizon + 1 if self.policy_source == "search" else 0


@struct.dataclass
class Dreams:
    """Imagined rollouts and what is to be learned from them."""

    obs: jax.Array
    """[D, *obs_shape] the replayed states they begin in."""
    action: jax.Array
    """[D, H] int32 what the student did."""
    targets: DreamTargets
    """[D, H + 1, ...] the teacher's opinion on each state; weights fall with the chance that life has ended before and
    with doubt."""


@struct.dataclass
class _Rollout:
    """What the model said along the dreams."""

    latent: PyTree
    """[D, H + 1, ...]"""
    action: jax.Array
    """[D, H] int32"""
    reward: jax.Array
    """[D, H, M]"""
    continuation: jax.Array
    """[D, H, M]"""
    value: jax.Array
    """[D, H + 1, M] of the lagged student."""


Imagine = Callable[..., tuple[Dreams, Metrics]]


def make_imagine(
    model: WorldModel, agent: Agent, search: Search, config: ImagineConfig, *, gamma: float, min_spread: float
) -> Imagine:
    """Returns `imagine(params, obs, action_mask, keys, *, return_spread, progress) -> (Dreams, metrics)`.

    Args:
      model: what is dreamed with.
      agent: who acts.
      search: who teaches.
      config: how long and how many.
      gamma: discount of one decision.
      min_spread: smallest spread of returns, in reward units, that doubt is a share of: while no reward was seen, small
        doubts are no reason for anything.

    Args of the function:
      params: the lagged Params, which act, dream and judge.
      obs: [D, *obs_shape] where the dreams begin.
      action_mask: [D, A] bool, what is allowed there; in dreams everything is, for the model knows no masks.
      keys: [D] one key a dream, so that none depends on its neighbours.
      return_spread: scalar, running spread of returns, in reward units.
      progress: scalar, share of the run in [0, 1].
    """

    def roll_out(params: Params, obs: jax.Array, action_mask: jax.Array, keys: jax.Array) -> _Rollout:
        def dream_on(carry: tuple, number: jax.Array) -> tuple:
            latent, mask = carry
            action = dreamed_action(agent, params, latent, mask, keys, number)
            latent, reward, continuation = members_of(model, params.model, latent, action)
            return (latent, jnp.ones_like(mask)), (latent, action, reward, continuation)

        first = model.observe(params.model, obs)
        _, (later, *said) = jax.lax.scan(dream_on, (first, action_mask), jnp.arange(config.horizon))
        action, reward, continuation = (jnp.swapaxes(x, 0, 1) for x in said)
        latent = trees.then(first, later)
        value = jax.vmap(lambda latent: values_of(agent, params.agent, latent), 1, 1)(latent)
        return _Rollout(latent, action, reward, continuation, value)

    def imagine(
        params: Params,
        obs: jax.Array,
        action_mask: jax.Array,
        keys: jax.Array,
        *,
        return_spread: jax.Array,
        progress: jax.Array,
    ) -> tuple[Dreams, Metrics]:
        chex.assert_equal_shape_prefix([obs, action_mask, keys], 1)
        num_dreams, num_states = len(obs), config.horizon + 1
        act_keys, search_keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
        dream = roll_out(params, obs, action_mask, act_keys)
        policy = jnp.full((num_dreams, num_states, action_mask.shape[-1]), 1.0 / action_mask.shape[-1])
        taught, searched = jnp.zeros((num_dreams, num_states)), None
        if config.policy_source == "search":
            allowed = jnp.ones(policy.shape, bool).at[:, 0].set(action_mask)
            found = search(
                params,
                (),
                trees.flatten_lead(dream.latent, 2),
                trees.flatten_lead(allowed, 2),
                jax.vmap(lambda key: jax.random.split(key, num_states))(search_keys).reshape(-1),
                explore=1.0,
                return_spread=return_spread,
                progress=progress,
            )
            found = trees.unflatten_lead(found, (num_dreams, num_states))
            policy, taught, searched = found.policy, jnp.ones_like(taught), found.value
        value, said = _value_targets(dream, searched, config, gamma)
        alive = _running_product(dream.continuation.mean(axis=-1))
        doubt = _doubt(dream, gamma) / jnp.maximum(return_spread, min_spread)
        trust = _running_product(jnp.exp(-config.doubt_scale * doubt))
        weight = alive * trust
        if config.value_source != "search":  # a return answers for the step that it begins with, too
            trust = jnp.pad(trust[:, 1:], ((0, 0), (0, 1)))
        targets = DreamTargets(policy, weight * taught, value, alive * trust * said)
        metrics = _of_dreams({"alive": alive[:, -1].mean(), "doubt": doubt.mean(), "weight": weight.mean()})
        return jax.lax.stop_gradient((Dreams(obs, dream.action, targets), metrics))

    return imagine


def dream_loss(
    params: Params, dreams: Dreams, weight: jax.Array, *, model: WorldModel, agent: Agent, config: FitConfig
) -> tuple[jax.Array, Metrics]:
    """Returns the scalar loss of the agent's heads on the dreamed states, a mean over D rows and H + 1 states.

    The online model dreams the same actions again, so that the heads learn on the latents that they will meet.

    Args:
      params: the online Params.
      dreams: what is learned from.
      weight: [D] importance of the replayed rows that the dreams begin in: who is drawn more often counts less, in
        dreams as awake.
      model: the world model.
      agent: whose heads learn.
      config: their weights.
    """

    def dream_on(latent: PyTree, action: jax.Array) -> tuple[PyTree, PyTree]:
        latent, _, _ = model.step(params.model, latent, action)
        return latent, latent

    first = model.observe(params.model, dreams.obs)
    _, later = jax.lax.scan(dream_on, first, dreams.action.T)
    latents = jax.lax.stop_gradient(trees.then(first, later))
    loss, _, metrics = agent_loss(params, latents, dreams.targets, agent=agent, config=config)
    return (weight * loss).mean(), _of_dreams(metrics)


def dreamed_action(
    agent: Agent, params: Params, latent: PyTree, action_mask: jax.Array, keys: jax.Array, number: jax.Array
) -> jax.Array:
    """Returns [D] int32 what the student does in dreams: a sample of its policy.

    Args:
      agent: who acts.
      params: Params.
      latent: [D, ...] where it stands.
      action_mask: [D, A] bool, what is allowed there.
      keys: [D] one a dream, not consumed.
      number: scalar, of the step within the dream.
    """
    logits = jnp.where(action_mask, agent.evaluate(params.agent, (), latent).logits, -jnp.inf)
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
    return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)


def members_of(
    model: WorldModel, params: PyTree, latent: PyTree, action: jax.Array
) -> tuple[PyTree, jax.Array, jax.Array]:
    """Returns one dreamed step: the latent, and what each member says of reward [B, M] and continuation [B, M]."""
    if model.members is not None:
        return model.members(params, latent, action)
    latent, reward, continuation = model.step(params, latent, action)
    return latent, reward[:, None], continuation[:, None]


def values_of(agent: Agent, params: PyTree, latent: PyTree) -> jax.Array:
    """Returns the value [B, M] that each member gives a state, in reward units."""
    evaluation: Evaluation = agent.evaluate(params, (), latent)
    return evaluation.value[:, None] if evaluation.values is None else evaluation.values


def _of_dreams(metrics: Metrics) -> Metrics:
    return {OF_DREAMS + name: value for name, value in metrics.items()}


def _value_targets(
    dream: _Rollout, searched: jax.Array | None, config: ImagineConfig, gamma: float
) -> tuple[jax.Array, jax.Array]:
    """Returns value targets [D, H + 1] and, as 1 or 0, whether there is one: returns say nothing of the last state."""
    if config.value_source == "search":
        return searched, jnp.ones_like(searched)
    if config.value_source == "lambda":
        reward, continuation, value = (x.mean(axis=-1) for x in (dream.reward, dream.continuation, dream.value))
        lived = jnp.ones(reward.shape, bool)
        discount = returns.discounts(continuation, gamma)
        value = returns.lambda_returns(reward, discount, value, lived, lam=config.trace_decay)
    else:
        value = _expanded(dream, gamma)
    after = ((0, 0), (0, 1))
    return jnp.pad(value, after), jnp.pad(jnp.ones_like(value), after)


def _expanded(dream: _Rollout, gamma: float) -> jax.Array:
    """Returns [D, H] stochastic ensemble value expansion, from each state to the end of its dream.

    The return of every horizon from one step on, weighted by the inverse of its variance over the members
    ("Sample-Efficient Reinforcement Learning with Stochastic Ensemble Value Expansion",
    https://arxiv.org/abs/1807.01675). Member m is judged by its own rewards, continuations and values; where all agree,
    as one member does with itself, all horizons count alike.
    """
    horizon = dream.action.shape[1]
    discount = returns.discounts(dream.continuation, gamma)
    expanded = []
    for start in range(horizon):
        earned, factor, totals = 0.0, 1.0, []
        for row in range(start, horizon):
            earned = earned + factor * dream.reward[:, row]
            factor = factor * discount[:, row]
            totals.append(earned + factor * dream.value[:, row + 1])
        total = jnp.stack(totals, axis=1)  # [D, horizons, M]
        weight = 1.0 / (total.var(axis=-1) + 1e-6)
        expanded.append(jnp.sum(weight * total.mean(axis=-1), axis=1) / weight.sum(axis=1))
    return jnp.stack(expanded, axis=1)


def _doubt(dream: _Rollout, gamma: float) -> jax.Array:
    """Returns [D, H] the standard deviation over members of reward + discount * value, in reward units."""
    after = dream.reward + returns.discounts(dream.continuation, gamma) * dream.value[:, 1:]
    return after.std(axis=-1)


def _running_product(x: jax.Array) -> jax.Array:
    """Returns [D, H + 1]: 1, then the product of `x` [D, H] up to each step."""
    return jnp.pad(jnp.cumprod(x, axis=1), ((0, 0), (1, 0)), constant_values=1.0)
