"""An agent with a session slot: a causal transformer over what it lived, whose memory is a cache of keys and values.

Each transition of the session is one token, of its observation, action, reward, end and next observation. The current
observation is a query that sees the tokens before it and itself, and is not stored. With the memory empty nothing is
left but the query: that is the student without context, the one that is deployed.

Letters: B batch, T transitions, N tokens, M places of the cache, L layers, G heads, D width of a head, A actions.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from dreamer.core import supports
from dreamer.core.ports import Agent, SessionAgent
from dreamer.core.types import EnvSpec, Evaluation, PyTree, Transition


@dataclasses.dataclass(frozen=True)
class SessionSlotConfig:
    """Sizes of the agent and of its memory."""

    num_layers: int = 2
    """L, layers of the transformer."""
    width: int = 64
    """Numbers of a token between layers."""
    num_heads: int = 4
    """G, heads of each layer's attention; `width` is shared out among them."""
    num_slots: int = 256
    """M, transitions that a session may have."""
    value_support: supports.Support = supports.Support(-2.0, 2.0, 41, "signed_sqrt")
    """Atoms of the value head."""

    def __post_init__(self) -> None:
        for name in ("num_layers", "width", "num_heads", "num_slots"):
            if getattr(self, name) < 1:
                raise ValueError(f"session_slot.{name} is {getattr(self, name)}: give 1 or more")
        if self.width % self.num_heads:
            raise ValueError(
                f"session_slot.width is {self.width}, no multiple of its num_heads {self.num_heads}: give "
                f"{self.num_heads * max(1, round(self.width / self.num_heads))}, or other heads"
            )


@struct.dataclass
class SessionMemory:
    """What was lived so far, as keys and values of every layer."""

    keys: jax.Array
    """[B, M, L, G, D]"""
    values: jax.Array
    """[B, M, L, G, D]"""
    count: jax.Array
    """[B] int32 transitions taken in; the places from there on are empty."""


