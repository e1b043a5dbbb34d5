import functools
import shutil

import imageio.v3 as iio
import jax
import numpy as np
import pytest

from dreamer.core.keys import stream
from dreamer.core.types import Meters
from dreamer.io import CheckpointError, RunFolder, RunFolderError
from dreamer.wake.envs import EnvConfig, KnobsConfig
from experiments.build import build
from experiments.config import to_dict
from experiments.diary import deploy
from experiments.evaluate import evaluate, film, honesty
from experiments.run import resume
from tests import runs, tiny, toys


@pytest.fixture(scope="module")
def breakout(tmp_path_factory):
    """A run folder with an agent that never learned, which is enough to be filmed."""
    config = tiny.config(env=EnvConfig("Breakout-MinAtar", "gymnax", max_steps=30))
    parts = build(config)
    folder = RunFolder.create(tmp_path_factory.mktemp("breakout"), to_dict(config), parts.spec)
    deploy(parts, parts.init().learner, Meters(), version=0).save(folder.deployed)
    folder.close()
    return folder.path


@pytest.mark.parametrize("suite", runs.SUITES)
def test_equal_seeds_meet_equal_episodes(suite):
    folder = runs.finished(suite).folder
    returns = evaluate(folder, num_episodes=4, seed=1)
    np.testing.assert_array_equal(evaluate(folder, num_episodes=4, seed=1), returns)
    np.testing.assert_array_equal(evaluate(folder, num_episodes=2, seed=1), returns[:2])
    assert (evaluate(folder, num_episodes=4, seed=2) != returns).any()


def test_the_planner_needs_a_checkpoint_and_the_student_does_not(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(runs.finished("gymnasium").folder, folder)
    student = evaluate(folder, num_episodes=2)
    planner = evaluate(folder, planner=True, num_episodes=2)
    assert student.shape == planner.shape == (2,)
    about = folder / "checkpoints" / "day-00000006" / "about.json"
    about.write_text("{}")
    with pytest.raises(CheckpointError, match="No checkpoint .* can be read"):  # and no older one in its place
        evaluate(folder, planner=True)
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(CheckpointError, match="does not hold a checkpoint"):
        evaluate(folder, planner=True)
    np.testing.assert_array_equal(evaluate(folder, num_episodes=2), student)


def test_what_cannot_be_measured(tmp_path):
    done = runs.finished("gymnax").folder
    with pytest.raises(ValueError, match="episodes is 0: give 1 or more"):
        evaluate(done, num_episodes=0)
    with pytest.raises(RunFolderError, match="There is no run folder"):
        evaluate(tmp_path / "nothing")
    unfinished = shutil.copytree(done, tmp_path / "unfinished")
    (unfinished / "deployed.safetensors").unlink()
    with pytest.raises(ValueError, match="has not deployed an agent yet.*--resume"):
        evaluate(unfinished)


def test_a_world_that_was_handed_to_a_run_is_not_taken_for_the_one_that_its_config_names(tmp_path):
    config = tiny.config()
    RunFolder.create(tmp_path / "own", to_dict(config), toys.constant_reward().spec).close()
    for measure in (evaluate, functools.partial(evaluate, planner=True), honesty, resume):
        with pytest.raises(
            ValueError,
            match="own lived in constant-reward, but what was made for it is CartPole-v1: your own",
        ):
            measure(tmp_path / "own")


def test_a_run_measures_its_agent_in_the_task_under_the_rules_in_force():
    env = EnvConfig(
        "CartPole-v1", "gymnax", num_envs=1, knobs=KnobsConfig(continuing=True, reward_delay=3, drift_every=10)
    )
    parts = build(tiny.config(env=env), toys.action_matters())  # +1 for the one action, -1 for the other
    student = functools.partial(parts.evaluate["student"], parts.init().learner)
    first = student(0)
    assert abs(first).tolist() == [1.0] * 4  # one decision, paid at the end that training never tells of
    for real in (1, 10, 11, 20, 21, 31, 41, 51):  # an untrained student always does the same
        period = (real - 1) // 10
        meaning = jax.random.permutation(stream(0, "drift", 0, period), 2) if period else np.arange(2)
        np.testing.assert_array_equal(student(real), first if meaning[0] == 0 else -first)


def test_a_folder_measures_its_agent_under_the_rules_in_force(tmp_path):
    config = tiny.config(env=EnvConfig("Catch-bsuite", "gymnax", num_envs=1, knobs=KnobsConfig(drift_every=10)))
    parts, returns = build(config), []
    for real in (10, 11):
        with RunFolder.create(tmp_path / str(real), to_dict(config), parts.spec) as folder:
            deploy(parts, parts.init().learner, Meters(real=real), version=0).save(folder.deployed)
        returns.append(evaluate(folder.path, num_episodes=16))
    assert (returns[0] != returns[1]).any()


def lean(frame):
    """Columns of the picture that the pole stands in."""
    return np.ptp(np.argwhere((abs(frame.astype(int) - (202, 152, 101)) < 12).all(axis=-1))[:, 1])


def test_a_film_of_a_gymnasium_episode_ends_with_its_last_state(tmp_path, capfd):
    folder = runs.finished("gymnasium").folder
    path, total = film(folder, tmp_path / "films" / "episode.gif", seed=3)
    assert total == evaluate(folder, num_episodes=1, seed=3)[0]
    frames = iio.imread(path)
    assert frames.shape[1:] == (400, 600, 3)
    assert total / 2 < len(frames) <= total + 1  # a picture of each state; equal ones become one that stays longer
    assert lean(frames[-1]) > lean(frames[0]) + 10  # it has fallen
    assert capfd.readouterr() == ("", "")


def test_a_film_of_a_gymnax_episode(tmp_path, breakout):
    path, total = film(breakout, tmp_path / "episode.gif", seed=1)
    assert total == evaluate(breakout, num_episodes=1, seed=1)[0]
    frames = iio.imread(path)
    assert frames.shape[1:] == (240, 240, 3)
    assert 2 < len(frames) <= 31
    assert (frames[0] != frames[-1]).any()


def test_what_cannot_be_filmed(tmp_path, breakout):
    with pytest.raises(ValueError, match="gymnax CartPole-v1 draws nothing: leave out --film"):
        film(runs.finished("gymnax").folder, tmp_path / "episode.gif")
    with pytest.raises(ValueError, match="give a name that ends in .gif or .mp4"):
        film(breakout, tmp_path / "episode.avi")
    assert list(tmp_path.iterdir()) == []
