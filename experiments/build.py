"""The only wiring: a config becomes an environment, a model, an agent, and the functions the loop turns.

Letters: S seeds of a group, E environment copies, T decisions of each copy in a day, A actions.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from agents.acting import Act, make_planner, make_student
from agents.actor_critic import make_actor_critic
from agents.ensemble import make_ensemble as ensemble_of_agents
from dreamer import loop as loops
from dreamer import replay as replays
from dreamer.core import keys as streams
from dreamer.core import mesh
from dreamer.core.ports import Agent, WorldModel
from dreamer.core.types import EnvSpec, Params, PyTree, Transition
from dreamer.sleep.gate import Gate, MakeLooks, make_gate, make_looks
from dreamer.sleep.imagine import make_imagine
from dreamer.sleep.search import Search, make_search
from dreamer.sleep.targets import make_targets
from dreamer.sleep.update import init_learner, init_params, make_optimizer
from dreamer.wake import envs, host_session, recorded, session
from dreamer.wake.envs import EnvConfig, HostEnv, JaxEnv
from dreamer.wake.explore import make_explore
from experiments.config import Config
from experiments.cost import cost_of
from experiments.drivers import Evaluate, evaluation, on_device, on_host, sleeping
from experiments.honesty import honesty
from experiments.parallel import devices_for, each_seed, seeds_of, spread_roots
from world_models.efficientzero import make_efficientzero
from world_models.ensemble import make_ensemble as ensemble_of_models
from world_models.oracle import make_seen_oracle


class Parts(NamedTuple):
    """One experiment, wired: for one seed, or for a group that lives in one program.

    Every array of a group's state, metrics and returns leads with [S]; those of one seed have no such axis.
    """

    config: Config
    num_seeds: int
    """S, from `config.seed` on."""
    spec: EnvSpec
    model: WorldModel
    agent: Agent
    search: Search
    """The teacher, with the experiment's settings."""
    init: Callable[[], loops.LoopState]
    """The state before anything was lived."""
    step: loops.Step
    """One turn of the loop."""
    night: loops.Night
    """What `step` sleeps: the pure function, for benchmarks and tests."""
    cost_of: loops.CostOf
    """What updates and decisions by day come to."""
    evaluate: dict[str, Evaluate]
    """(who acts, real transitions so far) -> what is measured: `student` and `planner` give [episodes] undiscounted
    returns, `honesty` the model's errors along the student's life. Equal numbers meet equal starts; where rules drift,
    they are those of the last transition."""
    host: recorded.HostDays | None
    """The host driver's days, None for environments on the device."""
    begin_at: Callable[[np.ndarray, int], session.SessionState] | None
    """(episode [E] int32, life) -> the session where each copy begins that episode after `life` decisions; None for
    environments on the host."""

    def members(self, tree: PyTree) -> list[PyTree]:
        """Returns what belongs to each seed in a tree of the group's arrays; of one seed, the tree itself."""
        if self.num_seeds == 1:
            return [tree]
        return [jax.tree.map(lambda leaf, place=place: leaf[place], tree) for place in range(self.num_seeds)]

    frames: replays.HostFrames | None
    """Where replays keep their frames if that is on the host: one ring, which the states of `init` use by turns."""

    def close(self) -> None:
        """Frees what the host environment and frames on the host hold."""
        if self.host is not None:
            self.host.session.env.close()
        if self.frames is not None:
            self.frames.release()


def build(config: Config, env: JaxEnv | None = None, *, num_seeds: int = 1, num_devices: int | None = None) -> Parts:
    """Wires an experiment.

    Args:
      config: the experiment.
      env: a device environment of your own, on which the knobs of `config.env` are turned; None makes the one named.
      num_seeds: S, seeds that live in one program, from `config.seed` on.
      num_devices: over which rows are spread; None takes one, or all that several processes have together.

    Raises:
      ValueError: settings that do not fit the environment; the message names field, value and fix.
    """
    devices = devices_for(config, num_devices, on_device=env is not None or envs.is_jax(config.env))
    if config.replay.placement == "host" and max(num_seeds, devices.num) > 1:
        raise ValueError(
            f"replay.placement is 'host', but {num_seeds} seeds on {devices.num} devices would share its frames: give "
            "device, or one seed on one device"
        )
    if config.gate.look_every and num_seeds > 1:
        raise ValueError(
            f"gate.look_every is {config.gate.look_every}, but each of {num_seeds} seeds in one program would stop its "
            "nights elsewhere: give look_every 0, or one seed"
        )
    world, host = _world(config, env, num_seeds)
    measured = _on_knobs(envs.for_evaluation(config.env, config.evaluation.episodes), env) if world else None
    try:
        return _wire(config, world, measured, host, num_seeds, devices)
    except Exception:  # settings that do not fit what the environment turned out to be
        if host is not None:
            host.close()
        raise


