"""Rehearsal: what a student played in the jobs before, as each ended, kept and held to for good.

Letters: S jobs that there is room for, N states kept of each, A actions.
"""

import jax
import jax.numpy as jnp
from flax import struct

from dreamer.core import divergences
from dreamer.core.ports import SessionAgent
from dreamer.core.types import EnvSpec, Transition
from dreamer.sleep.carriers import Carried


@struct.dataclass
class Rehearsed:
    """What is kept of jobs, in the order that they were lived in."""

    obs: jax.Array
    """[S, N, ...] what was seen in the last part of each one's last day."""
    policy: jax.Array
    """[S, N, A] probabilities that the student gave there, without memory, after the night that followed."""
    num_ended: jax.Array
    """[] int32 how many jobs have ended; the places behind them count for nothing yet."""


def nothing_rehearsed(spec: EnvSpec, num_jobs: int, num_states: int) -> Rehearsed:
    """Returns room for `num_jobs` [S] of `num_states` [N] each, none of them ended."""
    room = (num_jobs, num_states)
    obs = jnp.zeros((*room, *spec.obs_shape), spec.obs_dtype)
    return Rehearsed(obs, jnp.full((*room, spec.num_actions), 1 / spec.num_actions), jnp.int32(0))


def with_day(
    slot: SessionAgent, kept: Rehearsed, student: Carried, lived: Transition, *, stage: jax.Array, ends: jax.Array
) -> Rehearsed:
    """Returns `kept` with what the student plays without memory in the states of a day.

    Args:
      slot: the agent.
      kept: so far; of the same job an earlier day gives way to this one.
      student: as the night after that day left it.
      lived: [N] of the day.
      stage: [] int32 place of the job in their order; one behind all room, as the last job's, is not kept.
      ends: [] bool whether the job ends with that night.
    """
    played = jax.nn.softmax(student.logits_at(slot.agent, lived.obs))
    obs, policy = (held.at[stage].set(new, mode="drop") for held, new in ((kept.obs, lived.obs), (kept.policy, played)))
    return Rehearsed(obs, policy, stage + ends.astype(jnp.int32))


def strayed(slot: SessionAgent, kept: Rehearsed, student: Carried) -> jax.Array:
    """Returns [S] mean KL(what was played || what the student plays) in the states of each job, in nats; 0 of those
    that have not ended."""
    obs = kept.obs.reshape(-1, *kept.obs.shape[2:])
    logits = student.logits_at(slot.agent, obs)
    nats = divergences.forward_kl(kept.policy, logits.reshape(kept.policy.shape)).mean(axis=-1)
    return jnp.where(jnp.arange(len(nats)) < kept.num_ended, nats, 0)
