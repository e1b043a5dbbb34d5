"""How good an agent with a session slot is: success with and without a session, and the bits that its weights hold.

Letters: J jobs, T decisions of a session, K keys, A answers; of lakes N maps, C cells, A actions.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from dreamer.core import keys as streams
from dreamer.core.ports import SessionAgent, in_copies
from dreamer.core.types import PyTree, Transition
from dreamer.sleep.carriers import Carried
from dreamer.wake import session as sessions
from dreamer.wake.envs import EnvConfig, JaxEnv, of_job
from dreamer.wake.envs.jobworld import prompts
from dreamer.wake.envs.lakes import LakeConfig, starts
from dreamer.wake.policy import live_one, make_act
from experiments.measures import bits, lake


class Measured(NamedTuple):
    """Mean returns of one job's episodes."""

    without: jax.Array
    """[] of the agent with nothing in memory: what is deployed."""
    within: jax.Array
    """[] of the same weights with the session in memory: its teacher."""


def having(slot: SessionAgent, params: PyTree, session: Transition | tuple) -> Carried:
    """Returns the agent with a session [T] in memory, or with () nothing."""
    return Carried(params, slot.recall_in(params, session, 1))


def returns(slot: SessionAgent, env: JaxEnv, agent: Carried, *, seed: jax.Array, num_episodes: int) -> jax.Array:
    """Returns [] the mean return of greedy episodes, each begun with what the agent has in memory."""
    act, memory = make_act(slot.agent, greedy=True), in_copies(agent.memory, num_episodes)
    return sessions.episode_returns(env, act, agent.params, seed=seed, num_episodes=num_episodes, memory=memory).mean()


def of_success(config: EnvConfig) -> EnvConfig:
    """Returns the world in which success is asked: an episode is paid as it ends, whatever pays and costs by day."""
    if config.suite != "jobworld":
        return config
    return dataclasses.replace(config, jobworld=dataclasses.replace(config.jobworld, feedback="end", look_cost=0.0))


def with_and_without(
    slot: SessionAgent, config: EnvConfig, *, session_length: int, num_episodes: int
) -> Callable[[PyTree, jax.Array, jax.Array], Measured]:
    """Returns the pure (params, number of the job, seed) -> what a new session is worth to the agent there."""

    def measure(params: PyTree, number: jax.Array, seed: jax.Array) -> Measured:
        env, session_key = of_job(config, number), streams.stream(seed, "session")
        own_seed = jax.random.bits(session_key, dtype=jnp.uint32)
        lived = live_one(slot, env, params, seed=own_seed, num_steps=session_length, remembers=True)
        same = {"seed": sessions.evaluation_seed(seed), "num_episodes": num_episodes}
        asked = of_job(of_success(config), number)
        return Measured(*(returns(slot, asked, having(slot, params, known), **same) for known in ((), lived)))

    return measure


def answers(slot: SessionAgent, config: EnvConfig, agent: Carried) -> jax.Array:
    """Returns [K, A] the logits of what the agent answers to each key, known, at the start of an episode; looks left
    out."""
    world = config.jobworld
    return agent.logits_at(slot.agent, prompts(world)[: world.num_keys])[:, : world.num_answers]


def directions(slot: SessionAgent, config: EnvConfig, agent: Carried) -> jax.Array:
    """Returns [C, A] the logits of where the agent goes from each cell of a lake, at the start of an episode."""
    cells = config.lake.num_cells
    seen = jnp.concatenate([jnp.eye(cells), jnp.ones((cells, 1))], axis=1)
    return agent.logits_at(slot.agent, seen)


def bits_of(logits: np.ndarray, belief: np.ndarray, codebook: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns [J] bits that answers by `logits` [J, K, A] retain of codebooks [J, K], and those that a reader with the
    beliefs [J, K, A] could tell.

    Raises:
      LeakError: more was retained than could be told, beyond luck.
    """
    policy = special.softmax(np.asarray(logits, np.float64), axis=-1)  # nobody is so sure that float64 makes it a 0
    truth = bits.certain(codebook, policy.shape[-1])
    retained, available = bits.retained_bits(policy, truth), bits.retained_bits(belief, truth)
    bits.check_no_leak(retained, available)
    return retained, available


def bits_of_ways(
    world: LakeConfig, logits: np.ndarray, first: np.ndarray, possible: np.ndarray, number: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns [J] bits that directions by `logits` [J, C, A] gain about the ways of maps [J], over all cells that have
    one, and those that a reader gains, to whom the maps `first` [N] were possible and the maps [J, N] are.

    Raises:
      LeakError: more was gained than could be told, beyond luck.
    """
    policy = special.softmax(np.asarray(logits, np.float64), axis=-1)
    truth = lake.ways(world.size, world.num_holes)[number] * starts(world.size, world.num_holes)[number][..., None]
    # Cells hang together, so a leak is looked for cell by cell, each beside who has been told the ways of those before.
    in_turn = np.stack([lake.believed_in_turn(world, *job) for job in zip(possible, number, strict=True)])
    bits.check_no_leak(*(bits.gained_bits(one, np.full_like(in_turn, 1 / 4), truth) for one in (policy, in_turn)))
    before = lake.believed(world, first)
    return tuple(bits.gained_bits(one, before, truth) for one in (policy, lake.believed(world, possible)))
