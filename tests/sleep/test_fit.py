import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.actor_critic import make_actor_critic
from agents.tabular import make_tabular_agent
from dreamer.core.types import DreamTargets, Params
from dreamer.sleep.fit import FitConfig, fit_loss
from tests import tiny
from world_models.efficientzero import make_efficientzero
from world_models.tabular import make_tabular

K, NUM_ACTIONS = 2, 3


def batch_of(num_rows=4, key=0):
    keys = jax.random.split(jax.random.key(key), 3)
    return tiny.sequence(
        jax.random.normal(keys[0], (num_rows, K + 2, 3)),
        jax.random.randint(keys[1], (num_rows, K + 1), 0, NUM_ACTIONS),
        reward=jax.random.normal(keys[2], (num_rows, K + 1)),
        num_actions=NUM_ACTIONS,
    )


def targets_of(num_rows=4):
    policy = jnp.broadcast_to(jnp.array([0.5, 0.25, 0.25]), (num_rows, K + 1, NUM_ACTIONS))
    ones = jnp.ones((num_rows, K + 1))
    return DreamTargets(policy=policy, policy_weight=ones, value=1.5 * ones, value_weight=ones)


@functools.cache
def network():
    spec = tiny.spec(num_actions=NUM_ACTIONS)
    model = make_efficientzero(spec, tiny.MODEL, num_unroll_steps=K)
    agent = make_actor_critic(spec, tiny.AGENT)

    @jax.jit
    def init(obs):
        params = model.init(jax.random.key(0), obs)
        return Params(params, agent.init(jax.random.key(1), model.observe(params, obs)))

    return model, agent, init(batch_of().obs[:, 0])


@functools.cache
def network_loss(config=FitConfig()):  # noqa: B008
    model, agent, _ = network()
    loss = functools.partial(fit_loss, model=model, agent=agent, config=config)
    return jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=tiny.QUICK)


def test_untrained_losses_are_known_numbers():
    _, _, params = network()
    (loss, (metrics, error)), _ = network_loss()(params, jax.random.key(0), batch_of(), targets_of())
    entropy = 0.5 * np.log(2) + 0.5 * np.log(4)
    known = {
        "reward_loss": np.log(31),
        "continuation_loss": np.log(2),
        "policy_loss": np.log(NUM_ACTIONS) - entropy,
        "value_loss": np.log(31),
        "value_error": 1.5,
        "value_target": 1.5,
    }
    for name, number in known.items():
        np.testing.assert_allclose(metrics[name], number, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(error, 1.5)
    total = known["reward_loss"] + known["continuation_loss"] + 2 * metrics["consistency_loss"]
    total += known["policy_loss"] + 0.25 * known["value_loss"]
    np.testing.assert_allclose(loss, total, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], loss)


def test_rows_without_weight_teach_nothing():
    _, _, params = network()
    params, batch, targets = tiny.shaken(params), batch_of(), targets_of()
    batch = batch.replace(weight=jnp.array([1.0, 1, 0, 0]))
    targets = targets.replace(
        policy_weight=targets.policy_weight.at[0, 1].set(0), value_weight=targets.value_weight.at[1, 2].set(0)
    )
    spoilt_batch = batch.replace(reward=batch.reward.at[2:].add(1), obs=batch.obs.at[2:].multiply(2))
    spoilt_targets = targets.replace(
        policy=targets.policy.at[0, 1].set(jnp.array([0, 0, 1.0])), value=targets.value.at[1, 2].set(-5)
    )
    _, clean = network_loss()(params, jax.random.key(0), batch, targets)
    _, spoilt = network_loss()(params, jax.random.key(0), spoilt_batch, spoilt_targets)
    jax.tree.map(np.testing.assert_array_equal, clean, spoilt)
    _, full = network_loss()(params, jax.random.key(0), batch_of(), targets)
    assert not np.array_equal(jax.tree.leaves(full)[0], jax.tree.leaves(clean)[0])


def corridor_loss(config, weight=1.0, mask=None):
    """Tables alone: two sequences through a corridor, values 0, logits 0; returns value and gradient."""
    world = tiny.corridor(3)
    model, agent = make_tabular(*world.tables, num_unroll_steps=1), make_tabular_agent(*world.shape)
    batch = tiny.sequence([[0, 1, 2], [2, 1, 0]], [[1, 1], [0, 0]]).replace(weight=jnp.array([1.0, weight]))
    mask = jnp.ones((2, 2)) if mask is None else jnp.asarray(mask)
    policy = jnp.broadcast_to(jnp.array([1.0, 0.0]), (2, 2, 2))
    targets = DreamTargets(policy, mask, jnp.array([[2.0, 4.0], [6.0, 8.0]]), mask)
    loss = functools.partial(fit_loss, model=model, agent=agent, config=config)
    params = Params({}, agent.init(None, None))
    (value, (metrics, error)), grad = jax.jit(jax.value_and_grad(loss, has_aux=True))(
        params, jax.random.key(0), batch, targets
    )
    return value, metrics, error, grad.agent


def test_loss_by_hand_on_tables():
    value, metrics, error, grad = corridor_loss(FitConfig(policy_weight=3.0, value_weight=0.5), weight=2.0)
    # Half squares 2, 8 | 18, 32, mean over the two positions, weighted rows 1 and 2, mean over rows.
    by_value = (0.5 * (2 + 8) / 2 + 2 * 0.5 * (18 + 32) / 2) / 2
    by_policy = (3 * np.log(2) + 2 * 3 * np.log(2)) / 2
    np.testing.assert_allclose(value, by_value + by_policy, rtol=1e-6)
    np.testing.assert_allclose(error, [2, 6])
    np.testing.assert_allclose(metrics["value_loss"], 15)
    # Row 0 visits states 0, 1 and row 1 visits 2, 1: each position counts 0.5 * weight / 2 / 2.
    np.testing.assert_allclose(grad["value"], [-2 / 8, -(4 + 2 * 8) / 8, -2 * 6 / 8, 0], rtol=1e-6)
    np.testing.assert_allclose(grad["logits"][:, 1], 3 * 0.5 * np.array([1, 3, 2, 0]) / 4, rtol=1e-6)


@pytest.mark.parametrize("silent", ["policy_weight", "value_weight"])
def test_weight_zero_silences_one_head(silent):
    *_, grad = corridor_loss(FitConfig(**{silent: 0.0}))
    names = {"policy_weight": ("logits", "value"), "value_weight": ("value", "logits")}[silent]
    np.testing.assert_array_equal(grad[names[0]], 0)
    assert (grad[names[1]] != 0).any()


def test_positions_without_weight_count_for_nothing():
    value, metrics, _, grad = corridor_loss(FitConfig(policy_weight=0.0, value_weight=1.0), mask=[[1, 0], [0, 0]])
    np.testing.assert_allclose(value, 2 / 2 / 2)
    np.testing.assert_allclose(grad["value"], [-0.5, 0, 0, 0])
    np.testing.assert_allclose(metrics["policy_loss"], np.log(2), rtol=1e-6)  # of the one row that says something


def test_negative_weights_are_refused_by_name():
    with pytest.raises(ValueError, match="fit.value_weight is -1"):
        FitConfig(value_weight=-1)


def test_a_value_that_is_not_learned_from_gives_its_row_no_priority():
    _, _, params = network()
    targets = targets_of()
    targets = targets.replace(value_weight=targets.value_weight.at[0].set(0.0).at[1].set(0.5))
    (_, (_, error)), _ = network_loss()(params, jax.random.key(0), batch_of(), targets)
    np.testing.assert_allclose(error, [0.0, 0.75, 1.5, 1.5])