class _Layer(nn.Module):
    """One layer of attention and a perceptron, normalised first."""

    config: SessionSlotConfig

    @nn.compact
    def __call__(self, x: jax.Array, past: tuple[jax.Array, jax.Array], seen: jax.Array) -> tuple:
        """Returns x [B, N, width] and its own keys and values [B, N, G, D].

        Args:
          x: [B, N, width] tokens.
          past: keys and values [B, M, G, D] of tokens before them.
          seen: [B, N, M + N] bool, which of both a token attends to.
        """
        heads = (self.config.num_heads, self.config.width // self.config.num_heads)
        normed = nn.LayerNorm()(x)
        query, *own = (nn.DenseGeneral(heads, name=name)(normed) for name in ("query", "key", "value"))
        keys, values = (jnp.concatenate(pair, axis=1) for pair in zip(past, own, strict=True))
        scores = jnp.einsum("bngd,bmgd->bgnm", query, keys) / heads[1] ** 0.5
        weights = jax.nn.softmax(jnp.where(seen[:, None], scores, -jnp.inf))
        heard = jnp.einsum("bgnm,bmgd->bngd", weights, values)
        x = x + nn.DenseGeneral(self.config.width, axis=(-2, -1), name="heard")(heard)
        thought = nn.gelu(nn.Dense(4 * self.config.width)(nn.LayerNorm()(x)))
        return x + nn.Dense(self.config.width)(thought), *own


class _Net(nn.Module):
    """Tokens and queries -> policy and value logits, uniform before learning, and the tokens' keys and values."""

    config: SessionSlotConfig
    num_actions: int

    def setup(self) -> None:
        self.sight = nn.Dense(self.config.width)
        self.outcome = nn.Dense(self.config.width)
        self.place = nn.Embed(self.config.num_slots, self.config.width)
        self.layers = [_Layer(self.config) for _ in range(self.config.num_layers)]
        self.norm = nn.LayerNorm()
        self.policy = nn.Dense(self.num_actions, kernel_init=nn.initializers.zeros)
        self.value = nn.Dense(self.config.value_support.num_bins, kernel_init=nn.initializers.zeros)

    def queries(self, obs: jax.Array) -> jax.Array:
        """Returns [B, N, width] of observations [B, N, *obs_shape]."""
        return self.sight(_flat(obs))

    def tokens(self, lived: Transition, place: jax.Array) -> jax.Array:
        """Returns [B, N, width] of transitions [B, N] at places [B, N] of the session."""
        action = jax.nn.one_hot(lived.action, self.num_actions)
        flags = jnp.stack([lived.reward, lived.terminated | lived.truncated], axis=-1)
        outcome = jnp.concatenate([action, flags, _flat(lived.next_obs)], axis=-1)
        return self.sight(_flat(lived.obs)) + self.outcome(outcome) + self.place(place)

    def think(self, x: jax.Array, past: tuple[jax.Array, jax.Array], seen: jax.Array) -> tuple:
        """Returns x [B, N, width], keys and values [B, N, L, G, D]; arguments as of a layer, past [B, M, L, G, D]."""
        own = []
        for number, layer in enumerate(self.layers):
            x, *kept = layer(x, tuple(part[:, :, number] for part in past), seen)
            own.append(kept)
        return x, *(jnp.stack(parts, axis=2) for parts in zip(*own, strict=True))

    def heads(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns policy logits [..., A] and value logits [..., bins] of thoughts [..., width]."""
        return self.policy(self.norm(x)), self.value(self.norm(x))

    def answer(self, obs: jax.Array, past: tuple[jax.Array, jax.Array], seen: jax.Array) -> tuple:
        """Returns the logits at observations [B, *obs_shape]."""
        return self.heads(self.think(self.queries(obs[:, None]), past, seen)[0][:, 0])

    def take_in(self, lived: Transition, memory: SessionMemory, seen: jax.Array) -> tuple:
        """Returns keys and values [B, 1, L, G, D] of one transition [B, 1]."""
        # Past the last place there is none: `remember` makes the memory unusable.
        x = self.tokens(lived, jnp.minimum(memory.count, self.config.num_slots - 1)[:, None])
        return self.think(x, (memory.keys, memory.values), seen)[1:]

    def read(self, session: Transition, past: tuple[jax.Array, jax.Array], seen: jax.Array) -> tuple:
        """Returns the logits [B, T] at every observation of a session [B, T]: tokens first, then queries."""
        T = session.action.shape[1]
        place = jnp.broadcast_to(jnp.arange(T), session.action.shape)
        x = jnp.concatenate([self.tokens(session, place), self.queries(session.obs)], axis=1)
        return self.heads(self.think(x, past, seen)[0][:, T:])

    def recall(self, session: Transition, past: tuple[jax.Array, jax.Array], seen: jax.Array) -> tuple:
        """Returns keys and values [B, T, L, G, D] of a session [B, T]."""
        place = jnp.broadcast_to(jnp.arange(session.action.shape[1]), session.action.shape)
        return self.think(self.tokens(session, place), past, seen)[1:]

    def begin(self, obs: jax.Array, past: tuple[jax.Array, jax.Array], seen: jax.Array) -> tuple:
        """Touches every parameter once, for `init`."""
        empty = jnp.zeros(obs.shape[:1])
        lived = Transition(obs, empty, empty.astype(jnp.int32), empty, empty > 0, empty > 0, obs)
        return self.read(jax.tree.map(lambda leaf: leaf[:, None], lived), past, seen)


def make_session_slot(spec: EnvSpec, config: SessionSlotConfig) -> SessionAgent:
    """Returns the agent for environments of `spec`, on models whose latent is the observation itself."""
    net = _Net(config, spec.num_actions)
    shape = (config.num_layers, config.num_heads, config.width // config.num_heads)

    def nothing(num_copies: int, num_slots: int) -> tuple[jax.Array, jax.Array]:
        return (jnp.zeros((num_copies, num_slots, *shape)),) * 2

    def init(key: jax.Array, latent: jax.Array) -> PyTree:
        B = latent.shape[0]
        return net.init(key, latent, nothing(B, 0), _seen_in_session(B, 1), method="begin")

    def evaluation(logits: jax.Array, value_logits: jax.Array) -> Evaluation:
        return Evaluation(logits, supports.expectation(config.value_support, value_logits), value_logits)

    def evaluate(params: PyTree, memory: PyTree, latent: jax.Array) -> Evaluation:
        B = latent.shape[0]
        if memory == ():
            past, seen = nothing(B, 0), jnp.ones((B, 1, 1), bool)
        else:
            past, seen = (memory.keys, memory.values), _seen_so_far(memory)
        return evaluation(*net.apply(params, latent, past, seen, method="answer"))

    def value_loss(judged: Evaluation, target: jax.Array) -> jax.Array:
        return supports.cross_entropy(config.value_support, judged.value_logits, target)

    def remember(params: PyTree, memory: SessionMemory, transition: Transition) -> SessionMemory:
        if memory.keys.shape[1] != config.num_slots:
            raise ValueError(f"a memory of {memory.keys.shape[1]} places is full, and takes in nothing more")
        lived = jax.tree.map(lambda leaf: leaf[:, None], transition)
        own = net.apply(params, lived, memory, _seen_so_far(memory), method="take_in")
        here = jnp.arange(config.num_slots)[None] == memory.count[:, None]  # [B, M]
        full = memory.count >= config.num_slots

        def put(kept: jax.Array, new: jax.Array) -> jax.Array:
            kept = jnp.where(here[:, :, None, None, None], new, kept)
            return jnp.where(full[:, None, None, None, None], jnp.nan, kept)  # nobody acts on what has no room

        keys, values = map(put, (memory.keys, memory.values), own)
        return SessionMemory(keys, values, memory.count + 1)

    def empty(num_copies: int, num_decisions: int) -> SessionMemory:
        _check_room(config, num_decisions)
        return SessionMemory(*nothing(num_copies, config.num_slots), jnp.zeros(num_copies, jnp.int32))

    def read(params: PyTree, session: Transition) -> Evaluation:
        B, T = session.action.shape
        _check_room(config, T)
        return evaluation(*net.apply(params, session, nothing(B, 0), _seen_in_session(B, T), method="read"))

    def recall(params: PyTree, session: Transition) -> SessionMemory:
        B, T = session.action.shape
        _check_room(config, T)
        seen = jnp.broadcast_to(jnp.tril(jnp.ones((T, T), bool)), (B, T, T))
        own = net.apply(params, session, nothing(B, 0), seen, method="recall")
        room = ((0, 0), (0, config.num_slots - T), (0, 0), (0, 0), (0, 0))
        return SessionMemory(*(jnp.pad(kept, room) for kept in own), jnp.full(B, T, jnp.int32))

    def last(memory: SessionMemory, number: int) -> tuple[jax.Array, jax.Array]:
        def cut(kept: jax.Array, count: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice_in_dim(kept, jnp.maximum(count - number, 0), number)

        return tuple(jax.vmap(cut)(kept, memory.count) for kept in (memory.keys, memory.values))

    def holding(kept: tuple[jax.Array, jax.Array]) -> SessionMemory:
        keys, values = kept
        return SessionMemory(keys, values, jnp.full(keys.shape[0], keys.shape[1], jnp.int32))

    return SessionAgent(Agent(init, evaluate, value_loss, remember), empty, read, recall, last, holding)


def _seen_so_far(memory: SessionMemory) -> jax.Array:
    """Returns [B, 1, M + 1], what a token after the session so far attends to: that session and itself."""
    B, M = memory.keys.shape[:2]
    lived = jnp.arange(M)[None] < memory.count[:, None]
    return jnp.concatenate([lived, jnp.ones((B, 1), bool)], axis=1)[:, None]


def _seen_in_session(B: int, T: int) -> jax.Array:
    """Returns [B, 2 T, 2 T] of T tokens, then T queries: a token sees tokens up to itself, a query those before it and
    itself."""
    before = jnp.tril(jnp.ones((T, T), bool), -1)
    own, never = jnp.eye(T, dtype=bool), jnp.zeros((T, T), bool)
    return jnp.broadcast_to(jnp.block([[before | own, never], [before, own]]), (B, 2 * T, 2 * T))


def _check_room(config: SessionSlotConfig, num_decisions: int) -> None:
    if num_decisions > config.num_slots:
        raise ValueError(
            f"the session has {num_decisions} decisions, but session_slot.num_slots is {config.num_slots}: raise it to "
            f"{num_decisions}, or live a shorter session"
        )


def _flat(obs: jax.Array) -> jax.Array:
    """Returns observations [B, N, *obs_shape] as [B, N, F] float32."""
    return obs.reshape(*obs.shape[:2], -1).astype(jnp.float32)
