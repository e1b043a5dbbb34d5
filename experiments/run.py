"""One run, from a config to a folder: facts first, then learning, measuring, logging, checkpoints, and a deployment."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dreamer import loop as loops
from dreamer import replay as replays
from dreamer.core import trees
from dreamer.core.types import Meters, Params, PyTree, Transition
from dreamer.io import Checkpoints, FactLog, Log, RunFolder
from dreamer.sleep.update import LearnerState
from dreamer.wake import Deployed
from dreamer.wake.recorded import cut
from experiments.build import Parts, build
from experiments.config import Config, from_dict, to_dict


class DivergedError(RuntimeError):
    """Learning produced a number that is not finite."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """What a watcher is told after each night."""

    config: Config
    meters: Meters
    student_return: float | None
    """Mean return of the deployed student at its last evaluation; None before the first."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What a finished run came to. All of it is also in the run folder."""

    config: Config
    folder: Path
    meters: Meters
    student: np.ndarray
    """[episodes] returns of the deployed, search-free student, by the final parameters."""
    planner: np.ndarray
    """[episodes] returns of the same parameters with search."""
    messages: list[str]
    """What the user should be told of a resumed run: a damaged checkpoint skipped, an environment begun anew."""


Watch = Callable[[Progress], None]


def run(config: Config, *, watch: Watch | None = None) -> Result:
    """Runs an experiment in a new folder.

    Raises:
      ValueError, OSError: settings that do not fit, a folder that exists or cannot be written; the message names it.
      DivergedError: a loss that is not finite; facts and the last good checkpoint are on disk.
    """
    parts = build(config)
    path = Path(config.run.folder) if config.run.folder else _free_folder(config)
    with RunFolder.create(path, to_dict(config), parts.spec, identity=config.identity()) as folder:
        facts = FactLog.create(folder.facts, parts.spec, config.env.num_envs)
        checkpoints = Checkpoints(folder.checkpoints)
        return _live_and_learn(parts, folder, facts, checkpoints, after=None, state=parts.init(), watch=watch)


def resume(path: str | Path, *, watch: Watch | None = None) -> Result:
    """Goes on with the run in a folder, from its newest whole checkpoint and all the facts that are on disk.

    Raises:
      ValueError: no run folder, or one that cannot be read; the message says what and how to go on.
    """
    with RunFolder.open(path, write=True) as folder:
        config = from_dict(folder.config)
        parts = build(config)
        facts = FactLog.open(folder.facts)
        checkpoints = Checkpoints(folder.checkpoints)
        state = parts.init()
        messages = list(facts.messages)
        after = None
        if checkpoints.days:
            saved = checkpoints.restore(saved_state(state))
            messages += saved.messages
            meters = Meters(**saved.counters)
            after = loops.Event(saved.day, state, None, {}, meters)
        days = _days(facts)
        broken_at = None
        if parts.host is not None and not parts.host.remember(days, first=after.nights + 1 if after else 0):
            broken_at = len(days)
            days[-1] = cut(days[-1])
            messages.append(
                f"{parts.spec.id} could not be brought back to where it stood, so all copies began a new episode; "
                "the interrupted ones count as truncated"
            )
        if after:
            state = _rebuild(state, saved.tree, days[: after.nights + 1])
        result = _live_and_learn(
            parts, folder, facts, checkpoints, after=after, state=state, watch=watch, broken_at=broken_at
        )
        return dataclasses.replace(result, messages=messages)


