"""A life that was interrupted: days already on disk are remembered, and only then new ones are lived.

Letters: T decisions of a day, E environment copies.
"""

from collections import deque
from collections.abc import Sequence

import numpy as np

from dreamer.core.types import PyTree, Transition
from dreamer.wake.session import HostSession


class HostDays:
    """The days of a host session, the recorded ones first."""

    def __init__(self, session: HostSession):
        """Takes a session; `begin` starts it."""
        self.session = session
        self._recorded: deque[Transition] = deque()

    def begin(self) -> None:
        """Starts episode 0 of every copy, with nothing recorded."""
        self._recorded.clear()
        self.session.begin()

    def live(self, params: PyTree, num_steps: int) -> Transition:
        """Returns the next recorded day, or lives `num_steps` decisions in every copy; [T, E] NumPy arrays."""
        if self._recorded:
            return self._recorded.popleft()
        return self.session.live(params, num_steps)

    def remember(self, days: Sequence[Transition], *, first: int) -> bool:
        """Brings the environments to the end of the recorded days by living their current episodes again.

        Args:
          days: [T, E] each, all of them since the first.
          first: number of the first day that `live` is to return.

        Returns:
          True if every copy stands where it stood. False if the environment cannot be replayed: then all copies that
          were in mid-episode have begun their next one, and `live` returns the last recorded day truncated there,
          because its sequences end.
        """
        days = list(days)
        if not days:
            return True
        ended = _joined(days, "terminated") | _joined(days, "truncated")
        ticks = np.arange(1, len(ended) + 1)[:, None]
        began = np.max(np.where(ended, ticks, 0), axis=0)  # the tick at which each copy's current episode began
        state = self.session.state.replace(
            obs=np.asarray(days[-1].next_obs[-1]),
            episode=episodes_begun(days),
            step=(len(ended) - began).astype(np.int32),
        )
        action = _joined(days, "action")
        faithful = self.session.restore(state, [action[start:, copy] for copy, start in enumerate(began)]).all()
        if not faithful:
            self.session.restart(state.step > 0)
            days[-1] = cut(days[-1])
        self._recorded = deque(days[first:])
        return bool(faithful)


def episodes_begun(days: Sequence[Transition]) -> np.ndarray:
    """Returns [E] int32, the number of each copy's episode at the end of the days [T, E]: how many ended before it."""
    ended = _joined(days, "terminated") | _joined(days, "truncated")
    return ended.sum(axis=0).astype(np.int32)


def cut(day: Transition) -> Transition:
    """Returns the day with its last row [E] truncated wherever it did not end anyway."""
    truncated = np.array(day.truncated)
    truncated[-1] = ~np.asarray(day.terminated[-1])
    return day.replace(truncated=truncated)


def _joined(days: Sequence[Transition], name: str) -> np.ndarray:
    """Returns one field of all days, [T * days, E]."""
    return np.concatenate([getattr(day, name) for day in days])
