"""A life that was interrupted: days already on disk are remembered, and only then new ones are lived.

Letters: T decisions of a day, E environment copies.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dreamer.core.types import PyTree, Transition
from dreamer.wake.host_session import HostSession


class Days(Sequence[Transition]):
    """The days [T, E] of an interrupted run, each read when it is asked for, and cut where the next does not go on."""

    def __init__(self, read: Callable[[int], Transition], continues: Sequence[bool]):
        """Takes how a day is read by its number, and of each day whether it went on from the one before it."""
        self._read = read
        self._num_days = len(continues)
        self._cut = {day - 1 for day, goes_on in enumerate(continues) if day and not goes_on}

    def __len__(self) -> int:
        """Returns how many there are."""
        return self._num_days

    def __getitem__(self, day: int) -> Transition:
        """Returns one day, counted from the end if negative."""
        day = range(self._num_days)[day]
        return cut(self._read(day)) if day in self._cut else self._read(day)

    def cut_last(self) -> None:
        """Ends the last day, because what comes next will not go on from it."""
        self._cut.add(self._num_days - 1)


class HostDays:
    """The days of a host session, the recorded ones first."""

    def __init__(self, session: HostSession):
        """Takes a session; `begin` starts it."""
        self.session = session
        self._recorded: Iterator[Transition] = iter(())

    def begin(self) -> None:
        """Starts episode 0 of every copy, with nothing recorded."""
        self._recorded = iter(())
        self.session.begin()

    def live(self, params: PyTree, num_steps: int) -> Transition:
        """Returns the next recorded day, or lives `num_steps` decisions in every copy; [T, E] NumPy arrays."""
        recorded = next(self._recorded, None)
        return self.session.live(params, num_steps) if recorded is None else recorded

    def remember(self, days: Days, *, first: int) -> bool:
        """Brings the environments to the end of the recorded days by living their current episodes again.

        Args:
          days: [T, E] each, all of them since the first; where life does not go on from the last, it is cut there.
          first: number of the first day that `live` is to return.

        Returns:
          True if every copy stands where it stood. False if the environment cannot be replayed: then all copies that
          were in mid-episode have begun their next one.
        """
        if not days:
            return True
        flags = [(day.terminated | day.truncated, day.action) for day in days]  # days themselves may not all fit
        ended, action = (np.concatenate(parts) for parts in zip(*flags, strict=True))
        ticks = np.arange(1, len(ended) + 1)[:, None]
        began = np.max(np.where(ended, ticks, 0), axis=0)  # the tick at which each copy's current episode began
        state = self.session.state.replace(
            obs=np.asarray(days[-1].next_obs[-1]),
            episode=ended.sum(axis=0).astype(np.int32),
            step=(len(ended) - began).astype(np.int32),
            life=np.full(len(began), len(ended), np.int32),
        )
        faithful = self.session.restore(state, [action[start:, copy] for copy, start in enumerate(began)]).all()
        if not faithful:
            self.session.restart(state.step > 0)
            days.cut_last()
        self._recorded = (days[number] for number in range(first, len(days)))
        return bool(faithful)


def episodes_begun(days: Sequence[Transition]) -> np.ndarray:
    """Returns [E] int32, the number of each copy's episode at the end of the days [T, E]: how many ended before it."""
    return sum((day.terminated | day.truncated).sum(axis=0) for day in days).astype(np.int32)


def cut(day: Transition) -> Transition:
    """Returns the day with its last row [E] truncated wherever it did not end anyway."""
    truncated = np.array(day.truncated)
    truncated[-1] = ~np.asarray(day.terminated[-1])
    return day.replace(truncated=truncated)
