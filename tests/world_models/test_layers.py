import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from world_models.layers import BESIDE, Conv, ConvBlock, unfold

once = functools.partial(jax.jit, compiler_options=tiny.QUICK)


@pytest.mark.parametrize(
    ("side", "strides", "padding"),
    [(5, 1, "SAME"), (5, 1, "VALID"), (4, 1, BESIDE), (13, 1, BESIDE), (5, 2, "SAME"), (4, 2, BESIDE)],
)
def test_it_is_the_librarys_convolution(side, strides, padding):
    ours, theirs = Conv(3, strides, padding), nn.Conv(3, (3, 3), strides, padding)
    x = jax.random.normal(jax.random.key(0), (2, side, side - 1, 2))

    @once
    def both(key, x):
        def learn(layer):
            params = layer.init(key, x)
            loss = lambda params, x: jnp.sin(layer.apply(params, x)).sum()  # noqa: E731
            return params, layer.apply(params, x), jax.grad(loss, argnums=(0, 1))(params, x)

        return learn(ours), learn(theirs)

    (params, *mine), (expected, *other) = both(jax.random.key(1), x)
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), mine, other)


def test_what_a_kernel_sees_by_hand():
    grid = jnp.arange(1.0, 7).reshape(2, 3, 1)
    np.testing.assert_array_equal(unfold(grid, BESIDE)[0, 0], [0, 0, 0, 0, 1, 2, 0, 4, 5])
    np.testing.assert_array_equal(unfold(grid, BESIDE)[1, 2], [2, 3, 0, 5, 6, 0, 0, 0, 0])
    np.testing.assert_array_equal(unfold(jnp.arange(9.0).reshape(3, 3, 1), "VALID"), np.arange(9.0)[None, None])


def test_leading_axes_are_rows():
    x = jax.random.normal(jax.random.key(0), (2, 3, 13, 4, 2))
    layer = Conv(3, 2, BESIDE, use_bias=False)

    @once
    def run(key, x):
        params = layer.init(key, x[0])
        return params, layer.apply(params, x), [layer.apply(params, row) for row in x]

    params, together, rows = run(jax.random.key(1), x)
    assert set(params["params"]) == {"kernel"}
    np.testing.assert_allclose(together, np.stack(rows), atol=1e-6)


def test_a_block_keeps_its_shape_or_brings_the_grid_to_a_new_one():
    x = jax.random.normal(jax.random.key(0), (1, 4, 6, 2))

    @once
    def run(key, x):
        kept, moved = (block.init_with_output(key, x) for block in (ConvBlock(2), ConvBlock(3, strides=2)))
        return kept, moved, ConvBlock(2).apply(jax.tree.map(jnp.zeros_like, kept[1]), x)

    kept, moved, nothing_added = run(jax.random.key(1), x)
    assert kept[0].shape == x.shape and moved[0].shape == (1, 2, 3, 3)
    assert "Conv_2" not in kept[1]["params"] and moved[1]["params"]["Conv_2"]["kernel"].shape == (3, 3, 2, 3)
    np.testing.assert_array_equal(nothing_added, np.maximum(x, 0))
