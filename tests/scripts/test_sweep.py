"""Sweeps as their users start them, and killed as machines kill them."""

import contextlib
import dataclasses
import importlib
import importlib.util
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from experiments import PRESETS
from experiments.components import runs as components
from experiments.fields import changed
from experiments.results import read_rows
from experiments.sample_efficiency import runs as sample_efficiency
from experiments.space import flags
from experiments.sweep import runs_of
from scripts import sweep, train
from scripts.command import of_preset
from tests import runs
from tests.experiments import test_study
from tests.experiments.test_sweep import here

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def sweeping(folder):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache")}
    command = [sys.executable, "-m", "tests.sweeping", folder]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen(command, cwd=folder, env=environment, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def until(true, *, seconds=600):
    """Waits; generous, for a machine that does other things too."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def writer(folder, *, not_by=None):
    """The process that learns in the run folder of seed 0, once it has made a checkpoint."""
    if not list(folder.glob("runs/*-seed0/checkpoints/day-*")):
        return None
    number = int(next(folder.glob("runs/*-seed0/.lock")).read_text() or 0)
    return number if number != not_by else None


@pytest.mark.timeout(900)
@pytest.mark.learn
def test_whatever_is_killed_no_run_is_lost_and_none_repeated(tmp_path):
    rows = tmp_path / "sample_efficiency" / "results" / "tiny.csv"

    with sweeping(tmp_path) as process:
        worker = until(lambda: writer(tmp_path))
        os.kill(worker, signal.SIGKILL)
        out, err = process.communicate()
    assert (process.returncode, err) == (
        1,
        "error: 1 of 2 runs failed; the same command makes only those again\n",
    )
    assert "tiny, dreaming, seed 0: failed, its process was killed by SIGKILL (by hand, or" in out
    assert "tiny, dreaming, seed 1: deployed return" in out
    made = read_rows(rows)
    assert {row["seed"] for row in made} == {1}

    with sweeping(tmp_path) as process:
        worker = until(lambda: writer(tmp_path, not_by=worker))
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate()  # to the end of the last process that could say something
    assert (process.returncode, err) == (130, "stopped; the same command goes on where each run was\n")
    assert read_rows(rows) == made

    with sweeping(tmp_path) as process:
        out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert out.startswith("1 runs to make; the others have rows already\n")
    both = read_rows(rows)
    assert both[: len(made)] == made
    assert [row["seed"] for row in both[len(made) :]] == [0] * len(made)
    assert len(list((tmp_path / "runs").iterdir())) == 2  # each went on where it was begun


@pytest.fixture
def cli(monkeypatch, tmp_path, capfd):
    """Returns main(question, **options) -> (exit code, standard output, standard error), in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)

    def main(*args, **kwargs):
        code = 0
        try:
            sweep.main(*args, **kwargs)
        except SystemExit as stop:
            code = stop.code
        return code, *capfd.readouterr()

    yield main
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.parametrize(
    "config",
    [
        sample_efficiency.SPACE.base,
        sample_efficiency.ARMS["deep-sea"]["no dreams"],
        components.ARMS["minatar-breakout"]["value prefix"],
        changed(PRESETS["cartpole"], {"targets.clip_rewards": True, "seed": 7, "env.kwargs": ()}),
        changed(PRESETS["deep-sea"], {"env.kwargs": (("size", 9), ("randomize_actions", False))}),
    ],
    ids=lambda config: config.name,
)
def test_the_words_of_a_config_make_it_again(config):
    assert of_preset(train.Train, flags(config), program="train")[1].config == config


def test_what_a_wandb_agent_types_is_understood(cli):
    code, out, err = cli("sample_efficiency", wandb_file="sweep.yaml", seeds=3)
    assert (code, err) == (0, "")
    assert out == "wrote sweep.yaml; to go on: wandb sweep sweep.yaml\n"
    definition = yaml.safe_load(Path("sweep.yaml").read_text())
    drawn = {
        name: about["values"][-1] if "values" in about else about["max"]
        for name, about in definition["parameters"].items()
    }
    words = definition["command"][definition["command"].index("scripts.train") + 1 :]
    assert words.pop() == "${args}"
    words += [f"--{name}={value}" for name, value in drawn.items()]  # as its agents do
    config = of_preset(train.Train, words, program="train")[1].config
    seed = drawn.pop("seed")
    assert seed == 2
    assert dataclasses.replace(config, run=PRESETS["cartpole-jax"].run) == sample_efficiency.SPACE.config(
        drawn, seed=seed
    )
    assert config.run.wandb == "online"


