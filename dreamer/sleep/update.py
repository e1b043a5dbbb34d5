"""The one place that takes gradients and steps an optimiser, and the learner's state."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import struct

from dreamer.core import trees
from dreamer.core.ports import Agent, WorldModel
from dreamer.core.types import Metrics, Params, PyTree

Optimizer = optax.GradientTransformation


OPTIMIZERS = ("adamw", "sgd")


@dataclasses.dataclass(frozen=True)
class UpdateConfig:
    """Optimiser, lagged target network, and what keeps the networks able to learn."""

    optimizer: str = "adamw"
    """`adamw`, or `sgd` with momentum (EfficientZero)."""
    learning_rate: float = 1e-3
    """Peak step size."""
    momentum: float = 0.9
    """Share of the last step's direction that `sgd` keeps."""
    warmup_updates: int = 50
    """Updates over which the step size grows from 0."""
    final_share: float = 0.1
    """Share of the peak step size that is left at the last update of the run, or after `fall_after`."""
    fall_after: int = 0
    """Updates after the warm-up at which the step size falls to that share at once; 0 falls on a straight line until
    the last update."""
    weight_decay: float = 1e-4
    """Weight decay: decoupled from the gradients under `adamw`, part of them (L2) under `sgd`."""
    max_grad_norm: float = 5.0
    """Global norm that gradients are clipped to."""
    target_period: int = 1
    """Updates between two refreshes of the lagged target network."""
    target_step: float = 0.01
    """Share of the way from target to online network at each refresh; 1 copies."""
    reset_every: int = 0
    """Updates between two renewals of the networks (see `renew`); 0 never renews them."""
    shrink: float = 0.5
    """Share of each parameter that a renewal keeps; the rest is a fresh initialisation's."""
    reset_heads: bool = True
    """Whether a renewal keeps nothing of the agent's heads."""

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"update.optimizer is {self.optimizer!r}: give one of {', '.join(OPTIMIZERS)}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"update.momentum is {self.momentum}: give a share in [0, 1)")
        if self.optimizer == "adamw" and self.momentum != UpdateConfig.momentum:
            raise ValueError(
                f"update.momentum is {self.momentum}, but adamw has decays of its own, 0.9 and 0.999: leave it at "
                f"{UpdateConfig.momentum}, or choose sgd"
            )
        for name in ("fall_after", "reset_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"update.{name} is {getattr(self, name)}: give 0 (never) or more updates")
        for name in ("final_share", "shrink"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"update.{name} is {getattr(self, name)}: give a share in [0, 1]")
        if self.learning_rate <= 0 or self.max_grad_norm <= 0:
            raise ValueError(
                f"update.learning_rate is {self.learning_rate}, max_grad_norm {self.max_grad_norm}: "
                "give positive numbers"
            )
        if self.warmup_updates < 0 or self.weight_decay < 0:
            raise ValueError(
                f"update.warmup_updates is {self.warmup_updates}, weight_decay {self.weight_decay}: give 0 or more"
            )
        if self.target_period < 1:
            raise ValueError(f"update.target_period is {self.target_period}: give 1 or more updates")
        if not 0 < self.target_step <= 1:
            raise ValueError(f"update.target_step is {self.target_step}: give a share in (0, 1]")


@struct.dataclass
class TrainState:
    """All that a learner without a model carries from one update to the next."""

    params: PyTree
    """Of any structure."""
    opt_state: PyTree
    """The optimiser's."""


@struct.dataclass
class LearnerState:
    """All that learning carries from one update to the next."""

    params: Params
    """Online parameters: what acts, and what is deployed."""
    target: Params
    """Lagged parameters: what makes targets."""
    opt_state: PyTree
    """The optimiser's."""
    updates: jax.Array
    """int32 scalar, updates so far."""
    return_spread: jax.Array
    """float32 scalar, running 5th-to-95th-percentile spread of value targets, in reward units."""


def make_optimizer(config: UpdateConfig, num_updates: int) -> Optimizer:
    """Returns the optimiser behind a global-norm clip; the step size warms up, then falls within `num_updates`.

    EfficientZero's SGD adds the decay to the clipped gradients and then lets them gather momentum. It multiplies the
    sum of a loss over K + 1 positions by 1/K before the clip: our means over them, times (K + 1) / K in their weights.
    """
    peak = config.learning_rate
    if config.fall_after:
        fall = optax.piecewise_constant_schedule(peak, {config.fall_after: config.final_share})
    else:
        fall = optax.linear_schedule(peak, config.final_share * peak, max(1, num_updates - config.warmup_updates))
    if config.warmup_updates:
        rise = optax.linear_schedule(0.0, peak, config.warmup_updates)
        fall = optax.join_schedules([rise, fall], [config.warmup_updates])
    clip = optax.clip_by_global_norm(config.max_grad_norm)
    if config.optimizer == "sgd":
        return optax.chain(clip, optax.add_decayed_weights(config.weight_decay), optax.sgd(fall, config.momentum))
    return optax.chain(clip, optax.adamw(fall, weight_decay=config.weight_decay))


def init_train_state(params: PyTree, optimizer: Optimizer) -> TrainState:
    """Returns the state before the first step."""
    return TrainState(params, optimizer.init(params))


def train_step(
    state: TrainState,
    loss: Callable[[PyTree], tuple[jax.Array, PyTree]],
    *,
    optimizer: Optimizer,
    axis: str | None = None,
) -> tuple[TrainState, PyTree, jax.Array]:
    """Takes one step down the gradient of `loss`, a function of the parameters with an auxiliary output.

    Under a map that names an `axis`, whose members have the same state and losses of their own, the step is down their
    mean, the same for all.

    Returns: the state after it, the auxiliary output, and the norm [] of the gradients before they are clipped.
    """
    grads, aux = jax.grad(loss, has_aux=True)(state.params)
    grads = grads if axis is None else jax.lax.pmean(grads, axis)
    steps, opt_state = optimizer.update(grads, state.opt_state, state.params)
    return TrainState(optax.apply_updates(state.params, steps), opt_state), aux, optax.tree.norm(grads)


def init_params(model: WorldModel, agent: Agent, key: jax.Array, obs: jax.Array) -> Params:
    """Returns fresh parameters of both ports for observations like `obs` [B, ...]."""
    model_key, agent_key = jax.random.split(key)
    model_params = model.init(model_key, obs)
    return Params(model_params, agent.init(agent_key, model.observe(model_params, obs)))


def init_learner(params: Params, optimizer: Optimizer) -> LearnerState:
    """Returns the state before the first update; the target starts as a copy."""
    return LearnerState(
        params=params,
        target=jax.tree.map(jnp.copy, params),
        opt_state=optimizer.init(params),
        updates=jnp.zeros((), jnp.int32),
        return_spread=jnp.zeros(()),
    )


def update(
    learner: LearnerState,
    loss: Callable[[Params], tuple[jax.Array, tuple[Metrics, jax.Array]]],
    value_targets: jax.Array,
    *,
    optimizer: Optimizer,
    config: UpdateConfig,
) -> tuple[LearnerState, Metrics, jax.Array]:
    """One optimiser step, and the lag of the target network behind it.

    Args:
      learner: state before.
      loss: of the online parameters; its auxiliary output is (metrics, row errors).
      value_targets: [...] the batch's, for the running spread of returns (DreamerV3 normalises by the same spread,
        https://arxiv.org/abs/2301.04104).
      optimizer: as made by `make_optimizer(config)`.
      config: target lag.

    Returns: state after, metrics, row errors as returned by `loss`.
    """
    before = TrainState(learner.params, learner.opt_state)
    after, (metrics, errors), grad_norm = train_step(before, loss, optimizer=optimizer)
    updates = learner.updates + 1
    refresh = jnp.where(updates % config.target_period == 0, config.target_step, 0.0)
    low, high = jnp.percentile(value_targets, jnp.array([5.0, 95.0]))
    rate = jnp.maximum(0.01, 1.0 / updates)
    learner = LearnerState(
        params=after.params,
        target=trees.lerp(learner.target, after.params, refresh),
        opt_state=after.opt_state,
        updates=updates,
        return_spread=(1 - rate) * learner.return_spread + rate * (high - low),
    )
    metrics = metrics | {"grad_norm": grad_norm, "return_spread": learner.return_spread}
    return learner, metrics, errors


def renew(
    learner: LearnerState,
    fresh: Callable[[], Params],
    *,
    optimizer: Optimizer,
    config: UpdateConfig,
    made: jax.Array,
    num_updates: int,
) -> LearnerState:
    """Mixes fresh weights into the networks whenever `config.reset_every` more updates were made.

    Networks that trained for long learn new targets slowly; shrunk and perturbed (https://arxiv.org/abs/1910.08475) and
    with new heads (https://arxiv.org/abs/2305.19452) they do not. The lagged network is renewed alike, with the same
    fresh weights, since a mean of old and new ones would be neither. The optimiser forgets its moments, all of them as
    Adam corrects their bias by one count, and keeps its place in the schedule. As the networks need time to recover,
    none is renewed when fewer than `reset_every` updates are left.

    Args:
      learner: state after an update.
      fresh: () -> newly initialised parameters; called in the program only when due.
      optimizer: as made by `make_optimizer(config)`.
      config: how often, and what is kept.
      made: scalar, updates so far; not read from `learner`, where of several seeds it would be a batch.
      num_updates: those of the whole run.
    """

    def mixed(old: Params, new: Params) -> Params:
        params = trees.lerp(new, old, config.shrink)
        return params.replace(agent=new.agent) if config.reset_heads else params

    def renewed() -> LearnerState:
        new = fresh()
        params = mixed(learner.params, new)
        opt_state = jax.tree.map(
            lambda old, zero: old if isinstance(old, optax.ScaleByScheduleState) else zero,
            learner.opt_state,
            optimizer.init(params),
            is_leaf=lambda node: isinstance(node, optax.ScaleByScheduleState),
        )
        return learner.replace(params=params, target=mixed(learner.target, new), opt_state=opt_state)

    due = (made % config.reset_every == 0) & (num_updates - made >= config.reset_every)
    return jax.lax.cond(due, renewed, lambda: learner)
