"""What a layer hears of a session: through a cache of keys and values, or through fast weights that it wrote; and a
table, which is asked in place of all layers.

A cache (`attend`) holds one place for every transition and is asked by attention. Fast weights (`recite`) are one
matrix a head, whatever the session's length: each transition writes, by the delta rule, what its key shall call up
("Linear Transformers Are Secretly Fast Weight Programmers", https://arxiv.org/abs/2102.11174; keys and queries as in
"Parallelizing Linear Transformers with the Delta Rule over Sequence Length", https://arxiv.org/abs/2406.06484).

Letters: B batch, N tokens, of which the first W are lived transitions and are written; M places of the cache, P of the
table, L layers, G heads, D width of a head, A actions.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from dreamer.core.types import PyTree

KINDS = ("cache", "fast_weights")


@struct.dataclass
class Table:
    """What to say where, of P observations."""

    obs: jax.Array
    """[B, P, ...]"""
    logits: jax.Array
    """[B, P, A]"""

    def look_up(self, obs: jax.Array) -> jax.Array:
        """Returns [B, A] the logits beside the nearest observation to each of [B, ...], by the sum of squares."""
        gap = (self.obs - obs[:, None]).astype(jnp.float32)
        nearest = (gap**2).reshape(*gap.shape[:2], -1).sum(axis=-1).argmin(axis=-1)
        return jnp.take_along_axis(self.logits, nearest[:, None, None], axis=1)[:, 0]


def nothing(kind: str, num_copies: int, num_slots: int, shape: tuple[int, int, int]) -> PyTree:
    """Returns what an empty memory holds: keys and values [B, M, L, G, D], or weights [B, 1, L, G, D, D].

    Args:
      kind: of `KINDS`.
      num_copies: B.
      num_slots: M; fast weights are one place, however many transitions they have taken in.
      shape: (L, G, D)
    """
    if kind == "fast_weights":
        return jnp.zeros((num_copies, 1, *shape, shape[-1]))
    return (jnp.zeros((num_copies, num_slots, *shape)),) * 2


def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, past: tuple, *, full: jax.Array, after: np.ndarray
) -> tuple[jax.Array, tuple]:
    """Returns what tokens hear [B, N, G, D], and their own keys and values [B, N, G, D].

    Args:
      query, key, value: [B, N, G, D]
      past: keys and values [B, M, G, D] of what was lived before.
      full: [B, M] bool, the places of it that hold anything.
      after: [N] ints, static: a token hears the past, so many of the first tokens, and itself.
    """
    keys, values = (jnp.concatenate(pair, axis=1) for pair in zip(past, (key, value), strict=True))
    B, N = query.shape[:2]
    own = (np.arange(N) < after[:, None]) | np.eye(N, dtype=bool)
    seen = jnp.concatenate([jnp.broadcast_to(full[:, None], (B, N, full.shape[1])), jnp.tile(own, (B, 1, 1))], axis=-1)
    scores = jnp.einsum("bngd,bmgd->bgnm", query, keys) / query.shape[-1] ** 0.5
    weights = jax.nn.softmax(jnp.where(seen[:, None], scores, -jnp.inf))
    return jnp.einsum("bgnm,bmgd->bngd", weights, values), (key, value)


def recite(
    query: jax.Array, key: jax.Array, value: jax.Array, strength: jax.Array, past: jax.Array, *, after: np.ndarray
) -> tuple[jax.Array, jax.Array]:
    """Returns what tokens call up [B, N, G, D], and the weights [B, 1, G, D, D] that the first W have written.

    A token of key k and value v makes of weights S: S + strength (v - S k) k^T. Of an empty memory nothing is heard.

    Args:
      query, key, value: [B, N, G, D]
      strength: [B, N, G] from 0 (nothing is written) to 1 (just v is called up by k from there on).
      past: [B, 1, G, D, D]
      after: [N] ints, static: a token hears the past and so many of the first tokens; W is the most of them.
    """
    query, key = (_directions(part) for part in (query, key))
    W = int(after.max())

    def write(weights: jax.Array, token: tuple) -> tuple[jax.Array, jax.Array]:
        key, value, strength = token
        wrong = value - jnp.einsum("bgij,bgj->bgi", weights, key)
        weights = weights + strength[..., None, None] * wrong[..., None] * key[..., None, :]
        return weights, weights

    first = past[:, 0]
    lived = tuple(part[:, :W].swapaxes(0, 1) for part in (key, value, strength))
    last, written = jax.lax.scan(write, first, lived)
    at = jnp.concatenate([first[None], written])[after]  # [N, B, G, D, D]
    return jnp.einsum("nbgij,bngj->bngi", at, query), last[:, None]


def _directions(x: jax.Array) -> jax.Array:
    """Returns [..., D] of length 1, after a SiLU."""
    x = jax.nn.silu(x)
    return x * jax.lax.rsqrt((x**2).sum(axis=-1, keepdims=True) + 1e-6)
