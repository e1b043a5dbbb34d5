import dataclasses
import os

import jax
import numpy as np
import pytest

from agents.acting import make_student
from dreamer.core.types import Transition
from dreamer.io import FactLog, RunFolder, RunFolderError, read_log
from dreamer.loop import days_and_nights
from dreamer.wake import Deployed, host_session, session
from dreamer.wake.envs import make_host
from experiments import resume, run
from experiments.build import build
from experiments.diary import _require_finite, deploy
from tests import runs, tiny


@pytest.mark.parametrize("suite", runs.SUITES)
def test_everything_is_in_the_folder(suite):
    result = runs.finished(suite)
    folder = RunFolder.open(result.folder)
    assert folder.config_hash == result.config.hash()
    assert folder.spec == runs.parts(suite).spec
    assert {path.name for path in result.folder.iterdir()} == {
        ".lock", "config.json", "log.jsonl", "facts", "checkpoints", "deployed.safetensors",
    }  # fmt: skip
    log = read_log(folder.log)
    assert [row["day"] for row in log] == list(range(1, runs.NUM_DAYS + 1))
    assert [row["real"] for row in log] == [8 * (1 + day) for day in range(runs.NUM_DAYS)]
    assert [row["updates"] for row in log] == [4 * (1 + day) for day in range(runs.NUM_DAYS)]
    assert all(row["replayed"] == 4 * row["updates"] for row in log)  # the dream ratio, 2, to the update
    assert ["student_return" in row for row in log] == [False, False, True, False, False, True]
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == ["day-00000004", "day-00000006"]
    assert Deployed.load(folder.deployed).meters == dataclasses.asdict(result.meters)


@pytest.mark.parametrize("suite", runs.SUITES)
def test_facts_are_one_life_without_a_gap(suite):
    facts = FactLog.open(runs.finished(suite).folder / "facts")
    days = [day for _, _, day in facts.read()]
    assert facts.num_envs * sum(len(day.reward) for day in days) == 48
    rows = jax.tree.map(lambda *leaves: np.concatenate(leaves), *days)
    goes_on = ~(rows.terminated | rows.truncated)[:-1]
    assert not goes_on.all()  # some episode ended
    np.testing.assert_array_equal(rows.obs[1:][goes_on], rows.next_obs[:-1][goes_on])
    assert (rows.obs[1:][~goes_on] != rows.next_obs[:-1][~goes_on]).any(axis=-1).all()


@pytest.mark.parametrize("suite", runs.SUITES)
def test_the_program_is_traced_once(suite):
    runs.finished(suite)
    assert runs.parts(suite).step.program._cache_size() == 1


def test_seeds_share_a_program_and_live_other_lives(tmp_path):
    wired = runs.parts("gymnax")
    assert wired.step.program._cache_size() <= 1
    state = dataclasses.replace(wired.init(), seed=jax.numpy.uint32(5))
    events = days_and_nights(wired.step, state, config=wired.config.loop, cost_of=wired.cost_of)
    last = [jax.device_get(event.lived) for event in events][-2]
    assert wired.step.program._cache_size() == 1
    assert (last.obs != runs.facts(runs.finished("gymnax").folder)[-1][2].obs).any()


@pytest.mark.parametrize("suite", runs.SUITES)
def test_the_deployed_agent_is_the_student(suite):
    result, wired = runs.finished(suite), runs.parts(suite)
    deployed = Deployed.load(result.folder / "deployed.safetensors")
    learner = runs.learned(suite, result.folder)["learner"]
    obs = np.random.default_rng(0).normal(size=(50, *wired.spec.obs_shape)).astype(np.float32)
    mask = np.ones((50, 2), bool)
    student = jax.jit(make_student(wired.model, wired.agent, greedy=True))
    expected, _ = student((learner.params, learner.return_spread, 1.0), None, obs, mask, ())
    np.testing.assert_array_equal(deployed.act(obs), expected)
    logits = wired.agent.evaluate(learner.params.agent, (), wired.model.observe(learner.params.model, obs)).logits
    np.testing.assert_allclose(deployed.evaluate(obs)[0], logits, rtol=1e-5, atol=1e-6)
    assert np.std(logits) > 0

    def act(params, keys, obs, action_mask, memory):
        return deployed.act(np.asarray(obs), np.asarray(action_mask)), memory

    seed = int(session.evaluation_seed(result.config.seed, 48))  # the round of the final evaluation
    config = dataclasses.replace(result.config.env, num_envs=3)
    env = make_host(config, seed)
    np.testing.assert_array_equal(host_session.host_episode_returns(env, act, (), seed=seed), result.student)
    env.close()


