import dataclasses
import importlib
import os
import re
from pathlib import Path

import pytest

from dreamer.io import Checkpoints, RunFolder, checkpoints, facts, run_folder
from experiments import folders, sweep
from experiments.config import to_dict
from experiments.results import read_rows, rows_of, write_rows
from experiments.sample_efficiency import runs as question
from experiments.workers import Ended
from tests import runs

run_module = importlib.import_module("experiments.run")  # `experiments.run` is the function


@pytest.fixture
def one_task(tmp_path, monkeypatch):
    """The question, asked of one small task whose results lie elsewhere."""
    config = runs.config("gymnax", name="tiny")
    monkeypatch.setattr(
        question, "ARMS", {"tiny": {"dreaming": config, "other": dataclasses.replace(config, name="other")}}
    )
    monkeypatch.chdir(tmp_path)
    return Path("sample_efficiency/results/tiny.csv")


def jobs(**changes):
    return sweep.jobs("sample_efficiency", **(dict(tasks=(), arms=(), seeds=range(2), root=Path()) | changes))


def test_every_arm_and_seed(one_task):
    todo = jobs()
    assert [(job.arm, job.config.seed) for job in todo] == [
        ("dreaming", 0),
        ("other", 0),
        ("dreaming", 1),
        ("other", 1),
    ]
    assert {job.results for job in todo} == {one_task}
    assert [job.arm for job in jobs(arms=("other",), tasks=("tiny",))] == ["other", "other"]


def test_what_has_rows_is_not_run_again(one_task):
    write_rows(one_task, rows_of(runs.finished("gymnax").folder, arm="dreaming"))
    assert [(job.arm, job.config.seed) for job in jobs()] == [("other", 0), ("dreaming", 1), ("other", 1)]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: jobs(tasks=("tinny",)), "no task 'tinny': choose from 'tiny'"),
        (lambda: jobs(arms=("awake",)), "no arm 'awake': choose from 'dreaming', 'other'"),
        (
            lambda: sweep.jobs("why", tasks=(), arms=(), seeds=range(1), root=Path()),
            "no question 'why': choose .* sample_efficiency",
        ),
    ],
)
def test_what_there_is_not(one_task, ask, message):
    with pytest.raises(ValueError, match=message):
        ask()


def test_runs_made_again_are_held_against_the_recorded_ones(one_task, monkeypatch):
    first = rows_of(runs.finished("gymnax").folder, arm="dreaming")  # two evaluations, of which one is final
    monkeypatch.setattr(sweep, "RECORD", Path("record"))

    def write(root, changes):
        """Writes the run as that of seed 0, 1, ..., each with another return or hash."""
        made = [row | {"seed": seed} | new for seed, new in enumerate(changes) for row in first]
        write_rows(root / one_task, made)

    write(Path("record"), [{"student_return": returned} for returned in (1.0, 2.0, 3.0)])
    new_returns = [{"student_return": returned, "commit": "newer"} for returned in (1.0, 2.25, 2.0, 9.0)]
    write(Path(), new_returns)
    (said,) = sweep.made_again("sample_efficiency", Path())
    assert said == (
        "tiny, by commit newer: 1 of 3 runs end at the recorded return, to the last digit; anew less recorded is "
        "-0.250 in the mean, -1.000 at most; 1 without a recorded run beside them"
    )
    assert sweep.made_again("sample_efficiency", Path("record")) == []  # itself
    assert sweep.made_again("sample_efficiency", Path("nothing")) == []
    one_task.unlink()
    write(Path(), [{"config_hash": "another", "commit": "newer"}])
    (said,) = sweep.made_again("sample_efficiency", Path())
    assert said == "tiny, by commit newer: 1 without a recorded run beside them"


def here(call, items, *, tell):
    """Calls in this process, one after another."""
    for item in items:
        try:
            yield Ended(item, call(item, tell), None)
        except Exception as error:
            yield Ended(item, None, f"{type(error).__name__}: {error}")


@pytest.fixture
def wired(one_task, monkeypatch):
    """Makes runs of parts that are compiled once; they are of seed 0."""
    monkeypatch.setattr(run_module, "build", lambda config, **_: runs.parts("gymnax")._replace(config=config))
    return jobs(arms=("dreaming",), seeds=range(1))


def test_a_sweep_makes_rows_and_says_how_far_it_is(one_task, wired):
    heard = []
    sweep.sweep(wired, call_each=here, hear=heard.append)
    assert [one.share for one in heard] == pytest.approx([0, 8 / 72, 20 / 72, 32 / 72, 44 / 72, 56 / 72, 1, 1], abs=0.1)
    assert heard[-1].title == "tiny, dreaming, seed 0"
    assert re.fullmatch(r"deployed return \d+\.\d\d after 48 real transitions, \d+ s", heard[-1].end)
    assert [row["final"] for row in read_rows(one_task)] == [0, 1]
    assert read_rows(one_task)[-1]["student_return"] == runs.finished("gymnax").student.mean()
    assert jobs(arms=("dreaming",), seeds=range(1)) == []


def test_a_run_that_fails_does_not_take_the_others_rows(one_task, monkeypatch):
    made = {0: (rows_of(runs.finished("gymnax").folder, arm="dreaming"), [])}
    monkeypatch.setattr(sweep, "make", lambda job, tell: made[job.config.seed])
    heard = []
    with pytest.raises(sweep.SweepError, match="1 of 2 runs failed; the same command makes only those again"):
        sweep.sweep(jobs(arms=("dreaming",)), call_each=here, hear=heard.append)
    assert [job.config.seed for job in jobs(arms=("dreaming",))] == [1]
    assert [one.title for one in heard] == ["tiny, dreaming, seed 0", "tiny, dreaming, seed 1"]
    assert heard[1].end == "failed, KeyError: 1"


