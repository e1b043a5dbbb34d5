import importlib
import importlib.util
import sqlite3
from pathlib import Path

import pytest

from dreamer.core.types import Meters
from dreamer.io import Checkpoints, FactsError
from experiments.diary import DivergedError
from experiments.fields import changed
from experiments.run import Progress
from experiments.space import Range, Space
from experiments.sweep import SweepError
from tests import runs
from tests.experiments.test_sweep import here

run_module = importlib.import_module("experiments.run")
SPACE = Space(
    runs.config("gymnax"), {"update.learning_rate": Range(1e-4, 1e-2, log=True), "search.num_simulations": (2, 4)}
)
URL = "sqlite:///studies/tiny.db"


@pytest.mark.skipif(importlib.util.find_spec("optuna") is not None, reason="Optuna is installed")
def test_without_optuna():
    with pytest.raises(ImportError, match=r"not installed .* pip install -r requirements-optuna\.txt"):
        importlib.import_module("experiments.study")


@pytest.fixture
def studies(tmp_path, monkeypatch):
    """The module; its runs are real, but all of parts that are compiled once."""
    pytest.importorskip("optuna")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_module, "build", lambda config, **_: runs.parts("gymnax")._replace(config=config))
    return importlib.import_module("experiments.study")


def search(studies, *, num_trials, url=URL):
    return studies.search("tiny", url, SPACE, num_trials=num_trials, call_each=here, hear=lambda heard: heard)


def states(study):
    return [trial.state.name for trial in study.trials]


def test_trials_are_scored_by_what_they_deploy(studies):
    study = search(studies, num_trials=2)
    assert states(study) == ["COMPLETE"] * 2
    assert {trial.value for trial in study.trials} == {runs.finished("gymnax").student.mean()}
    assert [list(trial.intermediate_values) for trial in study.trials] == [[1], [1]]  # the last is no reason to prune
    for number, trial in enumerate(study.trials):
        assert 1e-4 <= trial.params["update.learning_rate"] <= 1e-2 and trial.params["search.num_simulations"] in (2, 4)
        config = SPACE.config(trial.params, seed=number)
        assert trial.user_attrs["folder"] == f"runs/tiny-{config.hash()}-seed{number}"
    assert studies.best(study).number in (0, 1)
    assert states(search(studies, num_trials=2)) == ["COMPLETE"] * 2  # nothing is left to do


def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(studies, monkeypatch):
    whole = search(studies, num_trials=3, url="sqlite:///whole.db")
    (Path("runs")).rename("whole")
    for call in (0, 4):  # in the middle of the first trial, then of the second
        with runs.interrupt(monkeypatch, Checkpoints, "save", call=call, done=True), pytest.raises(KeyboardInterrupt):
            search(studies, num_trials=3)
    assert states(studies.open_study("tiny", URL)) == ["COMPLETE", "RUNNING"]
    study = search(studies, num_trials=3)
    assert states(study) == ["COMPLETE"] * 3
    assert [trial.params for trial in study.trials] == [trial.params for trial in whole.trials]
    assert len(list(Path("runs").iterdir())) == 3


def test_a_trial_below_the_median_is_stopped(studies, monkeypatch):
    lofty = studies.optuna.pruners.ThresholdPruner(lower=1e9)
    monkeypatch.setattr(studies.optuna.pruners, "MedianPruner", lambda: lofty)
    study = search(studies, num_trials=1)
    assert states(study) == ["PRUNED"]
    assert studies.best(study) is None
    (folder,) = Path("runs").iterdir()
    assert [row["real"] for row in runs.rows(folder)] == [8, 16, 24]
    assert states(search(studies, num_trials=1)) == ["PRUNED"]


def test_a_trial_that_cannot_be_is_said_and_not_counted(studies, monkeypatch):
    def diverge(config, *, watch):
        raise DivergedError("not finite")

    with monkeypatch.context() as patch:
        patch.setattr(studies, "run_or_resume", diverge)
        with pytest.raises(SweepError, match="2 trials failed"):
            search(studies, num_trials=2)
    assert states(search(studies, num_trials=1)) == ["FAIL", "FAIL", "COMPLETE"]


def test_trials_of_another_machine_are_left_to_it(studies, monkeypatch):
    study = studies.open_study("tiny", URL)
    study.ask().set_user_attr("host", "elsewhere")
    assert studies.begun_here(study) == []
    assert states(search(studies, num_trials=2)) == ["RUNNING", "COMPLETE"]


def test_a_trial_that_names_no_machine_is_nobodys_and_does_not_count(studies):
    study = studies.open_study("tiny", URL)
    study.ask()  # and killed
    assert studies.begun_here(study) == [] and studies.num_missing(study, 1) == 1
    assert states(search(studies, num_trials=1)) == ["RUNNING", "COMPLETE"]


def test_a_score_is_reported_once_and_of_when_it_was(studies, monkeypatch):
    def run(config, *, watch):
        config = changed(config, {"loop.final_updates": 5})  # to be made after all 48 transitions
        for real, score in ((8, (None, 0)), (24, (1.0, 24)), (32, (1.0, 24)), (48, (1.0, 24))):
            watch(Progress(config, (Path("run"),), Meters(real=real), *score))
        raise studies.optuna.TrialPruned("enough")

    monkeypatch.setattr(studies, "run_or_resume", run)
    (trial,) = search(studies, num_trials=1).trials
    assert trial.intermediate_values == {1: 1.0}


def test_a_trial_that_may_still_come_to_something_is_left_open(studies, monkeypatch):
    def run(config, *, watch):
        raise FactsError("could not be written") from OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(studies, "run_or_resume", run)
        with pytest.raises(SweepError, match="1 trials failed"):
            search(studies, num_trials=1)
    assert states(search(studies, num_trials=1)) == ["COMPLETE"]


def test_a_study_that_cannot_be_used_is_one_clear_error(studies, monkeypatch):
    monkeypatch.setattr(studies, "_PATIENCE", 0.1)
    Path("corrupt.db").write_text("no database" * 1000)
    with pytest.raises(studies.StudyError, match="corrupt.db cannot be opened .*file is not a database"):
        search(studies, num_trials=1, url="sqlite:///corrupt.db")
    studies.open_study("tiny", URL)
    holder = sqlite3.connect("studies/tiny.db")
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(studies.StudyError, match="tiny.db cannot be opened .*database is locked.*end whoever locks"):
        search(studies, num_trials=1)
    holder.close()
    with pytest.raises(studies.StudyError, match="pass another --study"):
        search(studies, num_trials=1, url="nonsense")
