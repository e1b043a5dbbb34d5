"""What carries from a night into the day after: all weights, a low-rank change of them, or a short memory.

One loss teaches any of them; what differs is which numbers it may move, and how many bytes they take.

* `weights`: all parameters.
* `lora`: a change of rank r of every linear map ("LoRA: Low-Rank Adaptation of Large Language Models",
  https://arxiv.org/abs/2106.09685), which can be added to the weights for good.
* `cartridge`: p places of the memory, whose keys and values are learned ("Cartridges: Lightweight and general-purpose
  long context representations via self-study", https://arxiv.org/abs/2506.06266); the weights stay. They begin as the
  last p places of the session. There the first place stays as it began; here all are learned.
* `window`: those last p places as they are, unlearned: what as many bytes are worth for nothing. In layers above the
  first they were written by somebody who saw the whole session, so they may hold more than the last p transitions.
* `table`: p observations of the session and what its reader plays there, unlearned: whoever acts plays what it played
  at the nearest of them ("Model-Free Episodic Control", https://arxiv.org/abs/1606.04460, with a policy in place of
  returns, and one neighbour). It looks up, and knows nothing between. The observations are those that `spread` finds,
  so no entry says again what another says.

Letters: r rank, p places of a memory, A actions; n of any number.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dreamer.core.ports import Agent, SessionAgent, in_copies
from dreamer.core.types import PyTree, Transition

KINDS = ("weights", "lora", "cartridge", "window", "table")
MEMORIES = ("cartridge", "window", "table")
UNLEARNED = ("window", "table")


@dataclasses.dataclass(frozen=True)
class CarrierConfig:
    """What carries what a night taught."""

    kind: str = "weights"
    """`weights`, `lora`, `cartridge`, `window` or `table`."""
    size: int = 0
    """Rank of `lora`; places of a memory, one for a transition; 0 for `weights`, which are all."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"carrier.kind is {self.kind!r}: give one of {', '.join(KINDS)}")
        if (self.kind == "weights") != (self.size == 0) or self.size < 0:
            wanted = "0, for they are all" if self.kind == "weights" else "1 or more"
            raise ValueError(f"carrier.size is {self.size} where kind is {self.kind!r}: give {wanted}")


@dataclasses.dataclass(frozen=True)
class NapConfig:
    """What a session is folded into before a night, so that the session itself need not be kept until then."""

    places: int = 0
    """Places of the cartridge that teaches in the session's stead; 0 takes no nap, and the session teaches."""
    num_updates: int = 256
    """Updates of the cartridge, each on all states of the session, towards what its reader plays there."""
    learning_rate: float = 1e-2
    """Their step size."""

    def __post_init__(self) -> None:
        for name, least in (("places", 0), ("num_updates", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"nap.{name} is {getattr(self, name)}: give {least} or more")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"nap.learning_rate is {self.learning_rate}: give a positive number")
        unused = (NapConfig.num_updates, NapConfig.learning_rate)
        if not self.places and (self.num_updates, self.learning_rate) != unused:
            raise ValueError("nap.places is 0, so no nap is taken, but other settings of nap are changed: give places")


class Carried(NamedTuple):
    """The agent as it is deployed."""

    params: PyTree
    memory: PyTree
    """Of one copy; () for none."""

    def logits_at(self, agent: Agent, obs: jax.Array) -> jax.Array:
        """Returns [n, A] the policy logits of `agent` at each of observations [n, ...] with what is carried."""
        return agent.evaluate(self.params, in_copies(self.memory, obs.shape[0]), obs).logits


class Carrier(NamedTuple):
    """How what is learned becomes an agent; pure functions."""

    begin: Callable[[jax.Array, PyTree], PyTree]
    """(key, params of the first agent) -> what is learned, before anything was."""
    fill: Callable[[PyTree, PyTree, Transition | tuple], PyTree]
    """(learned, params of the first agent, session [T]) -> what is learned, as a night after that session begins."""
    carried: Callable[[PyTree, PyTree], Carried]
    """(learned, params of the first agent) -> the agent."""


