"""The gate: whether what a night made is worse than the deployed agent, judged on a day that neither has learned from.

Real evidence is what that day paid, against what each foretold of it. Dreamed evidence is what both students would earn
from its states on, in the better proven of both models. All of it is in returns, so that one scale says what matters.
Looks in the course of a night hold the same real evidence against the best that the night has had so far.

Letters: T decisions, E environment copies, N = T * E states of the day, K steps of the horizon, A actions.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import struct

from dreamer.core import divergences, returns, trees
from dreamer.core.ports import Agent, WorldModel
from dreamer.core.types import Metrics, Params, PyTree, Transition
from dreamer.sleep.imagine import dreamed_action

EVIDENCE = ("none", "real", "dreamed", "both")
STOPPED = "stopped"
"""Name in the metrics of a night that is looked at: 1 if it ended before its budget; `stopped_<why>` say by what."""
DEPLOYED, REFUSED = "deployed", "refused_"
"""Names in the evidence: the verdict, and what each reason to refuse begins with."""
_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class GateConfig:
    """When the agent that a night made may replace the deployed one."""

    evidence: str = "none"
    """On what it must not be worse: `none` deploys every night's agent at once, unasked; `real` errors about the next
    day; `dreamed` returns from that day's states on; or `both`. The day is lived by the agent deployed before."""
    standard_errors: float = 2.0
    """Standard errors of the paired difference that count as chance."""
    tolerance: float = 0.1
    """Loss that is forgiven beyond chance, as a share: of returns their running spread; of squared errors the deployed
    agent's own, and the square of that share of the spread."""
    horizon: int = 10
    """K, steps over which returns are foretold, lived and dreamed, before a value takes over."""
    min_entropy: float = 0.001
    """Mean entropy of the policy, as a share of the highest possible, below which it counts as collapsed; 0 never."""
    max_kl: float = 5.0
    """Mean divergence KL(new || deployed) of the policies, in nats, above which it counts as broken; 0 never."""
    look_every: int = 0
    """Updates of a night between two looks at the newest day, which is then held back until the night is over: the
    night stops early where errors about that day have risen from their lowest, or the policy counts as collapsed or
    broken, by the settings above. 0 learns from the newest day at once and never looks."""

    def __post_init__(self) -> None:
        if self.evidence not in EVIDENCE:
            raise ValueError(f"gate.evidence is {self.evidence!r}: give one of {', '.join(EVIDENCE)}")
        if self.horizon < 1:
            raise ValueError(f"gate.horizon is {self.horizon}: give 1 or more")
        for name in ("standard_errors", "tolerance", "max_kl", "look_every"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"gate.{name} is {getattr(self, name)}: give 0 or more")
        if not 0 <= self.min_entropy < 1:
            raise ValueError(f"gate.min_entropy is {self.min_entropy}: give a share in [0, 1)")

    @property
    def is_open(self) -> bool:
        """Whether every night's agent is deployed at once, which is no gate at all."""
        return self.evidence == "none"


Gate = Callable[..., tuple[jax.Array, Metrics]]
Errors = tuple[jax.Array, jax.Array]
"""[N] squared errors about a day, each in squared reward units: of the model, and of the value."""


class Looks(NamedTuple):
    """What tells when a night has to end: two pure functions."""

    every: int
    """Updates between two looks."""
    begin: Callable[[Params], Errors]
    """(params at the night's beginning) -> the lowest errors so far."""
    look: Callable[[Params, Errors], tuple[Errors, jax.Array, Metrics]]
    """(params now, lowest errors so far) -> (lowest errors so far, stop [] bool, what was found)."""


MakeLooks = Callable[..., Looks]


@struct.dataclass
class _Windows:
    """The day as N windows of K rows, one from each state, each cut where the episode or the day ends."""

    obs: jax.Array
    """[N, *obs_shape]"""
    action_mask: jax.Array
    """[N, A]"""
    action: jax.Array
    """[N, K]"""
    reward: jax.Array
    """[N, K]"""
    terminated: jax.Array
    """[N, K]"""
    valid: jax.Array
    """[N, K] a prefix of True."""


