"""What a config of distillation must not be: settings that do not go together, or have no effect."""

from typing import Any

from dreamer.loop import PlanConfig
from dreamer.sleep.carriers import MEMORIES, UNLEARNED
from dreamer.sleep.distill import DistillConfig
from dreamer.sleep.refine import DREAMED
from dreamer.sleep.teachers import PLANNERS, STILL, TEACHER_KINDS, TeacherConfig
from dreamer.wake.envs.jobs import pool_jobs
from experiments.fields import differences
from experiments.sessions.pretraining_config import check
from experiments.sessions.worlds import allow, check_self_conditioning, check_taught

HORIZONS = (2, 4, 8, 16)
"""How many times as long a chain may be asked than the one that was learned in."""


def check_distillation(config: Any) -> None:
    """Refuses settings of a `DistillationConfig` that do not go together, or mean nothing.

    Raises:
      ValueError: names the setting, and what to give instead.
    """
    check(config, ("num_jobs", "sequence", "episodes", "shared_by"))
    if config.num_jobs % config.shared_by:
        raise ValueError(
            f"shared_by is {config.shared_by}, which does not divide num_jobs {config.num_jobs}: give a num_jobs that "
            "is a multiple of it"
        )
    if not -1 <= config.min_context_gain <= 1:
        raise ValueError(f"min_context_gain is {config.min_context_gain}: give a difference of shares, from -1 to 1")
    world, pool = config.env.job_world, len(pool_jobs(config.env.job_world))
    wanted, suite = config.num_jobs * config.sequence, config.env.suite
    asked = f"env.{suite}.job is {world.job}, num_jobs {config.num_jobs} and sequence {config.sequence}"
    if world.job is None or world.job + wanted > pool:
        raise ValueError(
            f"{asked}: give the number of the first job, with all of them among the {pool} of the pool {world.pool!r}"
        )
    if world.pool == "pretraining":
        raise ValueError(f"env.{suite}.pool is 'pretraining', which the agent knows: give 'distillation' or 'test'")
    if config.env.jobworld.period:
        said = f"env.jobworld.period is {world.period}"
        raise ValueError(f"{said}, but what is folded into weights must stay: give 0")
    check_taught(config)
    if (config.teacher.kind == "other_job" or world.pool == "test") and world.job + 2 * wanted > pool:
        raise ValueError(
            f"{asked}, after which the pool {world.pool!r} of {pool} has not as many other jobs: take fewer"
        )
    if config.consolidation.session_length > config.agent.slot.num_slots:
        raise ValueError(
            f"consolidation.session_length is {config.consolidation.session_length}, but the agent's slot has room "
            f"for {config.agent.slot.num_slots}: live shorter sessions, or pre-train with more slots"
        )
    if not 0 <= config.dream_error <= 1:
        raise ValueError(f"dream_error is {config.dream_error}: give a share from 0 to 1")
    dreams = config.consolidation.states == "dream" or config.refine.dreams or config.teacher.plans
    if config.dream_error and not dreams:
        raise ValueError(
            f"dream_error is {config.dream_error}, but consolidation.states {config.consolidation.states!r}, "
            f"refine.arm {config.refine.arm!r} and teacher.kind {config.teacher.kind!r}, so nothing is dreamed: give "
            f"0, states 'dream', refine.arm {' or '.join(DREAMED)}, or teacher.kind {' or '.join(PLANNERS)}"
        )
    _check_horizons(config)
    check_self_conditioning(config)
    _check_plan(config)
    _check_objective(config)
    _check_rehearsal(config)
    _check_reading_on(config)
    _check_refine(config)
    _check_carrier(config)


def _check_horizons(config: Any) -> None:
    """Refuses lengths that nobody asks, too few episodes to tell of many at once, and a drift that nobody sees."""
    if unknown := set(config.horizons) - set(HORIZONS):
        raise ValueError(f"horizons has {sorted(unknown)}: give some of {', '.join(map(str, HORIZONS))}")
    if config.horizons and config.episodes < max(config.horizons):
        raise ValueError(
            f"episodes is {config.episodes}, but horizons asks how likely {max(config.horizons)} all succeed: give as "
            "many or more"
        )
    changes = round(config.drift * config.env.jobworld.num_keys)
    if config.drift and not (config.horizons and 0 < changes <= config.env.jobworld.num_keys):
        raise ValueError(f"drift is {config.drift}: give 0, or with horizons a share of one key or more, at most 1")


