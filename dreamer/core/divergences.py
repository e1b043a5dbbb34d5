"""Distances between action distributions, in nats. A is actions; every function maps [..., A] to [...].

Masked actions may have probability 0 on one side and a logit of -inf (or -1e9) on the other: both the values and the
gradients stay finite, unless the teacher wants what the student's mask forbids, which is infinitely far.
At least one logit of each row must be finite.
"""

import chex
import jax
import jax.numpy as jnp


def cross_entropy(probs: jax.Array, logits: jax.Array) -> jax.Array:
    """Returns [...] -sum_a p(a) log softmax(logits)(a).

    Args:
      probs: [..., A] rows that sum to 1.
      logits: [..., A]
    """
    chex.assert_equal_shape([probs, logits])
    log_probs = jax.nn.log_softmax(logits, axis=-1)
    # 0 log 0 = 0, decided before the product: 0 * -inf would be NaN in the value and in the gradient.
    log_probs = jnp.where(probs > 0, log_probs, 0)
    return -jnp.sum(probs * log_probs, axis=-1)


def entropy(logits: jax.Array) -> jax.Array:
    """Returns [...] the entropy of softmax(logits), 0 to log A.

    Args:
      logits: [..., A]
    """
    return cross_entropy(jax.nn.softmax(logits, axis=-1), logits)


def forward_kl(teacher_probs: jax.Array, student_logits: jax.Array) -> jax.Array:
    """Returns [...] KL(teacher || student), at least 0 up to rounding.

    Args:
      teacher_probs: [..., A] rows that sum to 1.
      student_logits: [..., A]
    """
    log_teacher = jnp.log(jnp.where(teacher_probs > 0, teacher_probs, 1))
    return cross_entropy(teacher_probs, student_logits) + jnp.sum(teacher_probs * log_teacher, axis=-1)
