import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.core import trees


def tree():
    return {"layer": {"bias": jnp.array([0.1, 0.7]), "kernel": jnp.full((2, 3), 0.3)}, "scale": jnp.float32(1.3)}


def test_lerp_by_hand_exact_at_both_ends():
    old, new = tree(), jax.tree.map(lambda leaf: leaf * 7.7, tree())
    np.testing.assert_allclose(trees.lerp(old, new, 0.25)["layer"]["bias"], [0.2675, 1.8725], rtol=1e-6)
    assert trees.digest(trees.lerp(old, new, 0.0)) == trees.digest(old)
    assert trees.digest(jax.jit(trees.lerp)(old, new, 1.0)) == trees.digest(new)


def test_lerp_keeps_low_precision_and_refuses_integers():
    half = {"w": jnp.ones(2, jnp.bfloat16)}
    assert trees.lerp(half, half, jnp.float32(0.5))["w"].dtype == jnp.bfloat16
    with pytest.raises(TypeError, match="count.*int32"):
        trees.lerp({"count": jnp.int32(1)}, {"count": jnp.int32(2)}, 0.5)


@pytest.mark.parametrize("poison", [jnp.nan, jnp.inf, -jnp.inf])
def test_all_finite_finds_one_bad_number(poison):
    healthy = tree() | {"count": jnp.int32(3)}
    assert bool(jax.jit(trees.all_finite)(healthy))
    sick = healthy | {"layer": {"bias": healthy["layer"]["bias"].at[1].set(poison)}}
    assert not bool(trees.all_finite(sick))


def test_empty_trees():
    assert bool(trees.all_finite({}))
    assert trees.num_parameters(()) == 0
    assert trees.digest({}) == trees.digest(())


def test_num_parameters_counts_scalars():
    assert trees.num_parameters(tree()) == 2 + 6 + 1


def test_digest_sees_value_dtype_shape_and_path():
    same = trees.digest(tree())
    assert same == trees.digest(jax.tree.map(np.asarray, tree()))
    assert len(same) == 64
    zeros = jnp.zeros((2, 2))
    variants = [
        {"a": zeros},
        {"b": zeros},
        {"a": zeros.reshape(4)},
        {"a": zeros.astype(jnp.int32)},
        {"a": zeros.at[0, 0].set(-0.0)},
        {"a": zeros[0], "b": zeros[1]},
        {"a": jax.random.key(0)},
        {"a": jax.random.key(1)},
    ]
    assert len({trees.digest(variant) for variant in variants}) == len(variants)


def test_what_comes_then_stands_beside_what_came_first():
    first, later = {"a": jnp.array([1.0, 2.0])}, {"a": jnp.array([[3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])}
    np.testing.assert_array_equal(trees.then(first, later)["a"], [[1, 3, 5, 7], [2, 4, 6, 8]])
    grids = trees.then(jnp.zeros((2, 3, 4)), jnp.ones((5, 2, 3, 4)))
    assert grids.shape == (2, 6, 3, 4) and grids[:, 0].sum() == 0 and grids[:, 1:].min() == 1
