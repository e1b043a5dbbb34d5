"""Distillation, job by job: sessions, nights, and after each what the student without memory can do and knows.

Letters: J jobs, T decisions, K keys, A answers.
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.core import keys as streams
from dreamer.core.ports import SessionAgent
from dreamer.core.types import Meters, Metrics, PyTree, Transition
from dreamer.io import Log, RunFolder
from dreamer.loop import Lived, make_day_and_night
from dreamer.sleep.update import Optimizer, TrainState, init_train_state, make_optimizer
from dreamer.wake import session as sessions
from dreamer.wake.envs import JaxEnv
from dreamer.wake.envs.jobs import codebook, pool_jobs
from dreamer.wake.envs.jobworld import of_codebook, of_job, prompts, session_seed
from dreamer.wake.policy import live_one
from experiments.measures.beliefs import prior, read_on
from experiments.sessions.config import DistillationConfig, sessions_to_dict
from experiments.sessions.measure import Measured, answers, bits_of, returns, with_and_without
from experiments.sessions.pretraining import Watch, require_finite, summary


class Job(NamedTuple):
    """One of the jobs; of several each field leads with [J]."""

    number: jax.Array
    """[] int32 among all jobs."""
    taught: jax.Array
    """[] int32 the job that its sessions are lived in: the same, or for a control another."""
    seed: jax.Array
    """[] uint32 of the run and the job."""


class Standing(NamedTuple):
    """What is carried from night to night; of several jobs each leaf leads with [J]."""

    student: TrainState
    belief: jax.Array
    """[K, A] of a perfect reader of all that was lived in the job."""


class Outcome(NamedTuple):
    """What a night came to; of several jobs each leaf leads with [J]."""

    measured: Measured
    """Mean returns without the session and within it; nan within where there was none of this job."""
    answers: jax.Array
    """[K, A] logits of the student."""
    metrics: Metrics
    """Means over the night's updates."""


def jobs_of(config: DistillationConfig) -> Job:
    """Returns the jobs [J] of a run; another job's session is that of one beyond them, which nobody is measured in."""
    numbers = np.array(config.jobs)
    others = numbers + config.num_jobs if config.teacher.kind == "other_job" else numbers
    seeds = jax.vmap(lambda number: session_seed(config.seed, number))(jnp.array(numbers))
    return Job(jnp.array(numbers, jnp.int32), jnp.array(others, jnp.int32), seeds)


def dreamed_world(config: DistillationConfig) -> Callable[[jax.Array, Callable], JaxEnv]:
    """Returns how the world is dreamed: its rules, under a codebook drawn from what whoever has read the session
    answers, each answer of it drawn at random instead with probability `dream_error`."""
    world = config.env.jobworld

    def dream(key: jax.Array, believed: Callable[[jax.Array], jax.Array]) -> JaxEnv:
        draw_key, error_key, wrong_key = jax.random.split(key, 3)
        policy = believed(prompts(world)[: world.num_keys])[:, : world.num_answers]
        drawn = jax.random.categorical(draw_key, jnp.log(policy))
        wrong = jax.random.randint(wrong_key, drawn.shape, 0, world.num_answers)
        erring = jax.random.bernoulli(error_key, config.dream_error, drawn.shape)
        return of_codebook(config.env, jnp.where(erring, wrong, drawn).astype(jnp.int32))

    return dream


def make_turn(
    config: DistillationConfig, slot: SessionAgent, *, optimizer: Optimizer, old: Callable | None
) -> Callable:
    """Returns the pure (standing, job, number of the night) -> (standing after it, Outcome), for one job.

    Args:
      config: the run.
      slot: the agent.
      optimizer: of the students.
      old: job -> its old session, as `day_and_night` takes it; None without an anchor.
    """
    day_and_night = make_day_and_night(
        slot,
        dream=dreamed_world(config) if config.consolidation.states == "dream" else None,
        optimizer=optimizer,
        config=config.consolidation,
        teacher=config.teacher,
        distill=config.distill,
    )

    def turn(standing: Standing, job: Job, number: jax.Array) -> tuple[Standing, Outcome]:
        env, taught_in = of_job(config.env, job.number), of_job(config.env, job.taught)
        deployed = standing.student.params
        old_session = old(job) if old else ()
        student, lived, metrics = day_and_night(
            standing.student, env, taught_in, seed=job.seed, number=number, old=old_session
        )
        read = functools.partial(read_on, config.env.jobworld)
        belief = functools.reduce(read, _of_the_job(config, lived), standing.belief)
        same = {"seed": sessions.evaluation_seed(job.seed, number), "num_episodes": config.episodes}
        without = returns(slot, env, student.params, (), **same)
        its_own = lived.session != () and config.teacher.kind != "other_job"
        within = returns(slot, env, deployed, lived.session, **same) if its_own else jnp.nan
        told = answers(slot, config.env, student.params)
        return Standing(student, belief), Outcome(Measured(without, jnp.asarray(within)), told, metrics)

    return turn


