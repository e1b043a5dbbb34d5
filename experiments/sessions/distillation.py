"""Distillation, job by job: sessions, nights, and after each what the student without memory can do and knows.

Letters: J students, S jobs of each in sequence, T decisions, K keys, A answers.
"""

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
from dreamer.loop import Learner, Lived, make_day_and_night, nothing_rehearsed
from dreamer.sleep.carriers import Carried, Carrier, make_carrier
from dreamer.sleep.update import Optimizer, init_train_state, make_optimizer
from dreamer.wake import session as sessions
from dreamer.wake.envs import of_job
from dreamer.wake.envs.jobs import pool_jobs, session_seed
from dreamer.wake.policy import live_one
from experiments.sessions.afterwards import make_asked
from experiments.sessions.config import DistillationConfig, sessions_to_dict
from experiments.sessions.dreams import make_dream
from experiments.sessions.failures import CUTS, STEPS, Recovery, Told, recovery, told
from experiments.sessions.ledger import Ledger, make_ledger
from experiments.sessions.measure import having, of_success, returns
from experiments.sessions.pretraining import Watch, require_finite, summary

SHARED = "jobs"
"""The axis of a map over the jobs that share a student."""


class Jobs(NamedTuple):
    """The jobs of one student; of several each field leads with [J]."""

    number: jax.Array
    """[S] int32 among all jobs."""
    taught: jax.Array
    """[S] int32 the jobs that its sessions are lived in: the same, or for a control others."""
    seed: jax.Array
    """[] uint32 of the run and the student's first job."""


class Standing(NamedTuple):
    """What is carried from night to night; of several students each leaf leads with [J]."""

    learner: Learner
    """Who learns."""
    belief: PyTree
    """Of a perfect reader of all that was lived in the job so far, as the ledger has it."""


class Outcome(NamedTuple):
    """What a night came to; of several students each leaf leads with [J]."""

    without: jax.Array
    """[S] mean return in each job without a session."""
    within: jax.Array
    """[] of who lives the sessions, in the present job with its session; nan where there was none of it."""
    answers: PyTree
    """Logits of the student, as the ledger has them."""
    recovery: Recovery | tuple
    """What the teacher makes of the failures of who was deployed by day; () where it is not measured."""
    told: Told | tuple
    """How often it is right in what the student lived by day; () where that is not measured, or nothing was."""
    metrics: Metrics
    """Means over the night's updates."""


def jobs_of(config: DistillationConfig) -> Jobs:
    """Returns the jobs [J] of a run; another job's session is that of one beyond them, which nobody is measured in."""
    numbers = np.array(config.jobs).reshape(config.sequence, config.num_jobs).T
    others = numbers + numbers.size if config.teacher.kind == "other_job" else numbers
    seeds = jax.vmap(lambda number: session_seed(config.seed, number))(jnp.array(numbers[:, 0]))
    return Jobs(jnp.array(numbers, jnp.int32), jnp.array(others, jnp.int32), seeds)


