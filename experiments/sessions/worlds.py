"""Which worlds an agent can be asked in that was pre-trained in another: others it could not read."""

from collections.abc import Sequence
from typing import Any

_SEEN = {"jobworld": ("num_keys", "num_answers", "aliased", "error", "cue"), "lake": ("size", "deadline")}
"""Suite -> what an observation depends on."""


def check_taught(config: Any) -> None:
    """Refuses a world that the agent would take for another, and what only JobWorld can say.

    Raises:
      ValueError: names the setting of a `DistillationConfig`, and what to give instead.
    """
    suite, taught = config.env.suite, config.agent.env
    if suite != taught.suite:
        raise ValueError(f"env.suite is {suite!r}, but the agent was pre-trained in {taught.suite!r}: give that")
    for name in _SEEN[suite]:
        here, there = getattr(config.env.job_world, name), getattr(taught.job_world, name)
        if here != there:
            raise ValueError(
                f"env.{suite}.{name} is {here!r}, but the agent was pre-trained where it is {there!r}, and would "
                "take what it sees for something else: give that, or pre-train another"
            )
    if suite == "jobworld":
        return _check_chains(config)
    allow(
        "only the suite 'jobworld' has dreams of jobs and codebooks",
        ("consolidation.states", config.consolidation.states, ("student", "session")),
        ("refine.arm", config.refine.arm, ("raw",)),
        ("teacher.kind", config.teacher.kind, ("session", "other_job", "sharpened")),
        ("recovery_episodes", config.recovery_episodes, (0,)),
        ("horizons", config.horizons, ((),)),
        ("self_conditioning", config.self_conditioning, (0,)),
    )
    allow("what one policy can hold of several maps is not known", ("shared_by", config.shared_by, (1,)))


def _check_chains(config: Any) -> None:
    """Refuses days too short for a chain, rewards that a memory would not have been taught to read, and whoever takes
    all keys to be asked where a job asks a block of them."""
    world, night, taught = config.env.jobworld, config.consolidation, config.agent.env.jobworld
    if world.blocks > 1:
        _check_blocks(config)
    if night.session_length and world.feedback != taught.feedback:
        raise ValueError(
            f"env.jobworld.feedback is {world.feedback!r}, but the agent was pre-trained where it is "
            f"{taught.feedback!r}, and reads rewards: give that, or consolidation.session_length 0"
        )
    if config.env.max_steps is not None and config.env.max_steps < world.chain_length:
        raise ValueError(
            f"env.max_steps is {config.env.max_steps}, but a chain has {world.chain_length} keys, and nobody could "
            "finish it: give as many or more"
        )
    if night.objective == "clone_successes" and world.feedback != "end":
        raise ValueError(
            f"env.jobworld.feedback is {world.feedback!r}, but objective 'clone_successes' takes whatever was paid for "
            "a success: give 'end'"
        )
    rewarded = night.objective == "reinforce" or config.distill.reinforce_weight > 0
    asks_ends = (rewarded and not night.credit_window) or config.refine.arm == "drop_failures"
    if asks_ends and night.states_length < world.chain_length:
        raise ValueError(
            f"consolidation.states_length is {night.states_length}, but a chain has {world.chain_length} keys, and no "
            "episode could come to its end: give as many or more"
        )


def _check_blocks(config: Any) -> None:
    """Refuses whoever takes all keys to be asked where a job asks a block of them, and jobs of a student that are
    neither apart nor all of one block."""
    blocks, night, (num, count) = config.env.jobworld.blocks, config.consolidation, (config.num_jobs, config.sequence)
    said = f"env.jobworld.blocks is {blocks}, and"
    allow(
        f"{said} whoever dreams or judges takes all keys to be asked",
        ("consolidation.states", night.states, ("student", "session")),
        ("refine.arm", config.refine.arm, ("raw",)),
        ("teacher.kind", config.teacher.kind, ("session", "sharpened")),
        ("recovery_episodes", config.recovery_episodes, (0,)),
    )
    allow(f"{said} another codebook would be that of no job, so of no block", ("drift", config.drift, (0.0,)))
    allow(f"{said} jobs that share a student would mostly ask other keys", ("shared_by", config.shared_by, (1,)))
    if len({num * stage % blocks for stage in range(count)}) not in (1, count):
        raise ValueError(
            f"env.jobworld.blocks is {blocks}, but of {count} jobs of a student, {num} numbers apart, some are of one "
            "block and some are not: give a num_jobs without a divisor in common with blocks and a sequence of as many "
            "or fewer, or a num_jobs that blocks divides, and all are of one block"
        )


def check_self_conditioning(config: Any) -> None:
    """Refuses to look for it where there is no mistake that can be mended, or an episode is too long to remember;
    errors as of `check_taught`."""
    times = config.self_conditioning
    if not times:
        return
    world, room = config.env.jobworld, config.agent.slot.num_slots
    if not 0 < times * world.deadline <= room or times * world.chain_length < 2:
        raise ValueError(
            f"self_conditioning is {times}, but it asks for chains of 2 keys or more, in {times} x {world.deadline} "
            f"decisions, and the agent's slot has room for {room}: give 1 to {room // world.deadline}, or pre-train "
            "with more slots"
        )
    allow(
        f"self_conditioning is {times}, which asks what one mistake does to answers in the job as it was",
        ("env.jobworld.error", world.error, ("no_op", "detour")),
        ("env.jobworld.aliased", world.aliased, (0.0,)),
        ("env.max_steps", config.env.max_steps, (None,)),
        ("drift", config.drift, (0.0,)),
    )


def allow(why: str, *settings: tuple[str, Any, Sequence]) -> None:
    """Refuses the first of some settings, each (name, value, values that are allowed), that has another value."""
    for name, value, allowed in settings:
        if value not in allowed:
            given = f"1 to {allowed[-1]}" if isinstance(allowed, range) else " or ".join(map(repr, allowed))
            raise ValueError(f"{name} is {value!r}, but {why}: give {given}")
