"""A teacher that plans: search in the world as it is dreamed, begun in the states that the student came to.

The other half of what a session is worth. Whoever has it in memory *reads* what to do; whoever has a model of the
world that it tells of can *work it out*, though nothing be in memory. The session agent has no values, so a leaf is
worth what comes of acting on by its policy from there, as in Monte-Carlo tree search ("Bandit based Monte-Carlo
planning", UCT, https://doi.org/10.1007/11871842_29).

Letters: N states, B of any number, R rollouts, L decisions of an episode at most, A actions.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from dreamer.core.ports import Agent, WorldModel, in_copies
from dreamer.core.types import Evaluation, Params, PyTree
from dreamer.loop.refinement import DreamedWorld
from dreamer.sleep.search import IMPOSSIBLE, SearchConfig, make_search
from dreamer.wake.envs import JaxEnv
from dreamer.wake.session import step_limit

# What only a search reads that explores, or knows the spread of a run's returns.
_UNREAD = ("relative_q_range", "dirichlet_alpha", "dirichlet_share", "temperatures", "cool_at")


@dataclasses.dataclass(frozen=True)
class PlanConfig:
    """How a teacher plans."""

    search: SearchConfig = SearchConfig(num_simulations=32)
    """The search, which does not explore, and knows no running spread of returns."""
    gamma: float = 0.95
    """Discount of a decision: of two ways that succeed the quicker is better."""
    num_rollouts: int = 4
    """R, rollouts whose mean a leaf is worth."""

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= 1:
            raise ValueError(f"plan.gamma is {self.gamma}: give a discount above 0, at most 1")
        if self.num_rollouts < 1:
            raise ValueError(f"plan.num_rollouts is {self.num_rollouts}: give 1 or more")
        for name in _UNREAD:
            if getattr(self.search, name) != getattr(SearchConfig, name):
                raise ValueError(
                    f"plan.search.{name} is {getattr(self.search, name)}, which has no effect, since a plan does not "
                    "explore and knows no spread of returns: leave it out"
                )

    def calls(self, num_actions: int, episode_length: int) -> int:
        """Returns the steps of the dreamed world behind the plan of one state: those of the tree, and of R rollouts
        from the root and from each leaf, an episode long."""
        simulations = self.search.simulations(num_actions)
        return simulations + (simulations + 1) * self.num_rollouts * episode_length


@struct.dataclass
class Place:
    """Where a plan has come to; leading [B]."""

    state: PyTree
    """Of the dreamed world."""
    obs: jax.Array
    """What is seen there."""
    key: jax.Array
    """[B] of all chance from here on: what once came of an action comes of it again."""


def plan(
    config: PlanConfig,
    agent: Agent,
    params: PyTree,
    memory: PyTree,
    *,
    world: DreamedWorld,
    obs: jax.Array,
    key: jax.Array,
) -> jax.Array:
    """Returns [N, A] the policy that search makes of the agent's own in the dreamed world. Pure.

    Args:
      config: the search.
      agent: whose policy is improved, in the tree and in the rollouts, and who acts on observations.
      params: its own.
      memory: [1] what it has in mind, the same in all states; () is nothing.
      world: as it is dreamed.
      obs: [N, ...] where to begin: in a state in which that is seen. What it does not show, and all chance to come, is
        drawn once, and the plan is made as if that were known.
      key: of all that is drawn.
    """
    at_key, chance_key, search_key = jax.random.split(key, 3)
    N = obs.shape[0]
    states = jax.vmap(world.at)(jax.random.split(at_key, N), obs)
    roots = Place(states, obs, jax.random.split(chance_key, N))
    planner = _planner(config, agent, memory, world.env)
    search = make_search(_model(world.env), planner, config.search, gamma=config.gamma)
    allowed = jax.vmap(world.env.action_mask)(states)
    keys = jax.random.split(search_key, N)
    all_params = Params(model={}, agent=params)
    found = search(all_params, (), roots, allowed, keys, explore=0.0, return_spread=0.0, progress=1.0)
    return found.policy


def _model(env: JaxEnv) -> WorldModel:
    """Returns the dreamed world behind the model port; its latent is a `Place`, and nothing of it is learned."""

    def step(params: PyTree, place: Place, action: jax.Array) -> tuple[Place, jax.Array, jax.Array]:
        del params
        return _stepped(env, place, action)

    return WorldModel(init=None, observe=None, step=step, unroll=None)


def _stepped(env: JaxEnv, place: Place, action: jax.Array) -> tuple[Place, jax.Array, jax.Array]:
    """Returns the place that an action [B] leads to, the reward, and 1 where the episode goes on there, else 0.

    Of a place's key this uses the parts `step` and, for what follows this action, `onward`; see `_uses`.
    """
    step_keys, onward = _uses(place.key, "step"), _uses(place.key, "onward")
    state, obs, reward, terminated, _ = jax.vmap(env.step)(step_keys, place.state, action)
    return Place(state, obs, jax.vmap(jax.random.fold_in)(onward, action)), reward, 1.0 - terminated


def _uses(keys: jax.Array, use: str) -> jax.Array:
    """Returns [B] the part of keys [B] that is for `use`: the next step, what follows it, the choice of its action, or
    the rollouts from there. No two share any."""
    uses = ("step", "onward", "act", "rollout")
    return jax.vmap(lambda key: jax.random.split(key, len(uses))[uses.index(use)])(keys)


def _planner(config: PlanConfig, agent: Agent, memory: PyTree, env: JaxEnv) -> Agent:
    """Returns the agent on places with `memory` [1] in mind, whose value is the mean discounted return of R rollouts of
    its own policy."""
    num_steps = step_limit(env, None)

    def logits_of(params: PyTree, place: Place) -> jax.Array:
        logits = agent.evaluate(params, in_copies(memory, place.obs.shape[0]), place.obs).logits
        return jnp.where(jax.vmap(env.action_mask)(place.state), logits, IMPOSSIBLE)

    def evaluate(params: PyTree, carried: tuple, place: Place) -> Evaluation:
        del carried  # no tree carries the memory, which is the same in all of its places

        def act_on(carry: tuple, _) -> tuple:
            place, worth, discount = carry
            action = jax.vmap(jax.random.categorical)(_uses(place.key, "act"), logits_of(params, place))
            place, reward, goes_on = _stepped(env, place, action.astype(jnp.int32))
            return (place, worth + discount * reward, discount * config.gamma * goes_on), None

        def rollout(number: jax.Array) -> jax.Array:
            own = place.replace(key=jax.vmap(jax.random.fold_in, (0, None))(_uses(place.key, "rollout"), number))
            zeros = jnp.zeros(place.obs.shape[0])
            return jax.lax.scan(act_on, (own, zeros, zeros + 1), length=num_steps)[0][1]

        value = jax.vmap(rollout)(jnp.arange(config.num_rollouts)).mean(axis=0)
        return Evaluation(logits_of(params, place), value, ())

    return Agent(init=None, evaluate=evaluate, value_loss=None, remember=None)
