"""Divergences, weights and means by hand, gradients stopped where they must be, and settings refused."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.core import divergences
from dreamer.sleep import distill
from dreamer.sleep.distill import DistillConfig, distill_loss, state_weights, trajectory_mean

TEACHER = jnp.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])


def test_by_hand():
    # KL((1/2, 1/2, 0) || (1/4, 1/4, 1/2)) = ln 2; KL((1, 0, 0) || uniform) = ln 3, times 2.
    logits = jnp.log(jnp.array([[0.25, 0.25, 0.5], [1 / 3, 1 / 3, 1 / 3]]))
    loss = distill_loss(logits, TEACHER, jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(loss, [np.log(2), 2 * np.log(3)], rtol=1e-6)


def test_gradient_is_student_minus_teacher_and_stops_at_the_teacher():
    logits = jnp.array([[0.3, -0.2, 0.9], [0.0, 1.0, 2.0]])
    weight = jnp.array([3.0, 0.0])
    student, teacher = jax.grad(lambda *given: distill_loss(*given, weight).sum(), (0, 1))(logits, TEACHER)
    np.testing.assert_allclose(student, weight[:, None] * (jax.nn.softmax(logits) - TEACHER), atol=1e-6)
    np.testing.assert_array_equal(teacher, 0)


def test_zero_where_they_agree_also_on_masked_actions():
    logits = jnp.array([[0.0, 0.0, -1e9]])
    np.testing.assert_allclose(distill_loss(logits, TEACHER[:1], jnp.ones(1)), 0, atol=1e-6)


def test_other_divergences_are_those_of_the_family_and_stop_at_the_teacher():
    logits, weight = jnp.array([[0.3, -0.2, 0.9], [0.0, 1.0, 2.0]]), jnp.array([3.0, 0.5])
    config = DistillConfig(beta=0.5, clip=0.05)
    loss = distill_loss(logits, TEACHER, weight, beta=config.beta, clip=config.max_entry)
    expected = weight * divergences.generalised_jsd(TEACHER, logits, beta=0.5, clip=0.05)
    np.testing.assert_array_equal(loss, expected)
    assert DistillConfig().max_entry == math.inf
    teacher = jax.grad(lambda policy: distill_loss(logits, policy, weight, beta=1.0).sum())(TEACHER)
    np.testing.assert_array_equal(teacher, 0)


@jax.jit
def mean_of(values, trajectory, weight):
    return trajectory_mean(values, trajectory, weight)


def test_trajectory_mean_by_hand():
    values, weight = jnp.array([1.0, 2.0, 6.0, 10.0]), jnp.array([1.0, 1.0, 3.0, 1.0])
    # Trajectory 2 has (2 + 3 * 6) / 4 = 5, trajectory 0 has (1 + 10) / 2 = 5.5.
    np.testing.assert_allclose(mean_of(values, jnp.array([0, 2, 2, 0]), weight), 5.25)


def test_a_long_trajectory_counts_no_more_and_the_order_does_not_matter():
    values = jnp.arange(12.0)
    trajectory = jnp.array([0, 1] + [2] * 10)
    weight = jnp.ones(12)
    expected = np.mean([0, 1, np.mean(np.arange(2, 12))])
    np.testing.assert_allclose(mean_of(values, trajectory, weight), expected, rtol=1e-6)
    order = jax.random.permutation(jax.random.key(0), 12)
    shuffled = mean_of(values[order], 11 - trajectory[order], weight)  # other ids too
    np.testing.assert_allclose(shuffled, expected, rtol=1e-6)
    np.testing.assert_allclose(mean_of(values, jnp.arange(12), weight), values.mean(), rtol=1e-6)


def test_what_has_no_weight_is_left_out_even_if_not_finite():
    values, trajectory = jnp.array([1.0, jnp.inf, jnp.nan, 3.0]), jnp.array([0, 0, 1, 2])
    weight = jnp.array([2.0, 0.0, 0.0, 1.0])
    np.testing.assert_allclose(mean_of(values, trajectory, weight), 2.0)  # trajectory 1 counts for nothing
    gradient = jax.grad(mean_of)(values, trajectory, weight)
    np.testing.assert_allclose(gradient, [0.5, 0, 0, 0.5])
    assert mean_of(values, trajectory, jnp.zeros(4)) == 0


PROBS = jnp.array([[0.5, 0.5], [0.125, 0.875], [0.25, 0.75], [1.0, 0.0]])
ACTION, TRAJECTORY = jnp.zeros(4, jnp.int32), jnp.array([0, 0, 1, 3])


def weights(config, **given):
    probs = given.pop("probs", PROBS)
    return state_weights(config, probs, jnp.zeros_like(probs), ACTION, TRAJECTORY, **given)


def test_state_weights_by_hand():
    np.testing.assert_array_equal(weights(DistillConfig()), 1)
    # Trajectory 0 took actions of probability 1/2 and 1/8: perplexity 4. The others 4 and 1.
    found = weights(DistillConfig(state_weight="perplexity"))
    np.testing.assert_allclose(found, [1 / 4, 1 / 4, 1 / 4, 1], rtol=1e-5)
    found = weights(DistillConfig(state_weight="perplexity", perplexity_temperature=2.0))
    np.testing.assert_allclose(found, [1 / 2, 1 / 2, 1 / 2, 1], rtol=1e-5)


def test_perplexity_survives_an_impossible_action():
    config = DistillConfig(state_weight="perplexity")
    impossible = weights(config, probs=PROBS.at[0].set(jnp.array([0.0, 1.0])))
    np.testing.assert_allclose(impossible, [0, 0, 1 / 4, 1], rtol=1e-5)


def test_weights_multiply_the_loss_of_whole_trajectories():
    config = DistillConfig(state_weight="perplexity")
    loss = distill_loss(jnp.zeros((4, 2)), PROBS, weights(config))
    each = np.asarray(divergences.forward_kl(PROBS, jnp.zeros((4, 2))))
    expected = np.mean([each[:2].mean() / 4, each[2] / 4, each[3]])
    np.testing.assert_allclose(trajectory_mean(loss, TRAJECTORY, jnp.ones(4)), expected, rtol=1e-5)


@pytest.mark.parametrize("name", distill.STATE_WEIGHTS)
def test_no_gradient_reaches_weights(name):
    config = DistillConfig(state_weight=name)

    @jax.jit
    def total(probs, logits):
        return state_weights(config, probs, logits, ACTION, TRAJECTORY).sum()

    for gradient in jax.grad(total, argnums=(0, 1))(PROBS, jnp.zeros((4, 2))):
        np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"beta": 1.1}, "distill.beta is 1.1: give"),
        ({"beta": math.nan}, "distill.beta is nan"),
        ({"clip": 0.0}, "distill.clip is 0.0: give"),
        ({"clip": math.inf}, "or None"),
        ({"state_weight": "certainty"}, "distill.state_weight is 'certainty': give one of uniform"),
        ({"state_weight": "trust", "gate_scale": 0.0}, "distill.gate_scale is 0.0: give"),
        ({"state_weight": "perplexity", "perplexity_temperature": -1.0}, "distill.perplexity_temperature is -1.0"),
        ({"anchor_weight": -0.1}, "distill.anchor_weight is -0.1: give"),
        ({"rehearsal_weight": math.inf}, "distill.rehearsal_weight is inf: give"),
        ({"reinforce_weight": math.inf}, "distill.reinforce_weight is inf: give"),
        ({"gate_scale": 2.0}, "has no effect where state_weight is 'uniform'"),
        ({"perplexity_temperature": 2.0, "state_weight": "trust"}, "has no effect where state_weight is 'trust'"),
    ],
)
def test_wrong_settings_are_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        DistillConfig(**wrong)


def test_settings_are_frozen_and_hashable():
    config = DistillConfig(clip=0.05, state_weight="trust", gate_scale=2.0)
    assert hash(config) == hash(dataclasses.replace(config))


LOGITS_OF_TWO = jnp.log(jnp.array([[0.25, 0.75], [0.5, 0.5]]))
TWO = jnp.array([0, 1])


def trust(teacher, logits, action, scale=5.0):
    config = DistillConfig(state_weight="trust", gate_scale=scale)
    return state_weights(config, teacher, logits, action, jnp.zeros_like(action))


def test_trust_by_hand():
    teacher = jnp.array([[0.5, 0.5], [0.5, 0.5]])
    # log(0.5 / 0.25) = log 2: sigmoid(log 2) = 2/3 at scale 1, 2^5 / (2^5 + 1) at 5. Where they agree it is 1/2.
    np.testing.assert_allclose(trust(teacher, LOGITS_OF_TWO, TWO, 1.0), [2 / 3, 1 / 2], rtol=1e-6)
    np.testing.assert_allclose(trust(teacher, LOGITS_OF_TWO, TWO), [32 / 33, 1 / 2], rtol=1e-6)


def test_trust_falls_with_doubt_is_shut_to_the_impossible_and_has_no_gradient():
    probs = jnp.array([0.0, 0.1, 0.25, 0.9])
    teacher, logits = jnp.stack([probs, 1 - probs], axis=-1), jnp.tile(LOGITS_OF_TWO[:1], (4, 1))
    action = jnp.zeros(4, jnp.int32)
    found = trust(teacher, logits, action)
    assert found[0] == 0
    assert bool(jnp.all(jnp.diff(found) > 0))
    gradients = jax.grad(lambda *given: trust(*given, action).sum(), (0, 1))(teacher, logits)
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, 0)
