"""The two ports of the engine. Concrete models and agents live outside `dreamer/` and enter as these bundles.

Letters: B batch, K unroll steps, A actions.
"""

from collections.abc import Callable
from typing import NamedTuple


class WorldModel(NamedTuple):
    """A learned (or true) simulator. A latent is a pytree whose leaves lead with [B]."""

    init: Callable
    """(key, obs [B, ...]) -> params"""
    observe: Callable
    """(params, obs [B, ...]) -> latent: what both planner and student see."""
    step: Callable
    """(params, latent, action [B]) -> (latent, reward [B], continuation [B]): one dreamed step.

    `continuation` is the probability that life goes on, 0 at a dreamed terminal; `core.returns.discounts` turns it
    into a discount, as it does for real flags."""
    unroll: Callable
    """(params, key, batch: SequenceBatch) -> (latents [B, K + 1, ...], loss [B], metrics): the model's own losses
    along the real actions, and the latents on which the agent's losses are placed."""
    members: Callable | None = None
    """(params, latent, action [B]) -> (latent, reward [B, M], continuation [B, M]): `step`, with what each of an
    ensemble's M members says of it instead of their mean; None for a model of one mind."""


class Agent(NamedTuple):
    """Policy and value on latents."""

    init: Callable
    """(key, latent) -> params"""
    evaluate: Callable
    """(params, memory, latent [B, ...]) -> Evaluation [B]"""
    value_loss: Callable
    """(evaluation [...], target [...]) -> [...] loss of the value head against returns in reward units."""
    remember: Callable
    """(params, memory, transition [B]) -> memory; memory is `()` for an agent that has none."""