def _wire(
    config: Config,
    world: JaxEnv | None,
    measured: JaxEnv | None,
    host: HostEnv | None,
    num_seeds: int,
    devices: mesh.Devices,
) -> Parts:
    """Returns the parts around an environment on the device and the one to measure it in, or one on the host."""
    days, begin_at, spec = None, None, (world or host).spec
    empty, frames = _replays(config, spec, num_seeds)
    config.search.considered(spec.num_actions)
    config.augment.require_images(spec.obs_shape)
    model, agent = _ports(config, spec)
    gamma = config.targets.gamma
    search = make_search(model, agent, config.search, gamma=gamma)
    teacher = spread_roots(search, devices)
    optimizer = make_optimizer(config.update, config.loop.num_updates)
    night = loops.make_night(
        model,
        agent,
        make_targets(model, agent, teacher, config.targets),
        make_imagine(model, agent, teacher, config.imagine, gamma=gamma, min_spread=config.search.min_q_range),
        optimizer,
        loop=config.loop,
        replay=config.replay,
        target=config.targets,
        imagination=config.imagine,
        fit=config.fit,
        optimise=config.update,
        augmentation=config.augment,
        spread=devices.spread,
    )
    gate, looks = _judges(config, model, agent)
    sleep = sleeping(night, loops.make_judge(gate), looks, config.targets.learned)
    act = _actors(model, agent, search, greedy=False)[config.loop.actor]
    explore = make_explore(config.loop.epsilon, spell=config.loop.spell)
    if world is not None:
        begin, step = on_device(world, act, explore, sleep, config, num_seeds=num_seeds, devices=devices)
        begin_at = functools.partial(begin, jnp.uint32(config.seed))
    else:
        life = host_session.HostSession(host, jax.jit(act), seed=config.seed, explore=explore and jax.jit(explore))
        days = recorded.HostDays(life)
        begin, step = on_host(days, sleep, config, devices=devices)
    return Parts(
        config=config,
        num_seeds=num_seeds,
        spec=spec,
        model=model,
        agent=agent,
        search=search,
        init=_initialiser(config, spec, model, agent, optimizer, begin, empty, num_seeds, gate=gate, devices=devices),
        step=step,
        night=night,
        cost_of=functools.partial(cost_of, config, spec),
        evaluate=_measures(measured, _actors(model, agent, search, greedy=True), model, config, num_seeds, devices),
        host=days,
        begin_at=begin_at,
        frames=frames,
    )


def _ports(config: Config, spec: EnvSpec) -> tuple[WorldModel, Agent]:
    """Returns what stands behind the two ports."""
    num_steps = config.targets.unroll_steps
    if config.env.oracle:
        bare = envs.make_jax(dataclasses.replace(config.env, oracle=False))
        eye = make_efficientzero(bare.spec, config.model, num_unroll_steps=num_steps)
        return make_seen_oracle(bare, eye, num_steps), make_actor_critic(spec, config.agent)
    model = make_efficientzero(spec, config.model, num_unroll_steps=num_steps)
    agent, num_members = make_actor_critic(spec, config.agent), config.ensemble.num_members
    if num_members == 1:
        return model, agent
    return ensemble_of_models(model, num_members), ensemble_of_agents(agent, num_members)


def _judges(config: Config, model: WorldModel, agent: Agent) -> tuple[Gate | None, MakeLooks | None]:
    """Returns what judges nights when they are over and what looks at them before; None where nothing does."""
    settings = model, agent, config.gate
    gate = None if config.gate.is_open else make_gate(*settings, gamma=config.targets.gamma)
    return gate, make_looks(*settings, gamma=config.targets.gamma) if config.gate.look_every else None


def _measures(
    env: JaxEnv | None, actors: dict[str, Act], model: WorldModel, config: Config, num_seeds: int, devices: mesh.Devices
) -> dict[str, Evaluate]:
    """Returns what `Parts.evaluate` holds."""
    returns = {name: evaluation(env, act, config, num_seeds, devices) for name, act in actors.items()}
    return returns | {"honesty": honesty(env, actors["student"], model, config, num_seeds, devices)}


