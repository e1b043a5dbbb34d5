"""What a layer hears of a session: through a cache of keys and values, or through fast weights that it wrote; and a
table, which is asked in place of all layers.

A cache (`attend`) holds one place for every transition and is asked by attention. Fast weights (`recite`) are one
matrix a head, whatever the session's length: each transition writes, by the delta rule, what its key shall call up
("Linear Transformers Are Secretly Fast Weight Programmers", https://arxiv.org/abs/2102.11174; keys and queries as in
"Parallelizing Linear Transformers with the Delta Rule over Sequence Length", https://arxiv.org/abs/2406.06484).

Letters: B batch, N tokens, of which the first W are lived transitions and are written; M places of the cache, P of the
table, L layers, G heads, D width of a head, A actions.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from dreamer.core.types import PyTree


class Functions(NamedTuple):
    """How a memory keeps what was lived; pure functions. What is kept has axes [B, places, L, ...] of all layers, and
    [B, places, ...] of one."""

    gated: bool
    """Whether a token says how strongly it is written."""
    num_places: Callable[[int], int]
    """Transitions that there is room for -> places of a memory with such room."""
    nothing: Callable[[int, int, tuple[int, int, int]], PyTree]
    """(B, transitions that there is room for, (L, G, D)) -> what an empty memory holds."""
    hear: Callable[..., tuple[jax.Array, PyTree]]
    """`attend` or `recite`."""
    with_one: Callable[[PyTree, PyTree, jax.Array], PyTree]
    """(what is held, what is kept of one transition more, how many there were [B]) -> what is held with it."""
    with_room: Callable[[PyTree, int], PyTree]
    """(what is kept of a session, transitions that there shall be room for) -> what a memory with such room holds."""
    last: Callable[[PyTree, jax.Array, int], PyTree]
    """(what is held, of how many transitions [B], number of places) -> the last of them."""
    num_held: Callable[[PyTree, int], int]
    """(what is held in places that are all in use, transitions that there is room for) -> of how many it counts."""


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


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    strength: None,
    past: tuple,
    full: jax.Array,
    after: np.ndarray,
) -> tuple[jax.Array, tuple]:
    """Returns what tokens hear [B, N, G, D], and their own keys and values [B, N, G, D].

    Args:
      query, key, value: [B, N, G, D]
      strength: every token is written whole.
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
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    strength: jax.Array,
    past: jax.Array,
    full: jax.Array,
    after: np.ndarray,
) -> tuple[jax.Array, jax.Array]:
    """Returns what tokens call up [B, N, G, D], and the weights [B, 1, G, D, D] that the first W have written.

    A token of key k and value v makes of weights S: S + strength (v - S k) k^T. Of an empty memory nothing is heard.

    Args:
      query, key, value: [B, N, G, D]
      strength: [B, N, G] from 0 (nothing is written) to 1 (just v is called up by k from there on).
      past: [B, 1, G, D, D]
      full: weights are never empty, but nothing may be written there.
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


def _with_one_place(held: tuple, new: tuple, count: jax.Array) -> tuple:
    here = jnp.arange(held[0].shape[1])[None] == count[:, None]
    return jax.tree.map(lambda kept, own: jnp.where(along(here, kept), own, kept), held, new)


def _with_places(held: tuple, num_slots: int) -> tuple:
    return jax.tree.map(lambda kept: jnp.pad(kept, ((0, 0), (0, num_slots - kept.shape[1]), *((0, 0),) * 3)), held)


def _last_places(held: tuple, count: jax.Array, number: int) -> tuple:
    def cut(kept: jax.Array, count: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(kept, jnp.maximum(count - number, 0), number)

    return jax.tree.map(lambda kept: jax.vmap(cut)(kept, count), held)


def along(flags: jax.Array, leaf: jax.Array) -> jax.Array:
    """Returns flags [B, places] with the axes of a leaf [B, places, ...]."""
    return flags.reshape(*flags.shape, *(1,) * (leaf.ndim - 2))


KINDS = {
    "cache": Functions(  # keys and values, each [B, M, L, G, D]: a place for every transition
        gated=False,
        num_places=lambda num_slots: num_slots,
        nothing=lambda num_copies, num_slots, shape: (jnp.zeros((num_copies, num_slots, *shape)),) * 2,
        hear=attend,
        with_one=_with_one_place,
        with_room=_with_places,
        last=_last_places,
        num_held=lambda held, num_slots: held[0].shape[1],
    ),
    "fast_weights": Functions(  # weights [B, 1, L, G, D, D]: one place, however many transitions it has taken in
        gated=True,
        num_places=lambda num_slots: 1,
        nothing=lambda num_copies, num_slots, shape: jnp.zeros((num_copies, 1, *shape, shape[-1])),
        hear=recite,
        with_one=lambda held, new, count: new,
        with_room=lambda held, num_slots: held,
        last=lambda held, count, number: held,
        num_held=lambda held, num_slots: num_slots,
    ),
}
"""Name of a memory -> how it keeps what was lived."""
