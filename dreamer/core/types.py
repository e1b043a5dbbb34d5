"""The data that crosses rooms: what an environment is, what happened, what was dreamed of it, what was counted.

Letters used in every shape: E environment copies, T time (decisions), B batch, L rows of a sequence, K unroll steps,
A actions. Arrays carry leading axes in the order named in each docstring.
"""

import dataclasses
from typing import Any

import jax
from flax import struct

PyTree = Any
Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class EnvSpec:
    """What an agent must know of an environment: hashable, and plain enough for JSON."""

    id: str
    """The name the environment is made by, e.g. `CartPole-v1`."""
    suite: str
    """The library it comes from: `atari`, `gymnasium`, `gymnax`, `jobworld`, `jumanji` or `toys`."""
    version: str
    """That library's version, e.g. `1.3.0`; scores are only comparable within one."""
    obs_shape: tuple[int, ...]
    """Shape of one observation."""
    obs_dtype: str
    """NumPy name of the observation's dtype, kept from the environment to the replay."""
    num_actions: int
    """Size of the discrete action set, A."""
    frame_stack: int = 1
    """Frames in one observation, side by side along its last axis, the oldest first. An episode begins with copies of
    its first frame."""


@struct.dataclass
class Transition:
    """Real transitions, facts only: no discount, no target, no normalisation. Leading axes [...], often [T, E]."""

    obs: jax.Array
    """[..., *obs_shape] what the agent saw when it decided."""
    action_mask: jax.Array
    """[..., A] bool, True where the action was allowed."""
    action: jax.Array
    """[...] int32 the decision."""
    reward: jax.Array
    """[...] float32"""
    terminated: jax.Array
    """[...] bool, the world ended: nothing follows."""
    truncated: jax.Array
    """[...] bool, the clock ended: the world would have gone on from `next_obs`."""
    next_obs: jax.Array
    """[..., *obs_shape] what the step led to, before any reset."""


@struct.dataclass
class SequenceBatch:
    """Replayed sequences of consecutive real transitions of one environment copy, never across a reset."""

    obs: jax.Array
    """[B, L + 1, *obs_shape] states along the sequence; row i led from obs[:, i] to obs[:, i + 1]."""
    action_mask: jax.Array
    """[B, L, A] bool"""
    action: jax.Array
    """[B, L] int32"""
    reward: jax.Array
    """[B, L] float32, 0 where not valid."""
    terminated: jax.Array
    """[B, L] bool, False where not valid."""
    valid: jax.Array
    """[B, L] bool: row i was lived, in the episode of row 0. A prefix of True; row 0 is always True."""
    age: jax.Array
    """[B] int32 real transitions lived by all copies since row 0 was stored."""
    weight: jax.Array
    """[B] float32 importance weight, 1 under uniform sampling."""
    index: jax.Array
    """[B] int32 flat slot of row 0 in the replay, for returning priorities."""


@struct.dataclass
class DreamTargets:
    """A teacher's opinion on the K + 1 states of an unroll. Recomputed whenever needed, never stored."""

    policy: jax.Array
    """[B, K + 1, A] probabilities."""
    policy_weight: jax.Array
    """[B, K + 1] float32, 0 where the teacher said nothing or no decision was taken."""
    value: jax.Array
    """[B, K + 1] return to expect, in reward units."""
    value_weight: jax.Array
    """[B, K + 1] float32"""


@struct.dataclass
class Latent:
    """A latent of a model that remembers how it came to a state. Leading axes [...] on every leaf.

    Search and unrolls carry it whole. A value depends on the state alone, so an agent reads no more.
    """

    state: jax.Array
    """[..., D] or [..., h, w, C]"""
    recurrent: PyTree = ()
    """The model's own along a dream, from the observed state on; () where it needs nothing."""


@struct.dataclass
class Evaluation:
    """What an agent thinks of latents, leading axes [...]."""

    logits: jax.Array
    """[..., A] policy logits."""
    value: jax.Array
    """[...] return to expect, in reward units."""
    value_logits: jax.Array
    """[..., bins] the categorical the value was read from, for its loss; an ensemble's [..., M, bins]."""
    values: jax.Array | None = None
    """[..., M] what each of an ensemble's M members says of the value; None for an agent of one mind."""


@struct.dataclass
class Params:
    """Parameters of the two ports, always side by side: losses reach both, and a deployment carries both."""

    model: PyTree
    agent: PyTree


@dataclasses.dataclass(frozen=True)
class Meters:
    """The counters that every logged row and figure carries. Exact Python integers, never a clock's opinion."""

    real: int = 0
    """Real transitions lived, in agent decisions."""
    replayed: int = 0
    """Rows trained on that were lived: one row is one sampled sequence of real transitions; of sessions, one state."""
    dreamed: int = 0
    """Rows trained on that only the world model produced: one row is one imagined rollout from a replayed state;
    of sessions, one state."""
    searched: int = 0
    """World-model calls made by search, by day and by night."""
    updates: int = 0
    """Optimiser updates."""
    seconds: float = 0.0
    """Wall-clock seconds so far, the only field two equal runs may disagree on."""

    def plus(self, cost: "Meters", *, seconds: float) -> "Meters":
        """Returns these counts and those of `cost` together, at `seconds` since the start."""
        mine, its = dataclasses.asdict(self), dataclasses.asdict(cost)
        return Meters(**{name: mine[name] + its[name] for name in mine} | {"seconds": seconds})
