"""Search of a space with Optuna: each trial is a run, pruned at the median, and scored by what it finally deploys.

The study is a database that any number of sweeps may share. A trial that was begun and not ended belongs to the machine
that began it, where its run folder lies: the next sweep there goes on with it.
"""

import contextlib
import dataclasses
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dreamer.io import BusyError, is_passing
from experiments.diary import DivergedError
from experiments.results import rows_of
from experiments.run import Progress, run_or_resume
from experiments.space import Range, Space
from experiments.sweep import CallEach, Heard, SweepError, heard
from experiments.workers import Tell, first_line

try:
    import optuna
    from optuna.trial import TrialState
except ImportError as missing:
    raise ImportError(
        f"search spaces need an extra that is not installed ({missing}): pip install -r requirements-optuna.txt"
    ) from missing

optuna.logging.set_verbosity(optuna.logging.WARNING)

_SQLITE = "sqlite:///"
_PATIENCE = 60
"""Seconds to wait for an SQLite file that another process is writing."""
_HOST = "host"
"""What a trial calls the machine that makes it."""


class StudyError(ValueError):
    """A study that cannot be used, and what to do about it."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """One trial to make."""

    number: int
    trial_id: int
    space: Space
    values: dict[str, Any]
    """Path of a field -> what is tried."""
    url: str
    study: str

    @property
    def title(self) -> str:
        """What the trial is called on a screen."""
        return f"{self.space.base.name}, trial {self.number}"


def open_study(name: str, url: str) -> optuna.Study:
    """Opens a study, or makes it where there is none.

    Args:
      name: of the study; a database may hold several.
      url: of the database, as SQLAlchemy has it: `sqlite:///runs/studies/question.db`, `postgresql://...`.

    Raises:
      StudyError: the database is locked or damaged, or cannot be reached.
    """
    arguments = {}
    try:
        if url.startswith(_SQLITE):
            Path(url.removeprefix(_SQLITE)).parent.mkdir(parents=True, exist_ok=True)
            arguments = {"connect_args": {"timeout": _PATIENCE}}
        storage = optuna.storages.RDBStorage(url, engine_kwargs=arguments)
        pruner = optuna.pruners.MedianPruner()
        return optuna.create_study(
            storage=storage, study_name=name, direction="maximize", pruner=pruner, load_if_exists=True
        )
    except Exception as error:  # of Optuna, of SQLAlchemy, of any database's driver
        raise StudyError(
            f"the study {url.rpartition('@')[2]} cannot be opened ({first_line(error.__cause__ or error)}): end "
            "whoever locks it, move a damaged file away, or pass another --study"
        ) from error


def study_name(question: str, space: Space) -> str:
    """Returns the name of a question's study: another one where what is searched, or around what, has changed."""
    return f"{question}-{space.hash()}"


def search(
    name: str, url: str, space: Space, *, num_trials: int, call_each: CallEach, hear: Callable[[Heard], None]
) -> optuna.Study:
    """Makes trials until the study has so many; returns it.

    Args:
      name: of the study.
      url: of its database, which every worker has to reach.
      space: what may be tried.
      num_trials: that are to be finished, pruned or under way, whoever makes them; failed ones do not count.
      call_each: how trials are made side by side.
      hear: told of every trial how far it is, and what it came to.

    Raises:
      StudyError: as in `open_study`.
      SweepError: after all trials, if some failed.
    """
    study, num_failed = open_study(name, url), 0
    with contextlib.closing(call_each(make, _trials(study, url, space, num_trials), tell=hear)) as calls:
        for trial, end, error in calls:
            num_failed += error is not None
            hear(Heard(trial.title, 1.0, end=end if error is None else f"failed, {error}"))
    if num_failed:
        raise SweepError(f"{num_failed} trials failed; the same command tries again, and goes on with what was killed")
    return study


def begun_here(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Returns the trials that this machine began and did not end; another sweep here may be making them."""
    return [trial for trial in _under_way(study) if trial.user_attrs[_HOST] == socket.gethostname()]


def num_missing(study: optuna.Study, num_trials: int) -> int:
    """Returns how many trials have to be begun for the study to have so many."""
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    return max(0, num_trials - len(ended) - len(_under_way(study)))


def _under_way(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Returns the trials that were begun and not ended. One that names no machine was left before it had begun."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [trial for trial in running if _HOST in trial.user_attrs]


def best(study: optuna.Study) -> optuna.trial.FrozenTrial | None:
    """Returns the trial that deployed the best agent; None while no trial is complete."""
    return study.best_trial if study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) else None


def _trials(study: optuna.Study, url: str, space: Space, num_trials: int) -> Iterator[Trial]:
    """Yields first what was begun here and not ended, then new trials; each knows all that ended before it."""
    for begun in begun_here(study):
        yield _suggested(optuna.trial.Trial(study, begun._trial_id), study, url, space)
    for _ in range(num_missing(study, num_trials)):
        if not num_missing(study, num_trials):  # others have begun them
            return
        trial = study.ask()
        trial.set_user_attr(_HOST, socket.gethostname())
        yield _suggested(trial, study, url, space)


def _suggested(trial: optuna.Trial, study: optuna.Study, url: str, space: Space) -> Trial:
    """Returns the trial with a value for each field: those that it has, new ones where it has none."""
    # Randomness is a function of the number, so that a sweep that was stopped goes on as if it had not been.
    study.sampler = optuna.samplers.TPESampler(seed=trial.number)
    values = {path: _suggest(trial, path, among) for path, among in space.fields.items()}
    return Trial(trial.number, trial._trial_id, space, values, url, study.study_name)


def _suggest(trial: optuna.Trial, path: str, among: tuple | Range) -> Any:
    if not isinstance(among, Range):
        return trial.suggest_categorical(path, among)
    whole = isinstance(among.low, int) and isinstance(among.high, int)
    return (trial.suggest_int if whole else trial.suggest_float)(path, among.low, among.high, log=among.log)


def make(job: Trial, tell: Tell) -> str:
    """Makes a trial, or goes on with it, and tells the study at once; returns what it came to."""
    study = open_study(job.study, job.url)
    trial = optuna.trial.Trial(study, job.trial_id)
    begun = study.trials[job.number]
    if begun.state.is_finished():
        return "ended by another sweep"
    reported = set(begun.intermediate_values)

    def watch(progress: Progress) -> None:
        tell(heard(job.title, progress))
        loop, meters = progress.config.loop, progress.meters
        score, real = progress.student_return, progress.evaluated_after
        step = real // progress.config.evaluation.every
        if score is None or step in reported or loop.finished(meters.real, meters.updates):
            return
        reported.add(step)
        trial.set_user_attr("folder", str(progress.folders[0]))
        trial.report(score, step)
        if trial.should_prune():
            raise optuna.TrialPruned(f"{score:.2f} after {real:,} real transitions")

    try:
        folder, messages = run_or_resume(job.space.config(job.values, seed=job.number), watch=watch)
        value = rows_of(folder, arm="trial")[-1]["student_return"]
    except BusyError as busy:
        return f"left to another sweep. {busy}"
    except optuna.TrialPruned as pruned:
        study.tell(job.number, state=TrialState.PRUNED, skip_if_finished=True)
        return f"pruned, {pruned}"
    except (ValueError, DivergedError) as error:
        if not is_passing(error):  # it would come to this again; what else ends a trial, the next sweep mends
            study.tell(job.number, state=TrialState.FAIL, skip_if_finished=True)
        raise
    study.tell(job.number, value, skip_if_finished=True)
    return "; ".join([f"deployed return {value:.2f}", *messages])
