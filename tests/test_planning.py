"""A teacher that plans: what search makes of a policy that knows nothing, in a dream of a job."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.core.ports import Agent
from dreamer.core.types import Evaluation
from dreamer.loop import DreamedWorld, PlanConfig
from dreamer.loop.planning import Place, _planner, plan
from dreamer.sleep.search import SearchConfig
from dreamer.wake.envs import EnvConfig, JobWorldConfig
from dreamer.wake.envs.jobworld import as_seen, of_codebook, prompts, view

WORLD = JobWorldConfig(num_keys=3, num_answers=3, chain_length=2, slack=4)
ANSWERS = jnp.array([2, 0, 1], jnp.int32)


def dream(answers=ANSWERS, world=WORLD):
    env = of_codebook(EnvConfig("JobWorld-v0", "jobworld", jobworld=world), answers)
    return DreamedWorld(env, at=functools.partial(as_seen, world, answers), judge=None, sure=None, shortest=2)


def answering(right_prob, answers=ANSWERS, world=WORLD):
    """An agent that gives the right answer with this probability, and shares out the rest; its memory goes unread."""

    def evaluate(params, memory, obs):
        right = jax.nn.one_hot(answers[jnp.maximum(view(world, obs).key, 0)], world.num_answers)
        probs = right * right_prob + (1 - right) * (1 - right_prob) / (world.num_answers - 1)
        return Evaluation(jnp.log(probs), jnp.zeros(len(obs)), ())

    return Agent(init=None, evaluate=evaluate, value_loss=None, remember=None)


def planned(agent, world, obs, config=None):
    config = config or PlanConfig(SearchConfig(num_simulations=64), num_rollouts=16)
    return np.asarray(jax.jit(lambda: plan(config, agent, {}, (), world=world, obs=obs, key=jax.random.key(0)))())


def test_who_knows_nothing_works_out_the_answers_of_the_dream():
    obs = prompts(WORLD)
    knows_nothing = answering(1 / 3)
    policy = planned(knows_nothing, dream(), obs)
    np.testing.assert_array_equal(policy.argmax(axis=-1), ANSWERS)
    assert policy[jnp.arange(3), ANSWERS].min() > 0.6  # a third before
    other = jnp.array([1, 2, 0], jnp.int32)  # what is worked out is the dream's, right or wrong
    np.testing.assert_array_equal(planned(knows_nothing, dream(other), obs).argmax(axis=-1), other)


def test_where_nothing_matters_the_plan_is_the_policy():
    lost = JobWorldConfig(num_keys=3, num_answers=3, chain_length=2, slack=4, error="dead_end")
    obs = prompts(lost).at[:, -1].set(1.0)
    assert bool(view(lost, obs).lost.all())
    policy = planned(answering(0.6, world=lost), dream(world=lost), obs)
    np.testing.assert_allclose(policy.max(axis=-1), 0.6, rtol=1e-5)


def test_a_leaf_is_worth_the_discounted_return_of_acting_on():
    config = PlanConfig(gamma=0.9, num_rollouts=2000)
    world = dream()
    obs = prompts(WORLD)[:1]
    place = Place(
        jax.vmap(world.at)(jax.random.split(jax.random.key(1), 1), obs), obs, jax.random.split(jax.random.key(2), 1)
    )

    def worth(right_prob):
        agent = _planner(config, answering(right_prob), world.env)
        return float(jax.jit(lambda: agent.evaluate({}, (), place).value[0])())

    assert worth(1.0) == pytest.approx(0.9)  # paid at the second decision
    p, g = 0.5, 0.9  # the second right answer at decision n of 6: n - 1 ways for the first
    by_hand = sum((n - 1) * p**2 * (1 - p) ** (n - 2) * g ** (n - 1) for n in range(2, 7))
    assert worth(p) == pytest.approx(by_hand, abs=0.02)


def test_a_plan_in_a_world_of_chance_is_the_same_for_the_same_key():
    chance = JobWorldConfig(num_keys=3, num_answers=3, chain_length=2, slack=4, error="dead_end", dead_end_prob=0.5)
    world, obs, agent = dream(world=chance), prompts(chance), answering(1 / 3, world=chance)
    config = PlanConfig(num_rollouts=2)
    one, same = (planned(agent, world, obs, config) for _ in range(2))
    np.testing.assert_array_equal(one, same)
    # A row's plan does not depend on who is planned for beside it, but for the key that its place gives it.
    assert one.shape == (3, 3) and np.isfinite(one).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gamma": 0.0}, "plan.gamma is 0.0"),
        ({"num_rollouts": 0}, "plan.num_rollouts is 0"),
        ({"search": SearchConfig(relative_q_range=0.3)}, "plan.search.relative_q_range is 0.3"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PlanConfig(**settings)
