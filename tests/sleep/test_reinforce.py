"""Baselines by hand: advantages within groups, the policy gradient, cloning."""

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.core import divergences
from dreamer.sleep import reinforce

advantage = jax.jit(reinforce.group_advantage)


def test_group_advantage_by_hand():
    returns, group = jnp.array([1.0, 5.0, 3.0, 4.0, 0.0]), jnp.array([0, 3, 0, 1, 3])
    # Distances from the mean -1, 2.5, 1, 0, -2.5; standard deviations 1 and 2.5; a group of one is as good as itself.
    np.testing.assert_allclose(advantage(returns, group), [-1, 1, 1, 0, -1], rtol=1e-5)


def test_group_advantages_cancel_and_forget_the_scale():
    returns = jax.random.normal(jax.random.key(0), (8,))
    group = jnp.array([0, 1, 0, 1, 0, 1, 0, 1])
    found = advantage(returns, group)
    np.testing.assert_allclose(jax.ops.segment_sum(found, group, 2), [0, 0], atol=1e-5)
    np.testing.assert_allclose(advantage(100 * returns + 3, group), found, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(jax.ops.segment_sum(found**2, group, 2), [4, 4], rtol=1e-4)


def test_a_group_in_which_all_did_equally_well_teaches_nothing():
    np.testing.assert_array_equal(advantage(jnp.array([2.0, 2.0, 0.0]), jnp.array([0, 0, 2])), 0)


def test_windowed_returns_by_hand():
    found, whole = jax.jit(reinforce.windowed_returns, static_argnums=1)(jnp.array([1.0, 0.0, 4.0, 0.0, 2.0]), 2)
    np.testing.assert_allclose(found, [5, 4, 6, 2, 2])
    np.testing.assert_array_equal(whole, [True, True, True, False, False])
    alike, whole = reinforce.windowed_returns(jnp.full(64, 1 / 3), 10)
    assert (
        len(set(np.asarray(alike)[np.asarray(whole)].tolist())) == 1
    )  # to the last digit: no rounding is an advantage


LOGITS = jnp.log(jnp.array([[0.25, 0.75], [0.5, 0.5]]))
ACTION = jnp.array([0, 1])


def test_losses_by_hand():
    weight = jnp.array([2.0, -1.0])
    np.testing.assert_allclose(reinforce.reinforce_loss(LOGITS, ACTION, weight, before=LOGITS), [-2, 1], rtol=1e-6)
    # Who did it played the first action half as often and the second half as often again: ratios 2 and 2 / 3.
    before = jnp.log(jnp.array([[0.125, 0.875], [0.25, 0.75]]))
    found = reinforce.reinforce_loss(LOGITS, ACTION, weight, before=before)
    np.testing.assert_allclose(found, [-2 * 1.2, max(2 / 3, 0.8)], rtol=1e-6)
    np.testing.assert_allclose(reinforce.clone_loss(LOGITS, ACTION), [np.log(4), np.log(2)], rtol=1e-6)


def test_the_policy_gradient_is_advantage_times_what_was_done_minus_what_is_usual():
    weight = jnp.array([2.0, -1.0])

    def loss(logits, advantage):
        return reinforce.reinforce_loss(logits, ACTION, advantage, before=LOGITS).sum()

    student, stopped = jax.grad(loss, (0, 1))(LOGITS, weight)
    done = jax.nn.one_hot(ACTION, 2)
    np.testing.assert_allclose(student, -weight[:, None] * (done - jax.nn.softmax(LOGITS)), atol=1e-6)
    np.testing.assert_array_equal(stopped, 0)
    # Under a uniform advantage it is cloning, and cloning is forward KL from the action taken.
    clone = reinforce.clone_loss(LOGITS, ACTION)
    cloning = jax.grad(lambda z: reinforce.clone_loss(z, ACTION).sum())(LOGITS)
    np.testing.assert_allclose(jax.grad(loss)(LOGITS, jnp.ones(2)), cloning, rtol=1e-6)
    np.testing.assert_allclose(divergences.forward_kl(done, LOGITS), clone, rtol=1e-6)


def test_a_policy_that_has_moved_far_enough_is_not_moved_further():
    before = LOGITS - jnp.array([[1.0, 0.0], [0.0, 0.0]])  # the first action has become likelier already
    gradient = jax.grad(lambda z, a: reinforce.reinforce_loss(z, ACTION, a, before=before).sum())
    np.testing.assert_array_equal(gradient(LOGITS, jnp.array([1.0, 0.0])), 0)
    assert gradient(LOGITS, jnp.array([-1.0, 0.0]))[0, 0] > 0  # back it may


def test_masked_actions_leave_gradients_finite():
    logits = jnp.array([[0.0, -jnp.inf, 1.0], [0.0, -1e9, 1.0]])
    action = jnp.array([0, 2])
    losses = (
        lambda z: reinforce.reinforce_loss(z, action, jnp.ones(2), before=logits),
        lambda z: reinforce.clone_loss(z, action),
    )
    for loss in losses:
        assert bool(jnp.all(jnp.isfinite(jax.grad(lambda z, loss=loss: loss(z).sum())(logits))))
