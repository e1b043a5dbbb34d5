"""Pre-training across jobs: the agent learns to read its own sessions as a perfect reader would.

Each day sessions are lived in jobs drawn anew from their pool, and each of their decisions is labelled with what a
perfect reader of the session so far would do (`experiments.measures.reader`). Supervised learning to adapt in context,
as in "In-context Reinforcement Learning with Algorithm Distillation" (https://arxiv.org/abs/2210.14215), with an exact
teacher in place of a learning history. Where the agent lives its sessions itself, it is DAgger ("A Reduction of
Imitation Learning and Structured Prediction to No-Regret Online Learning", https://arxiv.org/abs/1011.0686), but that
each day is learned from and dropped, and not gathered; where the reader does, behaviour cloning.

Letters: B sessions, T decisions.
"""

import dataclasses
import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from agents.session_slot import make_session_slot
from dreamer.core import divergences
from dreamer.core import keys as streams
from dreamer.core.ports import SessionAgent
from dreamer.core.types import Meters, Metrics, PyTree, Transition
from dreamer.io import Checkpoints, Log, RunFolder
from dreamer.sleep.update import Optimizer, TrainState, init_train_state, make_optimizer, train_step
from dreamer.wake import envs
from dreamer.wake.envs import of_job
from dreamer.wake.envs.jobs import pool_jobs, session_seed
from dreamer.wake.policy import live_one
from experiments.diary import DivergedError
from experiments.measures.reader import labels, make_reader
from experiments.sessions.config import sessions_to_dict
from experiments.sessions.measure import Measured, with_and_without
from experiments.sessions.pretraining_config import PretrainingConfig

Watch = Callable[[float, float | None], None]
"""(share of the run that is done, score so far)"""


