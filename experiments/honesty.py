"""Model honesty as every run reports it: the student lives held-out decisions, and the model dreams them open loop."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np

from agents.acting import Act, Actor
from dreamer.core import mesh
from dreamer.core.ports import WorldModel
from dreamer.core.types import Transition
from dreamer.sleep.honesty import Honesty, open_loop
from dreamer.wake import envs, host_session, session
from dreamer.wake.envs import EnvConfig, HostEnv, JaxEnv
from experiments.config import Config
from experiments.drivers import Evaluate, measured

HORIZON = 10
"""H, steps that the model dreams from every state."""
NUM_COPIES = 8
"""Copies of the environment that the student lives in, in the episodes of an evaluation."""
NUM_DECISIONS = 250
"""Decisions of each copy. They are no real transitions: nobody learns from them."""


def honesty(
    env: JaxEnv | None, act: Act, model: WorldModel, config: Config, num_seeds: int, devices: mesh.Devices
) -> Evaluate:
    """Returns (who acts, real transitions) -> Honesty [H] of NumPy arrays; of a group of seeds, [S, H].

    Args:
      env: what agents are measured in, on the device; None where it lives on the host.
      act: the greedy student.
      model: the world model.
      config: the experiment.
      num_seeds: S.
      devices: that the run has.
    """

    def on_device(env: JaxEnv, actor: Actor, seed: jax.Array) -> Honesty:
        state = session.begin(env, seed=seed, num_envs=NUM_COPIES)
        _, lived = session.live(env, act, actor, state, seed=seed, num_steps=NUM_DECISIONS)
        return open_loop(model, actor[0].model, config.targets.learned(lived), horizon=HORIZON)

    on_host, world = on_host_of(act, model, config), as_learned(config.env, NUM_COPIES)
    return measured(env, on_device, on_host, config, host_world=world, num_seeds=num_seeds, devices=devices)


def as_learned(config: EnvConfig, num_envs: int) -> EnvConfig:
    """Returns what an agent is measured in, but that a life of Atari ends where the model was taught that it does."""
    task = envs.for_evaluation(config, num_envs)
    return dataclasses.replace(task, atari=config.atari)


def on_host_of(act: Act, model: WorldModel, config: Config) -> Callable[[HostEnv, Actor, int], Honesty]:
    """Returns (environment of NUM_COPIES, actor, seed) -> Honesty [H] of NumPy arrays, by the host driver."""
    act, compare = jax.jit(act), jax.jit(functools.partial(open_loop, model, horizon=HORIZON))

    def measure(env: HostEnv, actor: Actor, seed: int) -> Honesty:
        alive = host_session.HostSession(env, act, seed=seed)
        alive.begin()
        lived: Transition = alive.live(actor, NUM_DECISIONS)
        return jax.device_get(compare(actor[0].model, config.targets.learned(lived)))

    return measure


def columns(measured: Honesty) -> dict[str, np.ndarray]:
    """Returns {name: [H]} of all errors, and of an ensemble's doubts."""
    known = {name: value for name, value in vars(measured).items() if name != "num_compared"}
    return {name: np.asarray(value) for name, value in known.items() if value is not None}


def row_of(measured: Honesty) -> dict[str, float]:
    """Returns what a log's row says of it: `reward_error_1` is that after one dreamed step, and so on."""
    return {
        f"{name}_{step}": float(value)
        for name, values in columns(measured).items()
        for step, value in enumerate(values, start=1)
    }
