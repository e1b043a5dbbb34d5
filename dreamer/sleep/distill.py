"""Distillation: the search-free student is moved towards its teacher's policy.

Letters: B batch, A actions; leading axes [...] of any shape.
"""

import chex
import jax

from dreamer.core import divergences


def distill_loss(logits: jax.Array, policy: jax.Array, weight: jax.Array) -> jax.Array:
    """Forward KL from the teacher's policy to the student, [...], weighted row by row.

    The policy term of "Policy improvement by planning with Gumbel" (https://openreview.net/forum?id=bERaNdoegnO).
    No gradient reaches the teacher.

    Args:
      logits: [..., A] the student's action logits.
      policy: [..., A] the teacher's probabilities.
      weight: [...] rows with weight 0 count for nothing.
    """
    chex.assert_equal_shape([logits, policy])
    return weight * divergences.forward_kl(jax.lax.stop_gradient(policy), logits)
