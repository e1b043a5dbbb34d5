"""What the unroll should have predicted: opinions made afresh from real rows, a lagged network and search.

Letters: B batch, S re-searched sequences (S <= B), K unroll steps, L rows of a sequence, A actions.
"""

import dataclasses
import math
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from dreamer.core import returns, trees
from dreamer.core.ports import Agent, WorldModel
from dreamer.core.types import DreamTargets, Params, PyTree, SequenceBatch
from dreamer.sleep.search import Search

VALUE_SOURCES = ("n_step", "search", "mixed")
UNSEARCHED = ("none", "action")


@dataclasses.dataclass(frozen=True)
class TargetsConfig:
    """How policy and value targets are made."""

    unroll_steps: int = 5
    """K, how many dreamed steps follow each replayed state."""
    td_steps: int = 5
    """n, real rewards in a value target before it bootstraps from the lagged network."""
    gamma: float = 0.997
    """Discount per decision."""
    research_fraction: float = 0.5
    """Share of each batch whose K + 1 states are searched again with the lagged network."""
    value_source: str = "n_step"
    """`n_step` returns, the `search` root value of re-searched rows, or `mixed` (EfficientZero V2): search for rows
    older than `mixed_after`, n-step for the fresh."""
    mixed_after: int = 5000
    """Age, in real transitions, from which `mixed` prefers the search value."""
    unsearched_policy: str = "none"
    """Policy target of rows that are not searched again: `none`, or the `action` taken by day (a fact, and a sample of
    the improved policy when the planner acts)."""

    def __post_init__(self) -> None:
        if self.unroll_steps < 1 or self.td_steps < 1:
            raise ValueError(
                f"targets.unroll_steps is {self.unroll_steps}, td_steps is {self.td_steps}: give 1 or more"
            )
        if not 0 < self.gamma <= 1:
            raise ValueError(f"targets.gamma is {self.gamma}: give a discount in (0, 1]")
        if not 0 <= self.research_fraction <= 1:
            raise ValueError(f"targets.research_fraction is {self.research_fraction}: give a share in [0, 1]")
        if self.value_source not in VALUE_SOURCES:
            raise ValueError(f"targets.value_source is {self.value_source!r}: give one of {', '.join(VALUE_SOURCES)}")
        if self.unsearched_policy not in UNSEARCHED:
            raise ValueError(f"targets.unsearched_policy is {self.unsearched_policy!r}: give one of {UNSEARCHED}")
        if self.mixed_after < 0:
            raise ValueError(f"targets.mixed_after is {self.mixed_after}: give 0 or more transitions")

    @property
    def length(self) -> int:
        """L, rows a sequence needs: K to unroll and n more for the last target."""
        return self.unroll_steps + self.td_steps

    def num_searched(self, batch_size: int) -> int:
        """S, sequences of a batch that are searched again: the configured share, rounded up."""
        # Rounded first: 0.07 * 100 is 7.000000000000001 in floating point, and that is 7.
        return math.ceil(round(self.research_fraction * batch_size, 6))


MakeTargets = Callable[..., DreamTargets]


def make_targets(model: WorldModel, agent: Agent, search: Search, config: TargetsConfig) -> MakeTargets:
    """Returns `targets(params, batch, keys, *, return_spread) -> DreamTargets` with the lagged `params`.

    `keys` [S, K + 1] are the re-search's, `return_spread` is passed on to search.
    """
    num_positions = config.unroll_steps + 1

    def targets(params: Params, batch: SequenceBatch, keys: jax.Array, *, return_spread: jax.Array) -> DreamTargets:
        chex.assert_shape(batch.action, (None, config.length))
        batch_size, num_searched = batch.action.shape[0], keys.shape[0]
        # Past its end a sequence repeats the last state, so these are the states that the K + 1 windows end in.
        ends = _observe(model, params, batch.obs[:, config.td_steps :])
        end_values = jax.vmap(lambda latent: agent.evaluate(params.agent, (), latent).value, 1, 1)(ends)
        values = jnp.pad(end_values, ((0, 0), (config.td_steps, 0)), mode="edge")
        value = returns.n_step_returns(
            batch.reward,
            returns.discounts(1.0 - batch.terminated, config.gamma),
            values,
            batch.valid,
            n=config.td_steps,
            num_positions=num_positions,
        )
        decided = batch.valid[:, :num_positions]
        policy = jax.nn.one_hot(batch.action[:, :num_positions], batch.action_mask.shape[-1])
        said = jnp.full((batch_size, num_positions), float(config.unsearched_policy == "action"))
        if num_searched:
            roots = _observe(model, params, batch.obs[:num_searched, :num_positions])
            found = search(
                params,
                (),
                trees.flatten_lead(roots, 2),
                trees.flatten_lead(batch.action_mask[:num_searched, :num_positions], 2),
                keys.reshape(-1),
                gumbel_scale=1.0,
                return_spread=return_spread,
            )
            found = trees.unflatten_lead(found, (num_searched, num_positions))
            policy = policy.at[:num_searched].set(found.policy)
            said = said.at[:num_searched].set(1.0)
            stale = jnp.full((num_searched,), config.value_source == "search")
            if config.value_source == "mixed":
                stale = batch.age[:num_searched] >= config.mixed_after
            value = value.at[:num_searched].set(jnp.where(stale[:, None], found.value, value[:num_searched]))
        made = DreamTargets(policy, said * decided, value, decided.astype(jnp.float32))
        return jax.lax.stop_gradient(made)

    return targets


def _observe(model: WorldModel, params: Params, obs: jax.Array) -> PyTree:
    """Returns the latents [B, P, ...] of observations [B, P, ...]."""
    return trees.unflatten_lead(model.observe(params.model, trees.flatten_lead(obs, 2)), obs.shape[:2])
