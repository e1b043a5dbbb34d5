"""How short what a night taught can be told: the change rounded to a grid, and the bits of a code for it.

Letters: J jobs, n numbers of a leaf, K values that a rounded number may have.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from dreamer.core.types import PyTree

STEPS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Widths of the grids that are tried, in root mean squares of a job's change."""
SHARE = 0.95
"""Of the success that the change has won: what has to be left of it."""


def code_bits(rounded: PyTree) -> float:
    """Returns the bits in which an adaptive code tells whole numbers, leaf after leaf, to somebody who has the rest.

    Of each leaf first the largest size, m, in 32 bits, then the numbers, each one of K = 2 m + 1 values by how often it
    has come before (the estimator of Krichevsky and Trofimov, https://doi.org/10.1109/TIT.1981.1056331), which sums up
    to a closed form whatever their order; and once the width of the grid, in 32 bits.
    """
    total = 32.0
    for leaf in jax.tree.leaves(rounded):
        numbers = np.asarray(leaf, np.int64).ravel()
        largest = int(abs(numbers).max(initial=0))
        counts, K = np.bincount(numbers + largest, minlength=2 * largest + 1), 2 * largest + 1
        log = special.gammaln(numbers.size + K / 2) - special.gammaln(K / 2)
        log -= (special.gammaln(counts + 0.5) - special.gammaln(0.5)).sum()
        total += 32 + log / np.log(2)
    return float(total)


def make_coded(success: Callable[..., np.ndarray], first: PyTree) -> Callable[..., dict]:
    """Returns (what is learned [J], its success [J], *of which) -> what a row says of the shortest code that keeps it.

    `coded_bits` is the mean length over jobs for the widest grid that keeps 95 % of the mean success that was won, and
    `coded_return` the success that is left, in the episodes that the grid was chosen by; nothing where nothing was won,
    or no grid keeps it.

    Args:
      success: (what is learned [J], *of which) -> [J] mean returns.
      first: what is learned before anything was, of one job, which whoever is told the code has.
    """

    @jax.jit
    def rounded(learned: PyTree, step: jax.Array) -> tuple[PyTree, PyTree]:
        def one(learned: PyTree) -> tuple[PyTree, PyTree]:
            change = jax.tree.map(jnp.subtract, learned, first)
            leaves = jax.tree.leaves(change)
            square = sum((leaf**2).sum() for leaf in leaves) / sum(leaf.size for leaf in leaves)
            width = jnp.maximum(step * jnp.sqrt(square), 1e-30)  # where nothing was learned
            numbers = jax.tree.map(lambda leaf: jnp.round(leaf / width).astype(jnp.int32), change)
            return numbers, jax.tree.map(lambda leaf, number: leaf + width * number, first, numbers)

        return jax.vmap(one)(learned)

    def of(learned: PyTree, whole: np.ndarray, *of_which: jax.Array) -> dict[str, float]:
        untaught = jax.tree.map(lambda leaf, like: jnp.broadcast_to(leaf, like.shape), first, learned)
        before, after = float(success(untaught, *of_which).mean()), float(whole.mean())
        if after <= before:
            return {}
        for step in sorted(STEPS, reverse=True):
            numbers, again = rounded(learned, jnp.float32(step))
            kept = float(success(again, *of_which).mean())
            if kept - before >= SHARE * (after - before):
                each = [code_bits(jax.tree.map(lambda leaf, job=job: leaf[job], numbers)) for job in range(len(whole))]
                return {"coded_bits": float(np.mean(each)), "coded_return": kept}
        return {}

    return of
