"""How fast each part is, as ratios measured in one run: on a shared machine only ratios mean anything.

Letters: B roots, E environment copies, N simulations.
"""

import dataclasses
import time
from collections.abc import Callable

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

from dreamer import loop as loops
from dreamer.core.types import Params
from dreamer.sleep.search import make_search
from dreamer.wake import envs, session
from experiments.build import Parts, build
from experiments.config import Config

Line = tuple[str, str, str]


def bench(config: Config, *, repeats: int = 7) -> list[Line]:
    """Returns (what, figure, remark) lines for one experiment's sizes."""
    compiled: list[float] = []

    def heard(event: str, seconds: float, **_: str) -> None:
        if event.endswith("compile_duration"):
            compiled.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
        parts = build(config)
        state = parts.init()
        lines = [_environment(parts, repeats)]
        lines += _search(parts, state.learner.params, repeats)
        lines += _shares(parts, state, compiled, repeats)
    finally:
        jax.monitoring.unregister_event_duration_listener(heard)
    return lines


def _median_seconds(function: Callable[[], object], repeats: int) -> float:
    """Returns the median of `repeats` timed calls, after one that is not counted."""
    jax.block_until_ready(function())
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def _environment(parts: Parts, repeats: int) -> Line:
    config, num_steps = parts.config, 200

    def act(params: tuple, keys: jax.Array, obs: jax.Array, action_mask: jax.Array, memory: tuple) -> tuple:
        logits = jnp.where(action_mask, 0.0, -jnp.inf)
        return jax.vmap(jax.random.categorical)(keys, logits), memory

    if parts.host is None:
        env = envs.make_jax(config.env)
        state = jax.jit(lambda: session.begin(env, seed=0, num_envs=config.env.num_envs))()
        live = jax.jit(lambda state: session.live(env, act, (), state, seed=0, num_steps=num_steps))
        seconds = _median_seconds(lambda: live(state), repeats)
    else:
        env = envs.make_host(config.env, 0)
        life = session.HostSession(env, jax.jit(act), seed=0)
        life.begin()
        seconds = _median_seconds(lambda: life.live((), num_steps), repeats)
        env.close()
    steps = num_steps * config.env.num_envs
    return (
        "environment",
        f"{steps / seconds:,.0f} steps/s",
        f"{config.env.num_envs} copies, random actions, driver included",
    )


def _search(parts: Parts, params: Params, repeats: int) -> list[Line]:
    config = parts.config
    search = make_search(parts.model, parts.agent, config.search, gamma=config.targets.gamma)
    num_simulations = config.search.num_simulations
    lines = []
    for num_roots in (8, 256):
        obs = jnp.zeros((num_roots, *parts.spec.obs_shape), parts.spec.obs_dtype)
        latent = jax.jit(parts.model.observe)(params.model, obs)
        keys = jax.random.split(jax.random.key(0), num_roots)
        mask = jnp.ones((num_roots, parts.spec.num_actions), bool)

        def plan(params: Params, latent: jax.Array, keys: jax.Array = keys, mask: jax.Array = mask) -> object:
            return search(params, (), latent, mask, keys, gumbel_scale=1.0, return_spread=1.0)

        def bare(params: Params, latent: jax.Array, num_roots: int = num_roots) -> object:
            def one(latent: jax.Array, _: None) -> tuple:
                latent, reward, continuation = parts.model.step(params.model, latent, jnp.zeros(num_roots, jnp.int32))
                evaluation = parts.agent.evaluate(params.agent, (), latent)
                return latent, (reward, continuation, evaluation.value, evaluation.logits)

            return jax.lax.scan(one, latent, length=num_simulations)

        plan, bare = jax.jit(plan), jax.jit(bare)
        seconds, floor = (
            _median_seconds(lambda call=call, latent=latent: call(params, latent), repeats) for call in (plan, bare)
        )
        lines.append(
            (
                f"search, {num_roots} roots x {num_simulations}",
                f"{num_roots * num_simulations / seconds:,.0f} simulations/s",
                f"{seconds / floor:.2f} x the time of the same evaluations without a tree",
            )
        )
    return lines


def _shares(parts: Parts, state: loops.LoopState, compiled: list[float], repeats: int) -> list[Line]:
    """Lives a short run, and says where its time went and how well an update uses the machine."""
    compiled.clear()
    began = time.perf_counter()
    config = dataclasses.replace(parts.config.loop, real_transitions=20 * parts.config.loop.steps_per_day)
    last = None
    for event in loops.days_and_nights(parts.step, state, config=config, searched_by=parts.searched_by):
        last = event
    wall, compiling = time.perf_counter() - began, sum(compiled)
    night = jax.jit(parts.night)
    learner, replay, seed = last.state.learner, last.state.replay, last.state.seed
    num_updates = 10
    seconds = _median_seconds(lambda: night(learner, replay, jnp.int32(num_updates), seed), repeats) / num_updates
    targets = dataclasses.replace(parts.config.targets, research_fraction=0.0)
    blind = jax.jit(build(dataclasses.replace(parts.config, targets=targets)).night)
    without = _median_seconds(lambda: blind(learner, replay, jnp.int32(num_updates), seed), repeats) / num_updates
    flops = _matmul_flops(jax.make_jaxpr(blind)(learner, replay, jnp.int32(1), seed).jaxpr)
    peak = _matmul_rate(repeats)
    updating = last.meters.updates * without
    searching = last.meters.updates * max(0.0, seconds - without)
    rest = max(0.0, wall - compiling - updating - searching)
    share = [
        f"{name} {100 * part / wall:.0f} %"
        for name, part in (
            ("compile", compiling),
            ("update", updating),
            ("search by night", searching),
            ("days and Python", rest),
        )
    ]
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
        (f"a run of {last.meters.real} transitions", f"{wall:.1f} s", ", ".join(share)),
    ]


def _matmul_rate(repeats: int) -> float:
    matrix = jnp.ones((1024, 1024))
    multiply = jax.jit(jnp.matmul)
    return 2 * 1024**3 / _median_seconds(lambda: multiply(matrix, matrix), repeats)


def _matmul_flops(jaxpr: jax.extend.core.Jaxpr) -> float:
    """Returns the operations of all matrix products and convolutions; a loop of unknown length counts once."""
    total = 0.0
    for equation in jaxpr.eqns:
        inner = [value.jaxpr for value in equation.params.values() if hasattr(value, "jaxpr")]
        inner += [value for value in equation.params.values() if hasattr(value, "eqns")]
        total += equation.params.get("length", 1) * sum(_matmul_flops(part) for part in inner)
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2 * equation.outvars[0].aval.size * np.prod([left[axis] for axis in contracted])
        elif equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval
            features = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
            total += 2 * equation.outvars[0].aval.size * kernel.size / features
    return total
