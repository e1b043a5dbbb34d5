"""A host life that was interrupted: days already on disk are remembered, and only then new ones are lived.

Letters: T decisions of a day, E environment copies.
"""

from collections import deque
from collections.abc import Sequence

import jax
import numpy as np

from dreamer.core.types import PyTree, Transition
from dreamer.wake.session import HostSession


class HostDays:
    """The days of a host session, the recorded ones first."""

    def __init__(self, session: HostSession):
        """Takes a session that has begun."""
        self.session = session
        self._recorded: deque[Transition] = deque()

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
          True if every copy stands where it stood. False if the environment cannot be replayed: then all copies have
          begun their next episode, and the last recorded day is marked truncated, because its sequences end there.
        """
        days = list(days)
        if not days:
            return True
        rows = jax.tree.map(lambda *leaves: np.concatenate(leaves), *days)
        ended = rows.terminated | rows.truncated
        episode = ended.sum(axis=0).astype(np.int32)
        ticks = np.arange(1, len(ended) + 1)[:, None]
        began = np.max(np.where(ended, ticks, 0), axis=0)  # the tick at which each copy's current episode began
        state = self.session.state.replace(
            obs=rows.next_obs[-1], episode=episode, step=(len(ended) - began).astype(np.int32)
        )
        actions = [rows.action[start:, copy] for copy, start in enumerate(began)]
        faithful = bool(self.session.restore(state, actions).all())
        if not faithful:
            self.session.restart(np.ones(len(episode), bool))
            days[-1] = cut(days[-1])
        self._recorded = deque(days[first:])
        return faithful


def cut(day: Transition) -> Transition:
    """Returns the day with its last row [E] truncated wherever it did not end anyway."""
    truncated = np.array(day.truncated)
    truncated[-1] = ~np.asarray(day.terminated[-1])
    return day.replace(truncated=truncated)
