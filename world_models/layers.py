"""Layers for latents that are vectors [..., D] or grids [..., h, w, C] of cells, in float32 or bfloat16.

Parameters are always float32; `dtype` is what a layer computes in and returns. A layer without a dtype, as the last one
of every head is, returns float32. The norm is LayerNorm, over a vector or over a grid as a whole: it needs no running
statistics. Over the channels of each cell it would magnify gradients wherever a picture is black.

Letters: D latent size, h x w cells, C channels.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from dreamer.core import trees

COMPUTE_DTYPES = ("float32", "bfloat16")
BESIDE = ((1, 1), (1, 1))  # one cell of zeros on each side; "SAME" would pad an even grid on one side only at stride 2

_LARGEST_UNFOLDED = 12  # cells a side; XLA's own convolution for what is larger
_SIDE = 3  # cells a side of the kernel


class Conv(nn.Module):
    """A 3 x 3 convolution with the parameters of `nn.Conv`; on small grids nine shifted copies and one matrix product.

    In a loop, as a night is, XLA differentiates a convolution on the CPU by a slow path, ten times slower than this.
    """

    num_channels: int
    strides: int = 1
    padding: str | tuple = "SAME"
    use_bias: bool = True
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the convolved grid [..., h', w', num_channels] of `x` [..., h, w, C]."""
        shape = (_SIDE, _SIDE, x.shape[-1], self.num_channels)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.num_channels,)) if self.use_bias else None
        unfolds = self.strides == 1 and max(x.shape[-3:-1]) <= _LARGEST_UNFOLDED
        if unfolds:  # in its own dtype: of binary planes nine copies are moved byte by byte
            x = unfold(x, self.padding)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        if unfolds:
            y = x @ kernel.reshape(-1, self.num_channels)
        else:
            y = jax.lax.conv_general_dilated(
                trees.flatten_lead(x, x.ndim - 3),
                kernel,
                (self.strides, self.strides),
                self.padding,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
            y = trees.unflatten_lead(y, x.shape[:-3])
        return y if bias is None else y + bias.reshape((1,) * (y.ndim - 1) + (-1,))


def mean_of_members(x: jax.Array, axis: int) -> jax.Array:
    """Returns the mean over the members of an ensemble, along `axis`, with the gradient of the sum.

    So what is told is a mean, and each member gets the gradient it would have alone.
    """
    mean = x.mean(axis)
    return mean + (x.shape[axis] - 1) * (mean - jax.lax.stop_gradient(mean))


def unfold(x: jax.Array, padding: str | tuple) -> jax.Array:
    """Returns [..., h', w', 9 * C]: beside each other what a 3 x 3 kernel sees at each place of `x` [..., h, w, C]."""
    if padding != "VALID":
        x = jnp.pad(x, (*[(0, 0)] * (x.ndim - 3), *BESIDE, (0, 0)))
    height, width = (size - _SIDE + 1 for size in x.shape[-3:-1])
    shifts = [(down, right) for down in range(_SIDE) for right in range(_SIDE)]
    return jnp.concatenate([x[..., down : down + height, right : right + width, :] for down, right in shifts], axis=-1)


class ConvBlock(nn.Module):
    """EfficientZero's residual block: conv, norm, relu, conv, norm, + x, relu.

    Where it changes the grid or its channels, a plain convolution brings `x` to the new shape.
    """

    num_channels: int
    strides: int = 1
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the block's output [..., h', w', num_channels] of `x` [..., h, w, C]."""
        y = nn.relu(conv_norm(x, self.num_channels, strides=self.strides, dtype=self.dtype))
        y = conv_norm(y, self.num_channels, dtype=self.dtype)
        if y.shape != x.shape:
            x = Conv(self.num_channels, self.strides, BESIDE, use_bias=False, dtype=self.dtype)(x)
        return nn.relu(x + y)


def conv_norm(x: jax.Array, num_channels: int, *, strides: int = 1, dtype: jnp.dtype | None) -> jax.Array:
    """Returns the convolved, normalised grid, as part of the module that calls it; the norm's bias is the only one."""
    return grid_norm(dtype)(Conv(num_channels, strides, BESIDE, use_bias=False, dtype=dtype)(x))


def grid_norm(dtype: jnp.dtype | None) -> nn.LayerNorm:
    """Returns the norm over grids [..., h, w, C], with a scale and a bias for each channel."""
    return nn.LayerNorm(reduction_axes=(-3, -2, -1), dtype=dtype)


def hidden(x: jax.Array, width: int, dtype: jnp.dtype | None) -> jax.Array:
    """Returns relu(norm(linear(x))) [..., width] of `x` [..., D], as part of the module that calls it."""
    return nn.relu(nn.LayerNorm(dtype=dtype)(nn.Dense(width, dtype=dtype)(x)))


def reduced(grid: jax.Array, num_channels: int, dtype: jnp.dtype | None) -> jax.Array:
    """Returns a head's features [..., h * w * num_channels] of a grid [..., h, w, C]: few channels, laid out flat.

    As part of the module that calls it. A linear layer cell by cell is the 1 x 1 convolution of the papers.
    """
    x = nn.relu(grid_norm(dtype)(nn.Dense(num_channels, dtype=dtype)(grid)))
    return x.reshape(*x.shape[:-3], -1)
