import functools

import jax
import jax.numpy as jnp
import mctx
import numpy as np
import pytest

from agents.actor_critic import make_actor_critic
from dreamer.core.types import Params
from dreamer.sleep.search import SearchConfig, _Extra, completed_q, make_search
from tests import tiny
from world_models.efficientzero import make_efficientzero


def softmax(logits):
    return np.asarray(jax.nn.softmax(jnp.asarray(logits, jnp.float32)))


def random_prior(world, seed=0):
    return np.random.default_rng(seed).normal(size=world.shape)


def test_finds_a_distant_reward_that_neither_policy_nor_value_knows_of():
    found = tiny.search_states(tiny.corridor(length=4), SearchConfig(num_simulations=40))
    np.testing.assert_array_equal(found.action[:4], [1, 1, 1, 1])
    assert (found.policy[:4, 1] > 0.8).all()
    # Past the end nothing is to be had, and nothing is wanted.
    np.testing.assert_array_equal(found.policy[4], [0.5, 0.5])
    assert found.value[4] == 0


def test_three_steps_where_the_first_reward_misleads():
    # Action 0 pays 1 now and nothing later; action 1 pays nothing, nothing, and then 2: 0.9 ** 2 * 2 = 1.62.
    world = tiny.World(
        next_state=np.array([[3, 1], [3, 2], [3, 3], [3, 3], [4, 4]]),
        reward=np.array([[1.0, 0], [0, 0], [0, 2], [0, 0], [0, 0]]),
        continuation=np.ones((5, 2)),
        gamma=0.9,
    )
    np.testing.assert_allclose(world.best_q()[0], [1, 1.62])
    found = tiny.search_states(world, SearchConfig(num_simulations=40))
    np.testing.assert_array_equal(found.action[:3], [1, 1, 1])
    assert found.policy[0, 1] > 0.5


def test_policy_is_improved_given_the_true_value_of_the_prior():
    world = tiny.random_worlds()
    logits = random_prior(world)
    prior = softmax(logits)
    found = tiny.search_states(world, SearchConfig(num_simulations=12), logits=logits, value=world.value_of(prior))
    np.testing.assert_allclose(found.policy.sum(axis=1), 1, rtol=1e-5)
    before, after = world.value_of(prior), world.value_of(found.policy)
    assert (after >= before - 1e-5).all()
    assert (after - before).mean() > 0.5 * (world.best_q().max(axis=1) - before).mean()


def test_one_look_at_each_action_plans_the_best_given_the_best_values():
    world = tiny.random_worlds(seed=1)
    best_q = world.best_q()
    found = tiny.search_states(world, SearchConfig(num_simulations=3), value=best_q.max(axis=1))
    np.testing.assert_array_equal(found.visits, 1)
    regret = best_q.max(axis=1) - best_q[np.arange(len(best_q)), found.action]
    np.testing.assert_allclose(regret, 0, atol=1e-5)
    normalised = (best_q - best_q.min(axis=1, keepdims=True)) / np.ptp(best_q, axis=1, keepdims=True)
    np.testing.assert_allclose(found.policy, softmax(5.1 * normalised), atol=1e-4)


def test_root_value_is_the_mean_of_own_value_and_backups_and_an_end_cuts_what_follows():
    # Three rewards of 1 and the end; past the end lies a treasure that must not count, however often it is reached.
    world = tiny.World(
        next_state=np.array([[1], [2], [3], [3]]),
        reward=np.array([[1.0], [1], [1], [1000]]),
        continuation=np.array([[1.0], [1], [0], [1]]),
        gamma=0.5,
    )
    errors = []
    for num_simulations in (4, 24):
        found = tiny.search_states(world, SearchConfig(num_simulations=num_simulations), states=[0])
        backups = [0, 1, 1.5] + [1.75] * (num_simulations - 2)
        np.testing.assert_allclose(found.value, [np.mean(backups)], rtol=1e-5)
        errors.append(1.75 - found.value[0])
    assert errors[1] < 0.25 * errors[0]


def test_root_value_tends_to_the_true_value_of_the_action_considered():
    world, errors = tiny.random_worlds(seed=2), []
    best_q = world.best_q()
    logits = 10 * np.eye(world.shape[1])[best_q.argmax(axis=1)]
    for num_simulations in (4, 48):
        config = SearchConfig(num_simulations=num_simulations, num_considered=1)
        found = tiny.search_states(world, config, logits=logits)
        errors.append(np.abs(found.value - best_q.max(axis=1)).mean())
    assert errors[1] < 0.4 * errors[0]


@pytest.mark.parametrize(
    ("num_simulations", "num_considered", "expected"),
    [
        (16, 4, [6, 6, 2, 2]),  # 4 x 2, then 2 x 4
        (32, 16, [4] * 4 + [2] * 4 + [1] * 8),  # 16 x 1, 8 x 1, then what is left: 4 x 2
    ],
)
def test_sequential_halving_gives_visits_to_the_better_half(num_simulations, num_considered, expected):
    num_actions = num_considered + 1  # the last action is never considered: its prior is the lowest
    world = tiny.bandit(np.linspace(1, 0, num_actions))
    config = SearchConfig(num_simulations=num_simulations, num_considered=num_considered)
    found = tiny.search_states(world, config, logits=-0.01 * np.arange(num_actions)[None])
    np.testing.assert_array_equal(found.visits[0], [*expected, 0])
    assert found.action == 0