@pytest.mark.parametrize(
    ("question", "options", "message"),
    [
        ("why", dict(trials=1), "there is no question 'why': choose one of ablations, components"),
        ("components", dict(trials=1), "components has no SPACE to search; there is one in sample_efficiency"),
        ("components", dict(wandb_file="a.yaml"), "components has no SPACE to search"),
        ("sample_efficiency", dict(wandb_file="no/a.yaml"), "No such file or directory: 'no/a.yaml"),
        ("sample_efficiency", dict(study="sqlite:///a.db"), "--study is of a search: say how many --trials"),
        ("sample_efficiency", dict(trials=1, arms=("a",)), "--tasks, --arms and --root are of runs that make rows"),
        (
            "sample_efficiency",
            dict(trials=1, root=Path("again")),
            "--tasks, --arms and --root are of runs that make rows",
        ),
        ("sample_efficiency", dict(processes=0), "num_processes is 0: give 1 or more"),
        ("sample_efficiency", dict(trials=1), "pip install -r requirements-optuna.txt"),
        ("sample_efficiency", dict(ray=True), "pip install -r requirements-ray.txt"),
    ],
)
def test_bad_input_is_one_clear_error(cli, question, options, message):
    for extra in ("optuna", "ray"):
        if f"requirements-{extra}" in message and importlib.util.find_spec(extra):
            pytest.skip(f"{extra} is installed")
    code, _, err = cli(question, **options)
    assert code == 1
    assert err.startswith("error: ") and message in err
    assert len(err.splitlines()) == 1
    assert not list(Path().rglob("*.csv"))


def test_rows_go_where_they_are_to_lie(cli, monkeypatch):
    asked = []

    def call_each(call, items, *, tell):
        asked.extend(items)
        yield from ()

    monkeypatch.setattr(sweep, "_call_each", lambda processes, ray: call_each)
    code, out, err = cli("sample_efficiency", tasks=("cartpole",), arms=("dreaming",), seeds=2, root=Path("again"))
    assert (code, out, err) == (0, "2 runs to make; the others have rows already\n", "")
    assert {job.results for job in asked} == {Path("again/sample_efficiency/results/cartpole.csv")}


def test_a_search_says_what_was_best(cli, monkeypatch):
    pytest.importorskip("optuna")
    monkeypatch.setattr(
        test_study.run_module, "build", lambda config, **_: runs.parts("gymnax")._replace(config=config)
    )
    monkeypatch.setitem(PRESETS, "tiny", test_study.SPACE.base)
    base = changed(test_study.SPACE.base, {"run.preset": "tiny"})
    monkeypatch.setattr(runs_of("sample_efficiency"), "SPACE", dataclasses.replace(test_study.SPACE, base=base))
    monkeypatch.setattr(sweep, "_call_each", lambda processes, ray: here)
    code, out, err = cli("sample_efficiency", trials=1)
    assert (code, err) == (0, "")
    begins, ends, best, command = out.splitlines()
    assert begins.startswith("1 of 1 trials to begin and 0 to go on with in the study sample_efficiency-")
    assert ends.startswith("tiny, trial 0: deployed return ") and ends.endswith("[1/1, 0 s left]")
    assert best.startswith("best of 1: trial 0, deployed return ")
    _, _, module, *words = shlex.split(command)
    assert (module, words[0]) == ("scripts.train", "tiny")
    assert of_preset(train.Train, words, program="train")[1].config.update.learning_rate != base.update.learning_rate
    assert Path("runs/studies/sample_efficiency.db").exists()
    code, out, err = cli("sample_efficiency", trials=1)
    assert out.splitlines()[0].startswith("0 of 1 trials to begin and 0 to go on with")
    assert out.splitlines()[-1] == command
