"""Who labels the student's states: what the teacher carries in memory, whose weights it has, and whether it plans.

The session's teacher is the agent itself with its session in memory. Others search a dream of what the session told
(`dreamer.loop.planning`), with the session in memory or without. Two controls tell what the session taught from what
any teacher would have done: another job's session, and no session at all but a sharper self.

Letters: N states, T decisions of a session, A actions; leading axes [...] of any shape.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from dreamer.core import trees
from dreamer.core.ports import SessionAgent
from dreamer.core.types import Evaluation, PyTree, Transition

TEACHER_KINDS = ("session", "search", "veteran", "other_job", "sharpened")
PLANNERS = ("search", "veteran")
"""The kinds that search a dream of what the session told."""
TEACHER_WEIGHTS = ("frozen", "first", "ema", "interpolated", "current")
STILL = ("frozen", "first")
"""The weights that stand still all night."""

Evaluate = Callable[[PyTree, PyTree, PyTree], Evaluation]
"""(params, memory, obs [N, ...]) -> Evaluation [N], as that of `core.ports.Agent`."""


@dataclasses.dataclass(frozen=True)
class TeacherConfig:
    """Who the teacher of a night is."""

    kind: str = "session"
    """What it has that the student has not: the `session`, in memory; a `search` of the world as the session tells of
    it, with nothing in memory; a `veteran` has both. Controls: the session of an `other_job`, which tells nothing of
    this one; or nothing, `sharpened`: the student itself, surer of what it does."""
    weights: str = "frozen"
    """Whose: `frozen` as the night began; `first`, those of the agent that was deployed first, kept for good; `ema`, a
    moving average that follows the student from that agent on, over all nights; `interpolated`, the policy between
    those frozen and the current ones; `current`, the student's own, known to run away with itself."""
    ema_step: float = 0.01
    """Share of the current weights that enters the moving average at every update, of `ema` ("Self-Distillation Enables
    Continual Learning", SDFT, https://arxiv.org/abs/2601.19897)."""
    interpolation: float = 0.05
    """Share of the current weights' log-probabilities against the frozen ones', of `interpolated` ("Reinforcement
    Learning via Self-Distillation", SDPO, https://arxiv.org/abs/2601.20802)."""
    sharpness: float = 2.0
    """What `sharpened` multiplies the student's logits by: above 1 is surer than the student, 1 is the student."""
    reads_on: bool = False
    """Whether it goes on reading: with the session and then all that the student lived of the day before a state in
    memory, its mistakes too, and not the session alone."""

    def __post_init__(self) -> None:
        for name, known in (("kind", TEACHER_KINDS), ("weights", TEACHER_WEIGHTS)):
            if getattr(self, name) not in known:
                raise ValueError(f"teacher.{name} is {getattr(self, name)!r}: give one of {', '.join(known)}")
        for name in ("ema_step", "interpolation"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(
                    f"teacher.{name} is {getattr(self, name)}: give a share between 0 and 1, or weights 'frozen' for 0 "
                    "and 'current' for 1"
                )
        if not 0 < self.sharpness < math.inf:
            raise ValueError(f"teacher.sharpness is {self.sharpness}: give a number above 0")
        if self.plans and self.weights != "frozen":
            raise ValueError(
                f"teacher.kind is {self.kind!r} and weights {self.weights!r}, but a plan is made once, as the night "
                "begins: give weights 'frozen'"
            )
        for name, needed in (("kind", "session"), ("weights", "frozen")):
            if self.reads_on and getattr(self, name) != needed:
                raise ValueError(
                    f"teacher.{name} is {getattr(self, name)!r} and reads_on set, but who goes on reading is the "
                    f"session's reader, and is asked once, as the night begins: give {name} {needed!r}"
                )
        for name, part, needed in (
            ("ema_step", "weights", "ema"),
            ("interpolation", "weights", "interpolated"),
            ("sharpness", "kind", "sharpened"),
        ):
            if getattr(self, part) != needed and getattr(self, name) != getattr(TeacherConfig, name):
                raise ValueError(
                    f"teacher.{name} is {getattr(self, name)}, which has no effect where {part} is "
                    f"{getattr(self, part)!r}: leave it out, or give {part} {needed}"
                )

    @property
    def lasts(self) -> bool:
        """Whether it teaches on in the night after, as the last night left it; else who is deployed does."""
        return self.weights in ("first", "ema")

    @property
    def plans(self) -> bool:
        """Whether it searches."""
        return self.kind in PLANNERS


def follow(config: TeacherConfig, teacher_params: PyTree, params: PyTree) -> PyTree:
    """Returns the teacher's parameters after an update that gave the student `params`.

    Args:
      config: only its `weights` and `ema_step` are asked.
      teacher_params: the teacher's before the update; each night begins with the student's, but of one that `lasts`,
        which goes on from the night before, at first from the agent that was deployed first.
      params: the student's after it, of the same structure.
    """
    if config.weights == "ema":
        return trees.lerp(teacher_params, params, config.ema_step)
    return params if config.weights == "current" else teacher_params


def interpolated(reference_logits: jax.Array, current_logits: jax.Array, share: float | jax.Array) -> jax.Array:
    """Returns [..., A] probabilities in proportion to p_ref^(1 - share) p_cur^share, the teacher of SDPO.

    What is forbidden by either is impossible, except at a share of 0 or 1, where the other is not asked.

    Args:
      reference_logits: [..., A]
      current_logits: [..., A]; each row allows an action that the reference allows too.
      share: [] of the current policy, in [0, 1].
    """
    reference, current = (_finite(jax.nn.log_softmax(x, axis=-1)) for x in (reference_logits, current_logits))
    return jax.nn.softmax((1 - share) * reference + share * current, axis=-1)


def teacher_policy(
    config: TeacherConfig, evaluate: Evaluate, teacher_params: PyTree, params: PyTree, memory: PyTree, obs: PyTree
) -> jax.Array:
    """Returns [N, A] the probabilities that the teacher gives the actions; no gradient reaches any argument.

    A memory that was written with some weights, as a cache of keys and values is, says something else to others. Where
    the teacher's weights move, or two sets of them are asked, give the session itself as `memory`, and an `evaluate`
    that reads it with the params that it is given.

    Args:
      config: who the teacher is; one that plans or goes on reading is a ValueError.
      evaluate: the agent's.
      teacher_params: as `follow` keeps them.
      params: the student's current ones; only `interpolated` weights ask them.
      memory: the teacher's, leading with [N] as `evaluate` wants it: this job's session, or another's. `sharpened` does
        without.
      obs: [N, ...]
    """
    if config.plans:
        raise ValueError(f"teacher.kind is {config.kind!r}: its policy is made by dreamer.loop.planning.plan")
    if config.reads_on:
        raise ValueError("teacher.reads_on is set: its policy is that of `reading_on`")
    memory = () if config.kind == "sharpened" else memory
    logits = evaluate(teacher_params, memory, obs).logits
    if config.weights == "interpolated":
        between = interpolated(logits, evaluate(params, memory, obs).logits, config.interpolation)
        logits = jnp.log(between)
    if config.kind == "sharpened":
        logits = config.sharpness * logits
    return jax.lax.stop_gradient(jax.nn.softmax(logits, axis=-1))


def reading_on(slot: SessionAgent, params: PyTree, session: Transition, lived: Transition) -> jax.Array:
    """Returns [N, A] the probabilities of a teacher that goes on reading: in each state of `lived`, what it plays with
    the session [T] and then all of `lived` [N] before that state in memory; no gradient reaches any argument.

    So a student's own mistakes are in its teacher's context, as the tokens of an attempt are where a language model
    labels them one by one ("On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes", GKD,
    https://arxiv.org/abs/2306.13649). The agent must have room for T + N transitions.
    """
    whole = jax.tree.map(lambda *parts: jnp.concatenate(parts), session, lived)
    return jax.lax.stop_gradient(jax.nn.softmax(slot.read_one(params, whole)[session.action.shape[0] :]))


def _finite(log_probs: jax.Array) -> jax.Array:
    """Returns them with the lowest float for -inf, which times 0 would be NaN."""
    return jnp.maximum(log_probs, jnp.finfo(log_probs.dtype).min)