def old_sessions(config: DistillationConfig, slot: SessionAgent, params: PyTree) -> Callable | None:
    """Returns job -> a session [T] of an old job and what the agent that is deployed first plays in it [T, actions].

    It takes no real transition of the new job: it is what pre-training had lived.
    """
    if not config.distill.anchor_weight:
        return None
    world = config.agent.env.jobworld
    pool = pool_jobs(world)

    def old(job: Job) -> tuple[Transition, jax.Array]:
        key = streams.stream(job.seed, "old")
        number = jax.random.randint(key, (), pool.start, pool.stop)
        env = of_job(dataclasses.replace(config.env, jobworld=world), number)
        own_seed, num_steps = session_seed(job.seed, number), config.agent.session_length
        lived = live_one(slot, env, params, seed=own_seed, num_steps=num_steps, remembers=True)
        return lived, jax.nn.softmax(slot.read_one(params, lived))

    return old


def live_and_learn(
    config: DistillationConfig, folder: RunFolder, slot: SessionAgent, params: PyTree, *, watch: Watch
) -> tuple[PyTree, Meters]:
    """Makes the sessions and nights of a run and writes its log.

    Returns: the parameters of the first job's student, and what it cost.

    Raises:
      LeakError: students know more than they were told.
      DivergedError: a loss that is not finite.
      LogError: the log cannot be written.
    """
    jobs, began = jobs_of(config), time.perf_counter()
    world, night = config.env.jobworld, config.consolidation
    truth = np.asarray(jax.vmap(functools.partial(codebook, world))(jobs.number))
    optimizer = make_optimizer(config.update, night.num_nights * night.num_updates)
    one_turn = make_turn(config, slot, optimizer=optimizer, old=old_sessions(config, slot, params))
    turn = jax.jit(jax.vmap(one_turn, (0, 0, None)), donate_argnums=0)
    one = Standing(init_train_state(params, optimizer), prior(world))
    standing = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (config.num_jobs, *leaf.shape)), one)
    settings = {"wandb_mode": config.run.wandb, "project": config.run.project, "config": sessions_to_dict(config)}
    meters = Meters()
    with Log(folder.path, **settings) as log:
        for number in range(night.num_nights):
            standing, outcome = turn(standing, jobs, jnp.int32(number))
            outcome = jax.device_get(outcome)
            meters = meters.plus(cost_of(config), seconds=time.perf_counter() - began)
            row = require_finite(folder, number + 1, outcome.metrics)
            retained, available = bits_of(outcome.answers, np.asarray(standing.belief), truth)
            row |= summary("student", outcome.measured.without)
            row |= {"session_return": float(np.mean(outcome.measured.within))}
            row |= {"retained_bits": float(retained.mean()), "available_bits": float(available.mean())}
            if number + 1 == night.num_nights:
                row |= {"other_session_return": forgetting(config, slot, standing.student.params, jobs)}
            log.write(number + 1, meters, row)
            watch((number + 1) / night.num_nights, row["student_return"])
    return jax.tree.map(lambda leaf: leaf[0], standing.student.params), meters


def forgetting(config: DistillationConfig, slot: SessionAgent, params: PyTree, jobs: Job) -> float:
    """Returns the mean return that students [J] still reach in other jobs, of the pool `test`, by a session there."""
    world = dataclasses.replace(config.agent.env.jobworld, pool="test", job=0)
    env = dataclasses.replace(config.env, jobworld=world)
    first = config.env.jobworld.job + config.num_jobs if config.env.jobworld.pool == "test" else 0
    numbers = jnp.array(pool_jobs(world)[first : first + config.num_jobs])
    measure = with_and_without(slot, env, session_length=config.agent.session_length, num_episodes=config.episodes)
    return float(jax.jit(jax.vmap(measure))(params, numbers, jobs.seed).within.mean())


def cost_of(config: DistillationConfig) -> Meters:
    """Returns what a day and its night add to the meters of one job, all but seconds."""
    night = config.consolidation
    rows = night.num_updates * night.rows_per_update
    dreamed = night.states == "dream"
    return Meters(
        real=night.real_per_night,
        replayed=0 if dreamed else rows,
        dreamed=rows if dreamed else 0,
        updates=night.num_updates,
    )


def _of_the_job(config: DistillationConfig, lived: Lived) -> list[Transition]:
    """Returns the real transitions that tell of the job itself, in order."""
    session = () if config.teacher.kind == "other_job" else lived.session
    return [part for part in (session, lived.student) if part != ()]
