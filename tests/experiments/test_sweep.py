import dataclasses

import pytest

from experiments import sweep
from experiments.results import rows_of, write_rows
from experiments.sample_efficiency import runs as question
from tests import runs


@pytest.fixture
def one_task(tmp_path, monkeypatch):
    """The question, asked of one small task whose results lie elsewhere."""
    config = runs.config("gymnax", name="tiny")
    monkeypatch.setattr(
        question, "ARMS", {"tiny": {"dreaming": config, "other": dataclasses.replace(config, name="other")}}
    )
    monkeypatch.setattr(question, "__file__", str(tmp_path / "runs.py"))
    return tmp_path / "results" / "tiny.csv"


def jobs(**changes):
    return sweep.jobs("sample_efficiency", **(dict(tasks=(), arms=(), seeds=range(2)) | changes))


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
        (lambda: jobs(tasks=("tinny",)), "no task 'tinny': choose from tiny"),
        (lambda: jobs(arms=("awake",)), "no arm 'awake': choose from dreaming, other"),
        (
            lambda: sweep.jobs("why", tasks=(), arms=(), seeds=range(1)),
            "no question 'why': choose .* sample_efficiency",
        ),
        (lambda: sweep.sweep([], num_processes=0, say=print), "num_processes is 0: give 1 or more"),
    ],
)
def test_what_there_is_not(one_task, ask, message):
    with pytest.raises(ValueError, match=message):
        ask()


def test_a_run_that_fails_does_not_take_the_others_rows(one_task, tmp_path, monkeypatch):
    done = runs.finished("gymnax").folder
    made = {0: rows_of(done, arm="dreaming")}
    monkeypatch.setattr(sweep, "ProcessPoolExecutor", _InThisProcess)
    monkeypatch.setattr(sweep, "_make", lambda job: made[job.config.seed])
    said = []
    with pytest.raises(sweep.SweepError, match="1 of 2 runs failed; the same command makes only those again"):
        sweep.sweep(jobs(arms=("dreaming",)), num_processes=1, say=said.append)
    assert [job.config.seed for job in jobs(arms=("dreaming",))] == [1]
    assert sorted(line.split(":")[0] for line in said) == ["tiny, dreaming, seed 0", "tiny, dreaming, seed 1"]
    assert any("failed, KeyError" in line for line in said)


class _InThisProcess:
    """A pool that starts no interpreter for each job."""

    def __new__(cls, num_processes, mp_context):
        del mp_context
        from concurrent.futures import ThreadPoolExecutor

        return ThreadPoolExecutor(num_processes)
