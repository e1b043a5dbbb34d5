"""What is run: students in a world of dead ends, whose trajectories are refined before they learn from them (TRD).

A wrong answer is fatal to the episode with a probability that is 0, a half or 1; the agent of each seed was pre-trained
once, where it is a half. Arms are T0 to T6 of `dreamer.sleep.refine`; where dead ends are surest those that dream also
under a codebook drawn at random; and the session's own states, which no student has to come to.
"""

from experiments.config import RunConfig, changed
from experiments.sessions.config import DistillationConfig

DEADLY = {"dead-ends-0": 0.0, "dead-ends-50": 0.5, "dead-ends-100": 1.0}
"""Task -> probability that a wrong answer makes success impossible in its episode."""
REFERENCE = "raw"
"""The arm that the others are held against, and by whose first night the failure itself is measured."""
NIGHTS = 3
REAL = (128, 384)
"""Real transitions at which arms are compared: after the first night with states of a student, and after all."""
_BASE = changed(
    DistillationConfig(num_jobs=8, run=RunConfig(wandb="disabled")),
    {
        "env.jobworld.error": "dead_end",
        "agent.env.jobworld.error": "dead_end",
        "agent.env.jobworld.dead_end_prob": 0.5,
        "consolidation.num_nights": NIGHTS,
    },
)
_OWN = {  # half as much is lived for each night, so there are twice as many, with half of the updates each
    "consolidation.states": "session",
    "consolidation.states_length": 0,
    "consolidation.num_nights": 2 * NIGHTS,
    "consolidation.num_updates": _BASE.consolidation.num_updates // 2,
}
_CHANGES = {
    REFERENCE: {"recovery_episodes": 256},
    "cut at the first harm": {"refine.arm": "truncate"},
    "failures dropped": {"refine.arm": "drop_failures"},
    "rewritten": {"refine.arm": "rewrite"},
    "recovered": {"refine.arm": "recover"},
    "the teacher's, fresh": {"refine.arm": "fresh"},
    "rewritten and recovered": {"refine.arm": "both"},
    "the session's own states": _OWN,
}
_DREAMING = ("rewritten", "recovered", "the teacher's, fresh", "rewritten and recovered")
_RANDOM = {f"{arm}, dream at random": _CHANGES[arm] | {"dream_error": 1.0} for arm in _DREAMING}

ARMS: dict[str, dict[str, DistillationConfig]] = {
    task: {
        arm: changed(_BASE, {"name": f"refinement-{task}", "env.jobworld.dead_end_prob": deadly, **changes})
        for arm, changes in (_CHANGES | (_RANDOM if deadly == 1 else {})).items()
    }
    for task, deadly in DEADLY.items()
}
"""Task -> arm -> config; `experiments.sweep` runs each over seeds into `results/<task>.csv`."""
