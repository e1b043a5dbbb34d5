import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.core import divergences

MASKS = (-jnp.inf, -1e9)


def test_by_hand():
    teacher = jnp.array([[0.5, 0.5], [1.0, 0.0]])
    student = jnp.log(jnp.array([[0.25, 0.75], [0.25, 0.75]]))
    cross = [-0.5 * np.log(0.25) - 0.5 * np.log(0.75), -np.log(0.25)]
    np.testing.assert_allclose(divergences.cross_entropy(teacher, student), cross, rtol=1e-6)
    np.testing.assert_allclose(divergences.forward_kl(teacher, student), [cross[0] - np.log(2), cross[1]], rtol=1e-6)
    np.testing.assert_allclose(divergences.entropy(jnp.zeros((2, 4))), np.full(2, np.log(4)), rtol=1e-6)


def test_kl_is_not_negative_and_zero_only_at_the_teacher():
    student_key, teacher_key = jax.random.split(jax.random.key(0))
    student = jax.random.normal(student_key, (5, 6, 4))
    teacher = jax.random.normal(teacher_key, (5, 6, 4))
    assert float(jnp.min(divergences.forward_kl(jax.nn.softmax(teacher), student))) > 0
    np.testing.assert_allclose(divergences.forward_kl(jax.nn.softmax(student), student), np.zeros((5, 6)), atol=1e-6)
    # H(p) is the cross-entropy of p with itself, and a shift of the logits changes nothing.
    np.testing.assert_allclose(
        divergences.entropy(student), divergences.cross_entropy(jax.nn.softmax(student), student + 3), atol=1e-5
    )


@pytest.mark.parametrize("mask", MASKS)
def test_masked_actions_leave_values_and_gradients_finite(mask):
    logits = jnp.array([[0.0, 1.0, mask], [2.0, mask, mask]])
    teacher = jnp.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    allowed = divergences.forward_kl(teacher[:1, :2], logits[:1, :2])
    np.testing.assert_allclose(divergences.forward_kl(teacher, logits), [allowed[0], 0], atol=1e-6)
    np.testing.assert_allclose(divergences.entropy(logits)[1], 0, atol=1e-6)

    for loss in (divergences.forward_kl, divergences.cross_entropy, lambda _, student: divergences.entropy(student)):
        for gradient in jax.grad(lambda p, z, loss=loss: jnp.sum(loss(p, z)), argnums=(0, 1))(teacher, logits):
            assert bool(jnp.all(jnp.isfinite(gradient)))


def test_a_teacher_that_wants_the_forbidden_is_infinitely_far():
    assert divergences.forward_kl(jnp.array([0.5, 0.5]), jnp.array([0.0, -jnp.inf])) == jnp.inf


def test_gradient_is_student_minus_teacher():
    teacher, student = jnp.array([0.2, 0.3, 0.5]), jnp.array([1.0, 0.0, -1.0])
    gradient = jax.grad(divergences.forward_kl, argnums=1)(teacher, student)
    np.testing.assert_allclose(gradient, jax.nn.softmax(student) - teacher, atol=1e-6)


def test_generalised_jsd_by_hand():
    teacher, student = jnp.array([0.5, 0.5]), jnp.log(jnp.array([0.25, 0.75]))
    forward = 0.5 * np.log(2) + 0.5 * np.log(2 / 3)
    reverse = 0.25 * np.log(0.5) + 0.75 * np.log(1.5)
    # M = (3/8, 5/8): KL(T || M) = 1/2 ln(4/3) + 1/2 ln(4/5), KL(S || M) = 1/4 ln(2/3) + 3/4 ln(6/5).
    between = 0.5 * (0.5 * np.log(4 / 3) + 0.5 * np.log(4 / 5)) + 0.5 * (0.25 * np.log(2 / 3) + 0.75 * np.log(6 / 5))
    for beta, value in ((0.0, forward), (0.5, between), (1.0, reverse)):
        np.testing.assert_allclose(divergences.generalised_jsd(teacher, student, beta=beta), value, rtol=1e-5)
    # Forward entries are 1/2 ln 2 = 0.35 and 1/2 ln(2/3) = -0.20: only the first is above 0.1.
    clipped = divergences.generalised_jsd(teacher, student, beta=0.0, clip=0.1)
    np.testing.assert_allclose(clipped, 0.1 + 0.5 * np.log(2 / 3), rtol=1e-5)
    # Reverse entries are 1/4 ln(1/2) = -0.17 and 3/4 ln(3/2) = 0.30.
    clipped = divergences.generalised_jsd(teacher, student, beta=1.0, clip=0.1)
    np.testing.assert_allclose(clipped, 0.25 * np.log(0.5) + 0.1, rtol=1e-5)


