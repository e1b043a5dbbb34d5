"""The one place that takes gradients and steps an optimiser, and the learner's state."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import struct

from dreamer.core import trees
from dreamer.core.types import Metrics, Params, PyTree

Optimizer = optax.GradientTransformation


@dataclasses.dataclass(frozen=True)
class UpdateConfig:
    """Optimiser and lagged target network."""

    learning_rate: float = 1e-3
    """Peak step size of AdamW."""
    warmup_updates: int = 50
    """Updates over which the step size grows from 0."""
    final_share: float = 0.1
    """Share of the peak step size that is left at the last update of the run; it falls on a straight line."""
    weight_decay: float = 1e-4
    """Decoupled weight decay."""
    max_grad_norm: float = 5.0
    """Global norm that gradients are clipped to."""
    target_period: int = 1
    """Updates between two refreshes of the lagged target network."""
    target_step: float = 0.01
    """Share of the way from target to online network at each refresh; 1 copies."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or self.max_grad_norm <= 0:
            raise ValueError(
                f"update.learning_rate is {self.learning_rate}, max_grad_norm {self.max_grad_norm}: "
                "give positive numbers"
            )
        if self.warmup_updates < 0 or self.weight_decay < 0:
            raise ValueError(
                f"update.warmup_updates is {self.warmup_updates}, weight_decay {self.weight_decay}: give 0 or more"
            )
        if not 0 <= self.final_share <= 1:
            raise ValueError(f"update.final_share is {self.final_share}: give a share in [0, 1]")
        if self.target_period < 1:
            raise ValueError(f"update.target_period is {self.target_period}: give 1 or more updates")
        if not 0 < self.target_step <= 1:
            raise ValueError(f"update.target_step is {self.target_step}: give a share in (0, 1]")


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
    """Returns AdamW behind a global-norm clip; the step size warms up, then falls until the last of `num_updates`."""
    peak = config.learning_rate
    fall = optax.linear_schedule(peak, config.final_share * peak, max(1, num_updates - config.warmup_updates))
    if config.warmup_updates:
        rise = optax.linear_schedule(0.0, peak, config.warmup_updates)
        fall = optax.join_schedules([rise, fall], [config.warmup_updates])
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm), optax.adamw(fall, weight_decay=config.weight_decay)
    )


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
    grads, (metrics, errors) = jax.grad(loss, has_aux=True)(learner.params)
    steps, opt_state = optimizer.update(grads, learner.opt_state, learner.params)
    params = optax.apply_updates(learner.params, steps)
    updates = learner.updates + 1
    refresh = jnp.where(updates % config.target_period == 0, config.target_step, 0.0)
    low, high = jnp.percentile(value_targets, jnp.array([5.0, 95.0]))
    rate = jnp.maximum(0.01, 1.0 / updates)
    learner = LearnerState(
        params=params,
        target=trees.lerp(learner.target, params, refresh),
        opt_state=opt_state,
        updates=updates,
        return_spread=(1 - rate) * learner.return_spread + rate * (high - low),
    )
    metrics = metrics | {"grad_norm": optax.tree.norm(grads), "return_spread": learner.return_spread}
    return learner, metrics, errors
