import jax
import jax.numpy as jnp
import numpy as np

from dreamer.sleep.distill import distill_loss

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
