import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from dreamer.core import trees
from dreamer.io import CheckpointError, Checkpoints, FactLog, Log, RunFolderError
from dreamer.wake import Deployed
from dreamer.wake.envs import EnvConfig, KnobsConfig
from dreamer.wake.explore import make_explore
from dreamer.wake.host_session import HostSession
from experiments import PRESETS, resume, run
from experiments.build import build
from experiments.diary import DivergedError
from experiments.fields import changed
from experiments.honesty import NUM_DECISIONS
from experiments.recover import Past, saved_state
from experiments.results import rows_of
from tests import runs

PLACES = {  # (where, call, whether it was done by then)
    "before anything was stored": (FactLog, "append", 0, False),
    "after the first day": (FactLog, "append", 0, True),
    "before the first checkpoint": (Log, "write", 1, True),
    "in the first checkpoint": (Checkpoints, "save", 0, False),
    "after the first checkpoint": (Checkpoints, "save", 0, True),
    "two days after a checkpoint": (FactLog, "append", 5, True),
    "before the last checkpoint": (Checkpoints, "save", 2, False),
    "before the deployment": (Deployed, "save", 0, False),
}


def start_and_interrupt(monkeypatch, suite, folder, *, at):
    place, method, call, done = PLACES[at]
    with (
        runs.interrupt(monkeypatch, place, method, call=call, done=done),
        pytest.raises(KeyboardInterrupt),
    ):
        runs.start(suite, folder)


def newest_checkpoint(folder):
    return max((folder / "checkpoints").glob("day-*"))


@pytest.mark.parametrize(
    ("suite", "at"),
    [("gymnax", at) for at in PLACES]
    + [("gymnasium", at) for at in ("after the first day", "in the first checkpoint", "two days after a checkpoint")],
)
def test_a_resumed_run_equals_the_uninterrupted_one(monkeypatch, tmp_path, suite, at):
    folder = tmp_path / "run"
    start_and_interrupt(monkeypatch, suite, folder, at=at)
    result = resume(folder, parts=runs.parts(suite))
    assert result.messages == []
    runs.assert_same_run(suite, result, runs.finished(suite))
    assert (folder / "deployed.safetensors").exists()
    assert runs.parts(suite).step.program._cache_size() == 1


@pytest.mark.learn
def test_a_run_resumed_among_its_last_nights_equals_the_uninterrupted_one(monkeypatch, tmp_path):
    base = runs.config("gymnax")
    settings = dataclasses.replace(
        base,
        loop=dataclasses.replace(base.loop, final_updates=7, final_night=3),  # three nights without a day
        update=dataclasses.replace(base.update, reset_every=8),  # 24 updates while it lives
    )
    wired = build(settings)
    whole = run(runs.in_folder(settings, tmp_path / "whole"), parts=wired)
    assert (whole.meters.real, whole.meters.updates) == (48, 31)
    log = runs.rows(whole.folder)
    assert [row["updates"] for row in log[-4:]] == [24, 27, 30, 31]
    assert ["student_return" in row for row in log[-4:]] == [False] * 3 + [True]  # the last is of the end
    assert [row["final"] for row in rows_of(whole.folder, arm="dreaming")].count(1) == 1
    for call in (2, 3):  # after the last day's checkpoint, and after that of the first night without a day
        folder = tmp_path / str(call)
        with runs.interrupt(monkeypatch, Checkpoints, "save", call=call, done=True), pytest.raises(KeyboardInterrupt):
            run(runs.in_folder(settings, folder), parts=wired)
        resumed = resume(folder, parts=wired)
        assert resumed.messages == []
        runs.assert_same_run("gymnax", resumed, whole)
    assert wired.step.program._cache_size() == 1


@pytest.mark.parametrize("suite", runs.SUITES)
def test_interrupted_twice(monkeypatch, tmp_path, suite):
    folder = tmp_path / "run"
    start_and_interrupt(monkeypatch, suite, folder, at="before the first checkpoint")
    with (
        runs.interrupt(monkeypatch, FactLog, "append", call=1, done=True),
        pytest.raises(KeyboardInterrupt),
    ):
        resume(folder, parts=runs.parts(suite))
    runs.assert_same_run(suite, resume(folder, parts=runs.parts(suite)), runs.finished(suite))


