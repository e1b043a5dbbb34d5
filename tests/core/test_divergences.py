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
