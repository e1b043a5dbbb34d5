"""Where an interrupted run goes on: its newest whole checkpoint, and all the facts that are on disk."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dreamer import loop as loops
from dreamer import replay as replays
from dreamer.core.types import Meters, Metrics, PyTree, Transition
from dreamer.io import CheckpointError, Checkpoints, FactLog
from dreamer.wake import recorded
from experiments.build import Parts

_insert = jax.jit(replays.insert, donate_argnums=0)


def saved_state(state: loops.LoopState) -> PyTree:
    """Returns what a checkpoint holds: everything but the rows of the replay and the pending day, which are facts."""
    saved = {"learner": state.learner, "session": state.session, "priority": state.replay.priority}
    return saved | {"deployed": state.deployed}


class Past:
    """The recorded days of an interrupted run, which come again before new ones are lived.

    A host environment is brought back to where it stood, and its recorded days are used as they are. On the device
    a recorded day is lived again, which comes out the same bit for bit on the same machine; where it does not, the
    facts count. Where the environment cannot go on from the last fact, all copies begin a new episode and the
    interrupted ones count as truncated.

    Attributes:
      days: [T, E] each, NumPy, read from the facts as needed and cut at their end where the next one did not go on.
      messages: what the user should be told; more can come while recorded days are lived again.
    """

    def __init__(self, parts: Parts, facts: FactLog):
        """Takes the facts as they are now."""
        self._parts = parts
        self._as_lived = lambda day: next(facts.read(day))[2]
        self._continues = facts.continues
        self.days = recorded.Days(self._as_lived, self._continues)
        self.messages = list(facts.messages)
        self._next = 0
        self._same_life = True
        self._broken_off = False

    def last_event(self, checkpoints: Checkpoints, blank: loops.LoopState) -> loops.Event | None:
        """Returns the event of the newest checkpoint, with the replay made of the facts; None without a checkpoint.

        Args:
          checkpoints: of the run.
          blank: the state before anything was lived; it is used up.

        Raises:
          CheckpointError: no checkpoint can be read, or the facts end before the newest one.
        """
        if not checkpoints.days:
            return None
        saved = checkpoints.restore(saved_state(blank))
        self.messages += saved.messages
        meters = Meters(**saved.counters)
        num_lived = self._num_lived
        num_needed = min(saved.day + 1, num_lived)  # the last nights have no day after them
        if num_needed > len(self.days):
            raise CheckpointError(
                f"the facts end after {len(self.days)} days, but the checkpoint of day {saved.day} goes on from "
                f"{num_needed}: restore the facts from a copy, or move {checkpoints.folder}/day-{saved.day:08d} away "
                "to go on from an earlier checkpoint"
            )
        state = _rebuild(blank, saved.tree, self.days, num_stored=min(saved.day, num_lived))
        return loops.Event(saved.day, state, None, {}, meters)

    def begin(self, first: int, state: loops.LoopState) -> loops.LoopState:
        """Makes ready to give the recorded days from number `first` on; returns the state to go on from.

        Args:
          first: of the days that are lived after `state`.
          state: as `last_event` gave it, or before anything was lived.
        """
        self._next = first
        if self._parts.host is None or first >= self._num_lived:  # nothing is lived any more
            return state
        if not self._parts.host.remember(self.days, first=first):
            self._break_off()
            if first == len(self.days) and self.days:  # the day that pends is the one just cut
                state = state.replace(pending=jax.tree.map(jnp.array, self.days[first - 1]))
        return state

    @property
    def _num_lived(self) -> int:
        """Days of the whole run."""
        config = self._parts.config
        return config.loop.real_transitions // (config.loop.steps_per_day * config.env.num_envs)

    def continues(self, day: int) -> bool:
        """Whether the day goes on from the one before it."""
        return self._continues[day] if day < len(self.days) else not (self._broken_off and day == len(self.days))

    def step(
        self, state: loops.LoopState, num_updates: int, *, store: bool, live_on: bool
    ) -> tuple[loops.LoopState, Metrics]:
        """One turn of the loop, as `Parts.step`; recorded days come first."""
        number = self._next
        if self._parts.host is not None or not live_on or number >= len(self.days):
            return self._parts.step(state, num_updates, store=store, live_on=live_on)
        self._next += 1
        again = self._same_life and self._continues[number]
        state, metrics = self._parts.step(state, num_updates, store=store, live_on=again)
        self._same_life = again and _identical(state.pending, self._as_lived(number))
        if not self._same_life and self._next == len(self.days):
            self.days.cut_last()
            self._break_off()
            life = len(self.days) * self._parts.config.loop.steps_per_day
            state = state.replace(session=self._parts.begin_at(recorded.episodes_begun(self.days), life))
        return state.replace(pending=jax.tree.map(jnp.asarray, self.days[number])), metrics

    def _break_off(self) -> None:
        self._broken_off = True
        self.messages.append(
            f"{self._parts.spec.id} could not be brought back to where it stood, so all copies began a new episode; "
            "the interrupted ones count as truncated"
        )


def _rebuild(state: loops.LoopState, saved: PyTree, days: Sequence[Transition], *, num_stored: int) -> loops.LoopState:
    """Returns the state of a checkpoint: its arrays, the replay made of the facts, and the last day pending."""
    replay = state.replay
    for number in range(num_stored):
        replay = _insert(replay, jax.tree.map(jnp.asarray, days[number]))
    return dataclasses.replace(
        state,
        learner=saved["learner"],
        replay=dataclasses.replace(replay, priority=saved["priority"]),
        session=saved["session"],
        deployed=saved["deployed"],
        pending=jax.tree.map(jnp.array, days[min(num_stored, len(days) - 1)]),
    )


def _identical(lived: Transition, stored: Transition) -> bool:
    """Whether two days are the same bit for bit."""
    pairs = zip(jax.tree.leaves(jax.device_get(lived)), jax.tree.leaves(stored), strict=True)
    return all(np.asarray(new).tobytes() == np.asarray(old).tobytes() for new, old in pairs)
