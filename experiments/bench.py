"""How fast each part is, as ratios measured in one run: on a shared machine only ratios mean anything.

Letters: B roots, E environment copies, N simulations.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

from agents.acting import make_planner, make_student
from dreamer import loop as loops
from dreamer.core import trees
from dreamer.core.types import Params
from dreamer.sleep.imagine import make_imagine
from dreamer.sleep.update import LearnerState
from dreamer.wake import envs, host_session, session
from experiments.build import Parts, build
from experiments.config import Config
from experiments.control import without_search
from experiments.drivers import actor_of

Line = tuple[str, str, str]


def bench(config: Config, *, repeats: int = 7, num_seeds: int = 4) -> list[Line]:
    """Returns (what, figure, remark) lines for one experiment's sizes.

    Programs are compiled afresh, although a second run of the same sizes would find them in the persistent cache.

    Args:
      config: whose sizes.
      repeats: timed calls of each part, at least 1.
      num_seeds: seeds of the program that is held against one seed's; environments or frames on the host have none.
    """
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}: give 1 or more")
    compiled: list[float] = []

    def heard(event: str, seconds: float, **_: str) -> None:
        if event.endswith("compile_duration"):
            compiled.append(seconds)

    uses_cache = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    jax.monitoring.register_event_duration_secs_listener(heard)
    parts = build(config)
    try:
        state = parts.init()
        steps = _steps_per_second(parts, repeats)
        told = f"num_envs {config.env.num_envs}, random actions, driver included"
        lines = [("environment", f"{steps:,.0f} steps/s", told)]
        lines += _search(parts, state.learner.params, repeats)
        lines += _dreams(parts, state.learner.params, steps, repeats)
        lines += _acting(parts, state.learner, repeats)
        lines += _shares(parts, state, compiled, repeats)
        if parts.host is None and num_seeds > 1 and config.replay.placement == "device":
            lines.append(seeds_together(parts, build(config, num_seeds=num_seeds), repeats))
    finally:
        parts.close()
        jax.monitoring.unregister_event_duration_listener(heard)
        jax.config.update("jax_enable_compilation_cache", uses_cache)
    return lines


def _medians(calls: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Returns the median seconds of each call, after one that is not counted.

    The calls take turns, so that whatever else the machine does slows all of them and leaves their ratios alone.
    """
    seconds = []
    for number in range(repeats + 1):
        for call in calls:
            began = time.perf_counter()
            jax.block_until_ready(call())
            if number:
                seconds.append(time.perf_counter() - began)
    return [float(np.median(seconds[place :: len(calls)])) for place in range(len(calls))]


def _steps_per_second(parts: Parts, repeats: int) -> float:
    """Returns the environment's own, all copies together."""
    config, num_steps = parts.config, 200

    def act(params: tuple, keys: jax.Array, obs: jax.Array, action_mask: jax.Array, memory: tuple) -> tuple:
        logits = jnp.where(action_mask, 0.0, -jnp.inf)
        return jax.vmap(jax.random.categorical)(keys, logits), memory

    if parts.host is None:
        env = envs.make_jax(config.env)
        state = jax.jit(lambda: session.begin(env, seed=0, num_envs=config.env.num_envs))()
        live = jax.jit(lambda state: session.live(env, act, (), state, seed=0, num_steps=num_steps))
        (seconds,) = _medians([lambda: live(state)], repeats)
    else:
        env = envs.make_host(config.env, 0)
        life = host_session.HostSession(env, jax.jit(act), seed=0)
        life.begin()
        (seconds,) = _medians([lambda: life.live((), num_steps)], repeats)
        env.close()
    return num_steps * config.env.num_envs / seconds


