"""What is run: sessions of a job folded into weights by self-distillation; rewards, transcripts and controls.

The jobs are JobWorld's codebooks, and in the task `lake` the maps of frozen lakes. In `sequence` five are lived one
after another, each of which contradicts those before in most of its keys; in `apart` no two of them ask the same
key, and in `one-block`, in the same world, all ask the same.
In `shared` one student has several at once.
"""

from collections.abc import Mapping
from typing import Any

from experiments.config import RunConfig
from experiments.fields import changed
from experiments.sessions.config import DistillationConfig
from experiments.sessions.pretraining_config import RECIPES

_BASE = DistillationConfig(num_jobs=8, run=RunConfig(wandb="disabled"))


def _arm(task: str, others: Mapping[str, Any] | None = None, **night) -> DistillationConfig:
    nights = {f"consolidation.{name}": value for name, value in night.items()}
    return changed(_BASE, {"name": task, **nights, **(others or {})})


# Half as long days, hence twice as many, with half of the updates each: as many updates a real transition.
_SHORT = {"num_nights": 12, "num_updates": 16}
_OWN = {"states": "session", "states_length": 0, **_SHORT}
REFERENCE = "session, student's states"
"""On-policy self-distillation as published: the arm that the others are held against."""
REWARDS = "policy gradient"
PAID, SOON = "policy gradient, each answer paid", "the same, for two decisions"

_JOBWORLD = _arm("consolidation", num_nights=6)
_REWARDS = _arm("consolidation", objective="reinforce", session_length=0, num_nights=32, num_updates=16)
_STEPS = {"update.learning_rate": 1e-3, "env.jobworld.feedback": "step"}
SHARING = {"a student a job": 1, **{f"one for {jobs} jobs": jobs for jobs in (2, 4, 8)}}
"""Arm of the task `shared` -> jobs that share a student, each with a day of its own before every night."""
DAYS = 24
PERIODS = {"a job a day": 1, **{f"{days} days a job": days for days in (2, 4, 8)}, "one job": None}
"""Arm of the task `period` -> days, each with a night, that a job lasts; None is all of them."""
_KEPT = {arm: PERIODS[arm] for arm in ("2 days a job", "one job")}
KEPT = "period-first"
"""The task of two of these periods in which the first agent teaches all along."""
LATE = 16
"""The last days of both, of which means are told: of every arm as many begin a job as its days a job say."""
_PLANNERS, _WRONG = (("search in a dream", "search"), ("session and search", "veteran")), ", dream all wrong"
_DREAMS = _arm("consolidation-dreams", num_nights=1, num_updates=64)
_LAKE = RECIPES["lake"]
_ON_LAKE = {
    "name": "consolidation-lake",
    "agent": _LAKE,
    "env": _LAKE.env.with_jobs(pool="distillation", job=0),
}

BY_FIRST = "the same, lived and taught by the first agent"
_FIRST = {
    "the same, taught by the first agent": {"teacher.weights": "first"},
    BY_FIRST: {"teacher.weights": "first", "consolidation.lived_by": "first"},
}

_ARMS = {
    REFERENCE: _JOBWORLD,
    **{arm: changed(_JOBWORLD, first) for arm, first in _FIRST.items()},
    "the same, anchored": changed(_JOBWORLD, {"distill.anchor_weight": 1.0}),
    "session, its own states": _arm("consolidation", **_OWN),
    "session, dreamed states": _arm("consolidation", states="dream", **_SHORT),
    "session, gated, with rewards": changed(
        _JOBWORLD, {"distill.state_weight": "trust", "distill.reinforce_weight": 1.0}
    ),
    REWARDS: changed(_REWARDS, {"update.learning_rate": 1e-3}),
    PAID: changed(_REWARDS, _STEPS),
    SOON: changed(_REWARDS, _STEPS | {"consolidation.credit_window": 1}),
    "cloned session": _arm("consolidation", objective="clone", **_OWN),
    "cloned successes": _arm("consolidation", objective="clone_successes", **_OWN),
    **{
        f"{name}{told}": changed(_JOBWORLD, {"teacher.kind": kind, "dream_error": error})
        for name, kind in _PLANNERS
        for told, error in (("", 0.0), (_WRONG, 1.0))
    },
    "another job's session": changed(_JOBWORLD, {"teacher.kind": "other_job"}),
    "no teacher, sharpened": _arm("consolidation", {"teacher.kind": "sharpened"}, session_length=0, num_nights=12),
}

