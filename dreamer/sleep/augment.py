"""Images seen a little otherwise each time: shifted and dimmed, for the fit alone.

"Image augmentation is all you need" (https://arxiv.org/abs/2004.13649) as "Mastering Atari Games with Limited Data"
(https://arxiv.org/abs/2111.00210) uses it. What targets are made from, and what is acted on, stays as it was seen.

Letters: B batch, L rows of a sequence, K unroll steps.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from dreamer.core.types import SequenceBatch

_MAX_DEVIATION = 2.0  # standard deviations that the drawn intensity is clipped to


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """How far images [H, W, C] are changed before they are learned from."""

    shift: int = 0
    """Pixels an image is moved by at most, up or down and left or right; its border is repeated. 0 leaves it there."""
    intensity: float = 0.0
    """Standard deviation of the factor around 1 that an image is multiplied by, clipped at two. 0 leaves it."""

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise ValueError(f"augment.shift is {self.shift}: give 0 (off) or more pixels")
        if not (math.isfinite(self.intensity) and 0 <= self.intensity <= 1 / _MAX_DEVIATION):
            raise ValueError(f"augment.intensity is {self.intensity}: give 0 (off) to {1 / _MAX_DEVIATION}")

    def require_images(self, obs_shape: tuple[int, ...]) -> None:
        """Raises ValueError where observations of that shape are no images, but are to be changed as such."""
        if (self.shift or self.intensity) and len(obs_shape) != 3:
            raise ValueError(
                f"augment.shift is {self.shift}, intensity {self.intensity}, but observations of shape {obs_shape} are "
                "no images [H, W, C]: give 0 for both"
            )


def augment(config: AugmentConfig, batch: SequenceBatch, key: jax.Array, *, unroll_steps: int) -> SequenceBatch:
    """Returns the first K rows of each sequence, with their images changed.

    A sample draws twice: for its first state, which the unroll starts from, and once for all those it leads to; so the
    change is no hint of how they follow each other. All frames of a stack move together.

    Args:
      config: how far.
      batch: L >= K rows, with observations [B, L + 1, H, W, C] where anything is to be changed.
      key: typed key, consumed.
      unroll_steps: K, what the fit looks at.

    Returns:
      the batch with L = K. Bytes that only move remain bytes; where intensity is drawn they become float32 shares of
      255, which is what an encoder makes of them. Neither is clipped.

    Raises:
      ValueError: observations that are no images.
    """
    rows = ("action_mask", "action", "reward", "terminated", "valid")
    batch = batch.replace(**{name: getattr(batch, name)[:, :unroll_steps] for name in rows})
    batch = batch.replace(obs=batch.obs[:, : unroll_steps + 1])
    if not (config.shift or config.intensity):
        return batch
    config.require_images(batch.obs.shape[2:])
    shift_key, intensity_key = jax.random.split(key)
    draws = (batch.obs.shape[0], 2)
    offset = jax.random.randint(shift_key, (*draws, 2), -config.shift, config.shift + 1)
    deviation = jnp.clip(jax.random.normal(intensity_key, draws), -_MAX_DEVIATION, _MAX_DEVIATION)
    factor = 1 + config.intensity * deviation
    parts = (batch.obs[:, :1], batch.obs[:, 1:])
    if config.shift:
        parts = [jax.vmap(_shifted)(part, offset[:, which]) for which, part in enumerate(parts)]
    if config.intensity:
        parts = [_dimmed(part, factor[:, which]) for which, part in enumerate(parts)]
    return batch.replace(obs=jnp.concatenate(parts, axis=1))


def _shifted(images: jax.Array, offset: jax.Array) -> jax.Array:
    """Returns images [P, H, W, C] seen from `offset` [2] pixels further down and right, the border repeated."""
    rows, columns = (
        jnp.clip(jnp.arange(size) + by, 0, size - 1) for size, by in zip(images.shape[1:3], offset, strict=True)
    )
    return images[:, rows][:, :, columns]


def _dimmed(images: jax.Array, factor: jax.Array) -> jax.Array:
    """Returns images [B, P, H, W, C] times `factor` [B]; bytes as shares of 255."""
    scale = 255.0 if images.dtype == jnp.uint8 else 1.0
    return images.astype(jnp.float32) / scale * factor[:, None, None, None, None]
