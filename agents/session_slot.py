"""An agent with a session slot: a causal transformer over what it lived, with a memory that it writes as it lives.

Each transition of the session is one token, of its observation, action, reward, end and next observation. The current
observation is a query that hears the tokens before it, and is not stored. With the memory empty nothing is left but the
query: that is the student without context, the one that is deployed. The two memories are in `agents.memories`.

Letters: B batch, T transitions, N tokens, M places of the cache, L layers, G heads, D width of a head, A actions.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from agents import memories
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
    memory: str = "cache"
    """What it keeps of them: `cache`, keys and values of each, asked by attention; or `fast_weights`, one matrix a head
    for all of them, written by the delta rule."""
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
        if self.memory not in memories.KINDS:
            raise ValueError(f"session_slot.memory is {self.memory!r}: give one of {', '.join(memories.KINDS)}")

    @property
    def functions(self) -> memories.Functions:
        """How the memory keeps what was lived."""
        return memories.KINDS[self.memory]

    @property
    def num_places(self) -> int:
        """Places of a full memory."""
        return self.functions.num_places(self.num_slots)


@struct.dataclass
class SessionMemory:
    """What was lived so far, as every layer keeps it."""

    held: PyTree
    """Keys and values, each [B, M, L, G, D]; or fast weights [B, 1, L, G, D, D], a single place."""
    count: jax.Array
    """[B] int32 transitions taken in; the places of a cache from there on are empty."""


class _Layer(nn.Module):
    """One layer of hearing the session and a perceptron, normalised first."""

    config: SessionSlotConfig

    @nn.compact
    def __call__(self, x: jax.Array, past: PyTree, full: jax.Array, after: np.ndarray) -> tuple[jax.Array, PyTree]:
        """Returns x [B, N, width], and what is to be kept: of a cache keys and values [B, N, G, D] of all N, of fast
        weights [B, 1, G, D, D] after those that are lived.

        Args:
          x: [B, N, width] tokens.
          past: what the layer kept before; [B, M, ...] or [B, 1, ...].
          full: [B, M] bool, the places of a cache that hold anything.
          after: [N] ints, static, as in `agents.memories`.
        """
        heads = (self.config.num_heads, self.config.width // self.config.num_heads)
        normed = nn.LayerNorm()(x)
        asked = tuple(nn.DenseGeneral(heads, name=name)(normed) for name in ("query", "key", "value"))
        functions = self.config.functions
        strength = nn.sigmoid(nn.Dense(heads[0], name="strength")(normed)) if functions.gated else None
        heard, kept = functions.hear(*asked, strength=strength, past=past, full=full, after=after)
        x = x + nn.DenseGeneral(self.config.width, axis=(-2, -1), name="heard")(heard)
        thought = nn.gelu(nn.Dense(4 * self.config.width)(nn.LayerNorm()(x)))
        return x + nn.Dense(self.config.width)(thought), kept


class _Net(nn.Module):
    """Tokens and queries -> policy and value logits, uniform before learning, and what is kept of the tokens."""

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

    def think(self, x: jax.Array, memory: SessionMemory, after: np.ndarray) -> tuple[jax.Array, PyTree]:
        """Returns x [B, N, width], and what all layers keep, as `SessionMemory.held` has it but of these tokens;
        arguments as of a layer."""
        places = jax.tree.leaves(memory.held)[0].shape[1]
        full, kept = jnp.arange(places)[None] < memory.count[:, None], []
        for number, layer in enumerate(self.layers):
            past = jax.tree.map(lambda leaf, number=number: leaf[:, :, number], memory.held)
            x, own = layer(x, past, full, after)
            kept.append(own)
        return x, jax.tree.map(lambda *parts: jnp.stack(parts, axis=2), *kept)

    def heads(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns policy logits [..., A] and value logits [..., bins] of thoughts [..., width]."""
        return self.policy(self.norm(x)), self.value(self.norm(x))

    def answer(self, obs: jax.Array, memory: SessionMemory) -> tuple:
        """Returns the logits at observations [B, *obs_shape]."""
        return self.heads(self.think(self.queries(obs[:, None]), memory, np.zeros(1, int))[0][:, 0])

    def take_in(self, lived: Transition, memory: SessionMemory) -> PyTree:
        """Returns what is kept of one transition [B, 1]."""
        # Past the last place there is none: `remember` makes the memory unusable.
        x = self.tokens(lived, jnp.minimum(memory.count, self.config.num_slots - 1)[:, None])
        return self.think(x, memory, np.ones(1, int))[1]

    def read(self, session: Transition, memory: SessionMemory) -> tuple:
        """Returns the logits [B, T] at every observation of a session [B, T]: tokens first, then queries."""
        T = session.action.shape[1]
        place = jnp.broadcast_to(jnp.arange(T), session.action.shape)
        x = jnp.concatenate([self.tokens(session, place), self.queries(session.obs)], axis=1)
        after = np.concatenate([np.arange(T) + 1, np.arange(T)])
        return self.heads(self.think(x, memory, after)[0][:, T:])

    def recall(self, session: Transition, memory: SessionMemory) -> PyTree:
        """Returns what is kept of a session [B, T]."""
        T = session.action.shape[1]
        place = jnp.broadcast_to(jnp.arange(T), session.action.shape)
        return self.think(self.tokens(session, place), memory, np.arange(T) + 1)[1]

    def begin(self, obs: jax.Array, memory: SessionMemory) -> tuple:
        """Touches every parameter once, for `init`."""
        empty = jnp.zeros(obs.shape[:1])
        lived = Transition(obs, empty, empty.astype(jnp.int32), empty, empty > 0, empty > 0, obs)
        return self.read(jax.tree.map(lambda leaf: leaf[:, None], lived), memory)


