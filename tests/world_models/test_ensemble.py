import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import ensemble as heads
from agents.actor_critic import make_actor_critic
from dreamer.core import trees
from dreamer.core.types import DreamTargets, Params
from dreamer.sleep.fit import FitConfig, fit_loss
from dreamer.sleep.imagine import members_of, values_of
from tests import tiny
from world_models.efficientzero import make_efficientzero
from world_models.ensemble import make_ensemble

M, K, B = 3, 2, 5


@functools.cache
def network():
    spec = tiny.spec(num_actions=3)
    model = make_efficientzero(spec, tiny.MODEL, num_unroll_steps=K)
    agent = make_actor_critic(spec, tiny.AGENT)
    many, minds = make_ensemble(model, M), heads.make_ensemble(agent, M)
    obs = jax.random.normal(jax.random.key(0), (B, 3))

    @functools.partial(jax.jit, compiler_options=tiny.QUICK)
    def init():
        params = tiny.shaken(many.init(jax.random.key(1), obs))
        return Params(params, tiny.shaken(minds.init(jax.random.key(2), many.observe(params, obs)), seed=1))

    return model, agent, many, minds, init(), obs


def member(tree, number):
    return jax.tree.map(lambda leaf: leaf[number], tree)


def test_each_member_is_the_model_alone_and_the_ensemble_their_mean():
    model, agent, many, minds, params, obs = network()
    action = jnp.array([0, 1, 2, 0, 1])

    @functools.partial(jax.jit, compiler_options=tiny.QUICK)
    def together(params):
        latent = many.observe(params.model, obs)
        after, *means = many.step(params.model, latent, action)
        evaluation, values = minds.evaluate(params.agent, (), after), values_of(minds, params.agent, after)
        return after, means, members_of(many, params.model, latent, action)[1:], evaluation, values

    @functools.partial(jax.jit, compiler_options=tiny.QUICK)
    def alone(own):
        latent, *means = model.step(own.model, model.observe(own.model, obs), action)
        return latent, *means, agent.evaluate(own.agent, (), latent)

    after, (reward, continuation), (each_reward, each_continuation), evaluation, values = together(params)
    own_probs = []
    for number in range(M):
        own_latent, own_reward, own_continuation, opinion = alone(member(params, number))
        np.testing.assert_allclose(after.state[:, number], own_latent.state, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(each_reward[:, number], own_reward, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(each_continuation[:, number], own_continuation, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(values[:, number], opinion.value, rtol=1e-4, atol=1e-5)
        own_probs.append(jax.nn.log_softmax(opinion.logits))
    assert (np.std(each_reward, axis=1) > 1e-3).all() and (np.std(values, axis=1) > 1e-3).all()
    np.testing.assert_allclose(reward, each_reward.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(continuation, each_continuation.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(evaluation.value, values.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(evaluation.logits, np.mean(own_probs, axis=0), rtol=1e-4, atol=1e-5)


def gradients(params, config):
    """Returns (loss, gradients) of the ensemble, and those of each member alone, on the same rows."""
    model, agent, many, minds, _, obs = network()
    obs = jnp.stack([obs, 2 * obs, obs - 1], axis=1)
    batch = tiny.sequence(obs, jnp.ones((B, K)), reward=jnp.ones((B, K)), num_actions=3)
    weight = jnp.ones((B, K + 1))
    targets = DreamTargets(jnp.full((B, K + 1, 3), 1 / 3), weight, 0.7 * weight, weight)

    def learn(params, model, agent):
        loss = functools.partial(fit_loss, model=model, agent=agent, config=config)
        return jax.value_and_grad(lambda params: loss(params, jax.random.key(0), batch, targets)[0])(params)

    @functools.partial(jax.jit, compiler_options=tiny.QUICK)
    def run(params):
        return learn(params, many, minds), jax.lax.map(lambda own: learn(own, model, agent), params)

    return run(params)


def test_the_loss_is_the_mean_of_the_members_and_each_learns_as_if_it_were_alone():
    # Without the policy, which is one: the mean of log-probabilities.
    (loss, together), (losses, alone) = gradients(network()[-2], FitConfig(policy_weight=0.0))
    np.testing.assert_allclose(loss, losses.mean(), rtol=1e-5)
    assert np.std(losses) > 0.01
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5), together, alone)
    assert trees.all_finite(together) and max(abs(leaf).max() for leaf in jax.tree.leaves(together)) > 0.01


def test_members_that_agree_learn_a_policy_as_one_alone_does():
    same = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[:1], leaf.shape), network()[-2])
    (loss, together), (losses, alone) = gradients(same, FitConfig(policy_weight=1.0))
    np.testing.assert_allclose(losses, loss, rtol=1e-5)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5), together, alone)


def test_one_member_is_no_ensemble():
    model, *_ = network()
    with pytest.raises(ValueError, match="num_members is 1"):
        make_ensemble(model, 1)
