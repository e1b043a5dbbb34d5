"""Which of the rows held are dreamed of: uniformly, by priority, or more often where something happened.

Letters: N places for rows, B batch.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from dreamer.replay.frames import PLACEMENTS

_TINY = 1e-30  # for sums over no row, which nothing is drawn by


@dataclasses.dataclass(frozen=True)
class ReplayConfig:
    """How much is remembered, and what is remembered more often."""

    capacity: int = 100_000
    """Real transitions held at most, over all environment copies; the oldest leave first. The last state of an episode
    takes the room of one."""
    placement: str = "device"
    """Where frames lie: on the `device` that learns, or in the memory of its `host`, for more than an accelerator has
    room for: each update then waits for its rows, which are the same. Of one seed, on one device."""
    priority_exponent: float = 0.0
    """0 samples start rows uniformly, 1 in proportion to their priority."""
    importance_exponent: float = 0.0
    """0 leaves the bias of prioritised sampling in, 1 corrects it fully by the weight of each sequence."""
    importance_final: float | None = None
    """What `importance_exponent` has become at the run's last update, on a straight line; None leaves it as it is."""
    event_share: float = 0.0
    """Share of start rows drawn where an event, a reward other than 0 or a termination, lies within the unroll; all
    others are drawn from all rows. Of no use where every decision pays. What cannot be foreseen is expected too often
    by a model that events are shown to more often, unless `importance_exponent` is 1. 0 does not ask for events."""
    min_weight: float = 0.0
    """Importance weights, of which the batch's largest is 1, are raised to this at least."""

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise ValueError(f"replay.capacity is {self.capacity}: give 1 transition or more")
        if self.placement not in PLACEMENTS:
            raise ValueError(f"replay.placement is {self.placement!r}: give one of {', '.join(PLACEMENTS)}")
        if not (math.isfinite(self.priority_exponent) and self.priority_exponent >= 0):
            raise ValueError(f"replay.priority_exponent is {self.priority_exponent}: give 0 (uniform) or more")
        if not 0 <= self.importance_exponent <= 1:
            raise ValueError(f"replay.importance_exponent is {self.importance_exponent}: give 0 to 1")
        if self.importance_final is not None and not 0 <= self.importance_final <= 1:
            raise ValueError(f"replay.importance_final is {self.importance_final}: give 0 to 1, or None")
        if not 0 <= self.event_share < 1:
            raise ValueError(f"replay.event_share is {self.event_share}: give 0 (off) or more, and less than 1")
        if not 0 <= self.min_weight <= 1:
            raise ValueError(f"replay.min_weight is {self.min_weight}: give 0 (as they are) to 1 (all equal)")


def draw(
    config: ReplayConfig,
    priority: jax.Array,
    key: jax.Array,
    *,
    eventful: jax.Array | None,
    num_rows: jax.Array,
    batch_size: int,
    progress: float | jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Returns rank [B] and importance weight [B] of rows drawn with replacement as p(row) ~ priority ** exponent.

    "Prioritized experience replay", https://arxiv.org/abs/1511.05952, eq. 1 and section 3.4. Weights are raised to
    `config.min_weight` after the division by the largest, as in "EfficientZero V2" (https://arxiv.org/abs/2403.00564).
    With an `event_share` p is a mixture of that over all rows and that over eventful ones, the one event table of
    "Event tables for efficient experience replay" (https://arxiv.org/abs/2211.00576); where no row is, it is the first.

    Args:
      config: exponents and shares.
      priority: [N] positive for the first `num_rows`, which are held, and 0 for all others.
      eventful: [N] bool, rows that `event_share` of the draws are from; None without such a share.
      key: typed key, consumed.
      num_rows: [] int32 rows held; of none, rank 0 is drawn.
      batch_size: B.
      progress: [] share of all the run's updates that are done.

    Raises:
      ValueError: an `event_share` without `eventful`.
    """
    if config.event_share and eventful is None:
        raise ValueError(f"replay.event_share is {config.event_share}: give events, as `replay.eventful` tells them")
    num_rows = jnp.maximum(num_rows, 1)
    if config.priority_exponent == 0 and not config.event_share:
        return jax.random.randint(key, (batch_size,), 0, num_rows), jnp.ones(batch_size, jnp.float32)
    mass = jnp.where(priority > 0, priority**config.priority_exponent, 0)
    if config.event_share:
        of_events = jnp.where(eventful, mass, 0)
        all_of_them = jnp.sum(of_events)
        share = jnp.where(all_of_them > 0, config.event_share, 0)
        mass = (1 - share) * mass / jnp.maximum(jnp.sum(mass), _TINY) + share * of_events / jnp.maximum(
            all_of_them, _TINY
        )
    cumulative = jnp.cumsum(mass)
    target = jax.random.uniform(key, (batch_size,)) * cumulative[-1]
    # A parallel float32 sum is not quite monotone (measured at 100,000 rows): the clip keeps empty slots out of reach.
    rank = jnp.minimum(jnp.searchsorted(cumulative, target, side="right"), num_rows - 1)
    prob = mass[rank] / cumulative[-1]
    importance = config.importance_exponent
    if config.importance_final is not None:
        importance += progress * (config.importance_final - importance)
    weight = (num_rows * prob) ** -importance
    return rank, jnp.maximum(weight / jnp.max(weight), config.min_weight)
