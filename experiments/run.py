"""Runs, from a config to folders: facts first, then learning, measuring, logging, checkpoints, and a deployment.

A run is made for a *group* of seeds: one program lives and learns for all of them, and each has a folder as if it had
been alone. A group of one is a plain run.
"""

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from dreamer import loop as loops
from dreamer.core import mesh
from dreamer.core.types import Meters, PyTree
from dreamer.io import CheckpointError, Checkpoints, FactLog, FactsError, LogError, RunFolder, is_passing
from dreamer.sleep.honesty import Honesty
from experiments import folders
from experiments.build import Parts, build
from experiments.config import Config, from_dict, to_dict
from experiments.diary import Diary
from experiments.recover import Past, saved_state


@dataclasses.dataclass(frozen=True)
class Progress:
    """What a watcher is told when a run begins, and after each night."""

    config: Config
    folders: tuple[Path, ...]
    """One a seed."""
    meters: Meters
    """Of each seed."""
    student_return: float | None
    """Mean return of the deployed student at its last evaluation, over all seeds; None before the first."""
    evaluated_after: int
    """Real transitions of each seed at that evaluation; 0 before the first."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What a finished run came to. All of it is also in the run folder."""

    config: Config
    folder: Path
    meters: Meters
    student: np.ndarray
    """[episodes] returns of the deployed, search-free student: the last night's, or the last that passed the gate."""
    planner: np.ndarray
    """[episodes] returns of the same parameters with search."""
    honesty: Honesty
    """[H] the world model's errors along decisions of the student that nobody learned from."""
    seconds: float
    """Wall time of the call: building, compiling, living, dreaming, measuring and deploying, for all its seeds."""
    messages: list[str]
    """What the user should be told of a resumed run: a damaged checkpoint skipped, an environment begun anew."""


Watch = Callable[[Progress], None]


def run(config: Config, *, watch: Watch | None = None, parts: Parts | None = None) -> Result:
    """Runs an experiment in a new folder: `run_seeds` for one seed."""
    return run_seeds(config, 1, watch=watch, parts=parts)[0]


def run_seeds(
    config: Config,
    num_seeds: int,
    *,
    num_devices: int | None = None,
    watch: Watch | None = None,
    parts: Parts | None = None,
) -> list[Result]:
    """Runs an experiment with seeds `config.seed`, `config.seed + 1`, ... in one program, each in a new folder.

    What each seed meets and draws is what it would alone; its numbers are equal up to rounding, for a batched matrix
    product may add in another order.

    Args:
      config: the experiment; of several seeds each adds `-seed<seed>` to `run.folder`.
      num_seeds: 1 or more; more than 1 for environments on the device.
      num_devices: as in `build`.
      watch: told how far the run is; an exception that it raises interrupts the run.
      parts: the experiment wired already, as with an environment of your own (`build(config, env)`); several runs in
        turn may share them, and with them what was compiled.

    Returns: one result a seed; none in a process that writes nothing, see `dreamer.core.mesh`.

    Raises:
      ValueError, OSError: settings that do not fit, a folder that exists or cannot be written; the message names it.
      DivergedError: a loss that is not finite; facts and the last good checkpoint of every seed are on disk.
    """
    began = time.perf_counter()
    use_compilation_cache()
    with _wired(config, parts, num_seeds, num_devices) as parts, contextlib.ExitStack() as until_the_end:
        diaries, owns = [], _one_each(config, num_seeds) if mesh.writes() else []
        paths = [Path(own.run.folder) if own.run.folder else folders.free(own) for own in owns]
        for path in paths[1:]:  # before the first of them is made
            RunFolder.require_free(path)
        for own, path in zip(owns, paths, strict=True):
            folder = RunFolder.create(path, to_dict(own), parts.spec, identity=own.identity())
            facts = FactLog.create(until_the_end.enter_context(folder).facts, parts.spec, own.env.num_envs)
            diaries.append(Diary(parts._replace(config=own), folder, facts))
        state = parts.init()
        event, measured = _live_and_learn(parts, diaries, step=parts.step, state=state, after=None, watch=watch)
        results = _finish(parts, diaries, event, measured)
    return [dataclasses.replace(result, seconds=time.perf_counter() - began) for result in results]


