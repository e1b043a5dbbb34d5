"""Who decides by day: the student alone, or the student with search (the planner).

Both are `act(actor, keys [E], obs [E, ...], action_mask [E, A], memory) -> (action [E] int32, memory)`, where E is
environment copies and `actor` is (Params, running spread of returns in reward units, share of the run in [0, 1]).
"""

from collections.abc import Callable

import jax

from dreamer.core.ports import Agent, WorldModel
from dreamer.core.types import Params, PyTree
from dreamer.sleep.search import Search
from dreamer.wake.policy import make_act

Actor = tuple[Params, jax.Array, jax.Array]
Act = Callable[[Actor, jax.Array, jax.Array, jax.Array, PyTree], tuple[jax.Array, PyTree]]


def make_student(model: WorldModel, agent: Agent, *, greedy: bool) -> Act:
    """Returns the search-free student: its likeliest allowed action if `greedy`, a sample otherwise."""
    student = make_act(agent, greedy=greedy)

    def act(
        actor: Actor, keys: jax.Array, obs: jax.Array, action_mask: jax.Array, memory: PyTree
    ) -> tuple[jax.Array, PyTree]:
        params, _, _ = actor
        return student(params.agent, keys, model.observe(params.model, obs), action_mask, memory)

    return act


def make_planner(model: WorldModel, agent: Agent, search: Search, *, greedy: bool) -> Act:
    """Returns the planner: search at every decision, with noise at the root unless `greedy`."""

    def act(
        actor: Actor, keys: jax.Array, obs: jax.Array, action_mask: jax.Array, memory: PyTree
    ) -> tuple[jax.Array, PyTree]:
        params, return_spread, progress = actor
        found = search(
            params,
            memory,
            model.observe(params.model, obs),
            action_mask,
            keys,
            explore=0.0 if greedy else 1.0,
            return_spread=return_spread,
            progress=progress,
        )
        return found.action, memory

    return act
