"""Days and nights: live a little, store it, dream on it, deploy what was learned, live on."""

from dreamer.loop.days import CostOf, Event, LoopState, Step, days_and_nights
from dreamer.loop.night import Night, make_night
from dreamer.loop.rhythm import LoopConfig

__all__ = ["CostOf", "Event", "LoopConfig", "LoopState", "Night", "Step", "days_and_nights", "make_night"]