def _check_plan(config: Any) -> None:
    """Refuses plans that nobody makes, and worlds in which a plan would not be what it says."""
    world, kind = config.env.jobworld, config.teacher.kind
    if not config.teacher.plans:
        for name, value in differences(PlanConfig(), config.plan, "plan.").items():
            raise ValueError(
                f"{name} is {value}, but teacher.kind is {kind!r}, who does not plan: leave it out, or give "
                f"{' or '.join(PLANNERS)}"
            )
        return
    for name, value, wanted, why in (
        ("env.jobworld.aliased", world.aliased, 0.0, "takes what is hidden for known"),
        ("env.max_steps", config.env.max_steps, None, "goes by the world's own deadline"),
    ):
        if value != wanted:
            raise ValueError(f"{name} is {value}, but teacher.kind is {kind!r}, and who plans {why}: give {wanted}")
    try:
        config.plan.search.considered(world.num_actions)
    except ValueError as error:
        raise ValueError(f"plan.{error}") from error


def _check_objective(config: Any) -> None:
    """Refuses settings that the objective does not look at."""
    night = config.consolidation
    if night.credit_window and night.objective != "reinforce" and not config.distill.reinforce_weight:
        raise ValueError(
            f"consolidation.credit_window is {night.credit_window}, but no rewards are learned from: give 0, or "
            "objective 'reinforce', or a distill.reinforce_weight"
        )
    if night.objective == "distil":
        asks = config.teacher.kind != "sharpened" or night.states != "student"
        if asks != (night.session_length > 0):
            raise ValueError(
                f"consolidation.session_length is {night.session_length} where teacher.kind is "
                f"{config.teacher.kind!r}: give {'1 or more' if asks else '0, for nobody reads the session'}"
            )
        if config.distill.reinforce_weight and night.states != "student":
            raise ValueError(
                f"distill.reinforce_weight is {config.distill.reinforce_weight} and consolidation.states "
                f"{night.states!r}, but rewards speak for what the student really did: give 0, or states 'student'"
            )
        if config.distill.reinforce_weight and night.late_rewards >= night.states_length:
            raise ValueError(
                f"consolidation.late_rewards is {night.late_rewards} with a distill.reinforce_weight, but the student "
                f"lives {night.states_length} decisions on end, and nothing that it does would ever be paid: give fewer"
            )
        return
    held = ("anchor_weight", "rehearsal_weight")
    holding = DistillConfig(**{name: getattr(config.distill, name) for name in held})
    for name, changed in (("teacher", config.teacher != TeacherConfig()), ("distill", config.distill != holding)):
        if changed:
            raise ValueError(
                f"consolidation.objective is {night.objective!r}, which asks no teacher, but settings of {name} "
                f"are changed: leave them out (but distill.{' and '.join(held)}), or give objective 'distil'"
            )


def _check_rehearsal(config: Any) -> None:
    """Refuses to rehearse where nothing was learned before, or what was is kept in the states of another job."""
    weight, night = config.distill.rehearsal_weight, config.consolidation
    if weight and config.sequence == 1:
        raise ValueError(
            f"distill.rehearsal_weight is {weight}, but sequence is 1, and nothing was learned in a job before: give "
            "0, or a sequence of 2 jobs or more"
        )
    if weight and night.states != "student":
        allow(
            f"distill.rehearsal_weight is {weight}, and what is kept of a job is its session",
            ("teacher.kind", config.teacher.kind, [kind for kind in TEACHER_KINDS if kind != "other_job"]),
        )


def _check_reading_on(config: Any) -> None:
    """Refuses a teacher that goes on reading where there is nothing of the student to read, or no room for it."""
    night, room = config.consolidation, config.agent.slot.num_slots
    if not config.teacher.reads_on:
        return
    allow(
        "teacher.reads_on is set, which reads a session and then what the student lived",
        ("consolidation.states", night.states, ("student",)),
        ("refine.arm", config.refine.arm, ("raw",)),
        ("nap.places", config.nap.places, (0,)),
    )
    for length, what in (
        (night.states_length, f"states_length {night.states_length}"),
        (config.env.jobworld.deadline if config.recovery_episodes else 0, "an episode to recover from"),
    ):
        if night.session_length + length > room:
            raise ValueError(
                f"teacher.reads_on is set, and consolidation.session_length {night.session_length} with {what} is more "
                f"than the agent's slot has room for, {room}: live less, or pre-train with more slots"
            )


