"""Sessions and the nights that fold them into the weights: on-policy self-distillation and what it is held against.

In a session the deployed agent, or the first that was, lives with its memory; the night after it makes a student that
knows without memory what the session taught. Pure functions of one job; whoever has several jobs maps over them.

Letters: T decisions, N states that a night learns from, A actions.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from dreamer.core import keys as streams
from dreamer.core.ports import SessionAgent, in_copies
from dreamer.core.types import Evaluation, Metrics, PyTree, Transition
from dreamer.loop.naps import Napped, make_nap
from dreamer.loop.objective import make_loss
from dreamer.loop.planning import PlanConfig, plan
from dreamer.loop.refinement import Dream, DreamedWorld, Policy, Rows, refined, rows_of
from dreamer.loop.rehearsal import Rehearsed, with_day
from dreamer.sleep.carriers import Carrier, NapConfig
from dreamer.sleep.distill import DistillConfig
from dreamer.sleep.refine import RefineConfig
from dreamer.sleep.teachers import STILL, TeacherConfig, follow, reading_on, teacher_policy
from dreamer.sleep.update import Optimizer, TrainState, train_step
from dreamer.wake.envs import JaxEnv
from dreamer.wake.envs.knobs import with_late_rewards
from dreamer.wake.policy import live_one

OBJECTIVES = ("distil", "clone", "clone_successes", "reinforce")
STATES = ("student", "session", "dream")
LIVED_BY = ("deployed", "first")


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
    lived_by: str = "deployed"
    """Who lives the session: who is `deployed`, as the last night left it, or the `first` agent, kept for good."""
    late_rewards: int = 0
    """Decisions by which each reward comes late, in whatever episode is then lived; what is still owed as the session
    ends, or the student's part of the day, is lost."""
    credit_window: int = 0
    """How many decisions' rewards a policy gradient counts for one beside its own, those after it in whatever episode;
    0 counts those of its episode."""

    def __post_init__(self) -> None:
        for name, known in (("objective", OBJECTIVES), ("states", STATES), ("lived_by", LIVED_BY)):
            if getattr(self, name) not in known:
                raise ValueError(f"consolidation.{name} is {getattr(self, name)!r}: give one of {', '.join(known)}")
        for name, least in (
            ("num_nights", 1),
            ("session_length", 0),
            ("states_length", 0),
            ("num_updates", 1),
            ("late_rewards", 0),
            ("credit_window", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"consolidation.{name} is {getattr(self, name)}: give {least} or more")
        wanted = {"clone": "session", "clone_successes": "session", "reinforce": "student"}.get(self.objective)
        if wanted and self.states != wanted:
            raise ValueError(
                f"consolidation.objective is {self.objective!r} and states {self.states!r}: whoever learns from what "
                f"was done learns where it was done; give states {wanted!r}"
            )
        if self.late_rewards and self.late_rewards >= max(self.session_length, self.states_length):
            raise ValueError(
                f"consolidation.late_rewards is {self.late_rewards}, but no more than "
                f"{max(self.session_length, self.states_length)} decisions are lived on end, and nothing would ever be "
                "paid: give fewer"
            )
        if self.late_rewards and self.objective == "clone_successes":
            raise ValueError(
                f"consolidation.late_rewards is {self.late_rewards}, but objective 'clone_successes' asks which "
                "episode was paid, and another is: give 0"
            )
        if self.credit_window and not self.late_rewards <= self.credit_window < self.states_length:
            raise ValueError(
                f"consolidation.credit_window is {self.credit_window}, but rewards come {self.late_rewards} decisions "
                f"late, and {self.states_length} are lived on end: give a number between, or 0"
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
        if not self.session_length and self.lived_by != "deployed":
            raise ValueError(f"consolidation.session_length is 0, but lived_by is {self.lived_by!r}: give 1 or more")
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
    def last_length(self) -> int:
        """Real transitions of the last part of a day, `Lived.last`."""
        return self.states_length if self.states == "student" else self.session_length

    @property
    def rows_per_update(self) -> int:
        """States that an update learns from, N."""
        return self.session_length if self.states == "session" else self.states_length


@struct.dataclass
class Lived:
    """The real transitions of a day."""

    session: Transition | tuple
    """[T] with memory; () where there was no session."""
    student: Transition | tuple
    """[T] without memory; () where the student did not act."""

    @property
    def last(self) -> Transition:
        """The student's own part of the day, or where it did not act the session."""
        return self.session if self.student == () else self.student


@struct.dataclass
class Learner:
    """What goes on from night to night."""

    student: TrainState
    """Of what is learned, as the carrier has it."""
    teacher: PyTree
    """Parameters of who teaches on in the coming night, of a teacher that `lasts`; () where it is who is deployed."""
    rehearsed: Rehearsed | tuple = ()
    """Of the jobs that ended, and of the present one so far; () where `distill.rehearsal_weight` is 0."""


Night = Callable[..., tuple[Learner, Lived, Metrics]]


def make_day_and_night(
    slot: SessionAgent,
    *,
    dream: Dream | None,
    optimizer: Optimizer,
    config: ConsolidationConfig,
    teacher: TeacherConfig,
    planning: PlanConfig,
    distill: DistillConfig,
    refine: RefineConfig,
    carrier: Carrier,
    nap: NapConfig,
    shared: str | None = None,
) -> Night:
    """Returns the pure `day_and_night(learner, first, env, taught_in, seed, number, old)`, for one job.

    Args:
      slot: the agent.
      dream: where the student acts if `config.states` is `dream`, and the teacher as it refines or plans; else not
        asked.
      optimizer: as made by `make_optimizer`.
      config: the day, and what its night learns from.
      teacher: who labels; one that goes on reading does so in the student's own states, as they were lived.
      planning: how it plans, if it does.
      distill: how the student is moved towards it.
      refine: what becomes of the student's trajectories before.
      carrier: what of the student is learned.
      nap: what the session is folded into before it teaches.
      shared: the axis of a map over jobs that share a student, each with its own day: a night learns from those of all.

    Args of the function:
      learner: who learns; a teacher that teaches on begins as the agent that was deployed first.
      first: parameters of that agent.
      env: the job.
      taught_in: where the session is lived: the same job, or for a control another.
      seed: [] of the run and the job.
      number: [] int32 of the night; each job has `config.num_nights` of them.
      old: [T] a session of an old job, and what the agent that was first deployed plays in it [T, A]; read where
        `distill.anchor_weight` is positive.

    It returns the learner after the night, what was lived, and means over the night's updates, with how many
    `lived_states` and `dreamed_states` each of them learned from.
    """
    loss_of = make_loss(slot, config.objective, distill, carrier, credit_window=config.credit_window)
    needs_world = config.states == "dream" or refine.arm != "raw" or teacher.plans

    fold = make_nap(slot, distill, nap) if nap.places else None

    def evaluate(params: PyTree, known: Transition | Napped | tuple, obs: jax.Array) -> Evaluation:
        """Returns what the agent thinks of obs [n, ...] with a session [T] in memory, what a nap made of one, or
        nothing."""
        n = obs.shape[0]
        memory = (
            in_copies(slot.holding(known.kept), n) if isinstance(known, Napped) else slot.recall_in(params, known, n)
        )
        return slot.agent.evaluate(params, memory, obs)

    def day(env: JaxEnv, taught_in: JaxEnv, deployed: PyTree, first: PyTree, seeds: tuple) -> Lived:
        session, own = (), ()
        env, taught_in = (with_late_rewards(world, config.late_rewards) for world in (env, taught_in))
        if config.session_length:
            who, num_steps = first if config.lived_by == "first" else deployed, config.session_length
            session = live_one(slot, taught_in, who, seed=seeds[0], num_steps=num_steps, remembers=True)
        if config.states == "student":
            own = live_one(slot, env, deployed, seed=seeds[1], num_steps=config.states_length, remembers=False)
        return Lived(session, own)

    def states_of(lived: Lived, params: PyTree, *, seed: jax.Array, world: DreamedWorld | None, reader: Policy) -> Rows:
        if config.states == "session":
            return rows_of(lived.session)
        if config.states == "dream":
            met = live_one(slot, world.env, params, seed=seed, num_steps=config.states_length, remembers=False)
            return rows_of(met, dreamed=True)
        if refine.arm == "raw":
            return rows_of(lived.student)

        def alone(obs: jax.Array) -> jax.Array:
            return evaluate(params, (), obs).logits

        key = streams.stream(seed, "refine")
        return refined(refine, rows_of(lived.student), world=world, student=alone, teacher=reader, key=key)

    def night(learner: Learner, first: PyTree, lived: Lived, seed: jax.Array, old: tuple) -> tuple[Learner, Metrics]:
        student, deployed = learner.student, carrier.carried(learner.student.params, first).params
        reading = learner.teacher if teacher.lasts else deployed
        known = fold(deployed, lived.session) if fold else lived.session

        def reader(obs: jax.Array) -> jax.Array:
            return evaluate(reading, known, obs).logits

        world = dream(streams.stream(seed, "dream"), reader) if needs_world else None
        rows = states_of(lived, deployed, seed=seed, world=world, reader=reader)
        before = evaluate(deployed, (), rows.lived.obs).logits
        student = student.replace(params=carrier.fill(student.params, first, lived.session))

        def labels(params: PyTree, teaching: PyTree) -> jax.Array | tuple:
            if config.objective != "distil":
                return ()
            if teacher.plans:
                memory = slot.recall_in(deployed, lived.session if teacher.kind == "veteran" else (), 1)
                key = streams.stream(seed, "plan")
                return plan(planning, slot.agent, deployed, memory, world=world, obs=rows.lived.obs, key=key)
            if teacher.reads_on:
                return reading_on(slot, deployed, lived.session, lived.student)
            return teacher_policy(teacher, evaluate, teaching, params, known, rows.lived.obs)

        held = {"old": old, "rehearsed": learner.rehearsed}

        # A teacher that stands still is asked once.
        fixed = labels(deployed, reading) if teacher.weights in STILL else None

        def one_update(carry: tuple, _) -> tuple:
            student, teaching = carry
            now = carrier.carried(student.params, first).params
            policy = labels(now, teaching) if fixed is None else fixed
            loss = functools.partial(loss_of, first=first, rows=rows, before=before, policy=policy, **held)
            student, metrics, grad_norm = train_step(student, loss, optimizer=optimizer, axis=shared)
            follows = follow(teacher, teaching, carrier.carried(student.params, first).params)
            return (student, follows), metrics | {"grad_norm": grad_norm}

        (student, follows), metrics = jax.lax.scan(one_update, (student, reading), length=config.num_updates)
        dreamed = (rows.kept * rows.dreamed).sum()
        counts = {"lived_states": rows.kept.sum() - dreamed, "dreamed_states": dreamed}
        if fold:
            metrics["nap_kl"] = known.kl
        learner = learner.replace(student=student, teacher=follows if teacher.lasts else ())
        return learner, jax.tree.map(jnp.mean, metrics) | counts

    def day_and_night(
        learner: Learner,
        first: PyTree,
        env: JaxEnv,
        taught_in: JaxEnv,
        *,
        seed: jax.Array,
        number: jax.Array,
        old: tuple = (),
    ) -> tuple[Learner, Lived, Metrics]:
        seeds = jax.random.bits(streams.stream(seed, "night", number), (3,), jnp.uint32)
        lived = day(env, taught_in, carrier.carried(learner.student.params, first).params, first, seeds)
        learner, metrics = night(learner, first, lived, seeds[2], old)
        if distill.rehearsal_weight:
            stage, day_of_job = jnp.divmod(number, config.num_nights)
            told = {"stage": stage, "ends": day_of_job == config.num_nights - 1}
            after = carrier.carried(learner.student.params, first)
            learner = learner.replace(rehearsed=with_day(slot, learner.rehearsed, after, lived.last, **told))
        return learner, lived, metrics

    return day_and_night