def make_gate(model: WorldModel, agent: Agent, config: GateConfig, *, gamma: float) -> Gate:
    """Returns the pure `gate(candidate, deployed, day, key, *, return_spread) -> (deploy [] bool, evidence)`.

    Evidence are scalars: of each test `<test>` of the candidate, `<test>_deployed`, by how much it is `<test>_worse`
    and what is `<test>_allowed`; the policies' `entropy`, `entropy_deployed` and `kl`; as 0 or 1 every `refused_<why>`,
    and `deployed`. Neighbouring states share rewards, so standard errors over them are on the small side.

    Args of the function:
      candidate: Params of what the night made.
      deployed: Params of what acts now, and lived the day.
      day: [T, E] a day that neither has learned from.
      key: of the dreams, which both students share.
      return_spread: scalar, the deployed agent's running spread of returns, in reward units.
    """

    foretold, errors = _judging(model, agent, config, gamma)

    def dreamed_actions(params: Params, windows: _Windows, keys: jax.Array) -> jax.Array:
        """Returns [N, K] what the student does in its own model's dream; below the first state all is allowed."""

        def act(carry: tuple, number: jax.Array) -> tuple:
            latent, mask = carry
            action = dreamed_action(agent, params, latent, mask, keys, number)
            latent, _, _ = model.step(params.model, latent, action)
            return (latent, jnp.ones_like(mask)), action

        begin = model.observe(params.model, windows.obs), windows.action_mask
        return jax.lax.scan(act, begin, jnp.arange(config.horizon))[1].T

    def gate(
        candidate: Params, deployed: Params, day: Transition, key: jax.Array, *, return_spread: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        both, windows = (candidate, deployed), _windows(day, config.horizon)
        policies = [_policy(model, agent, who, day) for who in both]
        ratios = [_windowed(ratio, config.horizon) for ratio in _ratios(*policies, day.action)]
        found = (errors(who, day, windows, ratio) for who, ratio in zip(both, ratios, strict=True))
        (model_error, value_error), (model_error_now, value_error_now) = found
        by_model = _compare_errors(model_error, model_error_now, return_spread, config)
        by_value = _compare_errors(value_error, value_error_now, return_spread, config)
        tests = {"model_error": by_model, "value_error": by_value} if config.evidence in ("real", "both") else {}
        if config.evidence in ("dreamed", "both"):
            # A model is trusted until another has foretold clearly more: what it dreams of itself proves nothing.
            surpassed = -by_model["_worse"] > by_model["_allowed"]
            judge = jax.tree.map(lambda new, old: jnp.where(surpassed, new, old), candidate, deployed)
            keys, always = jax.random.split(key, len(windows.obs)), jnp.ones_like(windows.valid)
            earned = [foretold(judge, windows.obs, dreamed_actions(who, windows, keys), always) for who in both]
            loss = _compare(-earned[0], -earned[1], config.tolerance * return_spread, config)
            tests["dreamed_return"] = loss | {"": -loss[""], "_deployed": -loss["_deployed"]}
        monitors, refused = _monitored(*policies, config)
        refused |= {name: ~(test["_worse"] <= test["_allowed"]) for name, test in tests.items()}  # NaN is worse
        refused["not_finite"] |= ~trees.all_finite((candidate, tests))
        passed = ~jnp.any(jnp.stack(list(refused.values())))
        evidence = {name + what: value for name, test in tests.items() for what, value in test.items()} | monitors
        evidence |= {REFUSED + name: refusal.astype(jnp.float32) for name, refusal in refused.items()}
        return passed, evidence | {DEPLOYED: passed.astype(jnp.float32)}

    return gate


def make_looks(model: WorldModel, agent: Agent, config: GateConfig, *, gamma: float) -> MakeLooks:
    """Returns the pure `looks(acting, day, *, return_spread) -> Looks`: early stopping on a day that is held back.

    What a look finds are scalars: `held_out_<test>`, of `model_error` and `value_error`, by how much that is `_worse`
    than the lowest of the night and what is `_allowed`; and as 0 or 1 every `stopped_<why>`.

    Args of the function:
      acting: Params that lived the day.
      day: [T, E] a day that the night does not learn from.
      return_spread: scalar, the running spread of returns, in reward units.
    """
    _, errors = _judging(model, agent, config, gamma)

    def looks(acting: Params, day: Transition, *, return_spread: jax.Array) -> Looks:
        windows, lived_by = _windows(day, config.horizon), _policy(model, agent, acting, day)

        def found(params: Params) -> tuple[jax.Array, Errors]:
            policy = _policy(model, agent, params, day)
            ratio = _windowed(_ratios(policy, lived_by, day.action)[0], config.horizon)
            return policy, errors(params, day, windows, ratio)

        def look(params: Params, lowest: Errors) -> tuple[Errors, jax.Array, Metrics]:
            policy, now = found(params)
            compared = [_compare_errors(*pair, return_spread, config) for pair in zip(now, lowest, strict=True)]
            tests = dict(zip(("model_error", "value_error"), compared, strict=True))
            _, why = _monitored(policy, lived_by, config)
            why |= {name: ~(test["_worse"] <= test["_allowed"]) for name, test in tests.items()}  # NaN has risen
            why["not_finite"] |= ~trees.all_finite(params)
            lower = (jnp.where(test["_worse"] < 0, *pair) for test, *pair in zip(compared, now, lowest, strict=True))
            told = {f"{STOPPED}_{name}": stops.astype(jnp.float32) for name, stops in why.items()}
            for name, test in tests.items():
                told |= {f"held_out_{name}{what}": test[what] for what in ("", "_worse", "_allowed")}
            return tuple(lower), jnp.any(jnp.stack(list(why.values()))), told

        return Looks(config.look_every, lambda params: found(params)[1], look)

    return looks


def reasons(evidence: Mapping[str, float]) -> list[str]:
    """Returns why a candidate was refused: names of tests, `entropy`, `kl` or `not_finite`; nothing if it was not."""
    return sorted(name.removeprefix(REFUSED) for name, value in evidence.items() if name.startswith(REFUSED) and value)


def _judging(model: WorldModel, agent: Agent, config: GateConfig, gamma: float) -> tuple[Callable, Callable]:
    """Returns what tells the return that a model and its value see in actions, and how wrong both are about a day."""

    def foretold(params: Params, obs: jax.Array, action: jax.Array, valid: jax.Array) -> jax.Array:
        """Returns [N] the return that a model and its value see in the actions [N, K]."""

        def dream_on(latent: PyTree, action: jax.Array) -> tuple:
            latent, reward, continuation = model.step(params.model, latent, action)
            return latent, (reward, continuation, agent.evaluate(params.agent, (), latent).value)

        first = model.observe(params.model, obs)
        _, (reward, continuation, value) = jax.lax.scan(dream_on, first, action.T)
        value = jnp.concatenate([agent.evaluate(params.agent, (), first).value[None], value])
        return _return(reward.T, returns.discounts(continuation.T, gamma), value.T, valid)

    def errors(params: Params, day: Transition, windows: _Windows, ratio: jax.Array) -> Errors:
        """Returns [N] squared errors about the day: of the model in what was done, of the value in what it would do.

        The agent that lived the day may have been worse than the one that is judged, whose value must not suffer for
        it: as in V-trace (https://arxiv.org/abs/1802.01561), truncated importance ratios [N, K] cut the returns that a
        value is held against, and weigh the row's own decision.
        """
        now, after = (_evaluate(model, agent, params, obs).value for obs in (day.obs, day.next_obs))
        value = jnp.concatenate([now.reshape(-1, 1), _windowed(after, config.horizon)], axis=1)
        rows = windows.reward, returns.discounts(1.0 - windows.terminated, gamma), value, windows.valid
        seen = foretold(params, windows.obs, windows.action, windows.valid)
        later = jnp.pad(ratio[:, 1:], ((0, 0), (0, 1)), constant_values=1.0)
        traced = returns.lambda_returns(*rows, lam=later)[:, 0]
        return (seen - _return(*rows)) ** 2, (ratio[:, 0] * (traced - value[:, 0])) ** 2

    return foretold, errors


def _compare_errors(new: jax.Array, old: jax.Array, return_spread: jax.Array, config: GateConfig) -> Metrics:
    """Returns what `_compare` does, of squared errors."""
    return _compare(new, old, (config.tolerance * return_spread) ** 2 + config.tolerance * old.mean(), config)


def _compare(new: jax.Array, old: jax.Array, forgiven: jax.Array, config: GateConfig) -> Metrics:
    """Returns the means of two losses [N] of the same states, their difference, and how much of it is allowed."""
    worse = new - old
    chance = config.standard_errors * worse.std() / jnp.sqrt(worse.size)
    allowed = chance + forgiven + _ROUNDING
    return {"": new.mean(), "_deployed": old.mean(), "_worse": worse.mean(), "_allowed": allowed}


def _monitored(new: jax.Array, old: jax.Array, config: GateConfig) -> tuple[Metrics, dict[str, jax.Array]]:
    """Returns what two policies [T, E, A], as masked logits, come to, and as bools what is wrong with the new one."""
    entropy, entropy_now = (divergences.entropy(logits).mean() for logits in (new, old))
    kl = divergences.forward_kl(jax.nn.softmax(new), old).mean()
    refused = {
        "entropy": ~(entropy >= config.min_entropy * jnp.log(new.shape[-1])),
        "kl": ~(kl <= config.max_kl) if config.max_kl else jnp.zeros((), bool),
        "not_finite": ~jnp.all(jnp.isfinite(new.max(axis=-1))),
    }
    return {"entropy": entropy, "entropy_deployed": entropy_now, "kl": kl}, refused


def _return(reward: jax.Array, discount: jax.Array, value: jax.Array, valid: jax.Array) -> jax.Array:
    """Returns [N] the return of each window's first state; `value` [N, K + 1] ends it."""
    horizon = reward.shape[1]
    return returns.n_step_returns(reward, discount, value, valid, n=horizon, num_positions=1)[:, 0]


def _windows(day: Transition, horizon: int) -> _Windows:
    """Returns the day [T, E] as N windows."""
    chex.assert_rank(day.reward, 2)
    num_steps, num_envs = day.reward.shape
    left = num_steps - jnp.repeat(jnp.arange(num_steps), num_envs)
    action, reward, terminated, truncated = (
        _windowed(x, horizon) for x in (day.action, day.reward, day.terminated, day.truncated)
    )
    return _Windows(
        obs=trees.flatten_lead(day.obs, 2),
        action_mask=trees.flatten_lead(day.action_mask, 2),
        action=action,
        reward=reward,
        terminated=terminated,
        valid=returns.sequence_valid(terminated, truncated, jnp.arange(horizon)[None] < left[:, None]),
    )


def _windowed(x: jax.Array, horizon: int) -> jax.Array:
    """Returns [N, K] the rows of `x` [T, E] from each state on; past the day's end its last row again."""
    places = jnp.arange(len(x))[:, None] + jnp.arange(horizon)[None]
    rows = x[jnp.minimum(places, len(x) - 1)]  # [T, K, E]
    return jnp.swapaxes(rows, 1, 2).reshape(-1, horizon)


def _evaluate(model: WorldModel, agent: Agent, params: Params, obs: jax.Array) -> PyTree:
    """Returns the Evaluation [T, E] of observations [T, E, ...]."""
    found = agent.evaluate(params.agent, (), model.observe(params.model, trees.flatten_lead(obs, 2)))
    return trees.unflatten_lead(found, obs.shape[:2])


def _policy(model: WorldModel, agent: Agent, params: Params, day: Transition) -> jax.Array:
    """Returns the student's logits [T, E, A], -inf where an action was not allowed."""
    return jnp.where(day.action_mask, _evaluate(model, agent, params, day.obs).logits, -jnp.inf)


def _ratios(new: jax.Array, old: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns [T, E] of two policies [T, E, A] how readily, at most 1, each would have done what the old one did.

    A planner's days were lived by what the old student had learned to do: its own ratio stands for the planner's.
    """
    log_new, log_old = (
        jnp.take_along_axis(jax.nn.log_softmax(logits), action[..., None], axis=-1)[..., 0] for logits in (new, old)
    )
    return jnp.minimum(1.0, jnp.exp(log_new - log_old)), jnp.ones(action.shape)
