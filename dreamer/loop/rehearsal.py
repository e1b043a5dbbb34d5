"""Rehearsal: what a student played in the jobs before, as each ended, kept and held to for good.

Letters: S jobs, N states kept of each, A actions.
"""

import jax
import jax.numpy as jnp
from flax import struct

from dreamer.core import divergences
from dreamer.core.ports import SessionAgent, in_copies
from dreamer.core.types import EnvSpec, Transition
from dreamer.sleep.carriers import Carried


@struct.dataclass
class Rehearsed:
    """What is kept of jobs; places of those that have not ended count for nothing."""

    obs: jax.Array
    """[S, N, ...] real states of each one's last day."""
    policy: jax.Array
    """[S, N, A] probabilities that the student gave there, as the last night of the job had left it."""
    ended: jax.Array
    """[S] bool"""


def nothing_rehearsed(spec: EnvSpec, num_jobs: int, num_states: int) -> Rehearsed:
    """Returns room for `num_jobs` [S] of `num_states` [N] each, none of them ended."""
    room = (num_jobs, num_states)
    obs = jnp.zeros((*room, *spec.obs_shape), spec.obs_dtype)
    return Rehearsed(obs, jnp.full((*room, spec.num_actions), 1 / spec.num_actions), jnp.zeros(num_jobs, bool))


def with_job(slot: SessionAgent, kept: Rehearsed, student: Carried, day: Transition, number: jax.Array) -> Rehearsed:
    """Returns `kept` with what the student plays without memory in the states of a day [N] of job `number` [] int32,
    in the place of what stood there; the last job, for which there is no room, is not kept."""
    memory = in_copies(student.memory, day.action.shape[0])
    played = jax.nn.softmax(slot.agent.evaluate(student.params, memory, day.obs).logits)
    obs, policy = (held.at[number].set(new, mode="drop") for held, new in ((kept.obs, day.obs), (kept.policy, played)))
    return kept.replace(obs=obs, policy=policy)


def strayed(slot: SessionAgent, kept: Rehearsed, student: Carried) -> jax.Array:
    """Returns [S] mean KL(what was played || what the student plays) in the states of each job, in nats; 0 of those
    that have not ended."""
    obs = kept.obs.reshape(-1, *kept.obs.shape[2:])
    logits = slot.agent.evaluate(student.params, in_copies(student.memory, obs.shape[0]), obs).logits
    nats = divergences.forward_kl(kept.policy, logits.reshape(kept.policy.shape)).mean(axis=-1)
    return jnp.where(kept.ended, nats, 0)
