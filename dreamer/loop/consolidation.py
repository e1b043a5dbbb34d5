"""Sessions and the nights that fold them into the weights: on-policy self-distillation and what it is held against.

In a session the deployed agent lives with its memory; the night after it makes a student that knows without memory what
the session taught. Pure functions of one job; whoever has several jobs maps over them.

Letters: T decisions, N states that a night learns from, A actions.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from dreamer.core import divergences
from dreamer.core import keys as streams
from dreamer.core.ports import Agent
from dreamer.core.types import Evaluation, Metrics, Params, PyTree, Transition
from dreamer.sleep import reinforce
from dreamer.sleep.distill import DistillConfig, distill_loss, state_weights, trajectory_mean
from dreamer.sleep.teachers import TeacherConfig, follow, teacher_policy
from dreamer.sleep.update import LearnerState, Optimizer, UpdateConfig, init_learner, update
from dreamer.wake import session as sessions
from dreamer.wake.envs import JaxEnv

OBJECTIVES = ("distil", "clone", "clone_successes", "reinforce")
STATES = ("student", "session", "dream")


@dataclasses.dataclass(frozen=True)
class ConsolidationConfig:
    """What is lived by day and what is learned from it by night."""

    num_nights: int = 8
    """Sessions, each with a night after it."""
    session_length: int = 64
    """Real decisions of a session, in which the agent remembers; 0 where nobody reads it."""
    states_length: int = 64
    """States that the student of a night comes to by itself: real decisions where `states` is `student`, dreamed ones
    where it is `dream`; 0 where they are those of the session."""
    objective: str = "distil"
    """`distil`: towards a teacher's policy; `clone`: the session's actions, or of `clone_successes` those of episodes
    with a positive return; `reinforce`: a policy gradient on the student's own returns."""
    states: str = "student"
    """Where it learns: in states that the `student` lives through without memory, in those of the `session`, or in
    those that the student meets in a `dream` of what the session taught."""
    num_updates: int = 32
    """Updates of a night, each on all of its states."""

    def __post_init__(self) -> None:
        for name, known in (("objective", OBJECTIVES), ("states", STATES)):
            if getattr(self, name) not in known:
                raise ValueError(f"consolidation.{name} is {getattr(self, name)!r}: give one of {', '.join(known)}")
        for name, least in (("num_nights", 1), ("session_length", 0), ("states_length", 0), ("num_updates", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"consolidation.{name} is {getattr(self, name)}: give {least} or more")
        wanted = {"clone": "session", "clone_successes": "session", "reinforce": "student"}.get(self.objective)
        if wanted and self.states != wanted:
            raise ValueError(
                f"consolidation.objective is {self.objective!r} and states {self.states!r}: whoever learns from what "
                f"was done learns where it was done; give states {wanted!r}"
            )
        if (self.states == "session") != (self.states_length == 0):
            raise ValueError(
                f"consolidation.states_length is {self.states_length} where states is {self.states!r}: give 0 where "
                "the states are those of the session, else 1 or more"
            )
        if not self.session_length and self.states != "student":
            raise ValueError(
                f"consolidation.session_length is 0, but states is {self.states!r}, which asks a session: give 1 or "
                "more"
            )
        if self.session_length and self.objective == "reinforce":
            raise ValueError(
                f"consolidation.session_length is {self.session_length}, but objective is 'reinforce', which never "
                "looks at it: give 0"
            )

    @property
    def real_per_night(self) -> int:
        """Real transitions lived for each night."""
        return self.session_length + (self.states_length if self.states == "student" else 0)

    @property
    def rows_per_update(self) -> int:
        """States that an update learns from, N."""
        return self.session_length if self.states == "session" else self.states_length


@struct.dataclass
class Rows:
    """The states that a night learns from, and what was done there; leading [N], in the order they were met."""

    lived: Transition
    """[N]"""
    trajectory: jax.Array
    """[N] int32 number of the episode, from 0 on."""
    total: jax.Array
    """[N] by number, the return of an episode as far as it went; 0 for those that are none."""
    whole: jax.Array
    """[N] by number, bool, whether an episode came to its end."""


@struct.dataclass
class Lived:
    """The real transitions of a day."""

    session: Transition | tuple
    """[T] with memory; () where there was no session."""
    student: Transition | tuple
    """[T] without memory; () where the student did not act."""


Dream = Callable[[jax.Array, Callable[[jax.Array], jax.Array]], JaxEnv]
"""(key, policy of observations [n, ...] -> [n, A] of who has the session in memory) -> the world as it is dreamed."""
Night = Callable[..., tuple[LearnerState, Lived, Metrics]]


def rows_of(lived: Transition) -> Rows:
    """Returns decisions [N] in their order with what is known of the episodes that they belong to."""
    ended = lived.terminated | lived.truncated
    trajectory = (jnp.cumsum(ended) - ended).astype(jnp.int32)
    num = ended.shape[0]
    total = jax.ops.segment_sum(lived.reward, trajectory, num)
    whole = jax.ops.segment_sum(ended.astype(jnp.int32), trajectory, num) > 0
    return Rows(lived, trajectory, total, whole)


def make_day_and_night(
    agent: Agent,
    *,
    empty: Callable,
    read: Callable,
    recall: Callable,
    dream: Dream | None,
    optimizer: Optimizer,
    config: ConsolidationConfig,
    teacher: TeacherConfig,
    distill: DistillConfig,
    optimise: UpdateConfig,
) -> Night:
    """Returns the pure `day_and_night(learner, env, taught_in, seed, number, old)`, for one job.

    Args:
      agent: on models whose latent is the observation.
      empty: (copies, decisions) -> the memory to begin a session with.
      read: (params, session [1, T]) -> Evaluation [1, T] of each of its states with what came before it in memory.
      recall: (params, session [1, T]) -> the memory after it.
      dream: where the student acts if `config.states` is `dream`.
      optimizer: as made by `make_optimizer(optimise, ...)`.
      config: the day, and what its night learns from.
      teacher: who labels.
      distill: how the student is moved towards it.
      optimise: the optimiser's settings.

    Args of the function:
      learner: who is deployed; its `params.model` is ().
      env: the job.
      taught_in: where the session is lived: the same job, or for a control another.
      seed: [] of the run and the job.
      number: [] int32 of the night.
      old: [T] a session of an old job, and what the agent that was first deployed plays in it [T, A]; read where
        `distill.anchor_weight` is positive.

    It returns the learner after the night, what was lived, and means over the night's updates.
    """

    def act(params: PyTree, keys: jax.Array, obs: jax.Array, action_mask: jax.Array, memory: PyTree) -> tuple:
        logits = jnp.where(action_mask, agent.evaluate(params, memory, obs).logits, -jnp.inf)
        return jax.vmap(jax.random.categorical)(keys, logits), memory

    def lives(env: JaxEnv, params: PyTree, seed: jax.Array, num_steps: int, *, remembers: bool) -> Transition:
        """Returns [num_steps] transitions of one copy."""
        state = sessions.begin(env, seed=seed, num_envs=1, memory=empty(1, num_steps) if remembers else ())
        remember = agent.remember if remembers else None
        state, lived = sessions.live(env, act, params, state, seed=seed, num_steps=num_steps, remember=remember)
        return jax.tree.map(lambda leaf: leaf[:, 0], lived)

    def evaluate(params: PyTree, session: Transition | tuple, obs: jax.Array) -> Evaluation:
        """Returns what the agent thinks of obs [n, ...] with a session [T] in memory, or nothing."""
        memory = () if session == () else _many(recall(params, _one(session)), obs.shape[0])
        return agent.evaluate(params, memory, obs)

    def day(env: JaxEnv, taught_in: JaxEnv, params: PyTree, seeds: tuple) -> Lived:
        session, own = (), ()
        if config.session_length:
            session = lives(taught_in, params, seeds[0], config.session_length, remembers=True)
        if config.states == "student":
            own = lives(env, params, seeds[1], config.states_length, remembers=False)
        return Lived(session, own)

    def states_of(lived: Lived, params: PyTree, seed: jax.Array) -> Transition:
        if config.states == "session":
            return lived.session
        if config.states == "student":
            return lived.student

        def believed(obs: jax.Array) -> jax.Array:
            return jax.nn.softmax(evaluate(params, lived.session, obs).logits)

        world = dream(streams.stream(seed, "dream"), believed)
        return lives(world, params, seed, config.states_length, remembers=False)

    def loss_of(rows: Rows, deployed: PyTree, taught: Callable, old: tuple) -> Callable:
        """Returns the loss of a night; `taught(params, teacher's parameters)` are the labels [N, A]."""
        obs, action = rows.lived.obs, rows.lived.action
        before = agent.evaluate(deployed, (), obs).logits

        def mean_of(terms: jax.Array, counted: jax.Array) -> jax.Array:
            """Returns [] the mean over the episodes [N] that count of the means over their states."""
            return trajectory_mean(terms, rows.trajectory, counted[rows.trajectory].astype(terms.dtype))

        def own_returns(logits: jax.Array) -> jax.Array:
            # One job: all of its whole episodes are one group. What did not come to its end has no return.
            advantage = reinforce.group_advantage(rows.total, jnp.where(rows.whole, 0, 1))
            terms = reinforce.reinforce_loss(logits, action, advantage[rows.trajectory], before=before)
            return mean_of(terms, rows.whole)

        def towards_teacher(logits: jax.Array, policy: jax.Array) -> jax.Array:
            weight = state_weights(distill, policy, logits, action, rows.trajectory)
            terms = distill_loss(logits, policy, weight, beta=distill.beta, clip=distill.max_entry)
            return mean_of(terms, jnp.ones_like(rows.whole))

        def loss(params: Params, teaching: PyTree) -> tuple[jax.Array, tuple[Metrics, jax.Array]]:
            logits = agent.evaluate(params.agent, (), obs).logits
            metrics = {
                "entropy": divergences.entropy(logits).mean(),
                "moved_kl": divergences.forward_kl(jax.nn.softmax(before), logits).mean(),
            }
            total = jnp.zeros(())
            if config.objective == "distil":
                policy = taught(params.agent, teaching)
                total = towards_teacher(logits, policy)
                metrics["teacher_kl"] = divergences.forward_kl(policy, logits).mean()
            elif config.objective != "reinforce":
                good = rows.whole & (rows.total > 0)
                counted = jnp.ones_like(good) if config.objective == "clone" else good
                total = mean_of(reinforce.clone_loss(logits, action), counted)
            if config.objective == "reinforce":
                total = own_returns(logits)
            elif distill.reinforce_weight:
                total = total + distill.reinforce_weight * own_returns(logits)
            if distill.anchor_weight:
                session, policy = old
                held = divergences.forward_kl(policy, read(params.agent, _one(session)).logits[0]).mean()
                total = total + distill.anchor_weight * held
                metrics["anchor_kl"] = held
            return total, (metrics | {"loss": total}, jnp.zeros(()))

        return loss

    def night(learner: LearnerState, lived: Lived, seed: jax.Array, old: tuple) -> tuple[LearnerState, Metrics]:
        deployed = learner.params.agent
        rows = rows_of(states_of(lived, deployed, seed))

        def labels(params: PyTree, teaching: PyTree) -> jax.Array:
            return teacher_policy(teacher, evaluate, teaching, params, lived.session, rows.lived.obs)

        # A teacher that stands still is asked once.
        fixed = labels(deployed, deployed) if config.objective == "distil" and teacher.weights == "frozen" else None
        loss = loss_of(rows, deployed, labels if fixed is None else lambda params, teaching: fixed, old)

        def one_update(carry: tuple, _) -> tuple:
            learner, teaching = carry
            learner, metrics, _ = update(
                learner,
                functools.partial(loss, teaching=teaching),
                rows.total,
                optimizer=optimizer,
                config=optimise,
            )
            return (learner, follow(teacher, teaching, learner.params.agent)), metrics

        (learner, _), metrics = jax.lax.scan(one_update, (learner, deployed), length=config.num_updates)
        del metrics["return_spread"]  # of value targets, and there are none
        return learner, jax.tree.map(jnp.mean, metrics)

    def day_and_night(
        learner: LearnerState, env: JaxEnv, taught_in: JaxEnv, *, seed: jax.Array, number: jax.Array, old: tuple = ()
    ) -> tuple[LearnerState, Lived, Metrics]:
        seeds = jax.random.bits(streams.stream(seed, "night", number), (3,), jnp.uint32)
        lived = day(env, taught_in, learner.params.agent, seeds)
        if config.num_updates:
            learner, metrics = night(learner, lived, seeds[2], old)
        else:
            metrics = {}
        return learner, lived, metrics

    return day_and_night


def first_learner(params: PyTree, optimizer: Optimizer) -> LearnerState:
    """Returns who is deployed first: an agent with its parameters and without a model."""
    return init_learner(Params((), params), optimizer)


def _many(memory: PyTree, count: int) -> PyTree:
    """Returns a memory [1, ...] as that of `count` copies."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape[1:])), memory)


def _one(session: Transition) -> Transition:
    """Returns a session [T] as a batch of one."""
    return jax.tree.map(lambda leaf: leaf[None], session)