def make_turn(
    config: DistillationConfig,
    slot: SessionAgent,
    *,
    carrier: Carrier,
    optimizer: Optimizer,
    ledger: Ledger,
    old: Callable | None,
) -> Callable:
    """Returns the pure (standing, first, jobs, number of the night) -> (standing after it, Outcome), for one student,
    where `first` are the parameters of the agent that was deployed first.

    Args:
      config: the run.
      slot: the agent.
      carrier: what of the students is learned.
      optimizer: of the students.
      ledger: of what they retain.
      old: (first, jobs) -> their old session, as `day_and_night` takes it; None without an anchor.
    """
    day_and_night = make_day_and_night(
        slot,
        dream=make_dream(config.env, config.dream_error) if config.env.suite == "jobworld" else None,
        optimizer=optimizer,
        config=config.consolidation,
        teacher=config.teacher,
        planning=config.plan,
        distill=config.distill,
        refine=config.refine,
        carrier=carrier,
        nap=config.nap,
        shared=SHARED if config.shared_by > 1 else None,
    )

    def turn(standing: Standing, first: PyTree, jobs: Jobs, number: jax.Array) -> tuple[Standing, Outcome]:
        stage, night = jnp.divmod(number, config.consolidation.num_nights)
        env, taught_in = (of_job(config.env, numbers[stage]) for numbers in (jobs.number, jobs.taught))
        deployed = carrier.carried(standing.learner.student.params, first).params
        teacher = standing.learner.teacher if config.teacher.lasts else deployed
        old_session = old(first, jobs) if old else ()
        learner, lived, metrics = day_and_night(
            standing.learner, first, env, taught_in, seed=jobs.seed, number=number, old=old_session
        )
        belief = ledger.read(standing.belief, night, _of_the_job(config, lived))
        same = {"seed": sessions.evaluation_seed(jobs.seed, number), "num_episodes": config.episodes}
        after = carrier.carried(learner.student.params, first)
        asked = of_success(config.env)
        without = jax.vmap(lambda job: returns(slot, of_job(asked, job), after, **same))(jobs.number)
        its_own = lived.session != () and config.teacher.kind != "other_job"
        reader = first if config.consolidation.lived_by == "first" else deployed
        knowing = having(slot, reader, lived.session)
        within = returns(slot, of_job(asked, jobs.number[stage]), knowing, **same) if its_own else jnp.nan
        repaired, said = (), ()
        if config.recovery_episodes:
            same |= {"num_episodes": config.recovery_episodes}
            who = {"number": jobs.number[stage], "reads_on": config.teacher.reads_on}
            repaired = recovery(slot, config.env, deployed, lived.session, teacher=teacher, **same, **who)
            labelled = lived.student != () and config.refine.arm == "raw"
            said = told(slot, config.env, teacher, lived, **who) if labelled else ()
        outcome = Outcome(without, jnp.asarray(within), ledger.told(after), repaired, said, metrics)
        return Standing(learner, belief), outcome

    return turn


def of_all(turn: Callable, shared_by: int) -> Callable:
    """Returns a turn of all jobs [J] of one of a single job; those that share a student are mapped over `SHARED`."""
    if shared_by == 1:
        return jax.vmap(turn, (0, None, 0, None))
    in_groups = jax.vmap(jax.vmap(turn, (0, None, 0, None), axis_name=SHARED), (0, None, 0, None))

    def grouped(standing: Standing, first: PyTree, jobs: Jobs, number: jax.Array) -> tuple[Standing, Outcome]:
        standing, jobs = jax.tree.map(lambda x: x.reshape(-1, shared_by, *x.shape[1:]), (standing, jobs))
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), in_groups(standing, first, jobs, number))

    return grouped


def old_sessions(config: DistillationConfig, slot: SessionAgent) -> Callable | None:
    """Returns (parameters of the agent that is deployed first, jobs) -> a session [T] of an old job and what that agent
    plays in it [T, actions].

    It takes no real transition of the new ones: it is what pre-training had lived.
    """
    if not config.distill.anchor_weight:
        return None
    taught = config.agent.env
    pool = pool_jobs(taught.job_world)

    def old(params: PyTree, jobs: Jobs) -> tuple[Transition, jax.Array]:
        key = streams.stream(jobs.seed, "old")
        number = jax.random.randint(key, (), pool.start, pool.stop)
        env = of_job(taught, number)
        own_seed, num_steps = session_seed(jobs.seed, number), config.agent.session_length
        lived = live_one(slot, env, params, seed=own_seed, num_steps=num_steps, remembers=True)
        return lived, jax.nn.softmax(slot.read_one(params, lived))

    return old


def rehearsed_first(config: DistillationConfig, slot: SessionAgent) -> PyTree:
    """Returns what a student rehearses before its first job has ended: nothing, with room for all jobs but the last; or
    () where it never does."""
    if not config.distill.rehearsal_weight:
        return ()
    return nothing_rehearsed(slot.spec, config.sequence - 1, config.consolidation.last_length)


