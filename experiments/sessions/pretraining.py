"""Pre-training across jobs: the agent learns to read its own sessions as a perfect reader would.

Each day sessions are lived in jobs that were never met before, by the agent itself, and each of their decisions is
labelled with what a perfect reader of the session so far believes of the key that is asked
(`experiments.measures.beliefs`). Supervised learning to adapt in context, as in "In-context Reinforcement Learning with
Algorithm Distillation" (https://arxiv.org/abs/2210.14215), with an exact teacher in place of a learning history.

Letters: B sessions, T decisions, K keys, A answers.
"""

import dataclasses
import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from agents.session_slot import SessionAgent, make_session_slot
from dreamer.core import divergences
from dreamer.core import keys as streams
from dreamer.core.types import Meters, Metrics, Params, PyTree, Transition
from dreamer.io import Checkpoints, Log, RunFolder
from dreamer.loop import first_learner
from dreamer.sleep.update import LearnerState, make_optimizer, update
from dreamer.wake import envs
from dreamer.wake.envs import EnvConfig
from dreamer.wake.envs.jobs import pool_jobs
from dreamer.wake.envs.jobworld import of_job, session_seed, view
from experiments.measures import beliefs
from experiments.sessions.config import PretrainingConfig, sessions_to_dict
from experiments.sessions.measure import lived_session, with_and_without

Watch = Callable[[float, float | None], None]
"""(share of the run that is done, score so far)"""


def labels(config: EnvConfig, session: Transition) -> tuple[jax.Array, jax.Array]:
    """Returns what a perfect reader would play in a session [T], [T, actions], and where it matters, [T] bool.

    An answer with the probability that it is right by all that was lived before; where the key is hidden, a look.
    """
    world = config.jobworld
    seen = view(world, session.obs)
    before = beliefs.beliefs(config, session)[:-1]
    answer = jnp.take_along_axis(before, jnp.maximum(seen.key, 0)[:, None, None], axis=1)[:, 0]
    answer = jnp.pad(answer, ((0, 0), (0, world.num_actions - world.num_answers)))
    look = jax.nn.one_hot(world.num_answers, world.num_actions)
    return jnp.where((seen.key >= 0)[:, None], answer, look), ~seen.idle