@pytest.mark.parametrize("num_rows", [40, 3])
def test_a_row_never_sees_its_neighbours(num_rows):
    world = tiny.random_worlds(seed=3)
    num_states, num_actions = world.shape
    rng = np.random.default_rng(0)
    mask = rng.random((num_states, num_actions)) < 0.8
    mask[:, 0] = True
    keys = jax.random.split(jax.random.key(4), num_states)
    given = {"logits": random_prior(world), "value": rng.normal(size=num_states), "scale": 1.0}

    def rows(states):
        config = SearchConfig(num_simulations=12)
        return tiny.search_states(world, config, states=states, mask=mask[states], keys=keys[states], **given)

    order = rng.permutation(num_states)[:num_rows]
    for alone, among in zip(jax.tree.leaves(rows(order)), jax.tree.leaves(rows(np.arange(num_states))), strict=True):
        np.testing.assert_array_equal(alone, among[order])


@functools.cache
def network_search(config, num_actions=3, batch_size=4):
    spec = tiny.spec(num_actions=num_actions)
    model = make_efficientzero(spec, tiny.MODEL, num_unroll_steps=1)
    agent = make_actor_critic(spec, tiny.AGENT)
    obs = jax.random.normal(jax.random.key(0), (batch_size, 3))

    @jax.jit
    def init():
        model_params = model.init(jax.random.key(1), obs)
        return Params(model_params, agent.init(jax.random.key(2), model.observe(model_params, obs)))

    search = make_search(model, agent, config, gamma=0.9)

    @jax.jit
    def run(params, obs, mask, keys):
        latent = model.observe(params.model, obs)
        return search(params, (), latent, mask, keys, explore=1.0, return_spread=0.0, progress=0.0)

    mask = jnp.ones((batch_size, num_actions), bool)
    return run, init(), obs, mask, jax.random.split(jax.random.key(3), batch_size)


def test_network_rows_are_bit_for_bit_independent():
    run, params, obs, mask, keys = network_search(SearchConfig(num_simulations=6))
    params = tiny.shaken(params)
    here = run(params, obs, mask, keys)
    others = run(
        params, obs.at[1:].multiply(-3.0), mask.at[1:, 0].set(False), keys.at[1:].set(jax.random.split(keys[0], 3))
    )
    assert not np.array_equal(here.policy[1:], others.policy[1:])
    for one, other in zip(jax.tree.leaves(here), jax.tree.leaves(others), strict=True):
        np.testing.assert_array_equal(one[0], other[0])


def test_untrained_network_improves_nothing_and_says_so_exactly():
    run, params, obs, mask, keys = network_search(SearchConfig(num_simulations=6))
    found = run(params, obs, mask, keys)
    np.testing.assert_array_equal(found.policy, jax.nn.softmax(jnp.zeros(mask.shape)))
    np.testing.assert_array_equal(found.value, 0)


def test_equal_values_leave_any_prior_exactly_as_it_is():
    logits = np.array([[1.0, -0.5, 0.2]])
    found = tiny.search_states(tiny.bandit([0, 0, 0]), SearchConfig(num_simulations=6), logits=logits)
    np.testing.assert_array_equal(found.policy, softmax(logits))


def test_noise_below_the_floor_moves_the_policy_little_and_without_the_floor_decides_it():
    world, logits = tiny.bandit([0, 1e-4, -1e-4]), np.array([[0.3, 0.0, 0.1]])
    floored, floorless = (
        tiny.search_states(world, SearchConfig(num_simulations=6, **floor), logits=logits)
        for floor in ({}, {"min_q_range": 1e-8, "relative_q_range": 0.0})
    )
    prior = softmax(logits)
    assert np.abs(floored.policy - prior).max() < 0.03
    assert floorless.policy[0, 1] > 0.9 and np.abs(floorless.policy - prior).max() > 0.5


def test_relative_floor_grows_with_the_spread_of_returns():
    world, config = tiny.bandit([0.0, 0.05, 0.1]), SearchConfig(num_simulations=6)
    sharp, blunt = (tiny.search_states(world, config, spread=spread) for spread in (0.0, 100.0))
    # At most 3 visits: (50 + 3) * 0.1 = 5.3 nats over the whole range; 0.1 is 0.02 of a range of 0.05 * 100 = 5.
    np.testing.assert_allclose(np.log(sharp.policy[0, 2] / sharp.policy[0, 0]), 5.3, rtol=1e-4)
    np.testing.assert_allclose(np.log(blunt.policy[0, 2] / blunt.policy[0, 0]), 5.3 * 0.02, rtol=1e-3)


