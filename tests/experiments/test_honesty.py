import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.acting import make_student
from dreamer.io import read_log
from dreamer.sleep.targets import TargetsConfig
from dreamer.wake import envs, session
from dreamer.wake.envs import EnvConfig
from experiments.drivers import actor_of
from experiments.evaluate import honesty
from experiments.honesty import HORIZON, NUM_COPIES, NUM_DECISIONS, as_learned, columns, on_host_of
from tests import runs, tiny


@pytest.mark.parametrize("suite", runs.SUITES)
def test_a_run_reports_how_honest_its_model_is(suite):
    result = runs.finished(suite)
    *before, last = read_log(result.folder / "log.jsonl")
    assert not any("reward_error_1" in row for row in before)
    measured = result.honesty
    assert measured.num_compared[0] == NUM_COPIES * NUM_DECISIONS  # every decision, whatever ended before it
    assert (np.diff(measured.num_compared) < 0).all()
    assert set(columns(measured)) == {"reward_error", "continuation_error"}  # no ensemble, no doubt
    for name, errors in columns(measured).items():
        assert errors.shape == (HORIZON,) and (errors > 0).all()
        np.testing.assert_allclose([last[f"{name}_{step}"] for step in range(1, HORIZON + 1)], errors)


def test_both_drivers_tell_the_same():
    result, wired = runs.finished("gymnax"), runs.parts("gymnax")
    seed = int(session.evaluation_seed(result.config.seed, 48))  # the round of the final evaluation
    env = envs.make_host(envs.for_evaluation(result.config.env, NUM_COPIES), seed)
    learner = runs.learned("gymnax", result.folder)["learner"]
    student = make_student(wired.model, wired.agent, greedy=True)
    found = on_host_of(student, wired.model, result.config)(env, actor_of(result.config, learner), seed)
    env.close()
    jax.tree.map(lambda here, there: np.testing.assert_allclose(here, there, rtol=1e-4), found, result.honesty)


def test_a_model_is_held_against_what_it_was_taught():
    taught = TargetsConfig(clip_rewards=True)
    rows = tiny.sequence(jnp.zeros((1, 3, 2)), jnp.zeros((1, 2)), reward=jnp.array([[5.0, -0.5]]))
    assert taught.learned(rows).reward.tolist() == [[1.0, -1.0]] and TargetsConfig().learned(rows) is rows
    world = EnvConfig("ALE/Pong-v5", "atari", num_envs=4, frame_stack=4)
    assert world.atari.life_loss_ends and as_learned(world, 2).atari == world.atari
    assert dataclasses.replace(envs.for_evaluation(world, 2), atari=world.atari) == as_learned(world, 2)


def test_a_folder_is_measured_again():
    folder = runs.finished("gymnasium").folder
    found, other = honesty(folder, seed=1), honesty(folder, seed=2)
    jax.tree.map(np.testing.assert_array_equal, found, honesty(folder, seed=1))
    assert found.num_compared[0] == other.num_compared[0] == NUM_COPIES * NUM_DECISIONS
    assert (found.reward_error != other.reward_error).any()