def resume(
    path: str | Path, *, num_devices: int | None = None, watch: Watch | None = None, parts: Parts | None = None
) -> Result:
    """Goes on with the run in a folder, from its newest whole checkpoint and all the facts that are on disk.

    A run that had finished is measured again, and nothing in its folder changes. One of a group of seeds goes on alone.

    Args:
      path: the run folder.
      num_devices: as in `build`, whatever it was before.
      watch: as in `run_seeds`.
      parts: as in `run_seeds`.

    Raises:
      ValueError: no run folder, or one that cannot be read; the message says what and how to go on.
      DivergedError: as in `run_seeds`.
    """
    began = time.perf_counter()
    use_compilation_cache()
    if jax.process_count() > 1:
        raise ValueError(
            f"{path} was to go on in {jax.process_count()} processes: go on in one, on as many devices as it has"
        )
    with (
        RunFolder.open(path, write=True) as folder,
        _wired(from_dict(folder.config), parts, 1, num_devices) as parts,
    ):
        folders.require_world(folder, parts.spec.id)
        facts = FactLog.open(folder.facts)
        past = Past(parts, facts)
        state = parts.init()
        event, measured = past.last_event(Checkpoints(folder.checkpoints), state), {}
        diaries = [Diary(parts, folder, facts, past=past)]
        if not event or not parts.config.loop.finished(event.meters.real, event.meters.updates):
            state = past.begin(event.nights + 1 if event else 0, event.state if event else state)
            event, measured = _live_and_learn(parts, diaries, step=past.step, state=state, after=event, watch=watch)
        (result,) = _finish(parts, diaries, event, measured)
    return dataclasses.replace(result, seconds=time.perf_counter() - began, messages=past.messages)


def run_or_resume(config: Config, *, watch: Watch | None = None) -> tuple[Path, list[str]]:
    """Makes a run of `runs/`, or goes on with the one that the same code began there for the same config and seed.

    Several processes may be asked for the same run: one makes it. One that is half-made or damaged is begun anew, in a
    folder beside it; of several the newest goes on. A fault that may pass, as a full disk, is raised instead.

    Returns: its finished folder, and what the user should be told of a resumed run.

    Raises:
      BusyError: a living process is making it.
      ValueError, OSError, DivergedError: as in `run_seeds`.
    """
    damaged = []
    for begun in folders.begun(config):
        if begun.deployed.exists():
            return begun.path, []
        try:
            return begun.path, damaged + resume(begun.path, watch=watch).messages
        except (CheckpointError, FactsError, LogError) as error:
            if is_passing(error):
                raise
            damaged.append(f"{begun.path} is half-made or damaged and was left as it is: {error}")
    # Named, and not left to `run`: whoever else looked at the same moment is then refused.
    named = dataclasses.replace(config, run=dataclasses.replace(config.run, folder=str(folders.free(config))))
    return run(named, watch=watch).folder, [f"begun anew, since {why}" for why in damaged]


