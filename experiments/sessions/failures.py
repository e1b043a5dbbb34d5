"""How good a teacher is after its student's mistakes, and whether a mistake makes others likelier.

Letters: T decisions of a session, L of an episode, A answers, N episodes, C cuts, S steps.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.core import keys as streams
from dreamer.core.ports import SessionAgent, in_copies
from dreamer.core.types import PyTree, Transition
from dreamer.loop import Lived, Policy, go_on, rows_of
from dreamer.sleep.carriers import Carried
from dreamer.sleep.teachers import reading_on
from dreamer.wake import session as sessions
from dreamer.wake.envs import EnvConfig, JobWorldConfig, of_job
from dreamer.wake.envs.jobs import codebook
from dreamer.wake.envs.jobworld import as_seen, view
from dreamer.wake.explore import Explore
from dreamer.wake.policy import make_act
from experiments.measures import known

CUTS = (0.2, 0.4, 0.6, 0.8)
"""Shares of a failed episode after which the teacher takes over: the recovery curve of "SCOPE: Signal-Calibrated
On-Policy Distillation Enhancement with Dual-Path Adaptive Weighting" (https://arxiv.org/abs/2604.10688)."""
STEPS = range(6)
"""Decisions behind the first mistake of a failed episode: at 0 are that one and all before it."""


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
    stake: jax.Array
    """[S] by `STEPS`, how much of the success that is left to who knows the codebook a wrong answer would give away, if
    all answers behind it were right: 0 while there is time for another, and where nothing matters any more."""
    regret: jax.Array
    """[S] how much of it the teacher's likeliest answer gives away."""
    surprise: jax.Array
    """[S] by `STEPS`, KL(who knows the codebook || teacher) in bits."""


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
        return read(memory, met, jnp.ones(N, bool)), agent(memory)(met.obs)

    def finished(met: Transition, goes_on: jax.Array) -> jax.Array:
        return (goes_on & (view(world, met.next_obs).progress == world.chain_length)).any(axis=0)

    failed, length = ~finished(lived, within), within.sum(axis=0)

    def taken_over(who: Callable[[jax.Array], Policy], cut: float) -> jax.Array:
        at = jnp.minimum(jnp.round(cut * length).astype(jnp.int32), length - 1)
        obs = jnp.take_along_axis(lived.obs, at[None, :, None], axis=0)[0]
        states = jax.vmap(functools.partial(as_seen, world, right))(jax.random.split(state_key, N), obs)
        return _mean(finished(*go_on(env, states, obs, who(at), own_key, num_steps=limit, greedy=True)), failed)

    saved = (jnp.stack([taken_over(who, cut) for cut in CUTS]) for who in (reader, knower))
    logits = jax.lax.scan(say, memory, lived)[1]
    return Recovery(*saved, *_labels(world, right, lived, within & failed[None], logits))


def _labels(
    world: JobWorldConfig, right: jax.Array, lived: Transition, counted: jax.Array, logits: jax.Array
) -> tuple[jax.Array, ...]:
    """Returns all of a `Recovery` that is said of the teacher's logits [L, N, A], in the states that count [L, N]."""
    seen = view(world, lived.obs)
    asked = right[seen.key]
    wrong = counted & (lived.action != asked)
    since = jnp.cumsum(jnp.cumsum(wrong, axis=0) - wrong > 0, axis=0)
    said_right = logits.argmax(axis=-1) == asked
    shares = (_mean(said_right, part & counted) for part in (since == 0, since > 0))

    # By symmetry what is lost depends on whether an answer is right, not on the key or on which wrong one it is.
    q = jnp.asarray(known.best_q(world, np.zeros(world.num_keys, int), gamma=1.0)[:, :, 0, :2], jnp.float32)
    best, worse = jnp.moveaxis(q[seen.time, world.chain_length - seen.progress], -1, 0)
    stake = jnp.where(seen.idle, 0.0, best - worse)
    regret = jnp.where(said_right, 0.0, stake)
    surprise = -jnp.take_along_axis(jax.nn.log_softmax(logits), asked[..., None], axis=-1)[..., 0] / jnp.log(2)
    by_step = (
        jnp.stack([_mean(values, counted & (since == step)) for step in STEPS]) for values in (stake, regret, surprise)
    )
    return *shares, *by_step


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


class SelfConditioning(NamedTuple):
    """What one mistake more does to the answers behind it; of several jobs each field leads with [J]."""

    wrong: jax.Array
    """[] share of the places of a chain, but for the first, whose first answer is wrong."""
    wrong_after: jax.Array
    """[] the same share of the same places, where the first answer of all was made a wrong one."""


def self_conditioning(
    slot: SessionAgent,
    config: EnvConfig,
    agent: Carried,
    *,
    number: jax.Array,
    seed: jax.Array,
    num_episodes: int,
    remembers: bool,
) -> SelfConditioning:
    """Returns how much likelier a mistake is after a mistake ("The Illusion of Diminishing Returns: Measuring Long
    Horizon Execution in LLMs", https://arxiv.org/abs/2509.09677, calls it self-conditioning). Pure.

    Whoever errs is mostly at a key that it does not know, so mistakes come in rows whatever they do to it. Here each
    episode is lived twice, with the same keys in the same order, and the second time its first answer is another one.
    Counted are places that both come to, in episodes whose own first answer was right; nan where there are none. What
    is found is at most the effect of a mistake: the episode without it errs by itself as well, and where the other is
    thrown off most, it comes to fewer places.

    Args:
      slot: the agent.
      config: the world, without aliased keys; mistakes in it can be mended.
      agent: who samples, as by day.
      number: [] of the job.
      seed: [] of the episodes.
      num_episodes: static.
      remembers: whether it begins with an empty memory and keeps the episode in it, or acts with what it has.
    """
    world, N = config.jobworld, num_episodes
    env, right = of_job(config, number), codebook(world, number)
    memory = slot.empty(N, world.deadline) if remembers else in_copies(agent.memory, N)
    act, remember = make_act(slot.agent, greedy=False), slot.agent.remember if remembers else None

    def slip(seed: jax.Array, life: jax.Array, action_mask: jax.Array, action: jax.Array) -> jax.Array:
        return jnp.where(life == 0, (action + 1) % world.num_answers, action)

    def answered(explore: Explore | None) -> tuple[jax.Array, jax.Array]:
        """Returns [N, H] bool each: the places of a chain that are come to, and those first answered wrongly."""
        begun = sessions.begin(env, seed=seed, num_envs=N, memory=memory)
        how = {"seed": seed, "num_steps": world.deadline, "remember": remember, "explore": explore}
        _, lived = sessions.live(env, act, agent.params, begun, **how)
        seen, ended = view(world, lived.obs), lived.terminated | lived.truncated
        within = jnp.cumsum(ended, axis=0) - ended == 0
        place = jax.nn.one_hot(seen.progress, world.chain_length, dtype=bool) & within[..., None]
        wrong = lived.action != right[seen.key]  # if any answer at a place is, its first was: a right one leads on
        return place.any(axis=0), (place & wrong[..., None]).any(axis=0)

    (came, wrong), (came_after, wrong_after) = answered(None), answered(slip)
    counted = (came & came_after & ~wrong[:, :1])[:, 1:]
    return SelfConditioning(_mean(wrong[:, 1:], counted), _mean(wrong_after[:, 1:], counted))


def _mean(values: jax.Array, counted: jax.Array) -> jax.Array:
    """Returns [] the mean of those that count; nan where none does."""
    return jnp.where(counted, values, 0).sum() / counted.sum()
