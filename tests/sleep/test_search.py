import dataclasses
import functools

import jax
import jax.numpy as jnp
import mctx
import numpy as np
import pytest

from agents.actor_critic import make_actor_critic
from dreamer.core import returns
from dreamer.core.types import Params
from dreamer.sleep.search import SearchConfig, _Extra, _puct, completed_q, make_search, puct_q
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


@pytest.mark.parametrize("method", ["gumbel", "puct"])
def test_the_tree_says_where_it_went_and_whether_life_goes_on(method):
    world = tiny.random_worlds(seed=2)
    fading = dataclasses.replace(world, continuation=np.random.default_rng(3).uniform(0.5, 1, world.shape))
    tree = tiny.search_states(fading, SearchConfig(method=method, num_simulations=10)).tree
    depths = np.zeros((world.shape[0], 11), int)
    for root in range(world.shape[0]):
        states, alive = {0: root}, {0: 1.0}
        for node in range(1, 11):
            above, action = tree.parents[root, node], tree.action_from_parent[root, node]
            states[node] = fading.next_state[states[above], action]
            alive[node] = alive[above] * fading.continuation[states[above], action]
            depths[root, node] = depths[root, above] + 1
            np.testing.assert_allclose(tree.children_rewards[root, above, action], fading.reward[states[above], action])
        np.testing.assert_allclose(tree.embeddings[root], list(alive.values()), rtol=1e-5)
    assert depths.max() > 2


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
        (16, 8, [4, 4, 2, 2, 1, 1, 1, 1]),  # 8 x 1, 4 x 1, 2 x 2
        (4, 2, [2, 2]),
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


@pytest.mark.parametrize(("num_rows", "method"), [(40, "gumbel"), (3, "gumbel"), (3, "puct")])
def test_a_row_never_sees_its_neighbours(num_rows, method):
    world = tiny.random_worlds(seed=3)
    num_states, num_actions = world.shape
    rng = np.random.default_rng(0)
    mask = rng.random((num_states, num_actions)) < 0.8
    mask[:, 0] = True
    keys = jax.random.split(jax.random.key(4), num_states)
    given = {"logits": random_prior(world), "value": rng.normal(size=num_states), "scale": 1.0}

    def rows(states):
        config = SearchConfig(method=method, num_simulations=12)
        return tiny.search_states(world, config, states=states, mask=mask[states], keys=keys[states], **given)

    order = rng.permutation(num_states)[:num_rows]
    for alone, among in zip(jax.tree.leaves(rows(order)), jax.tree.leaves(rows(np.arange(num_states))), strict=True):
        # All but the last bit: how many rows share an instruction decides how XLA rounds.
        np.testing.assert_allclose(alone, among[order], rtol=1e-5, atol=1e-6)


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