@pytest.mark.parametrize("suite", runs.SUITES)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(monkeypatch, tmp_path, suite):
    folder = tmp_path / "run"
    start_and_interrupt(monkeypatch, suite, folder, at="two days after a checkpoint")
    damaged = newest_checkpoint(folder)
    assert damaged.name == "day-00000004"
    (damaged / "about.json").write_text("{}")
    result = resume(folder, parts=runs.parts(suite))
    assert len(result.messages) == 1
    assert str(damaged) in result.messages[0]
    runs.assert_same_run(suite, result, runs.finished(suite))


def test_a_host_run_uses_its_facts_and_does_not_live_them_again(monkeypatch, tmp_path):
    folder = tmp_path / "run"
    start_and_interrupt(monkeypatch, "gymnasium", folder, at="two days after a checkpoint")
    shutil.rmtree(newest_checkpoint(folder))  # of night 4; that of night 2 stays, and five recorded days more
    lived, live = [], HostSession.live
    monkeypatch.setattr(HostSession, "live", lambda *args: lived.append(args[2]) or live(*args))
    result = resume(folder, parts=runs.parts("gymnasium"))
    # Evaluations live decision by decision, and the model's honesty is measured in one stretch.
    assert sorted(steps for steps in lived if steps != 1) == [NUM_DECISIONS]
    runs.assert_same_run("gymnasium", result, runs.finished("gymnasium"))