def live_and_learn(
    config: DistillationConfig, folder: RunFolder, slot: SessionAgent, params: PyTree, *, watch: Watch
) -> tuple[Carried, Meters]:
    """Makes the sessions and nights of a run and writes its log.

    Returns: the first student, and what one costs.

    Raises:
      LeakError: students know more than they were told.
      DivergedError: a loss that is not finite.
      LogError: the log cannot be written.
    """
    jobs, began = jobs_of(config), time.perf_counter()
    night, ledger = config.consolidation, make_ledger(config, slot, jobs.number)
    optimizer = make_optimizer(config.update, config.num_nights * night.num_updates)
    carrier = make_carrier(config.carrier, slot)
    made_of = {"carrier": carrier, "optimizer": optimizer, "ledger": ledger, "old": old_sessions(config, slot)}
    one_turn = make_turn(config, slot, **made_of)
    turn = jax.jit(of_all(one_turn, config.shared_by), donate_argnums=0)
    learned = carrier.begin(streams.stream(config.seed, "carrier"), params)
    lasting = params if config.teacher.lasts else ()
    one = Standing(Learner(init_train_state(learned, optimizer), lasting, rehearsed_first(config, slot)), ledger.first)
    standing = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (config.num_jobs, *leaf.shape)), one)
    settings = {"wandb_mode": config.run.wandb, "project": config.run.project, "config": sessions_to_dict(config)}
    asked = make_asked(config, slot, carrier, first=params, begun=learned, numbers=jobs.number, seeds=jobs.seed)
    meters = Meters()
    watch(0.0, None)  # whoever reckons how long runs take hears when each begins
    with Log(folder.path, **settings) as log:
        for number in range(config.num_nights):
            stage = number // night.num_nights
            standing, outcome = turn(standing, params, jobs, jnp.int32(number))
            outcome = jax.device_get(outcome)
            meters = meters.plus(cost_of(config, outcome.metrics), seconds=time.perf_counter() - began)
            row = require_finite(folder, number + 1, outcome.metrics)
            row |= ledger.row(outcome.answers, standing.belief, stage)
            row |= summary("student", outcome.without[:, stage])
            row |= {"session_return": float(np.mean(outcome.within))}
            row |= _of_failures(outcome.recovery, outcome.told)
            if stage:
                row |= {"earlier_return": float(outcome.without[:, :stage].mean())}
            if config.sequence > 1 and (following := (number + 1) // night.num_nights) < config.sequence:
                row |= {"next_return": float(outcome.without[:, following].mean())}
            if config.refine.arm != "raw":  # how many rows that makes is known only now
                row |= {"dream_ratio": (meters.replayed + meters.dreamed) // meters.real}
            if (number + 1) % night.num_nights == 0:
                row |= asked(standing.learner.student.params, number, stage, outcome.without[:, stage])
            log.write(number + 1, meters, row)
            watch((number + 1) / config.num_nights, row["student_return"])
    return carrier.carried(jax.tree.map(lambda leaf: leaf[0], standing.learner.student.params), params), meters


def cost_of(config: DistillationConfig, metrics: Metrics) -> Meters:
    """Returns what a day and its night add to the meters of one student, all but seconds; states that it is held to
    beside, by an anchor or by rehearsal, are not counted.

    Args:
      config: the run.
      metrics: of the night; how many states it learned from is a mean over the jobs where there are several.
    """
    night, days = config.consolidation, config.shared_by
    replayed, dreamed = (
        round(days * night.num_updates * float(np.mean(metrics[name]))) for name in ("lived_states", "dreamed_states")
    )
    world, planned = config.env.jobworld, night.rows_per_update if config.teacher.plans else 0
    return Meters(
        real=days * night.real_per_night,
        replayed=replayed + days * config.nap_updates * night.session_length,
        dreamed=dreamed,
        searched=days * planned * config.plan.calls(world.num_actions, world.deadline),
        updates=night.num_updates + days * config.nap_updates,
    )


def _of_failures(recovery: Recovery | tuple, told: Told | tuple) -> dict[str, float]:
    """Returns what a row says of them, means over the jobs in which there was anything; nothing where not measured."""
    named = {}
    if recovery != ():
        named |= {
            f"{name}_{100 * cut:.0f}": shares[:, place]
            for name, shares in (("recovered", recovery.recovered), ("savable", recovery.savable))
            for place, cut in enumerate(CUTS)
        }
        named |= {"labels_right_before": recovery.right_before, "labels_right_after": recovery.right_after}
        named |= {
            f"{name}_{step}": getattr(recovery, name)[:, step]
            for name in ("stake", "regret", "surprise")
            for step in STEPS
        }
    if told != ():
        named |= {"told_right_before": told.right_before, "told_right_after": told.right_after}
    finite = {name: values[np.isfinite(values)] for name, values in named.items()}
    return {name: float(values.mean()) for name, values in finite.items() if values.size}


def _of_the_job(config: DistillationConfig, lived: Lived) -> list[Transition]:
    """Returns the real transitions that tell of the job itself, in order."""
    session = () if config.teacher.kind == "other_job" else lived.session
    return [part for part in (session, lived.student) if part != ()]