def two_step_tree():
    # Root 0 -a0-> node 1 -a1-> node 2; two simulations.
    # Edge Qs: root a0 = 1 + 0.5 * 4 = 3, node 1 a1 = -1 + 0.5 * 2 = 0.
    prior = jnp.log(jnp.array([[0.2, 0.3, 0.5], [0.25, 0.25, 0.5], [0.4, 0.4, 0.2]]))
    zeros = jnp.zeros((3, 3))
    return mctx.Tree(
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


def test_completed_q_by_hand():
    tree = two_step_tree()
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


def test_puct_q_by_hand():
    tree = two_step_tree()
    # The range over the whole tree is 0 to 3. Root: the one Q is 3, and so is the mean of those seen.
    np.testing.assert_allclose(puct_q(tree, jnp.int32(0)), [1, 1, 1])
    # Node 1: the mean is (3 + 0) / 2 = 1.5. Node 2: nothing seen, so the mean of the node above stands.
    np.testing.assert_allclose(puct_q(tree, jnp.int32(1)), [0.5, 0, 0.5])
    np.testing.assert_allclose(puct_q(tree, jnp.int32(2)), [0.5, 0.5, 0.5])
    wide = tree.replace(extra_data=_Extra(jnp.zeros(3), jax.random.key(0), jnp.float32(6.0)))
    np.testing.assert_allclose(puct_q(wide, jnp.int32(1)), [0.25, 0, 0.25])
    # A root that has seen nothing prefers nothing.
    fresh = tree.replace(children_visits=jnp.zeros((3, 3), jnp.int32))
    np.testing.assert_allclose(puct_q(fresh, jnp.int32(0)), [0, 0, 0])


def test_puct_visits_by_hand():
    # The prior's best first; then action 1, by sqrt(2) * 1.25 * p / (1 + n): 0.53 against 0.44 and 0.35. Its Q of 1
    # keeps it ahead: 0.33 + 1 against 0.54, and 0.43 + the mean 0.5.
    rewards, prior = np.array([0, 1, 0.4]), np.array([0.5, 0.3, 0.2])
    config = SearchConfig(method="puct", num_simulations=3)
    found = tiny.search_states(tiny.bandit(rewards), config, logits=np.log(prior)[None])
    np.testing.assert_array_equal(found.visits, [[1, 2, 0]])
    np.testing.assert_allclose(found.policy, [[1 / 3, 2 / 3, 0]], rtol=1e-6)
    assert found.action == 1
    np.testing.assert_allclose(found.value, [(0 + 0 + 1 + 1) / 4], rtol=1e-6)
    visits = np.zeros(3)
    for count in range(40):
        seen = visits > 0
        q = np.where(seen, rewards, rewards[seen].mean() if seen.any() else 0)
        spread = max(np.ptp(rewards[seen]), 0.01) if seen.any() else 1
        score = np.sqrt(count + 1) * prior / (1 + visits) * (1.25 + np.log((count + 1 + 19652 + 1) / 19652))
        visits[np.argmax(score + (q - (rewards[seen].min() if seen.any() else 0)) / spread)] += 1
    config = SearchConfig(method="puct", num_simulations=40)
    found = tiny.search_states(tiny.bandit(rewards), config, logits=np.log(prior)[None])
    np.testing.assert_array_equal(found.visits, [visits])


def mctx_says(world, config, *, logits, value, states):
    """What mctx's own policy finds without noise, given our Q transform."""
    tables, prior, value = tuple(jnp.asarray(t) for t in world.tables), jnp.asarray(logits), jnp.asarray(value)

    def expand(params, key, action, embedding):
        state, alive = embedding
        state, reward, continuation = tiny.TABLES.step(tables, state, action)
        discount = returns.discounts(continuation, world.gamma)
        output = mctx.RecurrentFnOutput(reward=reward, discount=discount, prior_logits=prior[state], value=value[state])
        return output, (state, alive * continuation)

    def transform(tree, node_index):
        tree = tree.replace(extra_data=_Extra(jnp.zeros(3), jax.random.key(0), jnp.float32(config.min_q_range)))
        return puct_q(tree, node_index) if config.method == "puct" else completed_q(tree, node_index, config=config)

    root = mctx.RootFnOutput(prior_logits=prior[states], value=value[states], embedding=(states, jnp.ones(len(states))))
    given = {"num_simulations": config.num_simulations, "qtransform": transform}
    if config.method == "puct":
        return mctx.muzero_policy((), jax.random.key(0), root, expand, dirichlet_fraction=0.0, **given)
    return mctx.gumbel_muzero_policy((), jax.random.key(0), root, expand, gumbel_scale=0.0, **given)


@pytest.mark.parametrize("method", ["gumbel", "puct"])
def test_agrees_with_mctx_where_the_rules_coincide(method):
    world, config = tiny.random_worlds(seed=5), SearchConfig(method=method, num_simulations=10)
    states = jnp.arange(world.shape[0])
    given = {
        "logits": random_prior(world).astype(np.float32),
        "value": np.random.default_rng(1).normal(size=world.shape[0]).astype(np.float32),
    }
    theirs = jax.jit(lambda: mctx_says(world, config, states=states, **given), compiler_options=tiny.QUICK)()
    ours = tiny.search_states(world, config, states=states, **given)
    np.testing.assert_array_equal(ours.visits, theirs.search_tree.summary().visit_counts)
    np.testing.assert_allclose(ours.value, theirs.search_tree.summary().value, rtol=1e-5)
    np.testing.assert_allclose(ours.policy, theirs.action_weights, rtol=1e-4, atol=1e-6)
    if method == "gumbel":  # PUCT's action is a draw there
        np.testing.assert_array_equal(ours.action, theirs.action)


def test_puct_finds_a_distant_reward_and_more_looks_make_it_surer():
    near, far = (
        tiny.search_states(tiny.corridor(length=4), SearchConfig(method="puct", num_simulations=n)) for n in (16, 80)
    )
    np.testing.assert_array_equal(far.action[:4], [1, 1, 1, 1])
    assert (far.policy[:4, 1] > 0.6).all() and far.policy[0, 1] > near.policy[0, 1]
    np.testing.assert_array_equal(far.visits.sum(axis=1), 80)


def test_puct_noise_is_dirichlet_over_what_is_allowed():
    logits = jnp.broadcast_to(jnp.log(jnp.array([0.6, 0.3, 0.1, 0.0])), (4000, 4))
    mask = jnp.broadcast_to(jnp.array([True, True, True, False]), (4000, 4))
    logits, keys = jnp.where(mask, logits, -1e9), jax.random.split(jax.random.key(0), 4000)
    enter = jax.jit(_puct(SearchConfig(method="puct")).enter)
    noisy = np.exp(enter(logits, mask, keys, 1.0)[0])
    np.testing.assert_allclose(noisy.sum(axis=1), 1, rtol=1e-5)
    assert (noisy[:, 3] == 0).all() and (noisy[:, :3] >= 0.75 * np.array([0.6, 0.3, 0.1]) - 1e-6).all()
    # Each share of a symmetric Dirichlet(0.3) of three has mean 1/3 and variance (1/3)(2/3) / (3 * 0.3 + 1).
    mean = 0.75 * np.array([0.6, 0.3, 0.1]) + 0.25 / 3
    np.testing.assert_allclose(noisy[:, :3].mean(axis=0), mean, atol=0.01)
    np.testing.assert_allclose(noisy[:, 0].var(), 0.25**2 * (2 / 9) / 1.9, rtol=0.1)
    quiet, gumbel, _ = enter(logits, mask, keys, 0.0)
    np.testing.assert_allclose(np.exp(quiet), [[0.6, 0.3, 0.1, 0]] * 4000, atol=1e-6)
    np.testing.assert_array_equal(gumbel, 0)


@pytest.mark.parametrize(("progress", "temperature"), [(0.0, 1.0), (0.49, 1.0), (0.5, 0.5), (0.75, 0.25), (1.0, 0.25)])
def test_puct_acts_by_visits_and_cools(progress, temperature):
    config = SearchConfig(method="puct", num_simulations=9, dirichlet_share=0.0)
    found = tiny.search_states(
        tiny.bandit([0.0, 0, 0]),
        config,
        logits=np.log([[0.47, 0.31, 0.22]]),  # no ties
        states=np.zeros(4000, int),
        keys=jax.random.split(jax.random.key(1), 4000),
        scale=1.0,
        progress=progress,
    )
    assert (found.visits == found.visits[0]).all()
    powers = found.visits[0] ** (1 / temperature)
    np.testing.assert_allclose(np.bincount(found.action, minlength=3) / 4000, powers / powers.sum(), atol=0.03)


def test_puct_takes_nothing_forbidden_and_survives_having_nothing_allowed():
    mask = np.array([[0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]], bool)
    config = SearchConfig(method="puct", num_simulations=9)
    found = tiny.search_states(tiny.bandit(np.arange(4)), config, states=[0, 0, 0], mask=mask, scale=1.0)
    assert (found.visits[:2][~mask[:2]] == 0).all() and mask[[0, 1], found.action[:2]].all()
    assert found.action[1] == 2 and found.policy[1, 2] == 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


@pytest.mark.parametrize(
    ("num_considered", "expected"),
    [(None, [2, 3, 4, 15, 16, 16]), ("by_count", [2, 2, 4, 4, 8, 8]), (2, [2] * 6)],
)
def test_how_many_actions_are_considered(num_considered, expected):
    config = SearchConfig(num_considered=num_considered)
    assert [config.considered(num_actions) for num_actions in (2, 3, 4, 15, 16, 18)] == expected


@pytest.mark.parametrize(("num_simulations", "expected"), [("by_count", [4, 4, 16, 16]), (50, [50] * 4)])
def test_how_many_simulations_there_are(num_simulations, expected):
    config = SearchConfig(num_simulations=num_simulations)
    assert [config.simulations(num_actions) for num_actions in (2, 3, 4, 18)] == expected


def test_by_count_few_actions_are_searched_as_if_the_counts_had_been_given():
    world = tiny.bandit([0.0, 1.0, 2.0])
    given = dict(logits=[[0.0, 1.0, 2.0]], states=[0])
    counted = tiny.search_states(world, SearchConfig(num_simulations="by_count", num_considered="by_count"), **given)
    named = tiny.search_states(world, SearchConfig(num_simulations=4, num_considered=2), **given)
    np.testing.assert_array_equal(counted.visits, [[0, 2, 2]])
    jax.tree.map(np.testing.assert_array_equal, counted, named)


def test_bad_settings_are_refused_by_name():
    with pytest.raises(ValueError, match=r"num_considered is 4, but the environment has 3 actions"):
        tiny.search_states(tiny.bandit([0, 0, 0]), SearchConfig(num_considered=4))
    for bad in (
        {"num_simulations": 0},
        {"num_considered": 0},
        {"min_q_range": 0.0},
        {"relative_q_range": -1.0},
        {"method": "alpha"},
        {"prior_weight": 0.0},
        {"dirichlet_share": 1.5},
        {"dirichlet_alpha": 0.0},
        {"temperatures": ()},
        {"temperatures": (1.0, 0.0)},
        {"cool_at": (0.5,)},
        {"cool_at": (0.75, 0.5)},
    ):
        with pytest.raises(ValueError, match=f"search.{next(iter(bad))}"):
            SearchConfig(**bad)


@pytest.mark.parametrize("method", ["gumbel", "puct"])
def test_what_lies_past_an_end_does_not_blunt_the_choice_before_it(method):
    # Both actions end life, one with reward 1; past the end a model may dream anything, here rewards of +-100.
    def world(past):
        return tiny.World(
            np.array([[1, 2], [1, 1], [2, 2]]),
            np.array([[0, 1.0], [past, -past], [past, -past]]),
            np.array([[0.0, 0], [1, 1], [1, 1]]),
            0.9,
        )

    settings = SearchConfig(method=method, num_simulations=16)
    clean, dirty = (tiny.search_states(world(p), settings, states=[0]) for p in (0.0, 100.0))
    np.testing.assert_allclose(dirty.policy, clean.policy, rtol=1e-5)
