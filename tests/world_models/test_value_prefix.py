import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.actor_critic import make_actor_critic
from dreamer.core import supports
from dreamer.core.types import Params
from dreamer.sleep.search import SearchConfig, make_search
from tests import tiny
from world_models.efficientzero import EfficientZeroConfig, make_efficientzero
from world_models.efficientzero.dynamics import first_prefix, prefix_targets

HORIZON, DEPTH = 5, 12
SPEC = tiny.spec(obs_shape=(3, 2, 1), num_actions=1)
RESIDUAL = dataclasses.replace(
    tiny.MODEL, torso="residual", num_channels=3, reduced_channels=2, hidden_size=4, value_prefix=HORIZON, lstm_size=4
)
CONFIGS = {"dense": dataclasses.replace(RESIDUAL, torso="dense"), "residual": RESIDUAL}

once = functools.partial(jax.jit, compiler_options=tiny.QUICK)


def test_targets_by_hand():
    reward = jnp.array([[1.0, 2, 3, 4, 5], [0, -1, 0, 2, 0]])
    np.testing.assert_array_equal(prefix_targets(reward, 2), [[1, 3, 3, 7, 5], [0, -1, 0, 2, 0]])
    np.testing.assert_array_equal(prefix_targets(reward, 3), [[1, 3, 6, 4, 9], [0, -1, -1, 2, 2]])
    np.testing.assert_array_equal(prefix_targets(reward, 1), reward)
    np.testing.assert_array_equal(prefix_targets(reward, 9), np.cumsum(reward, axis=1))


def test_every_row_of_targets_counts_for_itself():
    reward = jax.random.normal(jax.random.key(0), (4, 7))
    together = prefix_targets(reward, 3)
    alone = jnp.concatenate([prefix_targets(row[None], 3) for row in reward])
    np.testing.assert_array_equal(together, alone)


@functools.cache
def path(torso):
    """Model, shaken params, and what is met on a path of DEPTH steps: latents before, latents after and rewards."""
    model = make_efficientzero(SPEC, CONFIGS[torso], num_unroll_steps=DEPTH)
    obs = jax.random.normal(jax.random.key(0), (2, *SPEC.obs_shape))

    @once
    def run(key):
        params = tiny.shaken(model.init(key, obs))

        def once(latent, _):
            after, reward, continuation = model.step(params, latent, jnp.zeros(2, jnp.int32))
            return after, (latent, after, reward, continuation)

        return params, jax.lax.scan(once, model.observe(params, obs), length=DEPTH)[1]

    return model, obs, *run(jax.random.key(1))


@pytest.mark.parametrize("torso", CONFIGS)
def test_rewards_are_differences_of_prefixes_that_start_again(torso):
    *_, (_, after, reward, _) = path(torso)
    prefix = np.asarray(after.recurrent.value)
    before = np.concatenate([np.zeros((1, 2)), prefix[:-1]])
    before[::HORIZON] = 0  # the parent's depth is a multiple of the horizon, the root's 0 among them
    np.testing.assert_array_equal(reward, prefix - before.astype(np.float32))
    np.testing.assert_array_equal(after.recurrent.depth, np.arange(1, DEPTH + 1)[:, None] * np.ones((1, 2)))
    assert np.diff(prefix, axis=0).all()  # or it would say nothing


@functools.cache
def stepped():
    return once(path("dense")[0].step)


@pytest.mark.parametrize(("depth", "forgets"), [(0, True), (4, False), (5, True), (6, False), (10, True)])
def test_a_restart_forgets_all_of_the_way_there(depth, forgets):
    model, _, params, (before, _, reward, _) = path("dense")
    here = jax.tree.map(lambda x: x[depth], before)
    blank = here.replace(recurrent=first_prefix(CONFIGS["dense"], 2))
    after, again, _ = stepped()(params, blank, jnp.zeros(2, jnp.int32))
    assert np.allclose(again, reward[depth], atol=1e-5) == forgets
    np.testing.assert_array_equal(after.recurrent.depth, 1)


@pytest.mark.parametrize("torso", CONFIGS)
def test_search_sees_the_same_rewards(torso):
    # One action: the tree is the path. Simulation n backs up n discounted rewards, for untrained values are 0.
    model, obs, params, (*_, reward, continuation) = path(torso)
    agent = make_actor_critic(SPEC, tiny.AGENT)
    search = make_search(model, agent, SearchConfig(num_simulations=DEPTH), gamma=0.9)

    @once
    def run(params, keys):
        root = model.observe(params, obs)
        mask, agent_params = jnp.ones((2, 1), bool), agent.init(keys[0], root)
        return search(
            Params(params, agent_params), (), root, mask, keys, explore=0.0, return_spread=0.0, progress=0.0
        ).value

    reach = np.cumprod(np.concatenate([np.ones((1, 2)), 0.9 * continuation[:-1]]), axis=0)
    returns = np.cumsum(reach * reward, axis=0)
    value = run(params, jax.random.split(jax.random.key(2), 2))
    np.testing.assert_allclose(value, returns.sum(axis=0) / (DEPTH + 1), rtol=1e-4, atol=1e-5)


def test_unroll_learns_the_sums_along_the_same_path():
    model, obs, params, (_, after, _, _) = path("dense")
    reward = jax.random.normal(jax.random.key(3), (2, DEPTH))
    batch = tiny.sequence(jnp.repeat(obs[:, None], DEPTH + 1, 1), jnp.zeros((2, DEPTH)), reward=reward, num_actions=1)

    @once
    def run(params, reward):
        latents, _, metrics = model.unroll(params, None, batch.replace(reward=reward))
        return latents, metrics["reward_loss"]

    latents, loss = run(params, reward)
    np.testing.assert_allclose(latents.recurrent.value[:, 1:], after.recurrent.value.T, atol=1e-4)
    np.testing.assert_array_equal(latents.recurrent.depth[0], np.arange(DEPTH + 1))
    # Rewards that differ only before a restart change only the sums up to it.
    _, other = run(params, reward.at[:, 3].add(0.5))
    changed = [prefix_targets(each, HORIZON) for each in (reward, reward.at[:, 3].add(0.5))]
    np.testing.assert_array_equal((changed[0] != changed[1])[0], np.isin(np.arange(DEPTH), [3, 4]))
    assert loss != other


def test_untrained_it_says_nothing():
    model = make_efficientzero(SPEC, CONFIGS["dense"], num_unroll_steps=1)
    obs = jnp.ones((2, *SPEC.obs_shape))
    params = once(model.init)(jax.random.key(0), obs)
    latent, reward, continuation = once(model.step)(params, model.observe(params, obs), jnp.zeros(2, jnp.int32))
    np.testing.assert_array_equal(reward, 0)
    np.testing.assert_array_equal(latent.recurrent.value, 0)
    np.testing.assert_array_equal(continuation, 0.5)


def test_a_prefix_is_decoded_before_it_is_subtracted():
    *_, (_, after, reward, _) = path("dense")
    support = CONFIGS["dense"].reward_support
    prefix = after.recurrent.value
    squashed = supports.transform(support, prefix)
    wrong = supports.inverse(support, squashed[1:] - squashed[:-1])
    assert not np.allclose(reward[1:HORIZON], wrong[: HORIZON - 1], atol=1e-3)


def test_a_negative_horizon_is_refused():
    with pytest.raises(ValueError, match="model.value_prefix is -1: give 0 or more"):
        EfficientZeroConfig(value_prefix=-1)