_SEQUENCE = {
    arm: changed(config, {"sequence": 5})
    for arm, config in {
        REFERENCE: changed(_JOBWORLD, {"consolidation.num_nights": 4}),
        "the same, anchored": changed(_JOBWORLD, {"consolidation.num_nights": 4, "distill.anchor_weight": 1.0}),
        **{arm: changed(_JOBWORLD, {"consolidation.num_nights": 4} | first) for arm, first in _FIRST.items()},
        **{
            f"the same, {said}": changed(_JOBWORLD, {"consolidation.num_nights": 4, "teacher.weights": weights})
            for said, weights in (
                ("taught by a moving average", "ema"),
                ("the teacher is the student", "current"),
            )
        },
        "session, its own states": _arm("", **_OWN | {"num_nights": 8}),
        "cloned successes": _arm("", objective="clone_successes", **_OWN | {"num_nights": 8}),
        REWARDS: changed(_REWARDS, {"update.learning_rate": 1e-3, "consolidation.num_nights": 20}),
    }.items()
}
"""Five jobs one after another."""
_WHO_FORGETS = (
    REFERENCE,
    "the same, anchored",
    BY_FIRST,
    "session, its own states",
    "cloned successes",
    REWARDS,
)
_REHEARSE = {"distill.rehearsal_weight": 1.0}
_REHEARSING = {
    "the same, rehearsing": changed(_SEQUENCE[REFERENCE], _REHEARSE),
    **{f"{arm}, rehearsing": changed(_SEQUENCE[arm], _REHEARSE) for arm in (BY_FIRST, "cloned successes", REWARDS)},
    f"{BY_FIRST}, rehearsing, anchored": changed(_SEQUENCE[BY_FIRST], _REHEARSE | {"distill.anchor_weight": 1.0}),
}
"""Held to what was played in each job before as it ended, all jobs counting the same."""
BLOCKS = 5
_BLOCKS = {
    f"{of}jobworld.{name}": value
    for of in ("env.", "agent.env.")
    for name, value in (("num_keys", 4 * BLOCKS), ("blocks", BLOCKS))
}
"""Jobs that each ask four of twenty keys, by their numbers in turn."""
_BY_OVERLAP = {arm: _SEQUENCE[arm] for arm in _WHO_FORGETS} | _REHEARSING
# What the others are held against: an arm of each way to learn, of which those that sessions teach rehearse, too.
_ONE_BLOCK = (REFERENCE, BY_FIRST, "cloned successes", REWARDS, "the same, rehearsing", f"{BY_FIRST}, rehearsing")
OVERLAP = {"apart": (8, tuple(_BY_OVERLAP)), "one-block": (5, _ONE_BLOCK)}
"""Task -> students, by which the five jobs of each are apart, or all of one block: they are as many numbers apart; and
its arms."""

