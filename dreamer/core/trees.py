"""Arithmetic and identity of whole pytrees of arrays."""

import hashlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.core.types import PyTree


def lerp(old: PyTree, new: PyTree, step: float | jax.Array) -> PyTree:
    """Returns `old` moved towards `new` by `step`: exactly `old` at 0 and exactly `new` at 1. Dtypes of `old` kept.

    Args:
      old: pytree of floating arrays.
      new: pytree of the same structure and shapes.
      step: scalar in [0, 1].

    Raises:
      TypeError: a leaf is not floating, so there is nothing between old and new.
    """

    def move(path: tuple, old_leaf: jax.Array, new_leaf: jax.Array) -> jax.Array:
        dtype = jnp.result_type(old_leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            name = jax.tree_util.keystr(path)
            raise TypeError(f"lerp: leaf {name} has dtype {dtype}; keep only floating leaves in an averaged tree.")
        return ((1 - step) * old_leaf + step * new_leaf).astype(dtype)

    return jax.tree_util.tree_map_with_path(move, old, new)


def all_finite(tree: PyTree) -> jax.Array:
    """Returns [] bool: no leaf holds a NaN or an infinity. True for an empty tree."""
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)], bool))


def num_parameters(tree: PyTree) -> int:
    """Returns the number of scalars in all leaves."""
    return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(tree))


def digest(tree: PyTree) -> str:
    """Returns the hex SHA-256 of every leaf's path, dtype, shape and bytes: equal only for bit-identical trees.

    Runs on the host and waits for the device. Typed keys count as their key data.
    """
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf)
        sha.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def flatten_lead(tree: PyTree, num_axes: int) -> PyTree:
    """Returns the tree with the first `num_axes` axes of every leaf merged into one."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[num_axes:]), tree)


def unflatten_lead(tree: PyTree, shape: tuple[int, ...]) -> PyTree:
    """Returns the tree with the first axis of every leaf split into `shape`; undoes `flatten_lead`."""
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), tree)


def then(first: PyTree, later: PyTree) -> PyTree:
    """Returns [B, K + 1, ...] on every leaf: that of `first` [B, ...], then those of `later` [K, B, ...] of a scan."""
    return jax.tree.map(
        lambda start, rest: jnp.concatenate([start[:, None], jnp.swapaxes(rest, 0, 1)], axis=1), first, later
    )


def only_used(function: Callable[[PyTree], PyTree], tree: PyTree) -> PyTree:
    """Returns the tree with None for every leaf that `function(tree)` does not read.

    Args:
      function: traceable; only its outermost computation is looked at, so a leaf handed on to an inner jit counts.
      tree: pytree of arrays.
    """
    leaves, treedef = jax.tree.flatten(tree)
    jaxpr = jax.make_jaxpr(function)(tree).jaxpr
    read = {id(variable) for equation in jaxpr.eqns for variable in equation.invars} | {id(v) for v in jaxpr.outvars}
    kept = [leaf if id(variable) in read else None for leaf, variable in zip(leaves, jaxpr.invars, strict=True)]
    return jax.tree.unflatten(treedef, kept)
