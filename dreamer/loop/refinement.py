"""The student's trajectories of a day refined for the night: cut, dropped, or gone on with by the teacher in a dream.

What each arm is and where it is from says `dreamer.sleep.refine`. Pure functions of one job.

Letters: N states of the student, C of them from which a dream begins, L decisions of an episode at most, A actions; n
of any number.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from dreamer.core.types import PyTree, Transition
from dreamer.sleep.refine import RefineConfig, first_harm, repair_policy
from dreamer.wake.envs import JaxEnv
from dreamer.wake.session import step_limit

Policy = Callable[[jax.Array], jax.Array]
"""Observations [n, ...] -> logits [n, A]."""


class DreamedWorld(NamedTuple):
    """The world as it is dreamed, which unlike the real one can be begun anywhere."""

    env: JaxEnv
    at: Callable[[jax.Array, jax.Array], PyTree]
    """(key, observation) -> a state of `env` in which it is seen; what it does not show is drawn."""
    judge: Callable[[jax.Array, jax.Array], jax.Array]
    """(probabilities [n, A] of who would act, observations [n, ...]) -> [n, A] what actions are worth to one who thinks
    so now and knows all afterwards, in reward units: QMDP ("Learning policies for partially observable environments:
    scaling up", https://doi.org/10.1016/B978-1-55860-377-6.50052-9), a bound from above."""
    sure: Callable[[jax.Array, jax.Array], jax.Array]
    """(probabilities [n, A] of who has the session in memory, observations [n, ...]) -> [n] how sure what the dream
    makes of a decision is, by that agent's own lights; 1 is certain."""
    shortest: int
    """Decisions of the shortest episode that there can be."""


Dream = Callable[[jax.Array, Policy], DreamedWorld]
"""(key, logits of who has the session in memory) -> the world as it is dreamed."""


@struct.dataclass
class Rows:
    """The states that a night learns from, and what was done there; leading [N]: in the order they were lived, and
    behind them those of each dream, all its first decisions, then all its second ones."""

    lived: Transition
    """[N]"""
    trajectory: jax.Array
    """[N] int32 number of the episode, from 0 on."""
    total: jax.Array
    """[N] by number, the return of an episode as far as it went; 0 for those that are none."""
    whole: jax.Array
    """[N] by number, bool, whether an episode came to its end."""
    kept: jax.Array
    """[N] 1 for states that are learned from, 0 for the others."""
    certainty: jax.Array
    """[N] what is learned there is multiplied by: below 1 in some dreams of `both` alone."""
    dreamed: jax.Array
    """[N] bool, met in a dream."""


def rows_of(lived: Transition, *, dreamed: bool = False) -> Rows:
    """Returns decisions [N] in their order with what is known of the episodes that they belong to."""
    ended = lived.terminated | lived.truncated
    trajectory = (jnp.cumsum(ended) - ended).astype(jnp.int32)
    num = ended.shape[0]
    total = jax.ops.segment_sum(lived.reward, trajectory, num)
    whole = jax.ops.segment_sum(ended.astype(jnp.int32), trajectory, num) > 0
    return Rows(lived, trajectory, total, whole, jnp.ones(num), jnp.ones(num), jnp.full(num, dreamed))


def advantages(probs: jax.Array, q: jax.Array, action: jax.Array) -> jax.Array:
    """Returns [n] A_T(s, a) = Q_T(s, a) - E_{b ~ teacher} Q_T(s, b) of actions [n].

    Args:
      probs: [n, A] the teacher's.
      q: [n, A] its values.
      action: [n] int32 what was done.
    """
    return jnp.take_along_axis(q, action[:, None], axis=-1)[:, 0] - (probs * q).sum(axis=-1)


def go_on(
    env: JaxEnv, states: PyTree, obs: jax.Array, policy: Policy, key: jax.Array, *, num_steps: int, greedy: bool = False
) -> tuple[Transition, jax.Array]:
    """Returns what comes of acting on from states, and which of it is of the same episode, until it ends.

    Args:
      env: one copy.
      states: [n] of `env`.
      obs: [n, ...] what is seen there.
      policy: who acts, within what is allowed.
      key: of all that is drawn.
      num_steps: L, static.
      greedy: whether the likeliest action is played, and not a sample.

    Returns:
      transitions [L, n], and [L, n] bool; behind an end nothing is meant.
    """

    def step(carry: tuple, key: jax.Array) -> tuple:
        states, obs, goes_on = carry
        act_key, step_key = jax.random.split(key)
        allowed = jax.vmap(env.action_mask)(states)
        logits = jnp.where(allowed, policy(obs), -jnp.inf)
        action = (jnp.argmax(logits, -1) if greedy else jax.random.categorical(act_key, logits)).astype(jnp.int32)
        keys = jax.random.split(step_key, obs.shape[0])
        states, next_obs, reward, terminated, truncated = jax.vmap(env.step)(keys, states, action)
        met = Transition(obs, allowed, action, reward, terminated, truncated, next_obs)
        return (states, next_obs, goes_on & ~(terminated | truncated)), (met, goes_on)

    begun = states, obs, jnp.ones(obs.shape[0], bool)
    return jax.lax.scan(step, begun, jax.random.split(key, num_steps))[1]


def refined(
    config: RefineConfig, rows: Rows, *, world: DreamedWorld, student: Policy, teacher: Policy, key: jax.Array
) -> Rows:
    """Returns the rows that an arm learns from: the student's own [N], some of them not kept, and behind them dreamed
    ones, each of the number of the episode whose place it takes.

    Args:
      config: the arm, any but `raw`, which leaves rows as they are.
      rows: [N] the student's.
      world: where the teacher acts, and by whose values there is harm.
      student, teacher: their policies as the night begins.
      key: of the dream.
    """
    arm, lived = config.arm, rows.lived
    if arm == "drop_failures":
        return _keeping(rows, (rows.whole & (rows.total > 0))[rows.trajectory])
    ended = lived.terminated | lived.truncated
    rewrite_key, recover_key = jax.random.split(key)
    if arm == "fresh":
        first = jnp.concatenate([jnp.ones(1, bool), ended[:-1]])
        dream = _dreamed(config, world, rows, lived.obs, first, act=teacher, teacher=teacher, key=rewrite_key)
        return _joined(_keeping(rows, jnp.zeros_like(ended)), dream)

    def values(obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        probs = jax.nn.softmax(teacher(obs))
        return probs, world.judge(probs, obs)

    def repairing(obs: jax.Array) -> jax.Array:
        return repair_policy(student(obs), values(obs)[1], config.temperature)

    harm, after = first_harm(advantages(*values(lived.obs), lived.action), ended, config.harm)
    kept = _keeping(rows, ~after if arm in ("truncate", "recover") else ~(harm | after))
    begins = functools.partial(_dreamed, config, world, rows, act=repairing, teacher=teacher)
    if arm in ("rewrite", "both"):
        kept = _joined(kept, begins(lived.obs, harm, key=rewrite_key))
    if arm in ("recover", "both"):
        kept = _joined(kept, begins(lived.next_obs, harm & ~ended, key=recover_key))
    return kept


def _keeping(rows: Rows, kept: jax.Array) -> Rows:
    """Returns the rows, of which those flagged in [N] are learned from."""
    return rows.replace(kept=kept.astype(rows.kept.dtype))


def _dreamed(
    config: RefineConfig,
    world: DreamedWorld,
    rows: Rows,
    obs: jax.Array,
    flagged: jax.Array,
    *,
    act: Policy,
    teacher: Policy,
    key: jax.Array,
) -> Rows:
    """Returns rows [L, C] of who acts on until the episode ends from where [N] is flagged, at most once an episode: in
    the state that is seen there, or with `fresh` from the beginning of another episode."""
    most = len(flagged) // world.shortest + 1
    places = jnp.nonzero(flagged, size=most, fill_value=0)[0]
    state_key, act_key = jax.random.split(key)
    keys, begun = jax.random.split(state_key, most), obs[places]
    if config.arm == "fresh":
        states, begun = jax.vmap(world.env.reset)(keys)
    else:
        states = jax.vmap(world.at)(keys, begun)
    met, goes_on = go_on(world.env, states, begun, act, act_key, num_steps=step_limit(world.env, None))
    ones = jnp.ones(goes_on.shape)

    def sure_of(obs: jax.Array) -> jax.Array:
        return world.sure(jax.nn.softmax(teacher(obs)), obs)

    certainty = ones
    if config.arm == "both":
        certainty = jnp.cumprod(jnp.concatenate([ones[:1], jax.lax.map(sure_of, met.obs)[:-1]]), axis=0)
    real = jnp.arange(most) < flagged.sum()
    return Rows(
        lived=met,
        trajectory=jnp.broadcast_to(rows.trajectory[places], goes_on.shape),
        total=jnp.zeros_like(ones),
        whole=jnp.zeros_like(goes_on),
        kept=ones * (goes_on & real[None]),
        certainty=certainty,
        dreamed=jnp.ones_like(goes_on),
    )


def _joined(before: Rows, dream: Rows) -> Rows:
    """Returns the rows `before`, then those of a dream [L, C]."""
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), dream)
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), before, flat)
