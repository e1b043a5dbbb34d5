"""How good an agent with a session slot is: success with and without a session, and the bits that its weights hold;
and how good a teacher it is after its student's mistakes.

Letters: J jobs, T decisions of a session, L of an episode, K keys, A answers, N episodes, C cuts.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from dreamer.core import keys as streams
from dreamer.core.ports import SessionAgent, in_copies
from dreamer.core.types import PyTree, Transition
from dreamer.loop import Lived, Policy, go_on, rows_of
from dreamer.sleep.carriers import Carried
from dreamer.sleep.teachers import reading_on
from dreamer.wake import session as sessions
from dreamer.wake.envs import EnvConfig, JaxEnv, of_job
from dreamer.wake.envs.jobs import codebook
from dreamer.wake.envs.jobworld import as_seen, prompts, view
from dreamer.wake.policy import live_one, make_act
from experiments.measures import bits

CUTS = (0.2, 0.4, 0.6, 0.8)
"""Shares of a failed episode after which the teacher takes over: the recovery curve of "SCOPE: Signal-Calibrated
On-Policy Distillation Enhancement with Dual-Path Adaptive Weighting" (https://arxiv.org/abs/2604.10688)."""


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


def with_and_without(
    slot: SessionAgent, config: EnvConfig, *, session_length: int, num_episodes: int
) -> Callable[[PyTree, jax.Array, jax.Array], Measured]:
    """Returns the pure (params, number of the job, seed) -> what a new session is worth to the agent there."""

    def measure(params: PyTree, number: jax.Array, seed: jax.Array) -> Measured:
        env, session_key = of_job(config, number), streams.stream(seed, "session")
        own_seed = jax.random.bits(session_key, dtype=jnp.uint32)
        lived = live_one(slot, env, params, seed=own_seed, num_steps=session_length, remembers=True)
        same = {"seed": sessions.evaluation_seed(seed), "num_episodes": num_episodes}
        return Measured(*(returns(slot, env, having(slot, params, known), **same) for known in ((), lived)))

    return measure


def answers(slot: SessionAgent, config: EnvConfig, agent: Carried) -> jax.Array:
    """Returns [K, A] the logits of what the agent answers to each key, known, at the start of an episode; looks left
    out."""
    world = config.jobworld
    memory = in_copies(agent.memory, world.num_keys)
    told = slot.agent.evaluate(agent.params, memory, prompts(world)[: world.num_keys])
    return told.logits[:, : world.num_answers]


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


class Recovery(NamedTuple):
    """What a teacher makes of its student's failed episodes; of several jobs each field leads with [J]."""

    recovered: jax.Array
    """[C] share of the failed episodes that end well where the teacher takes over at each of `CUTS`."""
    savable: jax.Array
    """[C] the same of somebody who knows the codebook: what time and dead ends leave to be saved."""
    right_before: jax.Array
    """[] share of the states up to the first wrong answer in which the teacher's likeliest answer is right."""
    right_after: jax.Array
    """[] the same of the states behind it."""


