"""The loop itself: a generator of events.

It knows no file. Everything it counts is an exact integer, so how much is dreamed for each real transition never
depends on the machine.

Letters: E environment copies, T decisions of each copy in a day.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import jax
from flax import struct

from dreamer import replay as replays
from dreamer.core.types import Meters, Metrics, PyTree, Transition
from dreamer.loop.deployment import in_force
from dreamer.loop.night import NIGHT_UPDATES
from dreamer.loop.rhythm import LoopConfig
from dreamer.sleep.update import LearnerState


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
    deployed: PyTree = ()
    """The Deployment in force; () without a gate."""
    evidence: PyTree = ()
    """Scalars by name, what the gate found in the last turn; () without a gate."""

    @property
    def acting(self) -> PyTree:
        """Who lives the days: the Deployment in force, or without a gate the LearnerState."""
        return in_force(self.learner, self.deployed)


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


class Step(Protocol):
    """One turn of the loop, however its days are lived."""

    def __call__(self, state: LoopState, num_updates: int, *, store: bool, live_on: bool) -> tuple[LoopState, Metrics]:
        """Stores `state.pending` if `store`, sleeps for `num_updates`, and lives the next day if `live_on`.

        A night that is looked at stores the day when it is over and may end early: its metrics tell `night_updates`.
        """
        ...


CostOf = Callable[[int, int, int], Meters]
"""(updates before, updates, decisions lived) -> what they add to the meters, all but seconds."""


def days_and_nights(
    step: Step,
    state: LoopState,
    *,
    config: LoopConfig,
    cost_of: CostOf,
    after: Event | None = None,
) -> Iterator[Event]:
    """Yields an Event for each day and night until `config.real_transitions` have been learned from.

    Then come the nights of the final updates, each with an event and without a day. What a night that stopped early did
    not do is due in the next one; what is due at the end of the last is left. The consumer writes `event.lived`
    to disk before it asks for the next event, which learns from it.

    Args:
      step: how one turn is made.
      state: as initialised; or, with `after`, as it was at that event.
      config: rhythm and budget.
      cost_of: what updates and decisions come to.
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
        num_updates = int(metrics.get(NIGHT_UPDATES, num_updates))
        nights += 1
        meters = meters.plus(cost_of(meters.updates, num_updates, lived), seconds=time.perf_counter() - began)
        yield Event(nights, state, state.pending if live_on else None, metrics if num_updates else {}, meters)