def _actors(model: WorldModel, agent: Agent, search: Search, *, greedy: bool) -> dict[str, Act]:
    return {
        "student": make_student(model, agent, greedy=greedy),
        "planner": make_planner(model, agent, search, greedy=greedy),
    }


def _world(config: Config, env: JaxEnv | None, num_seeds: int) -> tuple[JaxEnv | None, HostEnv | None]:
    """Returns the environment where it lives, on the device or on the host, and None for the other."""
    if num_seeds < 1:
        raise ValueError(f"num_seeds is {num_seeds}: give 1 or more")
    if env is not None or envs.is_jax(config.env):
        return _on_knobs(config.env, env), None
    if jax.process_count() > 1:
        raise ValueError(
            f"{config.env.suite} environments live on one host, but {jax.process_count()} processes were joined: run "
            "in one, or choose an environment on the device"
        )
    if num_seeds > 1:
        raise ValueError(
            f"num_seeds is {num_seeds}, but {config.env.suite} environments cannot enter a program that several seeds "
            "share: give 1, and make the seeds side by side with scripts.sweep"
        )
    return None, envs.make_host(config.env, config.seed)


def _on_knobs(config: EnvConfig, env: JaxEnv | None) -> JaxEnv:
    """Returns a device environment with its knobs turned: the one that is given bare, or the one that is named."""
    if env is not None and config.oracle:
        raise ValueError("env.oracle is set, which takes an environment that can be made by its name: leave it out")
    return envs.make_jax(config) if env is None else envs.with_knobs(env, config)


def blank_day(spec: EnvSpec, num_steps: int, num_envs: int) -> Transition:
    """Returns a day [T, E] of zeros: shapes and dtypes of what will be lived."""
    lead = (num_steps, num_envs)
    obs = jnp.zeros((*lead, *spec.obs_shape), spec.obs_dtype)
    return Transition(
        obs=obs,
        action_mask=jnp.zeros((*lead, spec.num_actions), bool),
        action=jnp.zeros(lead, jnp.int32),
        reward=jnp.zeros(lead),
        terminated=jnp.zeros(lead, bool),
        truncated=jnp.zeros(lead, bool),
        next_obs=jnp.copy(obs),
    )


def _replays(
    config: Config, spec: EnvSpec, num_seeds: int
) -> tuple[Callable[[], replays.ReplayState], replays.HostFrames | None]:
    """Returns what makes an empty replay, and the ring of frames on the host that all of them use; refuses too much."""
    num_envs, capacity = config.env.num_envs, config.replay.capacity
    tick = jax.eval_shape(lambda: jax.tree.map(lambda x: x[0], blank_day(spec, 1, num_envs)))
    empty = functools.partial(replays.init, config.replay, tick, num_envs, frame_stack=spec.frame_stack)
    shapes = jax.eval_shape(empty)
    on_device, on_host = replays.num_bytes(shapes)
    there = replays.device_bytes(jax.local_devices()[0])
    replays.require_room(num_seeds * on_device, there, capacity=capacity, where="device")
    replays.require_room(on_host, replays.host_bytes(), capacity=capacity, where="host")
    if not isinstance(shapes.frames, replays.HostFrames):
        return empty, None
    return lambda: empty().replace(frames=shapes.frames), shapes.frames


def _initialiser(
    config: Config,
    spec: EnvSpec,
    model: WorldModel,
    agent: Agent,
    optimizer,
    begin,
    empty_replay,
    num_seeds: int,
    *,
    gate: Gate | None,
    devices: mesh.Devices,
) -> Callable:
    obs = jnp.zeros((1, *spec.obs_shape), spec.obs_dtype)

    @jax.jit
    def first_params(seed: jax.Array) -> Params:
        return init_params(model, agent, streams.stream(seed, "init"), obs)

    def init(seed: jax.Array) -> loops.LoopState:
        pending = blank_day(spec, config.loop.steps_per_day, config.env.num_envs)
        learner = init_learner(first_params(seed), optimizer)
        return loops.LoopState(
            learner=learner,
            replay=empty_replay(),
            session=begin(seed),
            pending=pending,
            seed=seed,
            deployed=loops.first_deployment(gate, learner),
        )

    return lambda: devices.whole(each_seed(init, num_seeds)(seeds_of(config, num_seeds)))
