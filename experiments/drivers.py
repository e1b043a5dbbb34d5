"""How days are lived and agents measured: on the device, in one program with the night, or on the host.

Letters: S seeds of a group, E environment copies, T decisions of each copy in a day.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from agents.acting import Act, Actor
from dreamer import loop as loops
from dreamer import replay as replays
from dreamer.core import mesh
from dreamer.core.types import PyTree, Transition
from dreamer.sleep.gate import MakeLooks
from dreamer.sleep.update import LearnerState
from dreamer.wake import envs, host_session, recorded, session
from dreamer.wake.envs import EnvConfig, HostEnv, JaxEnv
from dreamer.wake.explore import Explore
from experiments.config import Config
from experiments.parallel import each_seed, seeds_of

Evaluate = Callable[[LearnerState | loops.Deployment, int], PyTree]


def actor_of(config: Config, acting: LearnerState | loops.Deployment) -> Actor:
    """Returns what a planner or student acts with."""
    return acting.params, acting.return_spread, config.loop.progress(acting.updates)


def sleeping(night: loops.Night, judge: loops.Judge, looks: MakeLooks | None, learned: Callable) -> Callable:
    """Returns the pure `sleep(learner, replay, deployed, pending, made, num_updates, store, seed)`.

    It judges the last night by the pending day, stores the day and sleeps; or, with looks, sleeps with the day held
    back and then stores it. It returns the deployment, the evidence, the learner, the replay and metrics. Who judges
    and who looks sees the day's rewards as they are `learned`; stored is what was paid.
    """

    def sleep(
        learner: LearnerState,
        replay: replays.ReplayState,
        deployed: PyTree,
        pending: Transition,
        made: jax.Array,
        num_updates: jax.Array,
        store: jax.Array,
        seed: jax.Array,
    ) -> tuple:
        def stored(replay: replays.ReplayState) -> replays.ReplayState:
            return jax.lax.cond(store, replays.insert, lambda replay, _: replay, replay, pending)

        acting = loops.in_force(learner, deployed)  # who lived the day
        shown = learned(pending)
        deployed, evidence = judge(learner, deployed, shown, seed, store)
        if looks is None:
            return deployed, evidence, *night(learner, stored(replay), made, num_updates, seed)
        at_the_day = looks(acting.params, shown, return_spread=acting.return_spread)
        learner, replay, metrics = night(learner, replay, made, num_updates, seed, at_the_day)
        return deployed, evidence, learner, stored(replay), metrics

    return sleep


def on_device(
    env: JaxEnv,
    act: Act,
    explore: Explore | None,
    sleep: Callable,
    config: Config,
    *,
    num_seeds: int,
    devices: mesh.Devices,
) -> tuple:
    """Day and night as one XLA program: night first, so that a day has left the device before it is learned from."""
    live = functools.partial(session.live, env, act, num_steps=config.loop.steps_per_day, explore=explore)

    def turn(
        state: loops.LoopState, made: jax.Array, num_updates: jax.Array, store: jax.Array, live_on: jax.Array
    ) -> tuple[loops.LoopState, dict]:
        deployed, evidence, learner, replay, metrics = sleep(
            state.learner, state.replay, state.deployed, state.pending, made, num_updates, store, state.seed
        )
        state = state.replace(learner=learner, replay=replay, deployed=deployed, evidence=evidence)
        lived, pending = jax.lax.cond(
            live_on,
            lambda: live(actor_of(config, state.acting), devices.spread(state.session), seed=state.seed),
            lambda: (state.session, state.pending),
        )
        return state.replace(session=lived, pending=pending), metrics

    # What to do is the same for all seeds and stays unbatched: a condition on a batch would run both its branches.
    turns = each_seed(turn, num_seeds, in_axes=(0, None, None, None, None))

    @functools.partial(devices.jit, donate_argnums=0)
    def program(state: loops.LoopState, *what: jax.Array) -> tuple[loops.LoopState, dict]:
        return turns(state, state.learner.updates.max(), *what)

    def step(state: loops.LoopState, num_updates: int, *, store: bool, live_on: bool) -> tuple[loops.LoopState, dict]:
        state = state.replace(evidence=())  # of the last turn; as at the first, or the program would be traced again
        return program(state, jnp.int32(num_updates), jnp.bool_(store), jnp.bool_(live_on))

    step.program = program  # its cache size is the number of traces, which a test holds at 1
    num_envs = config.env.num_envs

    @jax.jit
    def begin(seed: jax.Array, episode: jax.Array | int = 0, life: jax.Array | int = 0) -> session.SessionState:
        return session.begin(env, seed=seed, num_envs=num_envs, episode=episode, life=life)

    return begin, step


def on_host(host: recorded.HostDays, sleep: Callable, config: Config, *, devices: mesh.Devices) -> tuple:
    """The night is the same program; the day is a Python loop around the real environment."""

    @functools.partial(devices.jit, donate_argnums=(0, 1, 2))
    def program(
        learner: LearnerState,
        replay: replays.ReplayState,
        deployed: PyTree,
        pending: Transition,
        num_updates: jax.Array,
        store: jax.Array,
        seed: jax.Array,
    ) -> tuple:
        return sleep(learner, replay, deployed, pending, learner.updates, num_updates, store, seed)

    def step(state: loops.LoopState, num_updates: int, *, store: bool, live_on: bool) -> tuple[loops.LoopState, dict]:
        counts = jnp.int32(num_updates), jnp.bool_(store)
        deployed, evidence, learner, replay, metrics = program(
            state.learner, state.replay, state.deployed, state.pending, *counts, state.seed
        )
        state = state.replace(learner=learner, replay=replay, deployed=deployed, evidence=evidence)
        if live_on:  # on the device like the first one, or the program would be traced again
            lived = host.live(actor_of(config, state.acting), config.loop.steps_per_day)
            state = state.replace(pending=jax.tree.map(jnp.asarray, lived))
        return state, metrics

    def begin(seed: jax.Array) -> tuple:
        del seed  # the environment owns it
        host.begin()
        return ()

    step.program = program
    return begin, step


def measured(
    env: JaxEnv | None,
    on_device: Callable[[JaxEnv, Actor, jax.Array], PyTree],
    on_host: Callable[[HostEnv, Actor, int], PyTree],
    config: Config,
    *,
    host_world: EnvConfig,
    num_seeds: int,
    devices: mesh.Devices,
) -> Evaluate:
    """Returns (who acts, real transitions so far) -> what is measured in the task, NumPy; of a group of seeds [S, ...].

    Equal numbers of transitions meet equal starts; where rules drift, they are those of the last one.

    Args:
      env: what agents are measured in, on the device; None where it lives on the host.
      on_device: (env under the rules in force, actor, seed) -> what is measured. Pure.
      on_host: the same on the host.
      config: the experiment.
      host_world: the environment on the host.
      num_seeds: S.
      devices: that the run has.
    """
    if env is not None:
        num_envs = config.env.num_envs

        def measure(actor: Actor, seed: jax.Array, real: jax.Array) -> PyTree:
            now = envs.settled(env, seed=seed, life=real // num_envs, num_envs=num_envs)
            return on_device(now, actor, session.evaluation_seed(seed, real))

        program = devices.jit(each_seed(measure, num_seeds, in_axes=(0, 0, None)))
        seeds = seeds_of(config, num_seeds)
        return lambda acting, real: jax.tree.map(np.asarray, program(actor_of(config, acting), seeds, real))

    def measure_on_host(acting: LearnerState | loops.Deployment, real: int) -> PyTree:
        seed = int(session.evaluation_seed(config.seed, real))
        env = envs.make_host(host_world, seed)
        try:
            return on_host(env, actor_of(config, acting), seed)
        finally:
            env.close()

    return measure_on_host


def evaluation(env: JaxEnv | None, act: Act, config: Config, num_seeds: int, devices: mesh.Devices) -> Evaluate:
    """Returns (who acts, real transitions) -> [episodes] returns of `act`, greedy; of a group, [S, episodes]."""
    num_episodes, most = config.evaluation.episodes, config.evaluation.max_steps
    jitted = jax.jit(act)

    def on_device(env: JaxEnv, actor: Actor, seed: jax.Array) -> jax.Array:
        limit = env.max_steps or most
        return session.episode_returns(env, act, actor, seed=seed, num_episodes=num_episodes, max_steps=limit)

    world = envs.for_evaluation(config.env, num_episodes)

    def on_host(env: HostEnv, actor: Actor, seed: int) -> np.ndarray:
        return host_session.host_episode_returns(env, jitted, actor, seed=seed, max_steps=env.max_steps or most)

    return measured(env, on_device, on_host, config, host_world=world, num_seeds=num_seeds, devices=devices)