def make_day(
    config: PretrainingConfig, slot: SessionAgent, optimizer: Optimizer
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Returns the pure (student, seed, number of the day) -> the student after it, and means over its updates."""
    jobs = pool_jobs(config.env.job_world)
    who = make_reader(config.env) if config.lived_by == "reader" else slot

    def session(params: PyTree, number: jax.Array, seed: jax.Array) -> Transition:
        env, own_seed = of_job(config.env, number), session_seed(seed, number)
        return live_one(who, env, params, seed=own_seed, num_steps=config.session_length, remembers=True)

    def loss(params: PyTree, lived: Transition, policy: jax.Array, counts: jax.Array) -> tuple[jax.Array, Metrics]:
        weight = counts / jnp.maximum(counts.sum(), 1)
        within = divergences.forward_kl(policy, slot.read(params, lived).logits)
        flat = lived.obs.reshape(-1, *lived.obs.shape[2:])
        without = slot.agent.evaluate(params, (), flat).logits.reshape(policy.shape)
        unaware = divergences.cross_entropy(policy, without)
        total = (weight * (within + config.prior_weight * unaware)).sum()
        late = weight.at[:, : config.session_length // 2].set(0)
        metrics = {
            "loss": total,
            "reader_kl": (weight * within).sum(),
            "late_reader_kl": (late * within).sum() / jnp.maximum(late.sum(), 1e-9),
        }
        return total, metrics

    def day(student: TrainState, seed: jax.Array, number: jax.Array) -> tuple[TrainState, Metrics]:
        job_key, seed_key = jax.random.split(streams.stream(seed, "pretraining", number))
        numbers = jax.random.randint(job_key, (config.num_sessions,), jobs.start, jobs.stop)
        day_seed = jax.random.bits(seed_key, (), jnp.uint32)
        lived = jax.vmap(session, (None, 0, None))(student.params, numbers, day_seed)
        told = jax.vmap(functools.partial(labels, config.env))(lived)

        def one_update(student: TrainState, _) -> tuple[TrainState, Metrics]:
            of_day = functools.partial(loss, lived=lived, policy=told[0], counts=told[1])
            student, metrics, grad_norm = train_step(student, of_day, optimizer=optimizer)
            return student, metrics | {"grad_norm": grad_norm}

        student, metrics = jax.lax.scan(one_update, student, length=config.updates_per_day)
        return student, jax.tree.map(jnp.mean, metrics)

    return day


def parts_of(config: PretrainingConfig) -> tuple[SessionAgent, Optimizer, Callable[[], TrainState]]:
    """Returns the agent, its optimiser, and () -> the state before anything was lived."""
    spec = envs.make_jax(config.env).spec
    slot, optimizer = make_session_slot(spec, config.slot), make_optimizer(config.update, config.num_updates)

    def first() -> TrainState:
        obs = jnp.zeros((1, *spec.obs_shape), spec.obs_dtype)
        params = jax.jit(slot.agent.init)(streams.stream(config.seed, "init"), obs)
        return init_train_state(params, optimizer)

    return slot, optimizer, first


def make_context_gain(config: PretrainingConfig, slot: SessionAgent) -> Callable[[PyTree], Measured]:
    """Returns params -> mean returns [num_jobs] in jobs of the pool `test`, without memory and with a session in it."""
    env = config.env.with_jobs(pool="test", job=0)
    numbers = jnp.array(pool_jobs(env.job_world)[: config.num_jobs])
    measure = with_and_without(slot, env, session_length=config.session_length, num_episodes=config.episodes)
    seeds = jax.vmap(lambda number: session_seed(config.seed, number))(numbers)
    return jax.jit(lambda params: jax.vmap(measure, (None, 0, 0))(params, numbers, seeds))


def live_and_learn(
    config: PretrainingConfig, folder: RunFolder, *, resume: bool, watch: Watch
) -> tuple[PyTree, Meters, list[str]]:
    """Makes the days of a run, or those that it lacks, and writes its log and checkpoints.

    Returns: the agent's parameters, what they cost, and what the user should be told of a resumed run.

    Raises:
      CheckpointError, LogError: of a half-made run that cannot go on.
      DivergedError: a loss that is not finite; the last good checkpoint stays.
    """
    slot, optimizer, first = parts_of(config)
    checkpoints, meters, number, messages = Checkpoints(folder.checkpoints), Meters(), 0, []
    if resume and checkpoints.days:
        number, student, counters, messages = checkpoints.restore(jax.eval_shape(first))
        meters = Meters(**counters)
    else:
        student = first()
    day, began = jax.jit(make_day(config, slot, optimizer), donate_argnums=0), time.perf_counter() - meters.seconds
    context_gain = make_context_gain(config, slot)
    rows = config.updates_per_day * config.real_per_day
    of_a_day = Meters(real=config.real_per_day, replayed=rows, updates=config.updates_per_day)
    settings = {"wandb_mode": config.run.wandb, "project": config.run.project, "config": sessions_to_dict(config)}
    with Log(folder.path, **settings, resume_day=number if resume else None) as log:
        while number < config.num_days:
            student, metrics = day(student, jnp.uint32(config.seed), jnp.int32(number))
            number += 1
            before, meters = meters, meters.plus(of_a_day, seconds=time.perf_counter() - began)
            final, every = number == config.num_days, config.run.checkpoint_every
            score = None
            if final or meters.real // every > before.real // every:
                row = require_finite(folder, number, metrics)
                without, within = context_gain(student.params)
                row |= summary("student", without) | {"session_return": float(within.mean())}
                log.write(number, meters, row)
                checkpoints.save(number, student, dataclasses.asdict(meters))
                score = float(within.mean() - without.mean())
            watch(number / config.num_days, score)
    return student.params, meters, messages


def require_finite(folder: RunFolder, number: int, metrics: Metrics) -> dict[str, float]:
    """Returns means of the metrics over jobs, if there are several, as plain numbers.

    Raises:
      DivergedError: one is not finite; names it and the folder.
    """
    row = {name: float(np.mean(value)) for name, value in metrics.items()}
    wrong = sorted(name for name, value in row.items() if not np.isfinite(value))
    if wrong:
        raise DivergedError(
            f"night {number} of {folder.path} made {', '.join(wrong)} not finite: try a smaller --update.learning-rate"
        )
    return row


def summary(who: str, means: np.ndarray) -> dict[str, float]:
    """Returns mean, lowest and highest of mean returns [jobs]."""
    return {
        f"{who}_return": float(means.mean()),
        f"{who}_return_min": float(means.min()),
        f"{who}_return_max": float(means.max()),
    }
