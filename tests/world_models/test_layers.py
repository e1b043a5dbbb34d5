import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from world_models.layers import BESIDE, Conv, ConvBlock, unfold


@pytest.mark.parametrize(
    ("side", "strides", "padding"),
    [(5, 1, "SAME"), (5, 1, "VALID"), (4, 1, BESIDE), (13, 1, BESIDE), (5, 2, "SAME"), (4, 2, BESIDE)],
)
def test_it_is_the_librarys_convolution(side, strides, padding):
    ours = Conv(3, strides, padding)
    theirs = nn.Conv(3, (3, 3), strides, padding)
    x = jax.random.normal(jax.random.key(0), (2, side, side - 1, 2))
    params = theirs.init(jax.random.key(1), x)
    jax.tree.map(np.testing.assert_array_equal, ours.init(jax.random.key(1), x), params)
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)

    @jax.jit
    def both(params, x):
        def gradient(layer):
            return jax.grad(lambda *given: jnp.sin(layer.apply(*given)).sum(), argnums=(0, 1))(params, x)

        return [(layer.apply(params, x), gradient(layer)) for layer in (ours, theirs)]

    for mine, other in zip(*(jax.tree.leaves(each) for each in both(params, x)), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)


def test_what_a_kernel_sees_by_hand():
    grid = jnp.arange(1.0, 7).reshape(2, 3, 1)
    np.testing.assert_array_equal(unfold(grid, BESIDE)[0, 0], [0, 0, 0, 0, 1, 2, 0, 4, 5])
    np.testing.assert_array_equal(unfold(grid, BESIDE)[1, 2], [2, 3, 0, 5, 6, 0, 0, 0, 0])
    np.testing.assert_array_equal(unfold(jnp.arange(9.0).reshape(3, 3, 1), "VALID"), np.arange(9.0)[None, None])


def test_leading_axes_are_rows():
    x = jax.random.normal(jax.random.key(0), (2, 3, 13, 4, 2))
    layer = Conv(3, 2, BESIDE, use_bias=False)
    params = layer.init(jax.random.key(1), x[0])
    assert set(params["params"]) == {"kernel"}
    rows = jnp.stack([layer.apply(params, row) for row in x])
    np.testing.assert_allclose(layer.apply(params, x), rows, atol=1e-6)


def test_a_block_keeps_its_shape_or_brings_the_grid_to_a_new_one():
    x = jax.random.normal(jax.random.key(0), (1, 4, 6, 2))
    kept, moved = (block.init_with_output(jax.random.key(1), x) for block in (ConvBlock(2), ConvBlock(3, strides=2)))
    assert kept[0].shape == x.shape and moved[0].shape == (1, 2, 3, 3)
    assert "Conv_2" not in kept[1]["params"] and moved[1]["params"]["Conv_2"]["kernel"].shape == (3, 3, 2, 3)
    zeros = jax.tree.map(jnp.zeros_like, kept[1])
    np.testing.assert_array_equal(ConvBlock(2).apply(zeros, x), np.maximum(x, 0))