def test_generalised_jsd_swaps_with_beta_is_bounded_and_ends_in_both_kls():
    teacher_key, student_key = jax.random.split(jax.random.key(1))
    teacher, student = (2 * jax.random.normal(key, (6, 4)) for key in (teacher_key, student_key))
    for beta in (0.0, 0.2, 0.5, 1.0):
        found = divergences.generalised_jsd(jax.nn.softmax(teacher), student, beta=beta)
        swapped = divergences.generalised_jsd(jax.nn.softmax(student), teacher, beta=1 - beta)
        np.testing.assert_allclose(found, swapped, rtol=1e-4, atol=1e-6)
        assert float(found.min()) > 0
        if 0 < beta < 1:
            assert float(found.max()) < -beta * math.log(beta) - (1 - beta) * math.log(1 - beta)
        np.testing.assert_allclose(
            divergences.generalised_jsd(jax.nn.softmax(teacher), teacher, beta=beta), np.zeros(6), atol=1e-6
        )
    forward = divergences.forward_kl(jax.nn.softmax(teacher), student)
    unclipped = divergences.generalised_jsd(jax.nn.softmax(teacher), student, beta=0.0)
    np.testing.assert_array_equal(unclipped, forward)  # whoever asked for forward KL before gets the same bits
    far = divergences.generalised_jsd(jax.nn.softmax(teacher), student, beta=0.0, clip=1e6)
    np.testing.assert_allclose(far, forward, rtol=1e-5, atol=1e-6)
    near = divergences.generalised_jsd(jax.nn.softmax(teacher), student, beta=0.001) / 0.001
    np.testing.assert_allclose(near, forward, rtol=0.05)


def test_an_entry_that_is_clipped_gives_no_gradient():
    teacher, student = jnp.array([0.9, 0.1]), jnp.array([0.0, 1.0])

    def loss(logits, clip):
        return divergences.generalised_jsd(teacher, logits, beta=0.0, clip=clip)

    # Only the second entry, which is below 0, is left: -0.1 d log p_S(1).
    np.testing.assert_allclose(
        jax.grad(loss)(student, 0.05), -0.1 * (jnp.array([0.0, 1.0]) - jax.nn.softmax(student)), atol=1e-6
    )
    np.testing.assert_allclose(jax.grad(loss)(student, 10.0), jax.nn.softmax(student) - teacher, atol=1e-6)


@pytest.mark.parametrize("mask", [*MASKS, -200.0])
@pytest.mark.parametrize("clip", [math.inf, 0.05])
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_generalised_jsd_is_finite_where_the_teacher_is_0_or_the_student_masked(beta, clip, mask):
    logits = jnp.array([[0.0, 1.0, mask], [2.0, mask, mask], [0.0, 0.0, 0.0]])
    teacher = jnp.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])

    def loss(probs, logits):
        return divergences.generalised_jsd(probs, logits, beta=beta, clip=clip)

    found = loss(teacher, logits)
    assert bool(jnp.all(jnp.isfinite(found)))
    np.testing.assert_allclose(found[:2], [loss(teacher[0, :2], logits[0, :2]), 0], atol=1e-6)  # as without the masked
    for gradient in jax.grad(lambda *given: loss(*given).sum(), argnums=(0, 1))(teacher, logits):
        assert bool(jnp.all(jnp.isfinite(gradient)))


def test_a_teacher_that_wants_the_forbidden_is_clipped_or_infinitely_far():
    teacher, logits = jnp.array([0.5, 0.5]), jnp.array([0.0, -jnp.inf])
    assert divergences.generalised_jsd(teacher, logits, beta=0.0) == jnp.inf

    def clipped(*given):
        return divergences.generalised_jsd(*given, beta=0.0, clip=0.1)

    # The entries are 1/2 ln(1/2), and infinity.
    np.testing.assert_allclose(clipped(teacher, logits), 0.5 * np.log(0.5) + 0.1, rtol=1e-5)
    for gradient in jax.grad(clipped, argnums=(0, 1))(teacher, logits):
        assert bool(jnp.all(jnp.isfinite(gradient)))


@pytest.mark.parametrize("wrong", [{"beta": 1.5}, {"beta": math.nan}, {"beta": 0.5, "clip": 0.0}])
def test_generalised_jsd_refuses_what_is_out_of_range(wrong):
    with pytest.raises(ValueError, match="give"):
        divergences.generalised_jsd(jnp.ones(1), jnp.zeros(1), **wrong)
