"""Days and nights: live a little, store it, dream on it, deploy what was learned, live on.

The loop is a generator of events and knows no file. Everything it counts is an exact integer, so how much is dreamed
for each real transition never depends on the machine.

Letters: E environment copies, T decisions of each copy in a day, B batch, S re-searched sequences, K unroll steps.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import jax
import jax.numpy as jnp
from flax import struct

from dreamer import replay as replays
from dreamer.core import keys as streams
from dreamer.core import mesh
from dreamer.core.ports import Agent, WorldModel
from dreamer.core.types import Meters, Metrics, PyTree, SequenceBatch, Transition
from dreamer.sleep.augment import AugmentConfig, augment
from dreamer.sleep.fit import FitConfig, fit_loss
from dreamer.sleep.targets import MakeTargets, TargetsConfig
from dreamer.sleep.update import LearnerState, Optimizer, UpdateConfig, init_params, renew, update

ACTORS = ("planner", "student")


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """The rhythm of days and nights."""

    real_transitions: int = 3000
    """Real transitions to live, in agent decisions over all copies."""
    steps_per_day: int = 10
    """T, decisions of each environment copy between two nights."""
    dream_ratio: int = 128
    """Rows trained on for each real transition; a row is one sampled sequence with its K dreamed steps."""
    batch_size: int = 128
    """B, rows of one update."""
    learn_after: int = 0
    """Real transitions lived before the first night, which then catches up with the dream ratio."""
    final_updates: int = 0
    """Updates beyond the dream ratio, made once all real transitions are lived."""
    final_night: int = 1000
    """Updates of each night that makes them, at most."""
    actor: str = "planner"
    """Who acts by day: the `planner` (EfficientZero's way) or the search-free `student`."""

    def __post_init__(self) -> None:
        for name in ("real_transitions", "steps_per_day", "batch_size", "final_night"):
            if getattr(self, name) < 1:
                raise ValueError(f"loop.{name} is {getattr(self, name)}: give 1 or more")
        for name in ("dream_ratio", "learn_after", "final_updates"):
            if getattr(self, name) < 0:
                raise ValueError(f"loop.{name} is {getattr(self, name)}: give 0 or more")
        if self.actor not in ACTORS:
            raise ValueError(f"loop.actor is {self.actor!r}: give one of {', '.join(ACTORS)}")

    def updates_due(self, real: int) -> int:
        """Returns the updates that `real` transitions entitle to: floor(real * dream_ratio / batch_size)."""
        return 0 if real < self.learn_after else real * self.dream_ratio // self.batch_size

    @property
    def num_updates(self) -> int:
        """Updates of the whole run."""
        return self.updates_due(self.real_transitions) + self.final_updates

    def finished(self, real: int, updates: int) -> bool:
        """Whether a run that has learned from `real` transitions in `updates` updates is at its end."""
        return real >= self.real_transitions and updates >= self.num_updates

    def progress(self, updates: jax.Array) -> jax.Array:
        """Returns the share in [0, 1] of the updates that go along with living; the final ones are all at 1."""
        return jnp.minimum(1.0, updates / max(1, self.updates_due(self.real_transitions)))


@struct.dataclass
class LoopState:
    """Everything between two nights. `pending` is lived and not yet learned from, so it can reach the disk first.

    Of several seeds that live in one program, S of these stacked.
    """

    learner: LearnerState
    replay: replays.ReplayState
    session: PyTree
    """The jitted driver's SessionState; () for the host driver, which keeps its own."""
    pending: Transition
    """[T, E] the last day."""
    seed: jax.Array
    """[] uint32 the run's seed: data, so that runs which differ in it alone share their compiled programs."""


@dataclasses.dataclass(frozen=True)
class Event:
    """A day lived after a night slept. Arrays in `state` are donated when the loop goes on: read them first."""

    nights: int
    """Nights slept so far; 0 for the very first day, which follows none."""
    state: LoopState
    """After the night and the day."""
    lived: Transition | None
    """[T, E] day number `nights`, not yet learned from; None once all real transitions are lived and learned from."""
    metrics: Metrics
    """Means over the night's updates; empty if there were none."""
    meters: Meters
    """All that was learned from and done up to and including this night."""


Night = Callable[
    [LearnerState, replays.ReplayState, jax.Array, jax.Array], tuple[LearnerState, replays.ReplayState, Metrics]
]


class Step(Protocol):
    """One turn of the loop, however its days are lived."""

    def __call__(self, state: LoopState, num_updates: int, *, store: bool, live_on: bool) -> tuple[LoopState, Metrics]:
        """Stores `state.pending` if `store`, sleeps for `num_updates`, and lives the next day if `live_on`."""
        ...


def make_night(
    model: WorldModel,
    agent: Agent,
    targets: MakeTargets,
    optimizer: Optimizer,
    *,
    loop: LoopConfig,
    replay: replays.ReplayConfig,
    target: TargetsConfig,
    fit: FitConfig,
    optimise: UpdateConfig,
    augmentation: AugmentConfig,
    spread: Callable[[PyTree], PyTree] = mesh.ONE.spread,
) -> Night:
    """Returns the pure `night(learner, replay, num_updates, seed)`: one loop of updates, rows `spread` over devices."""
    num_searched = target.num_searched(loop.batch_size)

    def one_update(
        learner: LearnerState, state: replays.ReplayState, seed: jax.Array
    ) -> tuple[LearnerState, replays.ReplayState, Metrics]:
        update_key = streams.stream(seed, "update", learner.updates)
        sample_key, search_key, fit_key = jax.random.split(update_key, 3)
        progress = loop.progress(learner.updates)
        batch: SequenceBatch = spread(
            replays.sample(
                replay,
                state,
                sample_key,
                batch_size=loop.batch_size,
                length=target.length,
                progress=jnp.minimum(1.0, learner.updates / max(1, loop.num_updates)),
            )
        )
        if target.clip_rewards:  # here, so that targets and model learn from the same
            batch = batch.replace(reward=jnp.sign(batch.reward))
        search_keys = jax.random.split(search_key, (num_searched, target.num_roots))
        dreams = spread(
            targets(learner.target, batch, search_keys, return_spread=learner.return_spread, progress=progress)
        )
        augment_key = streams.stream(seed, "augment", learner.updates)
        seen = augment(augmentation, batch, augment_key, unroll_steps=target.unroll_steps)
        learner, metrics, errors = update(
            learner,
            lambda params: fit_loss(params, fit_key, seen, dreams, model=model, agent=agent, config=fit),
            dreams.value[:, 0],
            optimizer=optimizer,
            config=optimise,
        )
        if optimise.reset_every:
            renew_key = streams.stream(seed, "renew", learner.updates)
            learner = renew(
                learner,
                lambda: init_params(model, agent, renew_key, batch.obs[:1, 0]),
                optimizer=optimizer,
                config=optimise,
                num_updates=loop.num_updates,
            )
        if replay.priority_exponent:
            state = replays.set_priorities(state, batch.index, errors)
        return learner, state, metrics

    def night(
        learner: LearnerState, state: replays.ReplayState, num_updates: jax.Array, seed: jax.Array
    ) -> tuple[LearnerState, replays.ReplayState, Metrics]:
        shapes = jax.eval_shape(one_update, learner, state, seed)[2]
        zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

        def body(_: jax.Array, carry: tuple) -> tuple:
            learner, state, metrics = one_update(*carry[:2], seed)
            return learner, state, jax.tree.map(jnp.add, carry[2], metrics)

        learner, state, total = jax.lax.fori_loop(0, num_updates, body, (learner, state, zeros))
        return learner, state, jax.tree.map(lambda x: x / jnp.maximum(num_updates, 1), total)

    return night


def days_and_nights(
    step: Step,
    state: LoopState,
    *,
    config: LoopConfig,
    searched_by: Callable[[int, int], int],
    after: Event | None = None,
) -> Iterator[Event]:
    """Yields an Event for each day and night until `config.real_transitions` have been learned from.

    Then come the nights of the final updates, each with an event and without a day. The consumer writes `event.lived`
    to disk before it asks for the next event, which learns from it.

    Args:
      step: how one turn is made.
      state: as initialised; or, with `after`, as it was at that event.
      config: rhythm and budget.
      searched_by: (updates, decisions) -> world-model calls that search made in them.
      after: the event to go on from when resuming; its `nights` and `meters` are read.
    """
    nights, meters = (after.nights, after.meters) if after else (0, Meters())
    began = time.perf_counter() - meters.seconds
    if after is None:
        state, _ = step(state, 0, store=False, live_on=True)
        yield Event(nights, state, state.pending, {}, meters)
    while not config.finished(meters.real, meters.updates):
        store = meters.real < config.real_transitions
        # of each seed: where a group lives, [S] leads
        lived = math.prod(state.pending.reward.shape[-2:]) if store else 0
        real = meters.real + lived
        if store:
            num_updates = config.updates_due(real) - meters.updates
        else:
            num_updates = min(config.final_night, config.num_updates - meters.updates)
        live_on = real < config.real_transitions
        state, metrics = step(state, num_updates, store=store, live_on=live_on)
        jax.block_until_ready(metrics)
        nights += 1
        meters = dataclasses.replace(
            meters,
            real=real,
            replayed=meters.replayed + num_updates * config.batch_size,
            searched=meters.searched + searched_by(num_updates, lived),
            updates=meters.updates + num_updates,
            seconds=time.perf_counter() - began,
        )
        yield Event(nights, state, state.pending if live_on else None, metrics if num_updates else {}, meters)