def _live_and_learn(
    parts: Parts,
    folder: RunFolder,
    facts: FactLog,
    checkpoints: Checkpoints,
    *,
    after: loops.Event | None,
    state: loops.LoopState,
    watch: Watch | None,
    broken_at: int | None = None,
) -> Result:
    config, settings = parts.config, parts.config.run
    events = loops.days_and_nights(parts.step, state, config=config.loop, searched_by=parts.searched_by, after=after)
    returns: dict[str, np.ndarray] = {}
    event, real = after, after.meters.real if after else 0
    with Log(
        folder.path,
        wandb_mode=settings.wandb,
        project=settings.project,
        config=to_dict(config),
        resume_day=None if after is None else after.nights,
    ) as log:
        for event in events:
            if event.lived is not None:
                facts.append(event.nights, jax.device_get(event.lived), continues=event.nights != broken_at)
            if not event.nights:
                continue
            metrics = _finite(jax.device_get(event.metrics), event, folder)
            finished = event.lived is None
            if finished or _crosses(config.evaluation.every, real, event.meters.real):
                who = ("student", "planner") if finished else ("student",)
                returns = {name: parts.evaluate[name](event.state.learner, event.meters.real) for name in who}
                metrics |= {f"{name}_{key}": value for name in who for key, value in _summary(returns[name]).items()}
            log.write(event.nights, event.meters, metrics)
            if finished or _crosses(settings.checkpoint_every, real, event.meters.real):
                checkpoints.save(event.nights, saved_state(event.state), dataclasses.asdict(event.meters))
            real = event.meters.real
            if watch:
                student = float(returns["student"].mean()) if returns else None
                watch(Progress(config, event.meters, student))
    if "planner" not in returns:  # the run had finished before it was resumed
        returns = {name: evaluate(event.state.learner, real) for name, evaluate in parts.evaluate.items()}
    deploy(parts, event.state.learner, event.meters, version=event.nights).save(folder.deployed)
    return Result(config, folder.path, event.meters, returns["student"], returns["planner"], messages=[])


def deploy(parts: Parts, learner: LearnerState, meters: Meters, *, version: int) -> Deployed:
    """Returns the search-free agent of the learner's online parameters: policy and value, and only what they need."""

    def apply(params: Params, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        evaluation = parts.agent.evaluate(params.agent, (), parts.model.observe(params.model, obs))
        return evaluation.logits, evaluation.value

    obs = jnp.zeros((1, *parts.spec.obs_shape), parts.spec.obs_dtype)
    params = trees.only_used(lambda params: apply(params, obs), learner.params)
    return Deployed.of(
        apply,
        params,
        spec=parts.spec,
        config=to_dict(parts.config),
        version=version,
        meters=dataclasses.asdict(meters),
    )


def saved_state(state: loops.LoopState) -> PyTree:
    """Returns what a checkpoint holds: everything but the rows of the replay and the pending day, which are facts."""
    return {"learner": state.learner, "session": state.session, "priority": state.replay.priority}


def _days(facts: FactLog) -> list[Transition]:
    """Returns all days on disk, each cut at its end where the next one did not continue it."""
    days: list[Transition] = []
    for _, continues, day in facts.read():
        if days and not continues:
            days[-1] = cut(days[-1])
        days.append(day)
    return days


def _rebuild(state: loops.LoopState, saved: PyTree, days: list[Transition]) -> loops.LoopState:
    """Returns the state of a checkpoint: its arrays, the replay made of the facts, and the last day pending."""
    insert = jax.jit(replays.insert, donate_argnums=0)
    replay, pending = state.replay, None
    for day in days:
        if pending is not None:
            replay = insert(replay, pending)
        pending = jax.tree.map(jnp.asarray, day)
    return loops.LoopState(
        learner=saved["learner"],
        replay=replay.replace(priority=saved["priority"]),
        session=saved["session"],
        pending=pending if pending is not None else state.pending,
    )


def _finite(metrics: dict, event: loops.Event, folder: RunFolder) -> dict:
    wrong = sorted(name for name, value in metrics.items() if not np.isfinite(value))
    if wrong:
        raise DivergedError(
            f"night {event.nights} of {folder.path} made {', '.join(wrong)} not finite after {event.meters.updates} "
            "updates. Nothing was written over: facts and earlier checkpoints are intact. Try a smaller "
            "--update.learning-rate, or a wider support (--model.reward-support, --agent.value-support)"
        )
    return {name: float(value) for name, value in metrics.items()}


def _summary(returns: np.ndarray) -> dict[str, float]:
    return {
        "return": float(returns.mean()),
        "return_min": float(returns.min()),
        "return_max": float(returns.max()),
    }


def _crosses(every: int, before: int, now: int) -> bool:
    return now // every > before // every


def _free_folder(config: Config) -> Path:
    """Returns a path in `runs/` that does not exist yet."""
    base = Path("runs") / f"{config.name}-{config.hash()}-seed{config.seed}"
    number = 1
    path = base
    while path.exists():
        number += 1
        path = base.with_name(f"{base.name}-{number}")
    return path


def use_compilation_cache() -> None:
    """Keeps compiled programs between runs, in $JAX_COMPILATION_CACHE_DIR or ~/.cache/dreamer-engine/jax."""
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(Path.home() / ".cache" / "dreamer-engine" / "jax")
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
