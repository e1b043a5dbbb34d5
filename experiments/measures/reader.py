"""The exact reader of a session: what it would play by all that the session told, and living so.

What it knows is exact (`beliefs` and `lake`). What it plays: in JobWorld an answer with the probability that it is
right, and a look where the key is hidden; on a lake the way that is likeliest to be safe, cell by cell.

Letters: B copies, T decisions, A actions.
"""

import functools

import jax
import jax.numpy as jnp

from dreamer.core.ports import Agent, SessionAgent
from dreamer.core.types import Evaluation, PyTree, Transition
from dreamer.wake import envs
from dreamer.wake.envs import EnvConfig
from dreamer.wake.envs.frozen_lake import place_of
from dreamer.wake.envs.jobworld import view
from experiments.measures import beliefs, lake


def labels(config: EnvConfig, session: Transition) -> tuple[jax.Array, jax.Array]:
    """Returns what the reader would play in a session [T] by what came before each decision, [T, A]; and where it
    matters, [T] bool."""
    if config.suite == "lake":
        ways = jax.vmap(functools.partial(_way, config))(lake.hole_probs(config, session), session.obs)
        return ways, jnp.ones(ways.shape[:1], bool)
    before = beliefs.beliefs(config, session)[:-1]
    answers = jax.vmap(functools.partial(_answer, config))(before, session.obs)
    return answers, ~view(config.jobworld, session.obs).idle


def make_reader(config: EnvConfig) -> SessionAgent:
    """Returns the reader as one who lives, samples what `labels` of its session so far give, and remembers what it
    knows.

    Only that: it asks no parameters, whatever stands for them, and tells no values; nothing of it is learned or read.

    Args:
      config: the world, of the suite `jobworld` or `lake`.

    Raises: as `beliefs.begin`.
    """
    if config.suite == "lake":
        first, after = lake.begin(config), lake.after

        def policy(possible: jax.Array, obs: jax.Array) -> jax.Array:
            return _way(config, lake.holes_among(config, possible, obs), obs)
    else:
        first, after = beliefs.begin(config), beliefs.after

        def policy(known: beliefs.Known, obs: jax.Array) -> jax.Array:
            return _answer(config, known.belief, obs)

    def evaluate(params: PyTree, memory: PyTree, obs: jax.Array) -> Evaluation:
        return Evaluation(jnp.log(jax.vmap(policy)(memory, obs)), None, None)

    def remember(params: PyTree, memory: PyTree, transition: Transition) -> PyTree:
        return jax.vmap(functools.partial(after, config))(memory, transition)

    def empty(num_copies: int, num_decisions: int) -> PyTree:
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_copies, *leaf.shape)), first)

    known = {"spec": envs.make_jax(config).spec, "agent": Agent(None, evaluate, None, remember), "empty": empty}
    return SessionAgent(**dict.fromkeys(SessionAgent._fields) | known)


def _answer(config: EnvConfig, belief: jax.Array, obs: jax.Array) -> jax.Array:
    """Returns [A] what is played in JobWorld at one observation by a belief [K, answers]."""
    world = config.jobworld
    key = view(world, obs).key
    answer = jnp.pad(belief[jnp.maximum(key, 0)], (0, world.num_actions - world.num_answers))
    return jnp.where(key >= 0, answer, jax.nn.one_hot(world.num_answers, world.num_actions))


def _way(config: EnvConfig, holes: jax.Array, obs: jax.Array) -> jax.Array:
    """Returns [A] what is played on a lake at one observation by the probability of a hole in each cell."""
    return lake.way(config.lake, holes, place_of(config.lake, obs))
