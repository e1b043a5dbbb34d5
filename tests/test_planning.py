"""A teacher that plans: what search makes of a policy that knows nothing, in a dream of a job."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.session_slot import SessionSlotConfig, make_session_slot
from dreamer.core import divergences
from dreamer.core.keys import stream
from dreamer.core.ports import Agent
from dreamer.core.types import Evaluation
from dreamer.loop import ConsolidationConfig, DreamedWorld, Learner, PlanConfig, make_day_and_night
from dreamer.loop.planning import Place, _planner, _stepped, _uses, plan
from dreamer.sleep.carriers import CarrierConfig, NapConfig, make_carrier
from dreamer.sleep.distill import DistillConfig
from dreamer.sleep.refine import RefineConfig
from dreamer.sleep.search import SearchConfig
from dreamer.sleep.teachers import TeacherConfig
from dreamer.sleep.update import UpdateConfig, init_train_state, make_optimizer
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


@pytest.mark.learn
def test_the_settings_as_they_are_suffice_for_a_chain_of_four():
    world = JobWorldConfig(slack=2)
    answers = jnp.arange(8, dtype=jnp.int32) % 4
    policy = planned(answering(1 / 4, answers, world), dream(answers, world), prompts(world), PlanConfig())
    assert (policy.argmax(axis=-1) == answers).sum() >= 6  # 2 by chance
    policy = planned(answering(0.6, answers, world), dream(answers, world), prompts(world), PlanConfig())
    np.testing.assert_array_equal(policy.argmax(axis=-1), answers)


def places(world, obs):
    keys = jax.random.split(jax.random.key(2), len(obs))
    return Place(jax.vmap(world.at)(keys, obs), obs, keys)


def test_a_leaf_is_worth_the_discounted_return_of_acting_on():
    config, world = PlanConfig(gamma=0.9, num_rollouts=2000), dream()
    place = places(world, prompts(WORLD)[:1])

    def worth(right_prob):
        agent = _planner(config, answering(right_prob), (), world.env)
        return float(jax.jit(lambda: agent.evaluate({}, (), place).value[0])())

    assert worth(1.0) == pytest.approx(0.9)  # paid at the second decision
    p, g = 0.5, 0.9  # the second right answer at decision n of 6: n - 1 ways for the first
    by_hand = sum((n - 1) * p**2 * (1 - p) ** (n - 2) * g ** (n - 1) for n in range(2, 7))
    assert worth(p) == pytest.approx(by_hand, abs=0.02)


def test_what_came_of_an_action_comes_of_it_again_and_nothing_else_shares_its_chance():
    chance = JobWorldConfig(num_keys=3, num_answers=3, chain_length=2, slack=4, error="dead_end", dead_end_prob=0.5)
    world = dream(world=chance)
    place = places(world, jnp.repeat(prompts(chance), 100, axis=0))
    wrong = (ANSWERS[view(chance, place.obs).key] + 1) % 3
    (one, _, _), (again, _, _) = (_stepped(world.env, place, wrong) for _ in range(2))
    np.testing.assert_array_equal(one.obs, again.obs)
    assert 0.4 < one.state.lost.mean() < 0.6
    other, _, _ = _stepped(world.env, place, (wrong + 1) % 3)
    keys = [place.key, one.key, other.key, *(_uses(at.key, use) for at in (place, one) for use in ("step", "rollout"))]
    drawn = np.concatenate([jax.random.key_data(key) for key in keys])
    assert len(np.unique(drawn, axis=0)) == len(drawn)


def test_a_plan_does_not_depend_on_who_is_planned_for_beside():
    obs, agent = prompts(WORLD), answering(1 / 3)
    np.testing.assert_allclose(planned(agent, dream(), obs)[:2], planned(agent, dream(), obs[:2]), rtol=1e-5)


@pytest.mark.parametrize("kind", ["search", pytest.param("veteran", marks=pytest.mark.learn)])
def test_the_label_of_a_night_is_the_plan_with_the_session_in_memory_or_without(kind):
    env = dream().env
    slot = make_session_slot(env.spec, SessionSlotConfig(num_layers=1, width=8, num_heads=2, num_slots=8))
    like = jax.eval_shape(slot.agent.init, jax.random.key(0), jnp.zeros((1, *env.spec.obs_shape)))
    rng = np.random.default_rng(1)  # nothing is learned yet, so that heads say something
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) / 2, like)
    optimizer, config = make_optimizer(UpdateConfig(), 1), PlanConfig(SearchConfig(num_simulations=4), num_rollouts=1)
    night = make_day_and_night(
        slot,
        dream=lambda key, reader: dream(),
        optimizer=optimizer,
        config=ConsolidationConfig(num_nights=1, session_length=8, states_length=6, num_updates=1),
        teacher=TeacherConfig(kind=kind),
        planning=config,
        distill=DistillConfig(),
        refine=RefineConfig(),
        carrier=make_carrier(CarrierConfig(), slot),
        nap=NapConfig(),
    )
    learner, seed, number = Learner(init_train_state(params, optimizer), params), jnp.uint32(7), jnp.int32(0)
    _, lived, metrics = jax.jit(lambda: night(learner, params, env, env, seed=seed, number=number))()

    own_seed = jax.random.bits(stream(seed, "night", number), (3,), jnp.uint32)[2]
    memories = {"search": (), "veteran": slot.recall_in(params, lived.session, 1)}
    alone = slot.agent.evaluate(params, (), lived.student.obs).logits

    def away(memory):
        same = {"world": dream(), "obs": lived.student.obs, "key": stream(own_seed, "plan")}
        policy = jax.jit(lambda: plan(config, slot.agent, params, memory, **same))()
        return float(divergences.forward_kl(policy, alone).mean())

    assert float(metrics["teacher_kl"]) == pytest.approx(away(memories.pop(kind)), rel=1e-3)
    assert float(metrics["teacher_kl"]) != pytest.approx(away(*memories.values()), rel=1e-2)


def test_calls_are_those_of_the_tree_and_of_all_rollouts():
    # 3 steps in the tree; 2 rollouts of 6 steps from the root and each of 3 leaves.
    assert PlanConfig(SearchConfig(num_simulations=3), num_rollouts=2).calls(4, 6) == 3 + 4 * 2 * 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gamma": 0.0}, "plan.gamma is 0.0"),
        ({"num_rollouts": 0}, "plan.num_rollouts is 0"),
        ({"search": SearchConfig(relative_q_range=0.3)}, "plan.search.relative_q_range is 0.3"),
        ({"search": SearchConfig(dirichlet_alpha=0.1)}, "plan.search.dirichlet_alpha is 0.1, which has no effect"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PlanConfig(**settings)
