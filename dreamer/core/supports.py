"""Categorical supports: a scalar as a distribution over bins, spaced evenly in transformed units.

Rewards and values are learned by classification ("Stop regressing", https://arxiv.org/abs/2403.03950), over bins that
are even after a squashing transform, so that one support serves returns of 1 and of 10,000.
"""

import dataclasses
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np

_TRANSFORMS = ("signed_sqrt", "symlog", "identity")
_SIGNED_SQRT_SLOPE = 0.001  # the epsilon of "Observe and look further": keeps the transform invertible far out.


@dataclasses.dataclass(frozen=True)
class Support:
    """The bins of a categorical scalar."""

    low: float
    """First bin, in transformed units."""
    high: float
    """Last bin, in transformed units, above `low`."""
    num_bins: int
    """How many bins, both ends included. With low = -high an odd number puts a bin on 0."""
    transform: str
    """From reward units to bin units: `signed_sqrt`, `symlog` or `identity`."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"Support.low={self.low}, high={self.high}: use finite numbers with low < high.")
        if self.num_bins < 2:
            raise ValueError(f"Support.num_bins={self.num_bins}: use at least 2.")
        if self.transform not in _TRANSFORMS:
            raise ValueError(f"Support.transform={self.transform!r}: use one of {', '.join(_TRANSFORMS)}.")


def transform(support: Support, x: jax.Array) -> jax.Array:
    """Returns [...] `x` in transformed units, not clipped.

    `signed_sqrt` is h(x) = sign(x)(sqrt(|x| + 1) - 1) + 0.001 x of "Observe and look further"
    (https://arxiv.org/abs/1805.11593), `symlog` is sign(x) log(1 + |x|) of DreamerV3
    (https://arxiv.org/abs/2301.04104).

    Args:
      x: [...] reward units.
    """
    if support.transform == "signed_sqrt":
        # sqrt(|x| + 1) - 1 = |x| / (sqrt(|x| + 1) + 1): no cancellation near 0 in float32, and a gradient at 0.
        return x / (jnp.sqrt(jnp.abs(x) + 1) + 1) + _SIGNED_SQRT_SLOPE * x
    if support.transform == "symlog":
        return symlog(x)
    return x


def symlog(x: jax.Array) -> jax.Array:
    """Returns [...] sign(x) log(1 + |x|), which squashes large numbers and leaves small ones (DreamerV3)."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def inverse(support: Support, y: jax.Array) -> jax.Array:
    """Returns [...] reward units, the exact inverse of `transform`.

    Args:
      y: [...] transformed units.
    """
    if support.transform == "signed_sqrt":
        # With s = sqrt(|x| + 1) - 1 the transform is eps s^2 + (1 + 2 eps) s: the root is taken in the form without
        # cancellation, where the published inverse loses all digits in float32 for small |y|.
        slope = 1 + 2 * _SIGNED_SQRT_SLOPE
        root = 2 * y / (slope + jnp.sqrt(slope**2 + 4 * _SIGNED_SQRT_SLOPE * jnp.abs(y)))
        return root * (jnp.abs(root) + 2)
    if support.transform == "symlog":
        return jnp.sign(y) * jnp.expm1(jnp.abs(y))
    return y


def two_hot(support: Support, x: jax.Array) -> jax.Array:
    """Returns [..., bins] probabilities on the two bins beside `x`, whose mean is `x` in transformed units.

    Args:
      x: [...] reward units, clipped to the support.
    """
    y = jnp.clip(transform(support, x), support.low, support.high)
    position = (y - support.low) * ((support.num_bins - 1) / (support.high - support.low))
    bins = jnp.arange(support.num_bins, dtype=position.dtype).reshape((1,) * position.ndim + (-1,))
    return jnp.maximum(1 - jnp.abs(position[..., None] - bins), 0)


def expectation(support: Support, logits: jax.Array) -> jax.Array:
    """Returns [...] reward units: the mean bin under softmax, transformed back.

    Bins are paired around the centre before summing, so equal logits give the exact centre: an untrained head on a
    symmetric support says 0, not a rounding error that search would normalise into a preference.

    Args:
      logits: [..., bins]
    """
    chex.assert_axis_dimension(logits, -1, support.num_bins)
    half_width = (support.high - support.low) / 2
    offsets = np.linspace(-half_width, half_width, support.num_bins)
    offsets = (offsets - offsets[::-1]) / 2  # exactly antisymmetric
    probs = jax.nn.softmax(logits, axis=-1)
    paired = (probs - jnp.flip(probs, axis=-1)) / 2
    centre = (support.low + support.high) / 2
    return inverse(support, centre + paired @ jnp.asarray(offsets, probs.dtype))


def cross_entropy(support: Support, logits: jax.Array, x: jax.Array) -> jax.Array:
    """Returns [...] cross-entropy from the two-hot of `x` to the softmax of `logits`, in nats.

    Args:
      logits: [..., bins]
      x: [...] target in reward units, clipped to the support.
    """
    chex.assert_shape(logits, (*x.shape, support.num_bins))
    return -jnp.sum(two_hot(support, x) * jax.nn.log_softmax(logits, axis=-1), axis=-1)