def make_day(config: PretrainingConfig, slot: SessionAgent) -> Callable[..., tuple[LearnerState, Metrics]]:
    """Returns the pure (learner, seed, number of the day) -> the learner after it, and means over its updates."""
    jobs, optimizer = pool_jobs(config.env.jobworld), make_optimizer(config.update, config.num_updates)

    def session(params: PyTree, number: jax.Array, seed: jax.Array) -> Transition:
        return lived_session(
            slot, of_job(config.env, number), params, session_seed(seed, number), config.session_length
        )

    def loss(params: Params, lived: Transition, policy: jax.Array, counts: jax.Array) -> tuple:
        weight = counts / jnp.maximum(counts.sum(), 1)
        within = divergences.forward_kl(policy, slot.read(params.agent, lived).logits)
        flat = lived.obs.reshape(-1, *lived.obs.shape[2:])
        without = slot.agent.evaluate(params.agent, (), flat).logits.reshape(policy.shape)
        unaware = divergences.cross_entropy(policy, without)
        total = (weight * (within + config.prior_weight * unaware)).sum()
        late = weight.at[:, : config.session_length // 2].set(0)
        metrics = {
            "loss": total,
            "reader_kl": (weight * within).sum(),
            "late_reader_kl": (late * within).sum() / late.sum(),
        }
        return total, (metrics, jnp.zeros(()))

    def day(learner: LearnerState, seed: jax.Array, number: jax.Array) -> tuple[LearnerState, Metrics]:
        job_key, seed_key = jax.random.split(streams.stream(seed, "pretraining", number))
        numbers = jax.random.randint(job_key, (config.num_sessions,), jobs.start, jobs.stop)
        day_seed = jax.random.bits(seed_key, (), jnp.uint32)
        lived = jax.vmap(session, (None, 0, None))(learner.params.agent, numbers, day_seed)
        told = jax.vmap(functools.partial(labels, config.env))(lived)

        def one_update(learner: LearnerState, _) -> tuple[LearnerState, Metrics]:
            of_day = functools.partial(loss, lived=lived, policy=told[0], counts=told[1])
            return update(learner, of_day, lived.reward, optimizer=optimizer, config=config.update)[:2]

        learner, metrics = jax.lax.scan(one_update, learner, length=config.updates_per_day)
        return learner, jax.tree.map(jnp.mean, metrics)

    return day


def first_of(config: PretrainingConfig) -> tuple[SessionAgent, LearnerState]:
    """Returns the agent, and its learner before anything was lived."""
    spec = envs.make_jax(config.env).spec
    slot = make_session_slot(spec, config.slot)
    obs = jnp.zeros((1, *spec.obs_shape), spec.obs_dtype)
    params = jax.jit(slot.agent.init)(streams.stream(config.seed, "init"), obs)
    return slot, first_learner(params, make_optimizer(config.update, config.num_updates))


def context_gain(config: PretrainingConfig, slot: SessionAgent, params: PyTree) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean returns [num_jobs] in jobs of the pool `test`, with nothing in memory and with a session."""
    world = dataclasses.replace(config.env.jobworld, pool="test", job=0)
    env = dataclasses.replace(config.env, jobworld=world)
    numbers = jnp.array(pool_jobs(world)[: config.num_jobs])
    measure = with_and_without(slot, env, session_length=config.session_length, num_episodes=config.episodes)
    seeds = jax.vmap(lambda number: session_seed(config.seed, number))(numbers)
    measured = jax.jit(jax.vmap(measure, (None, 0, 0)))(params, numbers, seeds)
    return np.asarray(measured.without), np.asarray(measured.within)


def live_and_learn(config: PretrainingConfig, folder: RunFolder, *, resume: bool, watch: Watch) -> LearnerState:
    """Makes the days of a run, or those that it lacks, and writes its log and checkpoints; returns the learner.

    Raises:
      CheckpointError, LogError: as they say; of a half-made run only if it cannot go on.
    """
    slot, learner = first_of(config)
    checkpoints, meters, number = Checkpoints(folder.checkpoints), Meters(), 0
    if resume and checkpoints.days:
        saved = checkpoints.restore(jax.eval_shape(lambda: learner))
        number, learner, meters = saved.day, saved.tree, Meters(**saved.counters)
    day, began = jax.jit(make_day(config, slot), donate_argnums=0), time.perf_counter() - meters.seconds
    settings = {"wandb_mode": config.run.wandb, "project": config.run.project, "config": sessions_to_dict(config)}
    with Log(folder.path, **settings, resume_day=number if resume else None) as log:
        while number < config.num_days:
            learner, metrics = day(learner, jnp.uint32(config.seed), jnp.int32(number))
            number += 1
            lived = Meters(
                real=config.real_per_day,
                replayed=config.updates_per_day * config.num_sessions,
                updates=config.updates_per_day,
            )
            before, meters = meters, meters.plus(lived, seconds=time.perf_counter() - began)
            final, every = number == config.num_days, config.run.checkpoint_every
            if final or meters.real // every > before.real // every:
                row = {name: float(value) for name, value in metrics.items()}
                without, within = context_gain(config, slot, learner.params.agent)
                row |= summary("student", without) | summary("session", within)
                log.write(number, meters, row)
                checkpoints.save(number, learner, dataclasses.asdict(meters))
                watch(number / config.num_days, float(within.mean() - without.mean()))
            else:
                watch(number / config.num_days, None)
    return learner


def summary(who: str, means: np.ndarray) -> dict[str, float]:
    """Returns mean, lowest and highest of mean returns [jobs]."""
    return {
        f"{who}_return": float(means.mean()),
        f"{who}_return_min": float(means.min()),
        f"{who}_return_max": float(means.max()),
    }
