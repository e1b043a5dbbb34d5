"""What an observation looks like from inside: the torsos' encoders, and the projection that compares latents.

Letters: D latent size, h x w cells, C channels; leading axes [...] of any shape.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dreamer.core import supports, trees
from world_models.efficientzero.config import EfficientZeroConfig
from world_models.layers import BESIDE, Conv, ConvBlock, conv_norm, grid_norm, hidden

_SMALLEST_GRID = 5  # cells a side; a 3 x 3 board would be convolved into a single cell
_LARGEST_GRID = 10  # cells a side; larger images are halved by further convolutions until they fit
_NEAR = 2  # cells down and across up to which the relational torso sees what lies around another cell


def is_large(shape: tuple[int, ...]) -> bool:
    """Whether a grid of shape [..., h, w, C] has more cells a side than a latent or a flattened image should."""
    return max(shape[-3:-1]) > _LARGEST_GRID


class ResidualBlock(nn.Module):
    """x + MLP(LayerNorm(x)), the shape kept."""

    hidden_size: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the block's output, of the shape of `x` [..., width]."""
        y = nn.relu(nn.Dense(self.hidden_size, dtype=self.dtype)(nn.LayerNorm(dtype=self.dtype)(x)))
        return x + nn.Dense(x.shape[-1], dtype=self.dtype)(y)


class DenseEncoder(nn.Module):
    """Observation [..., *obs_shape] -> latent state [..., D]; images are convolved first, or read by `relations`."""

    config: EfficientZeroConfig
    obs_rank: int
    frame_stack: int = 1

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        """Returns the latent state of an observation."""
        config, dtype = self.config, jnp.dtype(self.config.compute_dtype)
        x = scaled(obs)
        lead = x.shape[: x.ndim - self.obs_rank]
        if config.torso == "relational":
            x = relations(x, _NEAR, num_frames=self.frame_stack)
        elif self.obs_rank == 3:
            padding = "VALID" if min(x.shape[-3:-1]) > _SMALLEST_GRID else "SAME"
            x = nn.relu(grid_norm(dtype)(Conv(config.num_channels, padding=padding, dtype=dtype)(x)))
            while is_large(x.shape):
                x = nn.relu(grid_norm(dtype)(Conv(config.num_channels, strides=2, dtype=dtype)(x)))
        elif obs.dtype not in (jnp.bool_, jnp.uint8):
            x = at_several_scales(x)
        x = hidden(x.reshape(*lead, -1), config.hidden_size, dtype)
        x = nn.Dense(config.latent_size, dtype=dtype)(x)
        for _ in range(config.num_blocks):
            x = ResidualBlock(config.hidden_size, dtype)(x)
        return nn.LayerNorm(use_scale=False, use_bias=False, dtype=dtype)(x)