def _check_refine(config: Any) -> None:
    """Refuses refined trajectories where they would not be what a paper says, or nobody could judge them; and
    failures that no teacher could take over."""
    night, world = config.consolidation, config.env.jobworld
    reads = night.session_length > 0 and config.teacher.kind == "session" and not world.aliased
    if config.recovery_episodes < 0 or (config.recovery_episodes and not reads):
        raise ValueError(
            f"recovery_episodes is {config.recovery_episodes}: give 0 (not measured), or more where a teacher has "
            "read a session of the job (teacher.kind 'session') and no key is aliased"
        )
    if config.recovery_episodes:
        allow(
            f"recovery_episodes is {config.recovery_episodes}, and what is measured is a teacher that stands still and "
            "labels with the session itself",
            ("teacher.weights", config.teacher.weights, STILL),
            ("nap.places", config.nap.places, (0,)),
            ("consolidation.objective", night.objective, ("distil",)),
            ("env.jobworld.feedback", world.feedback, ("end",)),
        )
    asks = config.horizons or config.recovery_episodes
    if (asks or config.refine.arm != "raw") and config.env.max_steps is not None:
        raise ValueError(
            f"env.max_steps is {config.env.max_steps}, but horizons, recovery_episodes and refine.arm go by the "
            "world's own deadline: give None"
        )
    if config.refine.arm == "raw":
        return
    allow(
        f"refine.arm is {config.refine.arm!r}, which refines states that the student came to, for a teacher with the "
        "session",
        ("env.jobworld.feedback", world.feedback, ("end",)),
        ("consolidation.late_rewards", night.late_rewards, (0,)),
        ("consolidation.objective", night.objective, ("distil",)),
        ("consolidation.states", night.states, ("student",)),
        ("teacher.kind", config.teacher.kind, ("session",)),
        ("distill.state_weight", config.distill.state_weight, ("uniform",)),
        ("distill.reinforce_weight", config.distill.reinforce_weight, (0.0,)),
        ("env.jobworld.aliased", world.aliased, (0.0,)),
    )


def _check_carrier(config: Any) -> None:
    """Refuses more than there is to carry, and memories that would have to carry on."""
    kind, size, night = config.carrier.kind, config.carrier.size, config.consolidation
    places = min(night.session_length, config.agent.slot.num_places)
    if config.coded and kind in UNLEARNED:
        raise ValueError(f"coded is set, but nothing of a {kind} is learned: leave it out, or give another carrier")
    if config.coded:
        allow("coded is set, which tells a student of one job", ("shared_by", config.shared_by, (1,)))
    said = f"carrier.kind is {kind!r} and size {size}"
    if kind == "lora" and size > config.agent.slot.width:
        raise ValueError(f"{said}, above the width {config.agent.slot.width} of the agent: give that rank or less")
    if config.nap.places:
        allow(
            f"nap.places is {config.nap.places}, whose cartridge is made of a session, and teaches weights",
            ("nap.places", config.nap.places, range(1, places + 1)),
            ("carrier.kind", kind, ("weights", "lora")),
            ("teacher.kind", config.teacher.kind, ("session", "other_job")),
            ("teacher.weights", config.teacher.weights, ("frozen",)),
            ("consolidation.objective", night.objective, ("distil",)),
            ("refine.arm", config.refine.arm, ("raw",)),
        )
    if kind not in MEMORIES:
        return
    allow(
        f"{said}, a memory of one session beside weights that stay",
        ("teacher.kind", config.teacher.kind, ("session",)),
        ("consolidation.num_nights", night.num_nights, (1,)),
        ("sequence", config.sequence, (1,)),
        ("shared_by", config.shared_by, (1,)),
        ("consolidation.objective", night.objective, ("distil",)),
        ("consolidation.lived_by", night.lived_by, ("deployed",)),
        ("teacher.weights", config.teacher.weights, ("frozen",)),
        ("distill.anchor_weight", config.distill.anchor_weight, (0.0,)),
        ("distill.reinforce_weight", config.distill.reinforce_weight, (0.0,)),
        ("update.weight_decay", config.update.weight_decay, (0.0,)),
    )
    for name in ("drift", "self_conditioning"):
        if value := getattr(config, name):
            raise ValueError(f"{name} is {value}, but {said}, a memory of the job as it was: give 0")
    if kind in UNLEARNED:
        allow(
            f"{said}, of which nothing is learned",
            ("teacher", config.teacher, (TeacherConfig(),)),
            ("distill", config.distill, (DistillConfig(),)),
            ("consolidation.states", night.states, ("session",)),
        )
    if size > (most := night.session_length if kind == "table" else places):
        raise ValueError(f"{said}, but a session leaves {most} places: give that many or less")
