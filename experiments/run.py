"""One run, from a config to a folder: facts first, then learning, measuring, logging, checkpoints, and a deployment."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dreamer import loop as loops
from dreamer.core import trees
from dreamer.core.types import Meters, Params, Transition
from dreamer.io import Checkpoints, FactLog, Log, RunFolder
from dreamer.sleep.update import LearnerState
from dreamer.wake import Deployed
from experiments.build import Parts, build
from experiments.config import Config, from_dict, to_dict
from experiments.recover import Past, saved_state


class DivergedError(RuntimeError):
    """Learning produced a number that is not finite."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """What a watcher is told when a run begins, and after each night."""

    config: Config
    folder: Path
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
    seconds: float
    """Wall time of the call: building, compiling, living, dreaming, measuring and deploying."""
    messages: list[str]
    """What the user should be told of a resumed run: a damaged checkpoint skipped, an environment begun anew."""


Watch = Callable[[Progress], None]


def run(config: Config, *, watch: Watch | None = None, parts: Parts | None = None) -> Result:
    """Runs an experiment in a new folder.

    Args:
      config: the experiment.
      watch: told how far the run is; an exception that it raises interrupts the run.
      parts: the experiment wired already, as with an environment of your own (`build(config, env)`); several runs in
        turn may share them, and with them what was compiled.

    Raises:
      ValueError, OSError: settings that do not fit, a folder that exists or cannot be written; the message names it.
      DivergedError: a loss that is not finite; facts and the last good checkpoint are on disk.
    """
    began = time.perf_counter()
    use_compilation_cache()
    with _wired(config, parts) as parts:
        path = Path(config.run.folder) if config.run.folder else _free_folder(config)
        with RunFolder.create(path, to_dict(config), parts.spec, identity=config.identity()) as folder:
            facts = FactLog.create(folder.facts, parts.spec, config.env.num_envs)
            result = _live_and_learn(parts, folder, facts, past=None, after=None, state=parts.init(), watch=watch)
    return dataclasses.replace(result, seconds=time.perf_counter() - began)


def resume(path: str | Path, *, watch: Watch | None = None, parts: Parts | None = None) -> Result:
    """Goes on with the run in a folder, from its newest whole checkpoint and all the facts that are on disk.

    A run that had finished is measured again, and nothing in its folder changes.

    Args:
      path: the run folder.
      watch: as in `run`.
      parts: as in `run`.

    Raises:
      ValueError: no run folder, or one that cannot be read; the message says what and how to go on.
      DivergedError: as in `run`.
    """
    began = time.perf_counter()
    use_compilation_cache()
    with RunFolder.open(path, write=True) as folder, _wired(from_dict(folder.config), parts) as parts:
        facts = FactLog.open(folder.facts)
        past = Past(parts, facts)
        state = parts.init()
        after = past.last_event(Checkpoints(folder.checkpoints), state)
        if after and parts.config.loop.finished(after.meters.real, after.meters.updates):
            result = _finish(parts, folder, after, {}, past.messages)
        else:
            past.begin(after.nights + 1 if after else 0)
            state = after.state if after else state
            result = _live_and_learn(parts, folder, facts, past=past, after=after, state=state, watch=watch)
    return dataclasses.replace(result, seconds=time.perf_counter() - began)


def _live_and_learn(
    parts: Parts,
    folder: RunFolder,
    facts: FactLog,
    *,
    past: Past | None,
    after: loops.Event | None,
    state: loops.LoopState,
    watch: Watch | None,
) -> Result:
    config, settings = parts.config, parts.config.run
    checkpoints = Checkpoints(folder.checkpoints)
    returns: dict[str, np.ndarray] = {}
    event, real = after, after.meters.real if after else 0
    if watch:
        watch(Progress(config, folder.path, after.meters if after else Meters(), None))
    events = loops.days_and_nights(
        past.step if past else parts.step, state, config=config.loop, searched_by=parts.searched_by, after=after
    )
    with Log(
        folder.path,
        wandb_mode=settings.wandb,
        project=settings.project,
        config=to_dict(config),
        resume_day=None if past is None else after.nights if after else 0,
    ) as log:
        for event in events:
            if event.lived is not None and event.nights not in facts.days:
                continues = past is None or past.continues(event.nights)
                lived = jax.device_get(event.lived)
                _require_finite(lived, event.nights, parts.spec.id)
                facts.append(event.nights, lived, continues=continues)
            if not event.nights:
                continue
            metrics = _finite(jax.device_get(event.metrics), event, folder)
            finished = config.loop.finished(event.meters.real, event.meters.updates)
            if finished or (event.lived is not None and _crosses(config.evaluation.every, real, event.meters.real)):
                who = ("student", "planner") if finished else ("student",)
                returns = {name: parts.evaluate[name](event.state.learner, event.meters.real) for name in who}
                metrics |= {f"{name}_{key}": value for name in who for key, value in _summary(returns[name]).items()}
            log.write(event.nights, event.meters, metrics)
            if event.lived is None or _crosses(settings.checkpoint_every, real, event.meters.real):
                checkpoints.save(event.nights, saved_state(event.state), dataclasses.asdict(event.meters))
            real = event.meters.real
            if watch:
                student = float(returns["student"].mean()) if returns else None
                watch(Progress(config, folder.path, event.meters, student))
    return _finish(parts, folder, event, returns, past.messages if past else [])


def _finish(
    parts: Parts, folder: RunFolder, event: loops.Event, returns: dict[str, np.ndarray], messages: list[str]
) -> Result:
    """Deploys what the last night made, unless that was done before, and says what the run came to."""
    learner, meters = event.state.learner, event.meters
    returns = returns or {name: evaluate(learner, meters.real) for name, evaluate in parts.evaluate.items()}
    if not folder.deployed.exists():
        deploy(parts, learner, meters, version=event.nights).save(folder.deployed)
    return Result(parts.config, folder.path, meters, returns["student"], returns["planner"], 0.0, messages)


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


@contextlib.contextmanager
def _wired(config: Config, parts: Parts | None) -> Iterator[Parts]:
    """Gives the parts of an experiment, and frees them afterwards where they were not given."""
    if parts is None:
        parts = build(config)
        try:
            yield parts
        finally:
            parts.close()
        return
    if dataclasses.replace(parts.config, run=config.run) != config:
        raise ValueError("the parts were wired for another config: build them from the config of this run")
    yield parts._replace(config=config)


def _require_finite(lived: Transition, day: int, env_id: str) -> None:
    """Refuses a day [T, E] in which the environment gave numbers that nobody can learn from."""
    for name in ("obs", "reward", "next_obs"):
        field = np.asarray(getattr(lived, name))
        bad = np.argwhere(~np.isfinite(field))
        if bad.size:
            step, copy = bad[0][:2]
            raise ValueError(
                f"{env_id}, day {day}, decision {step}, copy {copy}: {name} holds NaN or infinity. The day was "
                "not stored, the days before it are intact: mend the environment, then go on with --resume"
            )


def _finite(metrics: dict, event: loops.Event, folder: RunFolder) -> dict:
    wrong = sorted(name for name, value in metrics.items() if not np.isfinite(value))
    if wrong:
        raise DivergedError(
            f"night {event.nights} of {folder.path} made {', '.join(wrong)} not finite after {event.meters.updates} "
            "updates. Nothing was written over: facts and earlier checkpoints are intact. Try a smaller "
            "--update.learning-rate"
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
    """Keeps compiled programs between runs, in $JAX_COMPILATION_CACHE_DIR or ~/.cache/dreamer-engine/jax.

    A folder that the program has configured already is kept.
    """
    if jax.config.jax_compilation_cache_dir:
        return
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(Path.home() / ".cache" / "dreamer-engine" / "jax")
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