def recovery(
    slot: SessionAgent,
    config: EnvConfig,
    params: PyTree,
    session: Transition,
    *,
    teacher: PyTree,
    number: jax.Array,
    seed: jax.Array,
    num_episodes: int,
    reads_on: bool = False,
) -> Recovery:
    """Returns what a teacher with the session [T] in memory makes of episodes that a student fails without; nan where
    there is none of a kind. Pure.

    The student samples, as by day, and the teacher who takes over plays what it thinks likeliest. The episodes go on
    from what is seen, in the true job; as many fail as do of `num_episodes`, and nobody learns from them.

    Args:
      slot: the agent.
      config: the world, without aliased keys.
      params: of the student, who lived the session.
      session: [T]
      teacher: the teacher's parameters; mostly the same.
      number: [] of the job.
      seed: [] of the episodes.
      num_episodes: static.
      reads_on: whether the teacher has the failed episode so far in memory too, behind the session.
    """
    world = config.jobworld
    env, right = of_job(config, number), codebook(world, number)
    limit, N = sessions.step_limit(env, None), num_episodes
    reset_key, act_key, state_key, own_key = jax.random.split(streams.stream(seed, "recovery"), 4)

    memory = slot.recall_in(teacher, session, N)

    def agent(memory: PyTree) -> Policy:
        return lambda obs: slot.agent.evaluate(teacher, memory, obs).logits

    def alone(obs: jax.Array) -> jax.Array:
        return slot.agent.evaluate(params, (), obs).logits

    def knower(at: jax.Array) -> Policy:
        return lambda obs: jax.nn.one_hot(right[view(world, obs).key], world.num_actions)

    begun = jax.vmap(env.reset)(jax.random.split(reset_key, N))
    lived, within = go_on(env, *begun, alone, act_key, num_steps=limit)  # [L, N]

    def read(memory: PyTree, met: Transition, counted: jax.Array) -> PyTree:
        """Returns the teacher's memory after transitions [N], of which only those that count are read."""
        if not reads_on:
            return memory
        longer = slot.agent.remember(teacher, memory, met)
        return jax.tree.map(functools.partial(jax.vmap(jnp.where), counted), longer, memory)

    def reader(at: jax.Array) -> Policy:
        earlier = jnp.arange(limit)[:, None] < at[None]
        return agent(jax.lax.scan(lambda memory, one: (read(memory, *one), None), memory, (lived, earlier))[0])

    def say(memory: PyTree, met: Transition) -> tuple[PyTree, jax.Array]:
        return read(memory, met, jnp.ones(N, bool)), agent(memory)(met.obs).argmax(axis=-1)

    def finished(met: Transition, goes_on: jax.Array) -> jax.Array:
        return (goes_on & (view(world, met.next_obs).progress == world.chain_length)).any(axis=0)

    failed, length = ~finished(lived, within), within.sum(axis=0)

    def taken_over(who: Callable[[jax.Array], Policy], cut: float) -> jax.Array:
        at = jnp.minimum(jnp.round(cut * length).astype(jnp.int32), length - 1)
        obs = jnp.take_along_axis(lived.obs, at[None, :, None], axis=0)[0]
        states = jax.vmap(functools.partial(as_seen, world, right))(jax.random.split(state_key, N), obs)
        return _mean(finished(*go_on(env, states, obs, who(at), own_key, num_steps=limit, greedy=True)), failed)

    asked = right[view(world, lived.obs).key]
    wrong = within & (lived.action != asked)
    before = within & ((jnp.cumsum(wrong, axis=0) - wrong) == 0)
    said_right = jax.lax.scan(say, memory, lived)[1] == asked
    shares = (_mean(said_right, part & failed[None]) for part in (before, within & ~before))
    saved = (jnp.stack([taken_over(who, cut) for cut in CUTS]) for who in (reader, knower))
    return Recovery(*saved, *shares)


class Told(NamedTuple):
    """How often a night's labels are right; of several jobs each field leads with [J]."""

    right_before: jax.Array
    """[] share of the student's states, up to the first wrong answer of their episode, in which the teacher's likeliest
    answer is right."""
    right_after: jax.Array
    """[] the same of the states behind it."""


def told(
    slot: SessionAgent,
    config: EnvConfig,
    params: PyTree,
    lived: Lived,
    *,
    number: jax.Array,
    reads_on: bool = False,
) -> Told:
    """Returns how often the labels of the day's own states are right, of a teacher who has the session in memory as the
    night begins; nan where there is no state of a kind. Pure.

    Args:
      slot: the agent.
      config: the world, without aliased keys.
      params: the teacher's.
      lived: the day, with both its parts.
      number: [] of the job.
      reads_on: whether the teacher has what the student lived before a state in memory too, behind the session.
    """
    session, own = lived.session, lived.student
    if reads_on:
        policy = reading_on(slot, params, session, own)
    else:
        policy = slot.agent.evaluate(params, slot.recall_in(params, session, own.action.shape[0]), own.obs).logits
    asked = codebook(config.jobworld, number)[view(config.jobworld, own.obs).key]
    wrong, episode = own.action != asked, rows_of(own).trajectory
    earlier = jnp.cumsum(wrong) - wrong
    before = earlier == jax.ops.segment_min(earlier, episode, episode.shape[0])[episode]
    return Told(*(_mean(policy.argmax(axis=-1) == asked, part) for part in (before, ~before)))


def _mean(values: jax.Array, counted: jax.Array) -> jax.Array:
    """Returns [] the mean of those that count; nan where none does."""
    return jnp.where(counted, values, 0).sum() / counted.sum()