def test_only_what_acts_is_deployed():
    wired = runs.parts("gymnax")
    deployed = deploy(wired, wired.init().learner, runs.finished("gymnax").meters, version=0)
    names = list(deployed.params)
    assert any("encoder" in name for name in names)
    assert not any(word in name for name in names for word in ("dynamics", "projector"))
    assert sum(array.size for array in deployed.params.values()) < sum(
        leaf.size for leaf in jax.tree.leaves(wired.init().learner.params)
    )


def test_an_existing_folder_is_refused(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="already holds something. Pass another --run.folder"):
        runs.start("gymnax", folder)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_an_unwritable_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot be written .*Pass a --run.folder that you may write to"):
        runs.start("gymnax", tmp_path / "file" / "run")
    with pytest.raises(RunFolderError, match="cannot be written"):
        runs.start("gymnax", tmp_path / "file")


def test_a_run_in_progress_is_not_disturbed(tmp_path):
    folder, errors = tmp_path / "run", []

    def watch(progress):
        if progress.meters.real == 8:
            for other in (lambda: runs.start("gymnax", folder), lambda: resume(folder, parts=runs.parts("gymnax"))):
                with pytest.raises(RunFolderError) as caught:
                    other()
                errors.append(str(caught.value))

    runs.assert_same_run("gymnax", runs.start("gymnax", folder, watch=watch), runs.finished("gymnax"))
    assert len(errors) == 2
    assert all(f"Process {os.getpid()} is writing the run folder {folder}" in error for error in errors)


def test_folders_without_a_name_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = f"runs/tiny-{runs.config('gymnax').hash()}-seed0"
    (tmp_path / base).mkdir(parents=True)
    stop = KeyboardInterrupt()

    def watch(progress):
        raise stop

    with pytest.raises(KeyboardInterrupt):
        run(runs.config("gymnax"), parts=runs.parts("gymnax"), watch=watch)
    assert (tmp_path / f"{base}-2" / "config.json").exists()


def test_nothing_is_made_where_the_settings_do_not_fit(tmp_path):
    config = runs.in_folder(tiny.config(search=dict(num_considered=3)), tmp_path / "run")
    with pytest.raises(ValueError, match="give at most 2"):
        run(config)
    assert not (tmp_path / "run").exists()


def test_parts_of_another_experiment_are_refused(tmp_path):
    with pytest.raises(ValueError, match="wired for another config"):
        run(dataclasses.replace(runs.config("gymnax", tmp_path / "run"), seed=3), parts=runs.parts("gymnax"))


def test_parts_are_closed_by_whoever_made_them(tmp_path, monkeypatch):
    wired = build(runs.config("gymnasium"))
    closed = []
    monkeypatch.setattr(type(wired.host.session.env), "close", lambda env: closed.append(env))
    wired.close()
    assert closed == [wired.host.session.env]
    runs.parts("gymnax").close()  # nothing to free


@pytest.mark.parametrize("field", ["obs", "reward", "next_obs"])
def test_a_day_with_numbers_that_are_none_is_refused_before_it_is_stored(field):
    shapes = {"obs": (3, 2, 4), "next_obs": (3, 2, 4)}
    arrays = {f.name: np.zeros(shapes.get(f.name, (3, 2)), np.float32) for f in dataclasses.fields(Transition)}
    _require_finite(Transition(**arrays), 7, "World-v0")
    arrays[field][1, 0] = np.nan
    with pytest.raises(ValueError, match=f"World-v0, day 7, decision 1, copy 0: {field} holds NaN.* not stored"):
        _require_finite(Transition(**arrays), 7, "World-v0")
