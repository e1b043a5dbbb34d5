"""Several seeds in one program: each is the run that it would have been alone, but for rounding."""

import dataclasses
import functools
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.core import mesh
from dreamer.core.types import Transition
from dreamer.io import FactLog, RunFolder
from dreamer.wake import Deployed
from experiments import PRESETS, resume, run_seeds
from experiments.bench import seeds_together
from experiments.build import build
from experiments.config import from_dict
from scripts import train
from tests import runs, tiny

SEEDS = (0, 1)


@functools.cache
def group():
    """Both seeds, wired; compiled once for all tests."""
    return build(runs.config("gymnax"), num_seeds=len(SEEDS))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The results of a group. Nothing may be written into their folders."""
    config = runs.config("gymnax", tmp_path_factory.mktemp("group") / "run")
    return run_seeds(config, len(SEEDS), parts=group())


def assert_close(one, other):
    jax.tree.map(lambda left, right: np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-4), one, other)


def test_each_seed_has_a_folder_as_if_it_had_been_alone(finished):
    alone = runs.finished("gymnax")
    for seed, result in zip(SEEDS, finished, strict=True):
        folder = RunFolder.open(result.folder)
        assert result.folder.name == f"run-seed{seed}"
        expected = dataclasses.replace(runs.in_folder(alone.config, result.folder), seed=seed)
        assert from_dict(folder.config) == result.config == expected
        assert folder.config_hash == alone.config.hash()
        assert {path.name for path in result.folder.iterdir()} == {path.name for path in alone.folder.iterdir()}
        assert dataclasses.replace(result.meters, seconds=0) == dataclasses.replace(alone.meters, seconds=0)
        assert Deployed.load(folder.deployed).meters == dataclasses.asdict(result.meters)
        assert [day for day, _, _ in runs.facts(result.folder)] == list(range(runs.NUM_DAYS))


def test_each_seed_is_the_run_it_would_have_been(finished):
    other = build(dataclasses.replace(runs.config("gymnax"), seed=1))  # its programs are in the compilation cache
    for wired, blank in zip((runs.parts("gymnax"), other), group().members(group().init()), strict=True):
        assert_close(wired.init().learner.params, blank.learner.params)
    alone = runs.finished("gymnax")
    assert_close(
        runs.learned("gymnax", alone.folder)["learner"].params,
        runs.learned("gymnax", finished[0].folder)["learner"].params,
    )
    for mine, its in zip(runs.rows(finished[0].folder), runs.rows(alone.folder), strict=True):
        assert_close(mine, its)
    for mine, its in zip(runs.facts(finished[0].folder), runs.facts(alone.folder), strict=True):
        assert_close(mine, its)
    assert_close(finished[0].student, alone.student)
    assert_close(finished[0].planner, alone.planner)
    assert runs.rows(finished[1].folder) != runs.rows(finished[0].folder)


def test_one_of_a_group_goes_on_alone(finished, monkeypatch, tmp_path):
    with runs.interrupt(monkeypatch, FactLog, "append", call=9, done=True), pytest.raises(KeyboardInterrupt):
        run_seeds(runs.config("gymnax", tmp_path / "run"), len(SEEDS), parts=group())  # on day 4 of the second seed
    alone = RunFolder.open(tmp_path / "run-seed0")
    assert len(FactLog.open(alone.facts).days) == 5
    result = resume(alone.path, parts=runs.parts("gymnax")._replace(config=from_dict(alone.config)))
    assert result.meters.real == 48
    if not result.messages:  # it lived the recorded day again, bit for bit
        for mine, its in zip(runs.rows(alone.path), runs.rows(finished[0].folder), strict=True):
            assert_close(mine, its)


def test_what_is_not_done_is_not_computed():
    wired = group()
    program = jax.make_jaxpr(wired.step.program)(wired.init(), jnp.int32(0), jnp.bool_(True), jnp.bool_(True))
    (inner,) = program.eqns
    conditions = [equation for equation in inner.params["jaxpr"].eqns if equation.primitive.name == "cond"]
    assert [equation.invars[0].aval.shape for equation in conditions] == [(), ()]  # `store` and `live_on`


def test_members_of_one_and_of_several():
    tree = {"a": np.arange(6).reshape(2, 3)}
    assert runs.parts("gymnax").members(tree)[0] is tree
    first, second = group().members(tree)
    np.testing.assert_array_equal(first["a"], [0, 1, 2])
    np.testing.assert_array_equal(second["a"], [3, 4, 5])


@pytest.mark.parametrize(
    ("suite", "num_seeds", "message"),
    [
        ("gymnasium", 2, "num_seeds is 2, but gymnasium environments .* give 1, .* scripts.sweep"),
        ("gymnax", 0, "num_seeds is 0: give 1 or more"),
    ],
)
def test_groups_that_cannot_be(tmp_path, suite, num_seeds, message):
    with pytest.raises(ValueError, match=message):
        run_seeds(runs.config(suite, tmp_path / "run"), num_seeds)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("num_seeds", "num_devices"), [(2, 1), (1, 2)])
def test_frames_on_the_host_are_of_one_seed_on_one_device(monkeypatch, num_seeds, num_devices):
    monkeypatch.setattr("experiments.build.devices_for", lambda *_, **__: mesh.ONE._replace(num=num_devices))
    message = f"replay.placement is 'host', but {num_seeds} seeds on {num_devices} devices .*: give device, or one seed"
    with pytest.raises(ValueError, match=message):
        build(tiny.config(replay={"placement": "host"}), num_seeds=num_seeds)


def test_parts_of_another_group_are_refused(tmp_path):
    with pytest.raises(ValueError, match="wired for another config"):
        run_seeds(runs.config("gymnax", tmp_path / "run"), 3, parts=group())


def command_line(monkeypatch, *words):
    monkeypatch.setitem(PRESETS, "tiny", runs.config("gymnax"))
    monkeypatch.setattr(train, "run_seeds", functools.partial(run_seeds, parts=group()))
    monkeypatch.setattr(sys, "argv", ["train.py", "tiny", *map(str, words)])
    train.main()


def test_a_group_from_the_command_line(monkeypatch, tmp_path, capfd):
    command_line(monkeypatch, "--num-seeds", 2, "--run.folder", tmp_path / "run")
    out, err = capfd.readouterr()
    assert err == ""
    assert [line.split()[-1] for line in out.splitlines() if line.startswith("run folder")] == [
        str(tmp_path / f"run-seed{seed}") for seed in SEEDS
    ]
    assert "seeds 0 to 1" in out
    assert "Returns are means over 2 seeds of 3 episodes each" in out


def test_an_interrupted_group_tells_how_to_go_on(monkeypatch, tmp_path, capfd):
    with (
        runs.interrupt(monkeypatch, FactLog, "append", call=2, done=True),
        pytest.raises(SystemExit),
    ):
        command_line(monkeypatch, "--num-seeds", 2, "--run.folder", tmp_path / "run")
    err = capfd.readouterr().err
    assert [f"--resume {tmp_path / f'run-seed{seed}'}" in err for seed in SEEDS] == [True, True]
    with pytest.raises(SystemExit):
        command_line(monkeypatch, "--num-seeds", 2, "--resume", tmp_path / "run-seed0")
    assert "go on with the folders of several seeds one by one" in capfd.readouterr().err


def test_the_gain_is_measured():
    what, figure, remark = seeds_together(runs.parts("gymnax"), group(), 1)
    together, alone = (float(re.search(r"([\d.,]+) updates/s", text)[1].replace(",", "")) for text in (figure, remark))
    assert what == "2 seeds in one program"
    assert float(remark.split()[0]) == pytest.approx(together / alone, rel=0.05)


def test_a_day_is_counted_once_a_seed():
    state = group().init()
    state, _ = group().step(state, 0, store=False, live_on=True)
    assert isinstance(state.pending, Transition)
    assert state.pending.reward.shape == (2, 4, 2)  # [S, T, E]
    first, second = group().members(jax.device_get(state.pending))
    assert (first.obs != second.obs).any()
