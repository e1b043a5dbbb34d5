"""How long days are, how much is dreamed of them, and what that comes to. All of it exact integers."""

import dataclasses

import jax
import jax.numpy as jnp

ACTORS = ("planner", "student")


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """The rhythm of days and nights."""

    real_transitions: int = 3000
    """Real transitions to live, in agent decisions over all copies."""
    steps_per_day: int = 10
    """T, decisions of each environment copy between two nights."""
    dream_ratio: int = 128
    """Rows trained on for each real transition; a row is one sampled sequence with its K dreamed steps, or one imagined
    rollout. Fewer where `gate.look_every` stops nights early."""
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
    epsilon: float = 0.0
    """Share of its decisions that is left to chance: drawn from all allowed actions instead."""
    spell: int = 1
    """Decisions in a row that such an action is held for, over the ends of episodes too: where a single one leads
    nowhere."""

    def __post_init__(self) -> None:
        for name in ("real_transitions", "steps_per_day", "batch_size", "final_night"):
            if getattr(self, name) < 1:
                raise ValueError(f"loop.{name} is {getattr(self, name)}: give 1 or more")
        for name in ("dream_ratio", "learn_after", "final_updates"):
            if getattr(self, name) < 0:
                raise ValueError(f"loop.{name} is {getattr(self, name)}: give 0 or more")
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"loop.epsilon is {self.epsilon}: give a share in [0, 1], 0 for the actor alone")
        if self.spell < 1 or (self.spell > 1 and not self.epsilon):
            raise ValueError(
                f"loop.spell is {self.spell} at loop.epsilon {self.epsilon}: give 1 decision or more, and 1 where "
                "nothing is left to chance"
            )
        if self.actor not in ACTORS:
            raise ValueError(f"loop.actor is {self.actor!r}: give one of {', '.join(ACTORS)}")

    def updates_due(self, real: int) -> int:
        """Returns the updates that `real` transitions entitle to: floor(real * dream_ratio / batch_size)."""
        return 0 if real < self.learn_after else real * self.dream_ratio // self.batch_size

    @property
    def num_updates(self) -> int:
        """Updates of the whole run, at most."""
        return self.updates_due(self.real_transitions) + self.final_updates

    def finished(self, real: int, updates: int) -> bool:
        """Whether a run that has learned from `real` transitions in `updates` updates is at its end.

        Only final updates come after the last day: what nights that stopped early left of the others is not made up.
        """
        return real >= self.real_transitions and (updates >= self.num_updates or not self.final_updates)

    def progress(self, updates: jax.Array) -> jax.Array:
        """Returns the share in [0, 1] of the updates that go along with living; the final ones are all at 1."""
        return jnp.minimum(1.0, updates / max(1, self.updates_due(self.real_transitions)))
