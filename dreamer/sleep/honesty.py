"""How honest a world model is: what it says of real transitions that it never saw, up to H steps open loop.

From every real state the model dreams the real actions on, and at each step its opinion is held against what happened.

Letters: T decisions, E environment copies, H dreamed steps, M members of an ensemble.
"""

import functools

import chex
import jax
import jax.numpy as jnp
from flax import struct

from dreamer.core.ports import WorldModel
from dreamer.core.types import PyTree, Transition
from dreamer.sleep.imagine import members_of


@struct.dataclass
class Honesty:
    """A model's errors at each dreamed step; NaN where nothing could be compared. Doubt is an ensemble's, else None."""

    num_compared: jax.Array
    """[H] int32 predictions held against a real transition: those that no real end lies before."""
    reward_error: jax.Array
    """[H] mean absolute error of the reward, in reward units."""
    continuation_error: jax.Array
    """[H] Brier score: mean square of the continuation's distance from 1 where life went on, from 0 where it ended."""
    reward_doubt: jax.Array | None
    """[H] mean standard deviation of the reward over the members, in reward units."""
    continuation_doubt: jax.Array | None
    """[H] mean standard deviation of the continuation over the members."""
    reward_calibration: jax.Array | None
    """[H] correlation between the members' standard deviation and the actual absolute error of the reward: 1 where the
    ensemble knows when it errs, 0 where its doubt says nothing. NaN where either is always the same."""
    continuation_calibration: jax.Array | None
    """[H] the same of the continuation."""


@struct.dataclass
class _Said:
    """What was said of one quantity at each step from each state of a copy, [H, T]; of all copies, [H, E * T]."""

    error: jax.Array
    """Absolute."""
    doubt: jax.Array
    """Standard deviation over the members."""


def open_loop(model: WorldModel, params: PyTree, lived: Transition, *, horizon: int) -> Honesty:
    """Returns how far the model's dreams along real actions are from what really happened. Pure: jit it.

    A step is compared while the transitions up to it are one episode and none before it ended it: past a real end there
    is nothing to compare. Where a clock cut an episode, life counts as going on.

    Args:
      model: the model.
      params: its own.
      lived: [T, E] consecutive transitions of each copy, which nobody learned from.
      horizon: H, static.
    """
    chex.assert_rank(lived.action, 2)
    num_steps = lived.action.shape[0]

    def dream(lived: Transition) -> tuple[jax.Array, _Said, _Said]:
        """Returns whether a step is compared [H, T], and what was said of reward and continuation, of one copy [T]."""
        went_on, ended = 1.0 - lived.terminated, lived.terminated | lived.truncated

        def dream_on(carry: tuple, ahead: jax.Array) -> tuple:
            latent, alive = carry
            # Row t is now about transition t + ahead; what comes round from the beginning is past the last one.
            action, reward, went, over = (
                jnp.roll(fact, -ahead, axis=0) for fact in (lived.action, lived.reward, went_on, ended)
            )
            compared = alive & (jnp.arange(num_steps) + ahead < num_steps)
            latent, *each = members_of(model, params, latent, action)
            said = (
                _Said(abs(own.mean(axis=1) - fact), own.std(axis=1))
                for own, fact in zip(each, (reward, went), strict=True)
            )
            return (latent, compared & ~over), (compared, *said)

        start = model.observe(params, lived.obs), jnp.ones(num_steps, bool)
        return jax.lax.scan(dream_on, start, jnp.arange(horizon))[1]

    # One copy after another: all states of all copies at once would be too many images for one batch.
    by_copy = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), lived)
    found = jax.lax.map(dream, by_copy)
    compared, reward, continuation = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(horizon, -1), found)
    mean = functools.partial(_mean, compared=compared)
    doubts = [None] * 4
    if model.members is not None:
        doubts = [mean(reward.doubt), mean(continuation.doubt)]
        doubts += [_correlation(said.doubt, said.error, compared) for said in (reward, continuation)]
    return Honesty(compared.sum(axis=1), mean(reward.error), mean(continuation.error**2), *doubts)


def _mean(x: jax.Array, compared: jax.Array) -> jax.Array:
    """Returns [H] means of x [H, E * T] over what is compared; NaN where nothing is."""
    count = compared.sum(axis=1)
    return jnp.where(compared, x, 0.0).sum(axis=1) / jnp.where(count > 0, count, jnp.nan)


def _correlation(x: jax.Array, y: jax.Array, compared: jax.Array) -> jax.Array:
    """Returns [H] Pearson's correlations of x and y [H, E * T] over what is compared; NaN where either is constant."""

    def varies(x: jax.Array) -> jax.Array:
        return jnp.where(compared, x, -jnp.inf).max(axis=1) > jnp.where(compared, x, jnp.inf).min(axis=1)

    mean = functools.partial(_mean, compared=compared)
    x_off, y_off = (z - mean(z)[:, None] for z in (x, y))
    correlation = mean(x_off * y_off) / jnp.sqrt(mean(x_off**2) * mean(y_off**2))
    return jnp.where(varies(x) & varies(y), correlation, jnp.nan)
