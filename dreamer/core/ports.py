"""The two ports of the engine, and an agent with more behind it: one whose memory can be read and written whole.
Concrete models and agents live outside `dreamer/` and enter as these bundles.

Letters: B batch, K unroll steps, A actions, T transitions of a session.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dreamer.core.types import EnvSpec, PyTree, Transition


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


class SessionAgent(NamedTuple):
    """An agent, and what is known of its memory alone; its latent is the observation."""

    spec: EnvSpec
    """Of the environments that it is made for."""
    agent: Agent
    """`evaluate` takes `()` for an empty memory too."""
    empty: Callable
    """(number of copies B, decisions of the session) -> the memory to begin a session with."""
    read: Callable
    """(params, session of `Transition`s [B, T]) -> Evaluation [B, T] of every observation with what came before it in
    memory: all that acting through the session would have said, in one pass, for training."""
    recall: Callable
    """(params, session of `Transition`s [B, T]) -> the memory after it, in one pass: for other parameters than those
    that lived it."""
    last: Callable
    """(memory [B], number p, static) -> floats [B, p, ...], all that its last p places hold; of places that are empty,
    zeros. More places than a full memory has are a ValueError."""
    holding: Callable
    """(floats [B, p, ...]) -> a memory [B] of p places, all of them full, that holds just that: for `evaluate`, with no
    room for more."""
    looking_up: Callable
    """(observations [B, p, ...], logits [B, p, A]) -> a memory [B] with which `evaluate` says what stands beside the
    observation that is nearest to the present one, its value unknown, as 0; nothing of the weights is asked."""

    def read_one(self, params: PyTree, session: Transition) -> jax.Array:
        """Returns the policy logits [T, A] of `read`, of a session [T]."""
        return self.read(params, jax.tree.map(lambda leaf: leaf[None], session)).logits[0]

    def recall_in(self, params: PyTree, session: Transition | tuple, num_copies: int) -> PyTree:
        """Returns the memory of `num_copies` of the agent after one session [T]; () stands for none, in and out."""
        if session == ():
            return ()
        return in_copies(self.recall(params, jax.tree.map(lambda leaf: leaf[None], session)), num_copies)


def in_copies(memory: PyTree, num_copies: int) -> PyTree:
    """Returns the memory of one copy [1] as that of so many; () stays what it is."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_copies, *leaf.shape[1:])), memory)