class ResidualEncoder(nn.Module):
    """Image [..., H, W, C] -> latent state [..., h, w, num_channels]; 6 x 6 cells of 96 x 96, 10 x 10 of 10 x 10."""

    config: EfficientZeroConfig

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        """Returns the latent state of an image."""
        size, dtype = self.config.num_channels, jnp.dtype(self.config.compute_dtype)
        x = trees.flatten_lead(scaled(obs), obs.ndim - 3)
        if is_large(x.shape):
            x = nn.relu(conv_norm(x, size // 2, strides=2, dtype=dtype))
            x = ConvBlock(size // 2, dtype=dtype)(x)
            x = ConvBlock(size, strides=2 if is_large(x.shape) else 1, dtype=dtype)(x)
            while is_large(x.shape):
                x = ConvBlock(size, dtype=dtype)(x)
                x = nn.avg_pool(x, (3, 3), strides=(2, 2), padding=BESIDE)  # counts the zeros beside the grid
        else:
            x = nn.relu(conv_norm(x, size, dtype=dtype))
        for _ in range(self.config.num_blocks):
            x = ConvBlock(size, dtype=dtype)(x)
        return trees.unflatten_lead(x, obs.shape[:-3])


class Projector(nn.Module):
    """SimSiam's projection of both branches, and the predictor of the dreamed branch alone; float32 out."""

    config: EfficientZeroConfig

    def setup(self) -> None:
        """Makes the layers, which two methods share."""
        size, dtype = self.config.projection_size, jnp.dtype(self.config.compute_dtype)
        widths = (size,) * (self.config.projection_layers - 1)
        self.projection = _mlp(widths, size, dtype)
        self.normalise = nn.LayerNorm()
        self.prediction = _mlp((self.config.predictor_size or size,), size, dtype)

    def __call__(self, state: jax.Array) -> jax.Array:
        """Returns the prediction [..., size] that a dreamed state [..., n], flat, makes of the observed one."""
        return self.prediction(self.project(state)).astype(jnp.float32)

    def project(self, state: jax.Array) -> jax.Array:
        """Returns the projection [..., size] of an observed state [..., n], flat."""
        return self.normalise(self.projection(state))


def _mlp(widths: tuple[int, ...], size: int, dtype: jnp.dtype) -> nn.Sequential:
    layers = [layer for n in widths for layer in (nn.Dense(n, dtype=dtype), nn.LayerNorm(dtype=dtype), nn.relu)]
    return nn.Sequential([*layers, nn.Dense(size, dtype=dtype)])


def scaled(obs: jax.Array) -> jax.Array:
    """Returns the observation as float32, bytes as shares of 255; what is binary waits until it is multiplied."""
    if obs.dtype == jnp.bool_:
        return obs
    return obs.astype(jnp.float32) / (255.0 if obs.dtype == jnp.uint8 else 1.0)


def relations(board: jax.Array, radius: int, *, num_frames: int = 1) -> jax.Array:
    """Returns [..., n] what lies around the cells of each channel, wherever on the board they are, and where they are.

    First, for each channel c, each feature d and each offset of at most `radius` down and across: the mean of d at
    that offset from the cells that have c now; of a channel without cells, 0. The features of a cell are its channels
    now, where several frames are seen also the share of them in which it had each channel, which tells how long
    something has been there ("The recognition of human movement using temporal templates", Bobick and Davis, 2001, has
    such histories of motion), and, beside the board, being beside it. Then the sums of all features but the last over
    every column and row. There is nothing in it to be learned. Local autocorrelations of a whole image go back to Otsu
    and Kurita, "A new scheme for practical flexible and intelligent vision systems" (IAPR Workshop on Computer Vision,
    1988): sums within one channel there, means between channels here.

    Args:
      board: [..., h, w, k * C] bool, is a cell of a channel?
      radius: r, in cells.
      num_frames: k, that lie side by side along the last axis, the newest last.

    Returns:
      n = C * (2r + 1)^2 * (F + 1) + F * (w + h) numbers, float32, with F = C of one frame, 2C of several.
    """
    *lead, height, width, num_channels = board.shape
    # Boards last: every number below is a vector over boards, added up cell by cell, where XLA's small products crawl.
    # As the smallest whole numbers that hold all counts: what is moved between cache and core is what takes the time.
    most = height * width * num_frames
    whole = next(kind for kind in (jnp.uint8, jnp.uint16, jnp.uint32) if most <= jnp.iinfo(kind).max)
    frames = jnp.moveaxis(board.reshape(-1, height, width, num_channels), 0, -1).astype(whole)
    frames = frames.reshape(height, width, num_frames, -1, frames.shape[-1])
    now = frames[:, :, -1]
    cells = now if num_frames == 1 else jnp.concatenate([now, frames.sum(2, dtype=whole)], axis=2)
    frame = ((radius, radius), (radius, radius), (0, 0), (0, 0))
    beside = jnp.pad(jnp.zeros_like(cells[:, :, :1]), frame, constant_values=1)
    framed = jnp.concatenate([jnp.pad(cells, frame), beside], axis=2)
    patch = (2 * radius + 1, 2 * radius + 1, *framed.shape[2:])
    mask = -now  # all bits where a cell is of the channel

    def add(total: jax.Array, cell: jax.Array) -> tuple[jax.Array, None]:
        down, across = cell
        around = jax.lax.dynamic_slice(framed, (down, across, 0, 0), patch)
        return total + (mask[down, across][:, None, None, None] & around[None]), None

    # Counted beforehand: for a few boards, the two divisions that find a cell cost more than its sums.
    places = jnp.indices((height, width)).reshape(2, -1).T
    total, _ = jax.lax.scan(add, jnp.zeros((now.shape[2], *patch), whole), places, unroll=5)
    seen_in = np.ones((1, 1, 1, framed.shape[2], 1), np.uint32)  # frames that a feature is counted in
    seen_in[..., now.shape[2] : -1, :] = num_frames
    shares = total / (jnp.maximum(now.sum((0, 1)), 1)[:, None, None, None] * seen_in)
    parts = (shares, *(cells.sum(axis) / seen_in[0, 0, :, :-1] for axis in (0, 1)))
    return jnp.concatenate([part.reshape(-1, part.shape[-1]) for part in parts]).T.reshape(*lead, -1)


def at_several_scales(x: jax.Array) -> jax.Array:
    """Returns [..., 4 * n] the numbers of `x` [..., n] seen at several scales, for vectors in unknown units.

    Without running statistics a coordinate that lives within 0.2 would drown beside one that lives within 3: CartPole's
    angle does, and its end at 0.21 goes unseen. Steeper squashings magnify the small, symlog keeps the large apart.
    """
    return jnp.concatenate([supports.symlog(x), *(jnp.tanh(scale * x) for scale in (0.5, 2.0, 8.0))], axis=-1)