def _live_and_learn(
    parts: Parts,
    diaries: Sequence[Diary],
    *,
    step: loops.Step,
    state: loops.LoopState,
    after: loops.Event | None,
    watch: Watch | None,
) -> tuple[loops.Event, dict[str, PyTree]]:
    """Returns the last event, and what the last evaluation measured, as `Parts.evaluate`: of several seeds [S, ...].

    Arrays of a group are taken apart on their way into the diaries, and nowhere else.
    """
    config = parts.config
    folders = tuple(diary.folder.path for diary in diaries)
    measured: dict[str, PyTree] = {}
    event, meters = after, after.meters if after else Meters()
    score: tuple[float | None, int] = (None, 0)
    if watch:
        watch(Progress(config, folders, meters, *score))
    events = loops.days_and_nights(step, state, config=config.loop, cost_of=parts.cost_of, after=after)
    with contextlib.ExitStack() as logs:
        for diary in diaries:
            logs.enter_context(diary.opened(after.nights if after else -1))
        for event in events:
            number, acting, before, meters = event.nights, event.state.acting, meters, event.meters
            finished = config.loop.finished(meters.real, meters.updates)
            if event.lived is not None:
                for diary, lived in _own(parts, diaries, jax.device_get(event.lived)):
                    diary.write_day(number, lived)
            if not config.gate.is_open:
                evidence = jax.device_get(event.state.evidence)
                for diary, *own in _own(parts, diaries, evidence, acting):
                    diary.write_version(number, *own, before)
            if not number:
                continue
            metrics = jax.device_get(event.metrics)
            for diary, own in _own(parts, diaries, metrics):
                diary.require_finite(number, meters, own)
            new: dict[str, PyTree] = {}
            if finished or (event.lived is not None and _crosses(config.evaluation.every, before.real, meters.real)):
                who = tuple(parts.evaluate) if finished else ("student",)
                measured = new = {name: parts.evaluate[name](acting, meters.real) for name in who}
                score = float(measured["student"].mean()), meters.real
            for diary, *own in _own(parts, diaries, metrics, new):
                diary.write_night(number, meters, *own)
            if event.lived is None or _crosses(config.run.checkpoint_every, before.real, meters.real):
                for diary, saved in _own(parts, diaries, saved_state(event.state)):
                    diary.save(number, saved, meters)
            if watch:
                watch(Progress(config, folders, meters, *score))
    return event, measured


def _finish(parts: Parts, diaries: Sequence[Diary], event: loops.Event, measured: dict[str, PyTree]) -> list[Result]:
    """Deploys who acts at the end and says what each run came to; what was not measured now is measured again."""
    acting, meters = event.state.acting, event.meters
    measured = measured or {name: evaluate(acting, meters.real) for name, evaluate in parts.evaluate.items()}
    results = []
    for diary, own, of_own in _own(parts, diaries, acting, measured):
        diary.deploy(event.nights, own, meters)
        results.append(Result(diary.parts.config, diary.folder.path, meters, **of_own, seconds=0.0, messages=[]))
    return results


def _own(parts: Parts, diaries: Sequence[Diary], *trees: PyTree) -> Iterator[tuple]:
    """Yields (diary, what belongs to its seed in each of the group's trees); nothing where no diary is kept."""
    return zip(diaries, *map(parts.members, trees), strict=bool(diaries))


@contextlib.contextmanager
def _wired(config: Config, parts: Parts | None, num_seeds: int, num_devices: int | None) -> Iterator[Parts]:
    """Gives the parts of an experiment, and frees them afterwards where they were not given."""
    if parts is None:
        parts = build(config, num_seeds=num_seeds, num_devices=num_devices)
        try:
            yield parts
        finally:
            parts.close()
        return
    if dataclasses.replace(parts.config, run=config.run) != config or parts.num_seeds != num_seeds:
        raise ValueError("the parts were wired for another config: build them from the config of this run")
    yield parts._replace(config=config)


def _one_each(config: Config, num_seeds: int) -> list[Config]:
    """Returns the config of each seed of a group; of one, the config itself."""
    if num_seeds == 1:
        return [config]
    if config.seed + num_seeds > 2**31:
        raise ValueError(f"seed is {config.seed} and num_seeds {num_seeds}: the last seed may be {2**31 - 1} at most")
    configs = []
    for seed in range(config.seed, config.seed + num_seeds):
        folder = config.run.folder and f"{config.run.folder}-seed{seed}"
        configs.append(dataclasses.replace(config, seed=seed, run=dataclasses.replace(config.run, folder=folder)))
    return configs


def _crosses(every: int, before: int, now: int) -> bool:
    return now // every > before // every


def use_compilation_cache() -> None:
    """Keeps compiled programs between runs, in $JAX_COMPILATION_CACHE_DIR or ~/.cache/dreamer-engine/jax.

    A folder that the program has configured already is kept.
    """
    if jax.config.jax_compilation_cache_dir:
        return
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(Path.home() / ".cache" / "dreamer-engine" / "jax")
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
