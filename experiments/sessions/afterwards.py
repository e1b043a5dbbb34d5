"""What is asked of students once a job is over: what they kept, how far they get, and how short it can be told.

Letters: J jobs, S of them in a sequence.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.core import divergences, trees
from dreamer.core import keys as streams
from dreamer.core.ports import SessionAgent
from dreamer.core.types import PyTree
from dreamer.sleep.carriers import Carried, Carrier
from dreamer.wake import session as sessions
from dreamer.wake.envs import EnvConfig, JaxEnv, of_job
from dreamer.wake.envs.jobs import codebook, drifted, pool_jobs, session_seed
from dreamer.wake.envs.jobworld import of_codebook
from dreamer.wake.policy import live_one
from experiments.sessions.coded import make_coded
from experiments.sessions.config import DistillationConfig
from experiments.sessions.failures import SelfConditioning, self_conditioning
from experiments.sessions.measure import having, of_success, returns, with_and_without


def make_asked(
    config: DistillationConfig,
    slot: SessionAgent,
    carrier: Carrier,
    *,
    first: PyTree,
    begun: PyTree,
    numbers: jax.Array,
    seeds: jax.Array,
) -> Callable[..., dict]:
    """Returns (what is learned [J], number of the night, of the job in the sequence, success [J]) -> what a row says.

    Args:
      config: the run.
      slot: the agent.
      carrier: how what is learned becomes an agent.
      first: the parameters that were deployed first.
      begun: what is learned before anything was, of one job.
      numbers: [J, S] of the jobs.
      seeds: [J] of the run and each student's first job.
    """
    kept, far = _kept(config, slot, first, seeds), _far(config, slot, seeds)
    conditioned = _self_conditioned(config, slot, seeds)
    carried = jax.vmap(carrier.carried, (0, None))

    @jax.jit
    def success(learned: PyTree, numbers: jax.Array, night: jax.Array) -> jax.Array:
        def one(student: Carried, number: jax.Array, seed: jax.Array) -> jax.Array:
            same = {"seed": sessions.evaluation_seed(seed, night), "num_episodes": config.episodes}
            return returns(slot, of_job(of_success(config.env), number), student, **same)

        return jax.vmap(one)(carried(learned, first), numbers, seeds)

    coded = make_coded(success, begun)

    def asked(learned: PyTree, night: int, stage: int, whole: np.ndarray) -> dict:
        students = carried(learned, first)
        row = kept(students.params) | far(students, numbers[:, stage], whole)
        row |= {"carried_bytes": 4 * trees.num_parameters(begun)}
        if config.self_conditioning:
            row |= conditioned(students, numbers[:, stage])
        if config.coded:
            row |= coded(learned, whole, numbers[:, stage], jnp.int32(night))
        return row

    return asked


def _kept(config: DistillationConfig, slot: SessionAgent, first: PyTree, seeds: jax.Array) -> Callable[[PyTree], dict]:
    """Returns (parameters of students [J]) -> what they have kept of reading sessions, in jobs that they never met.

    Those are of the pool `test`. `other_session_return` is the mean return that students reach by a session of their
    own there, and `old_kl` the mean KL(first || student) in nats of their policies as they read a session that the
    first agent lives.
    """
    env, own = config.agent.env.with_jobs(pool="test", job=0), config.env.job_world
    begin = own.job + len(config.jobs) if own.pool == "test" else 0
    numbers = jnp.array(pool_jobs(env.job_world)[begin : begin + config.num_jobs])
    num_steps = config.agent.session_length
    measure = with_and_without(slot, env, session_length=num_steps, num_episodes=config.episodes)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 0, 0, 0))
    def kept(first: PyTree, params: PyTree, number: jax.Array, seed: jax.Array) -> tuple[jax.Array, jax.Array]:
        lived_seed = session_seed(seed, number)
        lived = live_one(slot, of_job(env, number), first, seed=lived_seed, num_steps=num_steps, remembers=True)
        played = jax.nn.softmax(slot.read_one(first, lived))
        away = divergences.forward_kl(played, slot.read_one(params, lived)).mean()
        return measure(params, number, seed).within, away

    def of(params: PyTree) -> dict:
        reached, away = kept(first, params, numbers, seeds)
        return {"other_session_return": float(reached.mean()), "old_kl": max(0.0, float(away.mean()))}

    return of


def _far(config: DistillationConfig, slot: SessionAgent, seeds: jax.Array) -> Callable[..., dict]:
    """Returns (students [J], numbers of their jobs [J], their success [J]) -> how they do in longer chains.

    `return_x2` is the mean return without memory where a chain has twice as many keys, and twice the slack;
    `independent_x2` is what it would be if the halves of a chain were finished independently of each other, the mean
    over jobs of their success squared, without bias (`all_succeed`). Under a drift the job has changed by then:
    `return_x1` is the mean return in chains as before, of which the halves are, and `adapted_x1`, `adapted_x2` are
    those of the student with a new session in memory, lived by itself in the changed job.
    """
    changes = round(config.drift * config.env.jobworld.num_keys)

    def job(world: EnvConfig, number: jax.Array, seed: jax.Array) -> JaxEnv:
        own = config.env.jobworld
        if not config.drift:
            return of_job(world, number)
        key = streams.stream(seed, "drift", number)
        now = drifted(codebook(own, number), num_changed=changes, num_answers=own.num_answers, key=key)
        return of_codebook(world, now)

    @functools.partial(jax.jit, static_argnames="times")
    def measured(students: Carried, numbers: jax.Array, times: int) -> jax.Array:
        def one(student: Carried, number: jax.Array, seed: jax.Array) -> jax.Array:
            same = {"seed": sessions.evaluation_seed(seed), "num_episodes": config.episodes}
            world = _longer(of_success(config.env), times)
            return returns(slot, job(world, number, seed), student, **same)

        return jax.vmap(one)(students, numbers, seeds)

    @jax.jit
    def adapted(students: Carried, numbers: jax.Array) -> Carried:
        def one(student: Carried, number: jax.Array, seed: jax.Array) -> Carried:
            lives = {"seed": session_seed(seed, number), "num_steps": config.agent.session_length}
            lived = live_one(slot, job(config.env, number, seed), student.params, **lives, remembers=True)
            return having(slot, student.params, lived)

        return jax.vmap(one)(students, numbers, seeds)

    def of(students: Carried, numbers: jax.Array, success: np.ndarray) -> dict:
        who, lengths = {"return": students}, config.horizons
        if config.drift:
            who, lengths = who | {"adapted": adapted(students, numbers)}, (1, *lengths)
        found = {
            f"{name}_x{times}": measured(agents, numbers, times) for times in lengths for name, agents in who.items()
        }
        own = found["return_x1"] if config.drift else success
        row = {name: float(mean.mean()) for name, mean in found.items()}
        return row | {
            f"independent_x{times}": float(all_succeed(own, times, of=config.episodes).mean())
            for times in config.horizons
        }

    return of


def all_succeed(success: np.ndarray, times: int, *, of: int) -> np.ndarray:
    """Returns [...] how likely so many independent episodes all succeed, estimated without bias.

    It is the share of the sets of that many of the episodes measured in which all succeeded (a U-statistic; Hoeffding,
    "A class of statistics with asymptotically normal distribution", 1948): a power of the share itself would be too
    high in the mean.

    Args:
      success: [...] shares of the episodes that succeeded.
      times: episodes of a set.
      of: episodes measured, as many or more.
    """
    succeeded = np.round(np.asarray(success, np.float64) * of)
    return np.prod([np.maximum(succeeded - one, 0) / (of - one) for one in range(times)], axis=0)


def _self_conditioned(config: DistillationConfig, slot: SessionAgent, seeds: jax.Array) -> Callable[..., dict]:
    """Returns (students [J], numbers of their jobs [J]) -> how often they err in longer chains, and after a mistake:
    with what they carry, and keeping the episode in a memory that begins empty."""

    @functools.partial(jax.jit, static_argnames="remembers")
    def measured(students: Carried, numbers: jax.Array, remembers: bool) -> SelfConditioning:
        world = _longer(config.env, config.self_conditioning)

        def one(student: Carried, number: jax.Array, seed: jax.Array) -> SelfConditioning:
            how = {"number": number, "seed": sessions.evaluation_seed(seed), "num_episodes": config.episodes}
            return self_conditioning(slot, world, student, **how, remembers=remembers)

        return jax.vmap(one)(students, numbers, seeds)

    def of(students: Carried, numbers: jax.Array) -> dict:
        row = {}
        for who, remembers in (("alone", False), ("remembering", True)):
            found = measured(students, numbers, remembers)
            row |= {f"wrong_{who}": found.wrong, f"wrong_{who}_after": found.wrong_after}
        return {name: float(jnp.nanmean(shares)) for name, shares in row.items() if jnp.isfinite(shares).any()}

    return of


def _longer(config: EnvConfig, times: int) -> EnvConfig:
    """Returns the world with chains that are so many times as long, and as many times the slack."""
    own = config.jobworld
    long = {"chain_length": times * own.chain_length, "slack": times * own.slack}
    return dataclasses.replace(config, jobworld=dataclasses.replace(own, **long))