def _search(parts: Parts, params: Params, repeats: int) -> list[Line]:
    config = parts.config
    num_simulations = config.search.simulations(parts.spec.num_actions)
    lines = []
    for num_roots in (8, 256):
        obs = jnp.zeros((num_roots, *parts.spec.obs_shape), parts.spec.obs_dtype)
        latent = jax.jit(parts.model.observe)(params.model, obs)
        keys = jax.random.split(jax.random.key(0), num_roots)
        mask = jnp.ones((num_roots, parts.spec.num_actions), bool)

        def plan(params: Params, latent: jax.Array, keys: jax.Array = keys, mask: jax.Array = mask) -> object:
            found = parts.search(params, (), latent, mask, keys, explore=1.0, return_spread=1.0, progress=0.0)
            return found.action, found.policy, found.value, found.visits  # nobody reads the tree

        def bare(params: Params, latent: jax.Array, num_roots: int = num_roots) -> object:
            def one(latent: jax.Array, _: None) -> tuple:
                latent, reward, continuation = parts.model.step(params.model, latent, jnp.zeros(num_roots, jnp.int32))
                evaluation = parts.agent.evaluate(params.agent, (), latent)
                return latent, (reward, continuation, evaluation.value, evaluation.logits)

            return jax.lax.scan(one, latent, length=num_simulations)

        calls = [functools.partial(jax.jit(call), params, latent) for call in (plan, bare)]
        seconds, floor = _medians(calls, repeats)
        lines.append(
            (
                f"search, {num_roots} roots x {num_simulations}",
                f"{num_roots * num_simulations / seconds:,.0f} simulations/s",
                f"{seconds / floor:.2f} x the time of the same evaluations without a tree",
            )
        )
    return lines


def _dreams(parts: Parts, params: Params, steps_per_second: float, repeats: int) -> list[Line]:
    """Returns how fast imagined rollouts are made, their states searched, and with lambda-returns alone."""
    config, num_dreams = parts.config, 256
    search_free = {"policy_source": "none", "value_source": "lambda"}
    kinds = {
        "searched": dataclasses.replace(config.imagine, policy_source="search"),
        "not searched": dataclasses.replace(config.imagine, **search_free),
    }
    obs = jnp.zeros((num_dreams, *parts.spec.obs_shape), parts.spec.obs_dtype)
    rest = jnp.ones((num_dreams, parts.spec.num_actions), bool), jax.random.split(jax.random.key(0), num_dreams)
    calls = []
    for kind in kinds.values():
        settings = {"gamma": config.targets.gamma, "min_spread": config.search.min_q_range}
        imagine = make_imagine(parts.model, parts.agent, parts.search, kind, **settings)
        imagine = jax.jit(functools.partial(imagine, return_spread=1.0, progress=0.0))
        calls.append(functools.partial(imagine, params, obs, *rest))
    lines = []
    for kind, seconds in zip(kinds, _medians(calls, repeats), strict=True):
        rate = num_dreams * config.imagine.horizon / seconds
        remark = (
            f"{rate / steps_per_second:.2f} x the environment's own; {num_dreams} of {config.imagine.horizon} steps"
        )
        lines.append((f"dreams, {kind}", f"{rate:,.0f} steps/s", remark))
    return lines


def _acting(parts: Parts, learner: LearnerState, repeats: int) -> list[Line]:
    """Returns what one decision costs who is deployed, and the planner: each greedy, in one copy."""
    obs = jnp.zeros((1, *parts.spec.obs_shape), parts.spec.obs_dtype)
    rest = jax.random.split(jax.random.key(0), 1), obs, jnp.ones((1, parts.spec.num_actions), bool), ()
    actor = actor_of(parts.config, learner)
    acts = {
        "deployed student": make_student(parts.model, parts.agent, greedy=True),
        "planner": make_planner(parts.model, parts.agent, parts.search, greedy=True),
    }
    seconds = _medians([functools.partial(jax.jit(act), actor, *rest) for act in acts.values()], repeats)
    lines = []
    for (who, act), taken in zip(acts.items(), seconds, strict=True):
        used = trees.only_used(lambda params, act=act: act((params, *actor[1:]), *rest)[0], learner.params)
        flops = matmul_flops(jax.make_jaxpr(act)(actor, *rest).jaxpr)
        remark = f"{flops:,.0f} FLOPs in matrix products, {trees.num_parameters(used):,} parameters"
        lines.append((f"one action, {who}", f"{1e6 * taken:,.0f} us", remark))
    return lines


