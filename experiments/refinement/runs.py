"""What is run: students whose trajectories are refined before they learn from them (TRD).

After a student's mistake its teacher may fail for one of three reasons, each brought about here. *Dead ends*: a wrong
answer is fatal to the episode with a probability that is 0, a half or 1; the agent of each seed was pre-trained once,
where it is a half. *States that it never saw*: nothing is fatal, but the agent was pre-trained in the states of the
reader that it imitates, who guesses, but makes no mistake that its session had told of. *Mistakes taken for facts*:
nothing is fatal, but the teacher goes on reading what its student does, which tells it more of the job as well.

Arms are T0 to T6 of `dreamer.sleep.refine`; where dead ends are surest those that dream also under a codebook of which
half or all is drawn at random; and the session's own states, which no student has to come to.
"""

from collections.abc import Mapping
from typing import Any

from experiments.config import RunConfig
from experiments.fields import changed
from experiments.sessions.config import DistillationConfig

DEADLY = {"dead-ends-0": 0.0, "dead-ends-50": 0.5, "dead-ends-100": 1.0}
"""Task -> probability that a wrong answer makes success impossible in its episode."""
IMITATED = "imitated"
"""The task of agents that were pre-trained in a reader's states."""
READING_ON = "reading-on"
"""The task of a teacher that goes on reading."""
REFERENCE = "raw"
"""The arm that the others are held against, and by whose nights the failure itself is measured."""
FRESH = "the teacher's, fresh"
"""The arm that has better data, and none of the student's."""
READS_ON = "raw, read on"
"""The same, labelled by a teacher that goes on reading; measured as well."""
NIGHTS = 3
REAL = (128, 384)
"""Real transitions at which arms are compared: after the first night with states of a student, or two half as long,
and after all."""
_BASE = changed(
    DistillationConfig(num_jobs=8, run=RunConfig(wandb="disabled")),
    {
        "env.jobworld.error": "dead_end",
        "agent.env.jobworld.error": "dead_end",
        "agent.env.jobworld.dead_end_prob": 0.5,
        "consolidation.num_nights": NIGHTS,
    },
)
_HALVED = {  # half as much is lived for each night, so there are twice as many, with half of the updates each
    "consolidation.num_nights": 2 * NIGHTS,
    "consolidation.num_updates": _BASE.consolidation.num_updates // 2,
}
_SHORT = {"consolidation.session_length": 32, "consolidation.states_length": 32}  # for one slot must hold both
_MEASURED = {"recovery_episodes": 512}
_CHANGES = {
    REFERENCE: _MEASURED,
    "cut at the first harm": {"refine.arm": "truncate"},
    "failures dropped": {"refine.arm": "drop_failures"},
    "rewritten": {"refine.arm": "rewrite"},
    "recovered": {"refine.arm": "recover"},
    FRESH: {"refine.arm": "fresh"},
    "rewritten and recovered": {"refine.arm": "both"},
    "the session's own states": {"consolidation.states": "session", "consolidation.states_length": 0} | _HALVED,
}
_DREAMING = ("rewritten", "recovered", FRESH, "rewritten and recovered")
_WRONG = {"half of the dream at random": 0.5, "dream at random": 1.0}
_RANDOM = {
    f"{arm}, {said}": _CHANGES[arm] | {"dream_error": error} for said, error in _WRONG.items() for arm in _DREAMING
}
_IMITATING = (REFERENCE, "cut at the first harm", *_DREAMING[:3], "the session's own states")
_READING = {REFERENCE: _MEASURED | _SHORT | _HALVED}
_READING[READS_ON] = _READING[REFERENCE] | {"teacher.reads_on": True}


def _arms(
    task: str, changes: Mapping[str, Mapping[str, Any]], *, deadly: float, lived_by: str = "agent"
) -> dict[str, DistillationConfig]:
    """Returns arm -> config of a task, from what each arm changes."""
    same = {"name": f"refinement-{task}", "env.jobworld.dead_end_prob": deadly, "agent.lived_by": lived_by}
    return {arm: changed(_BASE, {**same, **own}) for arm, own in changes.items()}


ARMS: dict[str, dict[str, DistillationConfig]] = {
    **{
        task: _arms(task, _CHANGES | (_RANDOM if deadly == 1 else {}), deadly=deadly) for task, deadly in DEADLY.items()
    },
    IMITATED: _arms(IMITATED, {arm: _CHANGES[arm] for arm in _IMITATING}, deadly=0.0, lived_by="reader"),
    READING_ON: _arms(READING_ON, _READING, deadly=0.0),
}
"""Task -> arm -> config; `experiments.sweep` runs each over seeds into `results/<task>.csv`."""