@pytest.mark.parametrize("suite", runs.SUITES)
def test_a_finished_run_stays_as_it_is(tmp_path, suite):
    done = runs.finished(suite)
    folder = tmp_path / "run"
    shutil.copytree(done.folder, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    result = resume(folder, parts=runs.parts(suite))
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    assert before == after
    assert result.meters == done.meters
    runs.assert_same_run(suite, result, done)


def unseeded(monkeypatch):
    """CartPole from starts that no seed brings back."""
    original, entropy = CartPoleEnv.reset, np.random.default_rng(0)

    def reset(self, *, seed=None, options=None):
        return original(self, seed=int(entropy.integers(2**31)), options=options)

    monkeypatch.setattr(CartPoleEnv, "reset", reset)


def test_an_environment_that_cannot_be_replayed_begins_new_episodes(monkeypatch, tmp_path):
    unseeded(monkeypatch)
    folder, wired = tmp_path / "run", runs.parts("gymnasium")
    start_and_interrupt(monkeypatch, "gymnasium", folder, at="before the first checkpoint")  # two or three days stored
    lived = runs.facts(folder)
    with (
        runs.interrupt(monkeypatch, FactLog, "append", call=0, done=True),
        pytest.raises(KeyboardInterrupt),
    ):
        resume(folder, parts=wired)
    result = resume(folder, parts=wired)

    assert len(result.messages) == 1
    assert "CartPole-v1 could not be brought back" in result.messages[0]
    assert result.meters.real == 48
    stored = runs.facts(folder)
    assert [day for day, _, _ in stored] == list(range(runs.NUM_DAYS))
    breaks = [day for day, continues, _ in stored if not continues]
    assert breaks == [len(lived), len(lived) + 1]  # once for each interruption
    for left, right in zip(lived, stored, strict=False):
        jax.tree.map(np.testing.assert_array_equal, left, right)
    days = Past(wired, FactLog.open(folder / "facts")).days
    for day in breaks:
        ended = days[day - 1].terminated[-1] | days[day - 1].truncated[-1]
        assert ended.all()  # no sequence of the replay runs over the break


def rewrite_facts(folder, change):
    """Replaces the days of a run by `change(day, trajectory)`, as if another machine had lived them."""
    log = FactLog.open(folder / "facts")
    records = list(log.read())
    shutil.rmtree(folder / "facts")
    rewritten = FactLog.create(folder / "facts", log.spec, log.num_envs)
    for day, continues, trajectory in records:
        rewritten.append(day, change(day, trajectory), continues=continues)


def test_facts_count_where_the_device_lives_a_day_otherwise(monkeypatch, tmp_path):
    folder, wired = tmp_path / "run", runs.parts("gymnax")
    start_and_interrupt(monkeypatch, "gymnax", folder, at="before the last checkpoint")
    shutil.rmtree(newest_checkpoint(folder))  # night 2 stays: days 3, 4 and 5 are to be lived again
    rewrite_facts(folder, lambda day, lived: lived.replace(reward=lived.reward + (day == 3)))
    before = runs.facts(folder)
    result = resume(folder, parts=wired)
    assert "could not be brought back" in result.messages[0]
    assert result.meters.real == 48
    for left, right in zip(before, runs.facts(folder), strict=True):
        jax.tree.map(np.testing.assert_array_equal, left, right)


def test_new_days_after_facts_of_another_machine_are_a_new_life(monkeypatch, tmp_path):
    folder, wired = tmp_path / "run", runs.parts("gymnax")
    start_and_interrupt(monkeypatch, "gymnax", folder, at="after the first checkpoint")
    shutil.rmtree(folder / "checkpoints")
    rewrite_facts(folder, lambda day, lived: lived.replace(reward=lived.reward + (day == 1)))
    before = runs.facts(folder)
    result = resume(folder, parts=wired)
    assert len(result.messages) == 1
    stored = runs.facts(folder)
    assert [continues for _, continues, _ in stored] == [True] * len(before) + [False] + [True] * 2
    for left, right in zip(before, stored, strict=False):
        jax.tree.map(np.testing.assert_array_equal, left, right)
    assert wired.step.program._cache_size() == 1


@pytest.mark.parametrize("suite", [pytest.param("gymnax", marks=pytest.mark.learn), "gymnasium"])
def test_frames_on_the_host_make_the_same_run_interrupted_or_not(monkeypatch, tmp_path, suite):
    base = runs.config(suite)
    settings = dataclasses.replace(base, replay=dataclasses.replace(base.replay, placement="host"))
    wired = build(settings)
    with (
        runs.interrupt(monkeypatch, FactLog, "append", call=5, done=True),  # the checkpoint is of two days before
        pytest.raises(KeyboardInterrupt),
    ):
        run(runs.in_folder(settings, tmp_path / "run"), parts=wired)
    wired.frames.release()  # another process begins with an empty ring
    result = resume(tmp_path / "run", parts=wired)
    runs.assert_same_run(suite, result, runs.finished(suite))
    assert wired.step.program._cache_size() == 1  # both runs share the ring, and what was compiled for it


@pytest.mark.parametrize("suite", ["gymnax", pytest.param("gymnasium", marks=pytest.mark.learn)])
def test_what_is_left_to_chance_is_lived_and_resumes_bit_for_bit(monkeypatch, tmp_path, suite):
    loop = dataclasses.replace(runs.config().loop, actor="student", epsilon=0.5, spell=4)
    settings = runs.config(suite, loop=loop)
    wired = build(settings)
    whole = run(runs.in_folder(settings, tmp_path / "whole"), parts=wired)
    lived = np.concatenate([trajectory.action for _, _, trajectory in runs.facts(whole.folder)])
    explore, everything, nothing = make_explore(0.5, spell=4), jnp.ones((2, 2), bool), jnp.full(2, -1)
    chance = np.stack(
        [explore(jnp.uint32(settings.seed), jnp.full(2, life), everything, nothing) for life in range(24)]
    )
    assert 0 < (chance >= 0).sum() < chance.size
    np.testing.assert_array_equal(lived[chance >= 0], chance[chance >= 0])
    with (
        runs.interrupt(monkeypatch, FactLog, "append", call=4, done=True),
        pytest.raises(KeyboardInterrupt),
    ):
        run(runs.in_folder(settings, tmp_path / "cut"), parts=wired)
    runs.assert_same_run(suite, resume(tmp_path / "cut", parts=wired), whole)


def test_a_run_with_every_knob_turned_resumes_bit_for_bit(monkeypatch, tmp_path):
    knobs = KnobsConfig(continuing=True, visited_starts=0.5, reward_delay=2, drift_every=5, slip=0.2, hold=2)
    env = EnvConfig("CartPole-v1", "gymnax", num_envs=2, max_steps=9, knobs=knobs)
    settings = runs.config("gymnax", env=env, loop=dataclasses.replace(runs.config().loop, actor="student"))
    wired = build(settings)
    like = jax.eval_shape(lambda: saved_state(wired.init()))
    whole = run(runs.in_folder(settings, tmp_path / "whole"), parts=wired)
    lives = [trajectory for _, _, trajectory in runs.facts(whole.folder)]
    assert sum(day.truncated.sum() for day in lives) == 4 and not any(day.terminated.any() for day in lives)
    folder = tmp_path / "cut"
    with (
        runs.interrupt(monkeypatch, FactLog, "append", call=5, done=True),  # the checkpoint is of two days before
        pytest.raises(KeyboardInterrupt),
    ):
        run(runs.in_folder(settings, folder), parts=wired)
    shutil.copytree(folder, tmp_path / "strange")
    resumed = resume(folder, parts=wired)
    saved = [Checkpoints(result.folder / "checkpoints").restore(like).tree for result in (whole, resumed)]
    assert resumed.messages == [] and trees.digest(saved[0]) == trees.digest(saved[1])
    np.testing.assert_array_equal(resumed.student, whole.student)
    np.testing.assert_array_equal(saved[0]["session"].life, [24, 24])

    # Facts of another machine: a new episode begins, and life is not younger for it.
    rewrite_facts(tmp_path / "strange", lambda day, lived: lived.replace(reward=lived.reward + (day == 5)))
    changed = resume(tmp_path / "strange", parts=wired)
    assert "could not be brought back" in changed.messages[0]
    session = Checkpoints(changed.folder / "checkpoints").restore(like).tree["session"]
    np.testing.assert_array_equal(session.life, [24, 24])


def test_facts_that_end_before_the_checkpoint(monkeypatch, tmp_path):
    folder = tmp_path / "run"
    start_and_interrupt(monkeypatch, "gymnax", folder, at="after the first checkpoint")
    segment = folder / "facts" / "segment-000000.facts"
    segment.write_bytes(segment.read_bytes()[:-1])  # the last day, on which the checkpoint relies, is no longer whole
    with pytest.raises(CheckpointError, match=r"facts end after 2 days.*restore the facts.*day-00000002 away"):
        resume(folder, parts=runs.parts("gymnax"))
    newest_checkpoint(folder).rename(tmp_path / "away")
    result = resume(folder, parts=runs.parts("gymnax"))
    assert "is not whole" in result.messages[0]
    runs.assert_same_run("gymnax", result, runs.finished("gymnax"))


def test_a_foreign_checkpoint_is_refused(monkeypatch, tmp_path):
    folder = tmp_path / "run"
    start_and_interrupt(monkeypatch, "gymnax", folder, at="after the first checkpoint")
    shutil.rmtree(folder / "checkpoints")
    Checkpoints(folder / "checkpoints").save(2, {"learner": np.zeros(3)}, {})
    with pytest.raises(CheckpointError, match="belongs to another configuration"):
        resume(folder, parts=runs.parts("gymnax"))


def test_no_run_folder(tmp_path):
    with pytest.raises(RunFolderError, match="There is no run folder"):
        resume(tmp_path / "nothing")


def test_parts_of_another_experiment_are_refused(monkeypatch, tmp_path):
    folder = tmp_path / "run"
    start_and_interrupt(monkeypatch, "gymnax", folder, at="before anything was stored")
    with pytest.raises(ValueError, match="wired for another config"):
        resume(folder, parts=runs.parts("gymnasium"))


def test_a_loss_that_is_not_finite_stops_before_a_checkpoint(tmp_path):
    folder, wired, nights = tmp_path / "run", runs.parts("gymnax"), []

    def poisoned(state, num_updates, *, store, live_on):
        nights.append(num_updates)
        if len(nights) == 5:  # the fourth night, which a checkpoint would follow
            ruined = jax.tree.map(lambda leaf: leaf * np.float32(np.nan), state.learner.params)
            state = state.replace(learner=state.learner.replace(params=ruined))
        return wired.step(state, num_updates, store=store, live_on=live_on)

    config = runs.config("gymnax", folder)
    with pytest.raises(DivergedError, match=r"night 4 of .*loss.* not finite.*--update.learning-rate"):
        runs.run(config, parts=wired._replace(step=poisoned))
    assert Checkpoints(folder / "checkpoints").days == [2]
    assert len(runs.facts(folder)) == 5
    assert [row["day"] for row in runs.rows(folder)] == [1, 2, 3]
    assert not (folder / "deployed.safetensors").exists()
    result = resume(folder, parts=wired)  # the fault is mended, but the day that a ruined agent lived is a fact
    assert "could not be brought back" in result.messages[0]
    assert result.meters.real == 48
    assert trees.all_finite(runs.learned("gymnax", folder)["learner"].params)


def test_a_broken_observation_leaves_the_facts_intact(monkeypatch, tmp_path):
    folder, wired = tmp_path / "run", runs.parts("gymnasium")
    steps, original = [], CartPoleEnv.step

    def step(self, action):
        steps.append(action)
        obs, *rest = original(self, action)
        return (obs * np.nan if len(steps) == 21 else obs, *rest)  # two copies: in the third day

    with monkeypatch.context() as patch:
        patch.setattr(CartPoleEnv, "step", step)
        with pytest.raises(ValueError, match=r"CartPole-v1, copy \d, step \d+: the observation holds NaN"):
            runs.start("gymnasium", folder)
    assert len(runs.facts(folder)) == 2
    result = resume(folder, parts=wired)
    assert result.messages == []
    runs.assert_same_run("gymnasium", result, runs.finished("gymnasium"))


def test_the_watcher_hears_of_every_night(monkeypatch, tmp_path):
    heard = []
    result = runs.start("gymnax", tmp_path / "run", watch=heard.append)
    assert [progress.meters.real for progress in heard] == [0, 8, 16, 24, 32, 40, 48]
    assert {progress.folders for progress in heard} == {(tmp_path / "run",)}
    assert [progress.student_return is None for progress in heard] == [True] * 3 + [False] * 4
    assert [progress.evaluated_after for progress in heard] == [0] * 3 + [24] * 3 + [48]
    assert heard[-1].student_return == result.student.mean()
    assert dataclasses.replace(heard[-1].meters, seconds=0) == dataclasses.replace(result.meters, seconds=0)


@pytest.mark.learn
@pytest.mark.parametrize("name", ["atari100k-v1", "atari100k-v2"])
def test_a_preset_of_the_papers_goes_on_with_all_of_its_parts(monkeypatch, tmp_path, name):
    """Pictures, augmentation, priorities, value prefix, bfloat16, lagged copies and updates after the last day."""
    made = changed(
        PRESETS[name],
        {
            "name": "small",
            "env": EnvConfig("Breakout-MinAtar", "gymnax", num_envs=2, frame_stack=2),
            "loop.real_transitions": 48,
            "loop.steps_per_day": 4,
            "loop.learn_after": 16,
            "loop.dream_ratio": 2,
            "loop.batch_size": 4,
            "loop.final_updates": 3,
            "replay.capacity": 64,
            "search.num_simulations": 4,
            "search.num_considered": 2,
            "update.warmup_updates": 4,
            "update.fall_after": 10,
            "update.target_period": 5,
            "model.num_channels": 8,
            "model.lstm_size": 8,
            "model.projection_size": 8,
            "model.predictor_size": 8,
            "evaluation.episodes": 2,
            "evaluation.every": 48,
            "evaluation.max_steps": 20,
            "run.wandb": "disabled",
            "run.checkpoint_every": 16,
        },
    )
    parts = build(made)
    whole = run(runs.in_folder(made, tmp_path / "whole"), parts=parts)
    with runs.interrupt(monkeypatch, FactLog, "append", call=4, done=True), pytest.raises(KeyboardInterrupt):
        run(runs.in_folder(made, tmp_path / "cut"), parts=parts)
    resumed = resume(tmp_path / "cut", parts=parts)
    like = jax.eval_shape(lambda: saved_state(parts.init()))
    trained = [Checkpoints(one.folder / "checkpoints").restore(like).tree for one in (whole, resumed)]
    assert trees.digest(trained[0]) == trees.digest(trained[1])
    assert runs.rows(whole.folder) == runs.rows(resumed.folder)
    assert whole.meters.updates == made.loop.num_updates