def test_an_interrupted_run_goes_on_in_its_folder(one_task, wired, monkeypatch):
    with runs.interrupt(monkeypatch, Checkpoints, "save", call=1, done=True), pytest.raises(KeyboardInterrupt):
        sweep.sweep(wired, call_each=here, hear=print)
    assert not one_task.exists()
    heard = []
    sweep.sweep(wired, call_each=here, hear=heard.append)
    assert heard[0].share > 0.5  # begun where it was
    (folder,) = Path("runs").iterdir()
    assert runs.rows(folder) == runs.rows(runs.finished("gymnax").folder)
    assert len(read_rows(one_task)) == 2


def test_a_finished_run_whose_rows_were_not_written_is_not_made_again(one_task, wired, monkeypatch):
    sweep.sweep(wired, call_each=here, hear=lambda heard: None)
    rows = read_rows(one_task)
    one_task.unlink()
    monkeypatch.setattr(run_module, "build", None)
    sweep.sweep(wired, call_each=here, hear=lambda heard: None)
    assert read_rows(one_task) == rows


def test_what_other_code_began_is_left_alone(one_task, wired, monkeypatch):
    sweep.sweep(wired, call_each=here, hear=lambda heard: None)
    one_task.unlink()
    monkeypatch.setattr(run_folder, "code_commit", lambda: "newer")
    monkeypatch.setattr(folders, "code_commit", lambda: "newer")
    sweep.sweep(wired, call_each=here, hear=lambda heard: None)
    assert {row["commit"] for row in read_rows(one_task)} == {"newer"}
    assert len(list(Path("runs").iterdir())) == 2


def test_a_folder_that_cannot_go_on_is_begun_anew(one_task, wired, monkeypatch):
    with runs.interrupt(monkeypatch, Checkpoints, "save", call=1, done=True), pytest.raises(KeyboardInterrupt):
        sweep.sweep(wired, call_each=here, hear=print)
    (damaged,) = Path("runs").iterdir()
    (damaged / "facts" / "segment-000000.facts").write_bytes(b"")
    heard = []
    sweep.sweep(wired, call_each=here, hear=heard.append)
    assert f"begun anew, since {damaged} is half-made or damaged and was left as it is: " in heard[-1].end
    assert len(read_rows(one_task)) == 2


def test_after_a_damaged_folder_the_new_one_goes_on(one_task, wired, monkeypatch):
    for _ in range(2):
        with runs.interrupt(monkeypatch, Checkpoints, "save", call=1, done=True), pytest.raises(KeyboardInterrupt):
            sweep.sweep(wired, call_each=here, hear=print)
        damaged = min(Path("runs").iterdir(), key=lambda path: len(path.name))  # the first
        (damaged / "facts" / "segment-000000.facts").write_bytes(b"")
    heard = []
    sweep.sweep(wired, call_each=here, hear=heard.append)
    assert heard[0].share > 0.5 and "begun anew" not in heard[-1].end
    assert len(list(Path("runs").iterdir())) == 2 and len(read_rows(one_task)) == 2


def raising(fault):
    def fail(*_, **__):
        raise fault

    return fail


DENIED, FULL = PermissionError(13, "Permission denied"), OSError(28, "No space left on device")


def test_what_may_pass_is_no_reason_to_begin_anew(one_task, wired, monkeypatch):
    with runs.interrupt(monkeypatch, Checkpoints, "save", call=1, done=True), pytest.raises(KeyboardInterrupt):
        sweep.sweep(wired, call_each=here, hear=print)
    for place, name, fault, message in (
        (Path, "read_text", DENIED, "is not a run folder: its config.json is missing or not ours .*Permission"),
        (checkpoints, "_require_whole", DENIED, "cannot be read .*Permission denied.*, though it may be whole"),
        (facts, "append_durably", FULL, r"Day \d could not be written .*No space left.* make room and resume the run"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, raising(fault))
            heard = []
            with pytest.raises(sweep.SweepError):
                sweep.sweep(wired, call_each=here, hear=heard.append)
        assert re.search(message, heard[-1].end)
    sweep.sweep(wired, call_each=here, hear=print)
    assert len(list(Path("runs").iterdir())) == 1 and len(read_rows(one_task)) == 2


@pytest.mark.parametrize("looked", ["before the other began", "after"])
def test_a_run_that_another_sweep_makes_is_left_to_it(one_task, wired, monkeypatch, looked):
    (job,) = wired
    path = folders.free(job.config)
    if looked != "after":
        monkeypatch.setattr(folders, "free", lambda config: path)
        monkeypatch.setattr(folders, "begun", lambda config: [])
    heard = []
    spec, config = runs.parts("gymnax").spec, job.config
    with RunFolder.create(path, to_dict(config), spec, identity=config.identity()):
        sweep.sweep(wired, call_each=here, hear=heard.append)
    assert heard[-1].end.startswith(f"left to another sweep. Process {os.getpid()} is writing the run folder {path}.")
    assert not one_task.exists()
    assert len(list(Path("runs").iterdir())) == 1


def test_two_sweeps_neither_lose_nor_repeat_rows(one_task, wired):
    rows = rows_of(runs.finished("gymnax").folder, arm="dreaming")

    def meanwhile(call, items, *, tell):
        for ended in here(call, items, tell=tell):
            write_rows(one_task, rows)  # by the other sweep
            yield ended

    sweep.sweep(wired, call_each=meanwhile, hear=lambda heard: None)
    assert len(read_rows(one_task)) == len(rows)
    heard = []
    sweep.sweep(wired, call_each=here, hear=heard.append)  # listed before the other was done
    assert heard == []