def make_session_slot(spec: EnvSpec, config: SessionSlotConfig) -> SessionAgent:
    """Returns the agent for environments of `spec`, on models whose latent is the observation itself."""
    net = _Net(config, spec.num_actions)
    shape, functions = (config.num_layers, config.num_heads, config.width // config.num_heads), config.functions

    def nothing(num_copies: int, num_slots: int = 0) -> SessionMemory:
        return SessionMemory(functions.nothing(num_copies, num_slots, shape), jnp.zeros(num_copies, jnp.int32))

    def init(key: jax.Array, latent: jax.Array) -> PyTree:
        return net.init(key, latent, nothing(latent.shape[0]), method="begin")

    def evaluation(logits: jax.Array, value_logits: jax.Array) -> Evaluation:
        return Evaluation(logits, supports.expectation(config.value_support, value_logits), value_logits)

    def evaluate(params: PyTree, memory: PyTree, latent: jax.Array) -> Evaluation:
        if isinstance(memory, memories.Table):
            unknown = jnp.zeros((latent.shape[0], config.value_support.num_bins))
            return Evaluation(memory.look_up(latent), jnp.zeros(latent.shape[0]), unknown)
        known = nothing(latent.shape[0]) if memory == () else memory
        return evaluation(*net.apply(params, latent, known, method="answer"))

    def value_loss(judged: Evaluation, target: jax.Array) -> jax.Array:
        return supports.cross_entropy(config.value_support, judged.value_logits, target)

    def remember(params: PyTree, memory: SessionMemory, transition: Transition) -> SessionMemory:
        places = jax.tree.leaves(memory.held)[0].shape[1]
        if places != config.num_places:
            raise ValueError(f"a memory of {places} places is full, and takes in nothing more")
        lived = jax.tree.map(lambda leaf: leaf[:, None], transition)
        own, full = net.apply(params, lived, memory, method="take_in"), memory.count >= config.num_slots
        held = functions.with_one(memory.held, own, memory.count)
        # Nobody acts on a memory of more than there is room for.
        held = jax.tree.map(lambda kept: jnp.where(memories.along(full[:, None], kept), jnp.nan, kept), held)
        return SessionMemory(held, memory.count + 1)

    def empty(num_copies: int, num_decisions: int) -> SessionMemory:
        _check_room(config, num_decisions)
        return nothing(num_copies, config.num_slots)

    def read(params: PyTree, session: Transition) -> Evaluation:
        B, T = session.action.shape
        _check_room(config, T)
        return evaluation(*net.apply(params, session, nothing(B), method="read"))

    def recall(params: PyTree, session: Transition) -> SessionMemory:
        B, T = session.action.shape
        _check_room(config, T)
        held = functions.with_room(net.apply(params, session, nothing(B), method="recall"), config.num_slots)
        return SessionMemory(held, jnp.full(B, T, jnp.int32))

    def last(memory: SessionMemory, number: int) -> PyTree:
        if number > config.num_places:
            raise ValueError(f"a memory of {config.num_places} places has no last {number}: ask for fewer")
        return functions.last(memory.held, memory.count, number)

    def holding(kept: PyTree) -> SessionMemory:
        num_copies = jax.tree.leaves(kept)[0].shape[0]
        return SessionMemory(kept, jnp.full(num_copies, functions.num_held(kept, config.num_slots), jnp.int32))

    agent = Agent(init, evaluate, value_loss, remember)
    return SessionAgent(spec, agent, empty, read, recall, last, holding, looking_up=memories.Table)


def _check_room(config: SessionSlotConfig, num_decisions: int) -> None:
    if num_decisions > config.num_slots:
        raise ValueError(
            f"the session has {num_decisions} decisions, but session_slot.num_slots is {config.num_slots}: raise it to "
            f"{num_decisions}, or live a shorter session"
        )


def _flat(obs: jax.Array) -> jax.Array:
    """Returns observations [B, N, *obs_shape] as [B, N, F] float32."""
    return obs.reshape(*obs.shape[:2], -1).astype(jnp.float32)
