"""Days and nights: live a little, store it, dream on it, deploy what was learned, live on."""

from dreamer.loop.consolidation import ConsolidationConfig, Learner, Lived, make_day_and_night
from dreamer.loop.days import CostOf, Event, LoopState, Step, days_and_nights
from dreamer.loop.deployment import JUDGED, Deployment, Judge, first_deployment, in_force, make_judge
from dreamer.loop.night import NIGHT_UPDATES, Night, make_night
from dreamer.loop.planning import PlanConfig
from dreamer.loop.refinement import Dream, DreamedWorld, Policy, go_on, rows_of
from dreamer.loop.rehearsal import nothing_rehearsed
from dreamer.loop.rhythm import LoopConfig

__all__ = [
    "JUDGED",
    "NIGHT_UPDATES",
    "ConsolidationConfig",
    "CostOf",
    "Deployment",
    "Dream",
    "DreamedWorld",
    "Event",
    "Judge",
    "Learner",
    "Lived",
    "LoopConfig",
    "LoopState",
    "Night",
    "PlanConfig",
    "Policy",
    "Step",
    "days_and_nights",
    "first_deployment",
    "go_on",
    "in_force",
    "make_day_and_night",
    "make_judge",
    "make_night",
    "nothing_rehearsed",
    "rows_of",
]
