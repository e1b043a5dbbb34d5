"""What the unroll should have predicted: opinions made afresh from real rows, a lagged network and search.

Letters: B batch, S re-searched sequences (S <= B), K unroll steps, L rows of a sequence, R roots of one, A actions.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from dreamer.core import returns, trees
from dreamer.core.ports import Agent, WorldModel
from dreamer.core.types import DreamTargets, Evaluation, Params, PyTree, SequenceBatch
from dreamer.sleep.search import Search

VALUE_SOURCES = ("trace", "n_step", "search", "mixed")
BOOTSTRAPS = ("value", "search")
UNSEARCHED = ("none", "action")


@dataclasses.dataclass(frozen=True)
class TargetsConfig:
    """How policy and value targets are made."""

    unroll_steps: int = 5
    """K, how many dreamed steps follow each replayed state."""
    td_steps: int = 5
    """n, rows beyond the K unrolled ones: n-step targets bootstrap after n real rewards, traces run over all K + n."""
    gamma: float = 0.997
    """Discount per decision."""
    research_fraction: float = 0.5
    """Share of each batch whose states are searched again with the lagged network."""
    value_source: str = "trace"
    """`trace`: lambda-returns cut where the lagged student would have acted otherwise. `n_step` returns, whoever acted.
    `search`: the root value of re-searched rows, n-step for the others. `mixed` (EfficientZero V2): search for rows
    older than `mixed_after`, n-step for the fresh."""
    trace_decay: float = 0.97
    """Lambda of `trace` where the student agrees with what was done."""
    mixed_after: int = 5000
    """Age, in real transitions, from which `mixed` prefers the search value."""
    mixed_from: float = 0.0
    """Progress of the run, in [0, 1], before which `mixed` is n-step for all (T1 of EfficientZero V2)."""
    td_shrink_every: int = 0
    """Age, in real transitions, by which `n_step` windows lose one row, down to one: what was lived by an older policy
    is bootstrapped earlier (EfficientZero). 0 never shrinks them."""
    bootstrap: str = "value"
    """What `n_step` windows end in: the `value` head's opinion of the state, or what `search` from there says of it in
    rows that are searched again (the second half of EfficientZero's off-policy correction; its code leaves it off)."""
    clip_rewards: bool = False
    """Whether the night learns from the sign of each reward, as is usual for Atari; the facts keep what was paid."""
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
        if self.bootstrap not in BOOTSTRAPS:
            raise ValueError(f"targets.bootstrap is {self.bootstrap!r}: give one of {', '.join(BOOTSTRAPS)}")
        if self.bootstrap == "search" and self.value_source not in ("n_step", "mixed"):
            raise ValueError(
                f"targets.bootstrap is 'search', but value_source {self.value_source!r} gives them no windows: "
                "give value, or choose n_step or mixed"
            )
        if not self.research_fraction and (self.value_source in ("search", "mixed") or self.bootstrap == "search"):
            raise ValueError(
                f"targets.research_fraction is 0, but value_source is {self.value_source!r} and bootstrap "
                f"{self.bootstrap!r}, which ask what search says: give a share above 0, or n_step (or trace) and value"
            )
        if self.unsearched_policy not in UNSEARCHED:
            raise ValueError(f"targets.unsearched_policy is {self.unsearched_policy!r}: give one of {UNSEARCHED}")
        for name in ("trace_decay", "mixed_from"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"targets.{name} is {getattr(self, name)}: give a share in [0, 1]")
        for name in ("mixed_after", "td_shrink_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"targets.{name} is {getattr(self, name)}: give 0 or more transitions")
        if self.td_shrink_every and self.value_source == "trace":
            raise ValueError(
                f"targets.td_shrink_every is {self.td_shrink_every}, but value_source is 'trace', which has no "
                "windows: give 0, or another value_source"
            )

    @property
    def length(self) -> int:
        """L, rows a sequence needs: K to unroll and n more for the last target."""
        return self.unroll_steps + self.td_steps

    @property
    def num_roots(self) -> int:
        """R, states searched in each such sequence: the K + 1 learned from, or all L + 1 that windows can end in."""
        return self.length + 1 if self.bootstrap == "search" else self.unroll_steps + 1

    def learned(self, lived: Any) -> Any:
        """Returns transitions, or rows of a batch, with the rewards that nights learn from, and models foretell."""
        return lived.replace(reward=jnp.sign(lived.reward)) if self.clip_rewards else lived

    def num_searched(self, batch_size: int) -> int:
        """S, sequences of a batch that are searched again: the configured share, rounded up."""
        # Rounded first: 0.07 * 100 is 7.000000000000001 in floating point, and that is 7.
        return math.ceil(round(self.research_fraction * batch_size, 6))


MakeTargets = Callable[..., DreamTargets]


def make_targets(model: WorldModel, agent: Agent, search: Search, config: TargetsConfig) -> MakeTargets:
    """Returns `targets(params, batch, keys, *, return_spread, progress) -> DreamTargets` with the lagged `params`.

    `keys` [S, R] are the re-search's, `return_spread` is passed on to search, `progress` is the share of the run.
    """
    num_positions = config.unroll_steps + 1

    def targets(
        params: Params, batch: SequenceBatch, keys: jax.Array, *, return_spread: jax.Array, progress: jax.Array
    ) -> DreamTargets:
        chex.assert_shape(batch.action, (None, config.length))
        batch_size, num_searched = batch.action.shape[0], keys.shape[0]
        found = None
        if num_searched:
            roots = _observe(model, params, batch.obs[:num_searched, : config.num_roots])
            found = search(
                params,
                (),
                trees.flatten_lead(roots, 2),
                trees.flatten_lead(_root_mask(batch)[:num_searched, : config.num_roots], 2),
                keys.reshape(-1),
                explore=1.0,
                return_spread=return_spread,
                progress=progress,
            )
            found = trees.unflatten_lead(found, keys.shape)
        if config.value_source == "trace":
            value, trust = _traced(model, agent, params, batch, config)
        else:
            ends = found.value if found is not None and config.bootstrap == "search" else None
            value = _n_step(model, agent, params, batch, config, searched=ends)
            trust = jnp.ones_like(value)
        decided = batch.valid[:, :num_positions]
        policy = jax.nn.one_hot(batch.action[:, :num_positions], batch.action_mask.shape[-1])
        said = jnp.full((batch_size, num_positions), float(config.unsearched_policy == "action"))
        if found is not None:
            found = jax.tree.map(lambda leaf: leaf[:, :num_positions], found)
            policy = policy.at[:num_searched].set(found.policy)
            said = said.at[:num_searched].set(1.0)
            stale = jnp.full((num_searched,), config.value_source == "search")
            if config.value_source == "mixed":
                stale = (batch.age[:num_searched] >= config.mixed_after) & (progress >= config.mixed_from)
            value = value.at[:num_searched].set(jnp.where(stale[:, None], found.value, value[:num_searched]))
        made = DreamTargets(policy, said * decided, value, decided * trust)
        return jax.lax.stop_gradient(made)

    return targets


def _root_mask(batch: SequenceBatch) -> jax.Array:
    """Returns [B, L + 1, A] what is allowed in each state: all where no decision tells, as anywhere below a root."""
    known = batch.action_mask | ~batch.valid[..., None]
    return jnp.pad(known, ((0, 0), (0, 1), (0, 0)), constant_values=True)


def _n_step(
    model: WorldModel,
    agent: Agent,
    params: Params,
    batch: SequenceBatch,
    config: TargetsConfig,
    *,
    searched: jax.Array | None,
) -> jax.Array:
    """Returns n-step returns [B, K + 1]; windows end in `searched` [S, L + 1], in other rows in the value head."""
    n, num_positions = config.td_steps, config.unroll_steps + 1
    shrunk = batch.age // config.td_shrink_every if config.td_shrink_every else jnp.zeros_like(batch.age)
    horizon = jnp.maximum(1, n - shrunk)[:, None]  # [B, 1]
    # Past its end a sequence repeats the last state, so these are the states that the K + 1 windows end in.
    states = horizon + jnp.arange(num_positions)[None]
    ends = _evaluate(model, agent, params, jax.vmap(lambda obs, places: obs[places])(batch.obs, states)).value
    if searched is not None:
        ends = ends.at[: len(searched)].set(jnp.take_along_axis(searched, states[: len(searched)], axis=1))
    places = jnp.clip(jnp.arange(config.length + 1)[None] - horizon, 0, config.unroll_steps)
    values = jnp.take_along_axis(ends, places, axis=1)  # [B, L + 1], where a window ends
    return returns.n_step_returns(
        batch.reward,
        returns.discounts(1.0 - batch.terminated, config.gamma),
        values,
        batch.valid,
        n=n,
        num_positions=num_positions,
        horizon=horizon[:, 0],
    )


def _traced(
    model: WorldModel, agent: Agent, params: Params, batch: SequenceBatch, config: TargetsConfig
) -> tuple[jax.Array, jax.Array]:
    """Returns lambda-returns [B, K + 1] over all L rows, and how far each speaks of the student's policy.

    What was done before the student knew better says little of what its states are worth now, and says it forever. As
    in V-trace (https://arxiv.org/abs/1802.01561), truncated importance ratios min(1, pi(a) / mu(a)) cut the traces, and
    weigh each row's own decision; mu, which nobody recorded, is taken as uniform over the allowed actions.
    """
    now = _evaluate(model, agent, params, batch.obs)
    logits = jnp.where(batch.action_mask, now.logits[:, :-1], -jnp.inf)
    taken = jnp.take_along_axis(jax.nn.softmax(logits), batch.action[..., None], axis=-1)[..., 0]
    ratio = jnp.minimum(1.0, taken * batch.action_mask.sum(axis=-1))
    value = returns.lambda_returns(
        batch.reward,
        returns.discounts(1.0 - batch.terminated, config.gamma),
        now.value,
        batch.valid,
        lam=config.trace_decay * jnp.pad(ratio[:, 1:], ((0, 0), (0, 1)), constant_values=1.0),
    )
    num_positions = config.unroll_steps + 1
    return value[:, :num_positions], ratio[:, :num_positions]


def _evaluate(model: WorldModel, agent: Agent, params: Params, obs: jax.Array) -> Evaluation:
    """Returns the agent's evaluation [B, P] of observations [B, P, ...]."""
    latents = _observe(model, params, obs)
    return jax.vmap(lambda latent: agent.evaluate(params.agent, (), latent), 1, 1)(latents)


def _observe(model: WorldModel, params: Params, obs: jax.Array) -> PyTree:
    """Returns the latents [B, P, ...] of observations [B, P, ...]."""
    return trees.unflatten_lead(model.observe(params.model, trees.flatten_lead(obs, 2)), obs.shape[:2])