ARMS: dict[str, dict[str, DistillationConfig]] = {
    "jobworld": _ARMS,
    "lake": {
        arm: changed(_ARMS[arm], _ON_LAKE)
        for arm in (
            REFERENCE,
            *_FIRST,
            "session, its own states",
            REWARDS,
            "cloned session",
            "cloned successes",
            "another job's session",
            "no teacher, sharpened",
        )
    },
    "sequence": {arm: changed(config, {"name": "consolidation-sequence"}) for arm, config in _SEQUENCE.items()},
    **{
        task: {
            arm: changed(_BY_OVERLAP[arm], {"name": f"consolidation-{task}", "num_jobs": num_jobs} | _BLOCKS)
            for arm in own
        }
        for task, (num_jobs, own) in OVERLAP.items()
    },
    **{
        task: {
            arm: _arm(
                f"consolidation-{task}",
                {"sequence": DAYS // (days or DAYS), "distill.anchor_weight": 1.0, "teacher.weights": weights},
                num_nights=days or DAYS,
            )
            for arm, days in own.items()
        }
        for task, weights, own in (("period", "frozen", PERIODS), (KEPT, "first", _KEPT))
    },
    "shared": {
        arm: changed(_JOBWORLD, {"name": "consolidation-shared", "shared_by": jobs}) for arm, jobs in SHARING.items()
    },
    "short-sessions": {
        f"session of {n}": changed(_JOBWORLD, {"consolidation.session_length": n, "consolidation.num_nights": 8})
        for n in (8, 16)
    },
    "operators": {
        arm: changed(_JOBWORLD, {"name": "consolidation-operators"} | change)
        for arm, change in {
            REFERENCE: {},
            "Jensen-Shannon": {"distill.beta": 0.5},
            "reverse KL": {"distill.beta": 1.0},
            "clipped at 0.05 nats": {"distill.clip": 0.05},
            "weighed by trust": {"distill.state_weight": "trust"},
            "weighed by perplexity": {"distill.state_weight": "perplexity"},
            "taught by a mixture": {"teacher.weights": "interpolated"},
            "taught by a moving average": {"teacher.weights": "ema"},
        }.items()
    },
    "dreams": {
        "64 of the session": changed(_DREAMS, {"consolidation.states": "session", "consolidation.states_length": 0}),
        **{f"{n} real": changed(_DREAMS, {"consolidation.states_length": n}) for n in (16, 64, 256)},
        **{
            f"{n} dreamed": changed(_DREAMS, {"consolidation.states": "dream", "consolidation.states_length": n})
            for n in (16, 64, 256, 1024)
        },
        **{
            f"{n} dreamed, {error:.0%} wrong": changed(
                _DREAMS, {"consolidation.states": "dream", "consolidation.states_length": n, "dream_error": error}
            )
            for n in (16, 64, 256)
            for error in (0.3, 1.0)
        },
    },
}
"""Task -> arm -> config; `experiments.sweep` runs each over seeds into `results/<task>.csv`."""
PANELS = {
    "jobworld": (
        (REFERENCE, "session, its own states", "session, dreamed states", "session, gated, with rewards", REWARDS),
        (REFERENCE, "cloned session", "cloned successes", "another job's session", "no teacher, sharpened"),
        (REFERENCE, *(f"{name}{told}" for told in ("", _WRONG) for name, _ in _PLANNERS)),
        (REFERENCE, *_FIRST),
        (REFERENCE, REWARDS, PAID, SOON),
    ),
    "lake": (
        (REFERENCE, "session, its own states", REWARDS),
        (REFERENCE, "cloned session", "cloned successes", "another job's session", "no teacher, sharpened"),
        (REFERENCE, *_FIRST),
    ),
    "apart": (_WHO_FORGETS,),
    "sequence": (
        (REFERENCE, "the same, anchored", "session, its own states", "cloned successes"),
        (
            REFERENCE,
            BY_FIRST,
            "the same, taught by the first agent",
            "the same, taught by a moving average",
            "the same, the teacher is the student",
        ),
    ),
}
"""Task -> arms of each panel of its figure of curves."""
EARLIER = (
    (REFERENCE, "the same, rehearsing", BY_FIRST, f"{BY_FIRST}, rehearsing", f"{BY_FIRST}, rehearsing, anchored"),
    ("cloned successes", "cloned successes, rehearsing", REWARDS, f"{REWARDS}, rehearsing"),
)
"""Arms of each figure of what is kept of the jobs before, in the tasks of `OVERLAP`."""
