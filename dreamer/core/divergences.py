"""Distances between action distributions, in nats. A is actions; every function maps [..., A] to [...].

Masked actions may have probability 0 on one side and a logit of -inf (or -1e9) on the other: both the values and the
gradients stay finite, unless the teacher wants what the student's mask forbids, which is infinitely far.
At least one logit of each row must be finite.
"""

import math

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


def generalised_jsd(
    teacher_probs: jax.Array, student_logits: jax.Array, *, beta: float, clip: float = math.inf
) -> jax.Array:
    """Returns [...] how far the student S is from the teacher T, from forward to reverse KL as `beta` goes from 0 to 1.

        beta = 0:      KL(T || S)
        0 < beta < 1:  beta KL(T || M) + (1 - beta) KL(S || M),  M = beta T + (1 - beta) S
        beta = 1:      KL(S || T)

    The family of "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes" (GKD,
    https://arxiv.org/abs/2306.13649). Its ends are not the limits of what lies between, which goes to 0 at both, so the
    scale of the loss changes with beta: divided by beta, or by 1 - beta, it goes to the ends. Between, it is at most
    the entropy of a coin that falls on T with probability beta, log 2 at beta 1/2.

    `clip` is the pointwise clipping of "Self-Distilled Reasoner: On-Policy Self-Distillation for Large Language Models"
    (OPSD, https://arxiv.org/abs/2601.18734): no entry of the sum over actions counts for more, and one that would gives
    no gradient. Entries below 0 stay as they are, so a clipped sum may be below 0.

    Where the teacher's probability is 0 and the student's is not, reverse KL is infinite; here that 0 counts as the
    smallest normal float, so that it is at most 88 nats. At beta 0 a teacher that wants what the student's mask forbids
    is infinitely far, or, clipped, at `clip`.

    Args:
      teacher_probs: [..., A] rows that sum to 1.
      student_logits: [..., A]
      beta: in [0, 1], static.
      clip: above 0, in nats, static; infinity clips nothing.

    Raises:
      ValueError: `beta` or `clip` out of range.
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"generalised_jsd: beta is {beta}: give 0 (forward KL) to 1 (reverse KL)")
    if not clip > 0:
        raise ValueError(f"generalised_jsd: clip is {clip}: give nats above 0, or math.inf to clip nothing")
    if beta == 0 and clip == math.inf:
        return forward_kl(teacher_probs, student_logits)
    chex.assert_equal_shape([teacher_probs, student_logits])
    student_probs = jax.nn.softmax(student_logits, axis=-1)
    # Finite logs: an infinite one would be NaN in the gradient of an entry that is clipped.
    log_teacher = jnp.log(jnp.maximum(teacher_probs, jnp.finfo(teacher_probs.dtype).tiny))
    log_student = jax.nn.log_softmax(student_logits, axis=-1)
    log_student = jnp.maximum(log_student, jnp.finfo(log_student.dtype).min)
    if beta == 0:
        entries = _entries(teacher_probs, log_teacher, log_student)
    elif beta == 1:
        entries = _entries(student_probs, log_student, log_teacher)
    else:
        log_mixture = jnp.logaddexp(math.log(beta) + log_teacher, math.log1p(-beta) + log_student)
        entries = beta * _entries(teacher_probs, log_teacher, log_mixture)
        entries += (1 - beta) * _entries(student_probs, log_student, log_mixture)
    return jnp.sum(jnp.minimum(entries, clip), axis=-1)


def _entries(probs: jax.Array, log_probs: jax.Array, log_others: jax.Array) -> jax.Array:
    """Returns [..., A] p(a) log(p(a) / q(a)), which is 0 where p(a) is."""
    # Decided before the product, as in `cross_entropy`.
    return probs * (jnp.where(probs > 0, log_probs, 0) - jnp.where(probs > 0, log_others, 0))