def _shares(parts: Parts, state: loops.LoopState, compiled: list[float], repeats: int) -> list[Line]:
    """Lives a short run, and says where the time of a whole one goes and how well an update uses the machine."""
    whole = parts.config.loop
    short = dataclasses.replace(
        whole, real_transitions=20 * parts.config.env.num_envs * whole.steps_per_day, final_updates=0
    )
    compiled.clear()
    began = time.perf_counter()
    events = loops.days_and_nights(parts.step, state, config=short, cost_of=parts.cost_of)
    next(events)  # traces and compiles
    compiling, starting = sum(compiled), time.perf_counter() - began
    for last in events:  # noqa: B007
        pass
    living = time.perf_counter() - began - starting
    learner, num_updates = last.state.learner, 10
    asleep = learner, last.state.replay, learner.updates, jnp.int32(num_updates), last.state.seed
    blind_parts = build(without_search(parts.config))
    blind_parts.close()
    blind, multiply, matrix = jax.jit(blind_parts.night), jax.jit(jnp.matmul), jnp.ones((1024, 1024))
    calls = [
        functools.partial(jax.jit(parts.night), *asleep),
        functools.partial(blind, *asleep),
        functools.partial(multiply, matrix, matrix),
    ]
    *nights, product = _medians(calls, repeats)
    seconds, without = (night / num_updates for night in nights)
    flops = matmul_flops(jax.make_jaxpr(blind)(*asleep).jaxpr)
    peak = 2 * 1024**3 / product
    day = max(0.0, living - last.meters.updates * seconds) / short.real_transitions
    updates = whole.num_updates
    times = {
        "trace": max(0.0, starting - compiling),
        "compile": compiling,
        "update": updates * without,
        "search by night": updates * max(0.0, seconds - without),
        "days with their search, Python": whole.real_transitions * day,
    }
    total = sum(times.values())
    return [
        (
            "update, re-searching",
            f"{1 / seconds:,.1f} updates/s",
            f"{100 * (1 - without / seconds):.0f} % of it is search",
        ),
        (
            "update, no search",
            f"{flops / without / 1e9:.1f} GFLOP/s",
            f"{100 * flops / without / peak:.0f} % of a 1024-cube matmul's {peak / 1e9:.0f} GFLOP/s here",
        ),
        (
            f"a run of {whole.real_transitions:,}",
            f"{total:.0f} s",
            ", ".join(f"{name} {100 * part / total:.0f} %" for name, part in times.items())
            + f" (from {short.real_transitions:,})",
        ),
    ]


def seeds_together(alone: Parts, group: Parts, repeats: int) -> Line:
    """Times a day and the night before it, of one seed and of several in one program, by turns."""
    config = alone.config
    day = config.loop.steps_per_day * config.env.num_envs
    num_updates = max(1, day * config.loop.dream_ratio // config.loop.batch_size)
    one, several = _medians([_turning(parts, num_updates) for parts in (alone, group)], repeats)
    return (
        f"{group.num_seeds} seeds in one program",
        f"{group.num_seeds * num_updates / several:,.1f} updates/s",
        f"{group.num_seeds * one / several:.2f} x the {num_updates / one:,.1f} updates/s of one seed, days included",
    )


def _turning(parts: Parts, num_updates: int) -> Callable[[], object]:
    """Returns a function that lives on: each call stores the last day, sleeps and lives the next one."""
    state = parts.init()

    def turn() -> object:
        nonlocal state
        state, metrics = parts.step(state, num_updates, store=True, live_on=True)
        return metrics

    return turn


def matmul_flops(jaxpr: jax.extend.core.Jaxpr) -> float:
    """Returns the operations of all matrix products and convolutions.

    A loop of unknown length counts once, and of the branches of a condition the dearest.
    """
    total = 0.0
    for equation in jaxpr.eqns:
        inner = {name: _jaxprs(value) for name, value in equation.params.items()}
        branches = [matmul_flops(part) for part in inner.pop("branches", [])]
        once = sum(matmul_flops(part) for parts in inner.values() for part in parts) + max(branches, default=0.0)
        total += once * (equation.params["length"] if equation.primitive.name == "scan" else 1)
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2 * equation.outvars[0].aval.size * np.prod([left[axis] for axis in contracted])
        elif equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval
            features = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
            total += 2 * equation.outvars[0].aval.size * kernel.size / features
    return total


def _jaxprs(value: object) -> list[jax.extend.core.Jaxpr]:
    """Returns the programs in one parameter of an equation, closed over constants or not."""
    values = value if isinstance(value, tuple | list) else (value,)
    values = [getattr(value, "jaxpr", value) for value in values]
    return [value for value in values if hasattr(value, "eqns")]