def make_carrier(config: CarrierConfig, slot: SessionAgent) -> Carrier:
    """Returns how what a night teaches `slot` is carried."""
    if config.kind == "weights":
        return Carrier(
            begin=lambda key, params: params,
            fill=lambda learned, params, session: learned,
            carried=lambda learned, params: Carried(learned, ()),
        )
    if config.kind == "lora":
        return Carrier(
            begin=lambda key, params: low_rank(key, params, rank=config.size),
            fill=lambda learned, params, session: learned,
            carried=lambda learned, params: Carried(added(params, learned), ()),
        )

    p, spec = config.size, slot.spec
    if config.kind == "table":

        def blank(key: jax.Array, params: PyTree) -> PyTree:
            return jnp.zeros((1, p, *spec.obs_shape)), jnp.zeros((1, p, spec.num_actions))

        def table(learned: PyTree, params: PyTree, session: Transition | tuple) -> PyTree:
            obs = session.obs[spread(session.obs, p)]
            said = slot.agent.evaluate(params, slot.recall_in(params, session, p), obs)
            return obs[None].astype(jnp.float32), said.logits[None]

        return Carrier(
            blank, table, lambda learned, params: Carried(params, slot.looking_up(*jax.lax.stop_gradient(learned)))
        )

    def nothing(key: jax.Array, params: PyTree) -> PyTree:
        return slot.last(slot.empty(1, p), p)

    def last(learned: PyTree, params: PyTree, session: Transition | tuple) -> PyTree:
        return slot.last(slot.recall_in(params, session, 1), p)

    def carried(learned: PyTree, params: PyTree) -> Carried:
        kept = jax.lax.stop_gradient(learned) if config.kind == "window" else learned
        return Carried(params, slot.holding(kept))

    return Carrier(nothing, last, carried)


def spread(points: jax.Array, num_chosen: int) -> jax.Array:
    """Returns the places [p] of so many of `points` [T, ...], the last first, each the farthest from those before it.

    By squares summed; of points as far as each other, the newest. None of the others is farther from its nearest than
    twice what is best (Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985).
    """
    flat = jnp.asarray(points, jnp.float32).reshape(len(points), -1)

    def choose(chosen: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple, jax.Array]:
        newest, gaps = chosen
        gaps = jnp.minimum(gaps, ((flat - flat[newest][None]) ** 2).sum(axis=-1))
        return (len(flat) - 1 - jnp.argmax(gaps[::-1]), gaps), newest

    begin = jnp.int32(len(flat) - 1), jnp.full(len(flat), jnp.inf)
    return jax.lax.scan(choose, begin, length=num_chosen)[1]


def low_rank(key: jax.Array, params: PyTree, *, rank: int) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Returns by name of each linear map its factors (A [rows, r], B [r, columns]), whose product is 0.

    A map of several axes is the matrix that is nearest to a square; r is never more than either of its sides. A is
    drawn with a variance of 1 / rows, B is 0.
    """
    factors = {}
    for number, (name, kernel) in enumerate(sorted(_kernels(params).items())):
        rows, columns = _sides(kernel.shape)
        r = min(rank, rows, columns)
        draw = jax.random.normal(jax.random.fold_in(key, number), (rows, r)) / math.sqrt(rows)
        factors[name] = (draw, jnp.zeros((r, columns)))
    return factors


def added(params: PyTree, factors: dict[str, tuple[jax.Array, jax.Array]]) -> PyTree:
    """Returns the parameters with each change of low rank added to its linear map."""

    def add(path: tuple, leaf: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(path)
        if name not in factors:
            return leaf
        left, right = factors[name]
        return leaf + (left @ right).reshape(leaf.shape)

    return jax.tree_util.tree_map_with_path(add, params)


def _kernels(params: PyTree) -> dict[str, jax.Array]:
    """Returns the linear maps of networks, by name."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    named = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    return {name: leaf for name, leaf in named.items() if name.endswith("['kernel']")}


def _sides(shape: tuple[int, ...]) -> tuple[int, int]:
    """Returns rows and columns of the matrix that is nearest to a square, among those that the axes can be cut into."""
    cuts = [(math.prod(shape[:place]), math.prod(shape[place:])) for place in range(1, len(shape))]
    return min(cuts, key=sum)
