"""The probe ladder: worlds whose answers are known, learned by the whole engine; and controls that must not learn."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.loop import days_and_nights
from dreamer.wake.envs import JaxEnv
from experiments.build import build
from tests import tiny, toys

GAMMA = 0.9


class Rung(NamedTuple):
    """What is true of a world, at the states that its agent decides in."""

    env: JaxEnv
    obs: list
    value: list
    action: list | None
    real_transitions: int = 300


RUNGS = {
    "constant reward": Rung(toys.constant_reward(), [[0.0]], [1], None),
    "predictable reward": Rung(toys.predictable_reward(), [[-1.0], [1.0]], [-1, 1], None),
    "delayed reward": Rung(toys.delayed_reward(), [[0.0], [1.0]], [GAMMA, 1], None),
    "action matters": Rung(toys.action_matters(), [[0.0]], [1], [1]),
    "obs and action": Rung(toys.obs_and_action(), [[-1.0], [1.0]], [1, 1], [0, 1]),
    "corridor": Rung(toys.corridor(4), np.eye(4), GAMMA ** np.arange(3, -1, -1), [1, 1, 1, 1], 1500),
}


def learn(rung, *, evaluate=True, **changes):
    """Returns the student's policy [S, A] and value [S], the reward [S] dreamed of its best actions, and its scores."""
    config = tiny.config(
        **{
            "loop": {"real_transitions": rung.real_transitions, "dream_ratio": 16, "batch_size": 16},
            "replay": {"capacity": 100},  # forgets what it did before it knew better
            "update": {"learning_rate": 3e-3},
            **changes,
        }
    )
    parts = build(config, env=rung.env)
    for event in days_and_nights(parts.step, parts.init(), config=config.loop, cost_of=parts.cost_of):
        learner = event.state.learner

    @jax.jit
    def ask(params, obs):
        latent = parts.model.observe(params.model, obs)
        thought = parts.agent.evaluate(params.agent, (), latent)
        best = jnp.argmax(thought.logits, axis=-1)
        return jax.nn.softmax(thought.logits), thought.value, parts.model.step(params.model, latent, best)[1]

    policy, value, reward = ask(learner.params, jnp.asarray(rung.obs, jnp.float32))
    scores = parts.evaluate["student"](learner, 0) if evaluate else None
    return np.asarray(policy), np.asarray(value), np.asarray(reward), scores


def check(rung):
    policy, value, _, scores = learn(rung)
    np.testing.assert_allclose(value, rung.value, atol=0.15)
    if rung.action is not None:
        assert (policy[np.arange(len(policy)), rung.action] > 0.8).all()
        np.testing.assert_allclose(scores.mean(), max(rung.value), atol=0.01)


def test_climbs_to_where_the_best_action_depends_on_the_observation():
    check(RUNGS["obs and action"])


@pytest.mark.learn
@pytest.mark.parametrize("name", sorted(set(RUNGS) - {"obs and action"}))
def test_climbs(name):
    check(RUNGS[name])


def test_without_a_policy_loss_the_policy_stays_uniform_while_the_rest_is_learned():
    rung = RUNGS["obs and action"]
    policy, value, _, _ = learn(rung, evaluate=False, fit={"policy_weight": 0.0})
    np.testing.assert_array_equal(policy, np.full((2, 2), 0.5))
    np.testing.assert_allclose(value, rung.value, atol=0.3)  # the planner's by day


@pytest.mark.learn
def test_a_reward_that_depends_on_nothing_is_worth_nothing():
    world = RUNGS["obs and action"].env

    def lottery(key, state, action):
        state, obs, _, *ends = world.step(key, state, action)
        return state, obs, jax.random.rademacher(key, (), jnp.float32), *ends

    rung = RUNGS["obs and action"]._replace(env=world._replace(step=lottery))
    _, value, reward, _ = learn(rung, evaluate=False, replay={"capacity": 300})
    np.testing.assert_allclose(value, 0, atol=0.5)
    np.testing.assert_allclose(reward, 0, atol=0.5)
