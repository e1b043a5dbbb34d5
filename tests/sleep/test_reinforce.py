"""Baselines by hand: advantages within groups, the policy gradient, cloning, and the gate between them."""

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.core import divergences
from dreamer.sleep import reinforce

advantage = jax.jit(reinforce.group_advantage, static_argnums=2)


def test_group_advantage_by_hand():
    returns, group = jnp.array([1.0, 5.0, 3.0, 4.0, 0.0]), jnp.array([0, 3, 0, 1, 3])
    np.testing.assert_allclose(advantage(returns, group, False), [-1, 2.5, 1, 0, -2.5], rtol=1e-6)
    # Standard deviations 1 and 2.5; a group of one has neither better nor worse.
    np.testing.assert_allclose(advantage(returns, group, True), [-1, 1, 1, 0, -1], rtol=1e-5)


def test_group_advantages_cancel_and_normalised_ones_forget_the_scale():
    returns = jax.random.normal(jax.random.key(0), (8,))
    group = jnp.array([0, 1, 0, 1, 0, 1, 0, 1])
    for normalise in (False, True):
        found = advantage(returns, group, normalise)
        np.testing.assert_allclose(jax.ops.segment_sum(found, group, 2), [0, 0], atol=1e-5)
    np.testing.assert_allclose(advantage(100 * returns + 3, group, True), found, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(jax.ops.segment_sum(found**2, group, 2), [4, 4], rtol=1e-4)


def test_a_group_in_which_all_did_equally_well_teaches_nothing():
    np.testing.assert_array_equal(advantage(jnp.array([2.0, 2.0, 0.0]), jnp.array([0, 0, 2]), True), 0)


LOGITS = jnp.log(jnp.array([[0.25, 0.75], [0.5, 0.5]]))
ACTION = jnp.array([0, 1])


def test_losses_by_hand():
    loss = reinforce.reinforce_loss(LOGITS, ACTION, jnp.array([2.0, -1.0]))
    np.testing.assert_allclose(loss, [2 * np.log(4), -np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(reinforce.clone_loss(LOGITS, ACTION), [np.log(4), np.log(2)], rtol=1e-6)


def test_the_policy_gradient_is_advantage_times_what_was_done_minus_what_is_usual():
    weight = jnp.array([2.0, -1.0])
    student, stopped = jax.grad(lambda z, a: reinforce.reinforce_loss(z, ACTION, a).sum(), (0, 1))(LOGITS, weight)
    done = jax.nn.one_hot(ACTION, 2)
    np.testing.assert_allclose(student, -weight[:, None] * (done - jax.nn.softmax(LOGITS)), atol=1e-6)
    np.testing.assert_array_equal(stopped, 0)
    # A uniform advantage is cloning, and cloning is forward KL from the action taken.
    clone = reinforce.clone_loss(LOGITS, ACTION)
    np.testing.assert_allclose(reinforce.reinforce_loss(LOGITS, ACTION, jnp.ones(2)), clone)
    np.testing.assert_allclose(divergences.forward_kl(done, LOGITS), clone, rtol=1e-6)


def test_masked_actions_leave_gradients_finite():
    logits = jnp.array([[0.0, -jnp.inf, 1.0], [0.0, -1e9, 1.0]])
    action = jnp.array([0, 2])
    for loss in (lambda z: reinforce.reinforce_loss(z, action, jnp.ones(2)), lambda z: reinforce.clone_loss(z, action)):
        assert bool(jnp.all(jnp.isfinite(jax.grad(lambda z, loss=loss: loss(z).sum())(logits))))


def test_the_gate_by_hand():
    teacher = jnp.array([[0.5, 0.5], [0.5, 0.5]])
    # log(0.5 / 0.25) = log 2: sigmoid(log 2) = 2/3 at scale 1, 2^5 / (2^5 + 1) at 5. Where they agree it is 1/2.
    np.testing.assert_allclose(reinforce.gate(teacher, LOGITS, ACTION, 1.0), [2 / 3, 1 / 2], rtol=1e-6)
    np.testing.assert_allclose(reinforce.gate(teacher, LOGITS, ACTION), [32 / 33, 1 / 2], rtol=1e-6)


def test_the_gate_falls_with_doubt_is_shut_to_the_impossible_and_has_no_gradient():
    probs = jnp.array([0.0, 0.1, 0.25, 0.9])
    teacher, logits = jnp.stack([probs, 1 - probs], axis=-1), jnp.tile(LOGITS[:1], (4, 1))
    action = jnp.zeros(4, jnp.int32)
    found = reinforce.gate(teacher, logits, action)
    assert found[0] == 0
    assert bool(jnp.all(jnp.diff(found) > 0))
    gradients = jax.grad(lambda *given: reinforce.gate(*given, action).sum(), (0, 1))(teacher, logits)
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, 0)