def test_masked_actions_are_never_visited_taken_or_wanted():
    num_rows, num_actions = 16, 6
    rng = np.random.default_rng(0)
    mask = rng.random((num_rows, num_actions)) < 0.4
    mask[np.arange(num_rows), rng.integers(num_actions, size=num_rows)] = True
    mask[0] = np.eye(num_actions)[3]  # one action left
    world = tiny.bandit(np.arange(num_actions))  # what is forbidden is often the best
    config = SearchConfig(num_simulations=9)
    found = tiny.search_states(world, config, states=np.zeros(num_rows, int), mask=mask, scale=1.0)
    assert (found.visits[~mask] == 0).all() and (found.policy[~mask] == 0).all()
    assert mask[np.arange(num_rows), found.action].all()
    np.testing.assert_array_equal(found.visits.sum(axis=1), 9)
    np.testing.assert_allclose(found.policy.sum(axis=1), 1, rtol=1e-5)
    assert found.policy[0, 3] == 1


def test_noise_explores_and_its_absence_does_not():
    world, states, config = tiny.bandit(np.zeros(6)), np.zeros(16, int), SearchConfig(num_simulations=9)
    quiet, noisy = (tiny.search_states(world, config, states=states, scale=scale) for scale in (0.0, 1.0))
    assert len(set(quiet.action)) == 1
    assert len(set(noisy.action)) > 3


def test_completed_q_by_hand():
    # Root 0 -a0-> node 1 -a1-> node 2; two simulations.
    # Edge Qs: root a0 = 1 + 0.5 * 4 = 3, node 1 a1 = -1 + 0.5 * 2 = 0.
    prior = jnp.log(jnp.array([[0.2, 0.3, 0.5], [0.25, 0.25, 0.5], [0.4, 0.4, 0.2]]))
    zeros = jnp.zeros((3, 3))
    tree = mctx.Tree(
        node_visits=jnp.array([3, 2, 1]),
        raw_values=jnp.array([0.6, 5.0, 2.0]),
        node_values=jnp.array([0.0, 4.0, 2.0]),
        parents=jnp.array([-1, 0, 1]),
        action_from_parent=jnp.array([-1, 0, 1]),
        children_index=jnp.array([[1, -1, -1], [-1, 2, -1], [-1, -1, -1]]),
        children_prior_logits=prior,
        children_visits=jnp.array([[2, 0, 0], [0, 1, 0], [0, 0, 0]]),
        children_rewards=zeros.at[0, 0].set(1.0).at[1, 1].set(-1.0),
        children_discounts=zeros.at[0, 0].set(0.5).at[1, 1].set(0.5),
        children_values=zeros.at[0, 0].set(4.0).at[1, 1].set(2.0),
        embeddings=(jnp.ones(3),),
        root_invalid_actions=jnp.zeros(3),
        extra_data=_Extra(jnp.zeros(3), jax.random.key(0), jnp.float32(0.01)),
    )
    scale, config = 0.1, SearchConfig()
    # Root: v_mix = (0.6 + 2 * 3) / 3 = 2.2; the range over the whole tree is 0 to 3.
    np.testing.assert_allclose(
        completed_q(tree, jnp.int32(0), config=config), (50 + 2) * scale * np.array([1, 2.2 / 3, 2.2 / 3]), rtol=1e-5
    )
    # Node 1: v_mix = (5 + 1 * 0) / 2 = 2.5.
    np.testing.assert_allclose(
        completed_q(tree, jnp.int32(1), config=config), (50 + 1) * scale * np.array([2.5 / 3, 0, 2.5 / 3]), rtol=1e-5
    )
    # Node 2 has no child yet: its own value for all, so nothing is preferred.
    np.testing.assert_allclose(completed_q(tree, jnp.int32(2), config=config), 50 * scale * 2 / 3, rtol=1e-5)
    wide = tree.replace(extra_data=_Extra(jnp.zeros(3), jax.random.key(0), jnp.float32(6.0)))
    np.testing.assert_allclose(completed_q(wide, jnp.int32(0), config=config)[0], (50 + 2) * scale / 2, rtol=1e-5)


def test_bad_settings_are_refused_by_name():
    with pytest.raises(ValueError, match=r"num_considered is 4, but the environment has 3 actions"):
        tiny.search_states(tiny.bandit([0, 0, 0]), SearchConfig(num_considered=4))
    for bad in ({"num_simulations": 0}, {"num_considered": 0}, {"min_q_range": 0.0}, {"relative_q_range": -1.0}):
        with pytest.raises(ValueError, match=f"search.{next(iter(bad))}"):
            SearchConfig(**bad)


def test_what_lies_past_an_end_does_not_blunt_the_choice_before_it():
    # Both actions end life, one with reward 1; past the end a model may dream anything, here rewards of +-100.
    def world(past):
        return tiny.World(
            np.array([[1, 2], [1, 1], [2, 2]]),
            np.array([[0, 1.0], [past, -past], [past, -past]]),
            np.array([[0.0, 0], [1, 1], [1, 1]]),
            0.9,
        )

    settings = SearchConfig(num_simulations=16)
    clean, dirty = (tiny.search_states(world(p), settings, states=[0]) for p in (0.0, 100.0))
    np.testing.assert_allclose(dirty.policy, clean.policy, rtol=1e-5)
