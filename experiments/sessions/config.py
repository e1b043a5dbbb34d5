"""What is run: how an agent learns to use its memory, and how what a session taught enters the weights."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

from dreamer.loop import ConsolidationConfig, PlanConfig
from dreamer.sleep.carriers import MEMORIES, CarrierConfig, NapConfig
from dreamer.sleep.distill import DistillConfig
from dreamer.sleep.refine import DREAMED, RefineConfig
from dreamer.sleep.teachers import PLANNERS, TeacherConfig
from dreamer.sleep.update import UpdateConfig
from dreamer.wake.envs import EnvConfig
from dreamer.wake.envs.jobs import pool_jobs
from experiments.config import RunConfig, config_hash, differences, restore, to_dict
from experiments.sessions.pretraining_config import WORLD, PretrainingConfig, check, identity_of

HORIZONS = (2, 4, 8, 16)
"""How many times as long a chain may be asked than the one that was learned in."""
_SEEN = {"jobworld": ("num_keys", "num_answers", "aliased", "error", "cue"), "lake": ("size", "deadline")}
"""Suite -> what an observation depends on."""


@dataclasses.dataclass(frozen=True)
class DistillationConfig:
    """Folding sessions into the weights, job by job, from one pre-trained agent of the same seed."""

    name: str = "distillation"
    """What the run is called in folders and rows."""
    env: EnvConfig = dataclasses.replace(
        WORLD, jobworld=dataclasses.replace(WORLD.jobworld, pool="distillation", job=0)
    )
    """The world, and the first of the jobs."""
    seed: int = 0
    """The run's one source of randomness, and the seed of its pre-trained agent."""
    num_jobs: int = 1
    """Students, each in a job of its own; `env.jobworld.job` is the first of them."""
    sequence: int = 1
    """Jobs that each student lives in one after another, each with all nights of `consolidation`; its weights go on."""
    agent: PretrainingConfig = PretrainingConfig()
    """How the agent was pre-trained."""
    min_context_gain: float = 0.3
    """Success with session less success without that the pre-trained agent must show, or nothing is distilled."""
    consolidation: ConsolidationConfig = ConsolidationConfig()
    """Days, and what their nights learn from."""
    teacher: TeacherConfig = TeacherConfig()
    """Who labels."""
    plan: PlanConfig = PlanConfig()
    """How it plans, of a teacher that does."""
    distill: DistillConfig = DistillConfig()
    """How the student is moved."""
    refine: RefineConfig = RefineConfig()
    """What becomes of its trajectories before."""
    carrier: CarrierConfig = CarrierConfig()
    """What of it is learned, and kept for the days after."""
    nap: NapConfig = NapConfig()
    """What the session is folded into before it teaches."""
    update: UpdateConfig = UpdateConfig(
        learning_rate=3e-4, warmup_updates=0, final_share=1.0, weight_decay=0.0, max_grad_norm=1.0
    )
    """The optimiser."""
    dream_error: float = 0.0
    """Share of the answers of a dreamed codebook that are drawn at random: how wrong a dream is on purpose."""
    episodes: int = 64
    """Episodes of each measurement in each job."""
    recovery_episodes: int = 0
    """Episodes of the deployed agent in each job, of whose failures it is measured what its teacher makes by taking
    over; 0 measures nothing of it."""
    horizons: tuple[int, ...] = ()
    """How many times as long chains, with as many times the slack, the student is measured in at the end of a job, of
    2, 4, 8 and 16; () in none."""
    coded: bool = False
    """Whether it is asked, at the end of a job, in how few bits a code tells what was learned."""
    run: RunConfig = RunConfig()
    """Where it writes."""

    kind: ClassVar[str] = "distillation"
    """What its file says it is."""

    def __post_init__(self) -> None:
        check(self, ("num_jobs", "sequence", "episodes"))
        world, pool = self.env.job_world, len(pool_jobs(self.env.job_world))
        wanted, suite = self.num_jobs * self.sequence, self.env.suite
        asked = f"env.{suite}.job is {world.job}, num_jobs {self.num_jobs} and sequence {self.sequence}"
        if world.job is None or world.job + wanted > pool:
            raise ValueError(
                f"{asked}: give the number of the first job, with all of them among the {pool} of the pool "
                f"{world.pool!r}"
            )
        if world.pool == "pretraining":
            raise ValueError(f"env.{suite}.pool is 'pretraining', which the agent knows: give 'distillation' or 'test'")
        if self.env.jobworld.period:
            raise ValueError(
                f"env.jobworld.period is {world.period}, but what is folded into weights must stay: give 0"
            )
        self._check_taught()
        if (self.teacher.kind == "other_job" or world.pool == "test") and world.job + 2 * wanted > pool:
            raise ValueError(
                f"{asked}, after which the pool {world.pool!r} of {pool} has not as many other jobs: take fewer"
            )
        if self.consolidation.session_length > self.agent.slot.num_slots:
            raise ValueError(
                f"consolidation.session_length is {self.consolidation.session_length}, but the agent's slot has room "
                f"for {self.agent.slot.num_slots}: live shorter sessions, or pre-train with more slots"
            )
        if not 0 <= self.dream_error <= 1:
            raise ValueError(f"dream_error is {self.dream_error}: give a share from 0 to 1")
        dreams = self.consolidation.states == "dream" or self.refine.dreams or self.teacher.plans
        if self.dream_error and not dreams:
            raise ValueError(
                f"dream_error is {self.dream_error}, but consolidation.states {self.consolidation.states!r}, "
                f"refine.arm {self.refine.arm!r} and teacher.kind {self.teacher.kind!r}, so nothing is dreamed: give "
                f"0, states 'dream', refine.arm {' or '.join(DREAMED)}, or teacher.kind {' or '.join(PLANNERS)}"
            )
        if unknown := set(self.horizons) - set(HORIZONS):
            raise ValueError(f"horizons has {sorted(unknown)}: give some of {', '.join(map(str, HORIZONS))}")
        self._check_plan()
        self._check_objective()
        self._check_refine()
        self._check_carrier()

    def _check_taught(self) -> None:
        """Refuses a world that the agent would take for another, and what only JobWorld can say."""
        suite, taught = self.env.suite, self.agent.env
        if suite != taught.suite:
            raise ValueError(f"env.suite is {suite!r}, but the agent was pre-trained in {taught.suite!r}: give that")
        for name in _SEEN[suite]:
            here, there = getattr(self.env.job_world, name), getattr(taught.job_world, name)
            if here != there:
                raise ValueError(
                    f"env.{suite}.{name} is {here!r}, but the agent was pre-trained where it is {there!r}, and would "
                    "take what it sees for something else: give that, or pre-train another"
                )
        if suite == "jobworld":
            return
        _allow(
            "only the suite 'jobworld' has dreams of jobs and codebooks",
            ("consolidation.states", self.consolidation.states, ("student", "session")),
            ("refine.arm", self.refine.arm, ("raw",)),
            ("teacher.kind", self.teacher.kind, ("session", "other_job", "sharpened")),
            ("recovery_episodes", self.recovery_episodes, (0,)),
            ("horizons", self.horizons, ((),)),
        )

    def _check_plan(self) -> None:
        """Refuses plans that nobody makes, and worlds in which a plan would not be what it says."""
        world, kind = self.env.jobworld, self.teacher.kind
        if not self.teacher.plans:
            for name, value in differences(PlanConfig(), self.plan, "plan.").items():
                raise ValueError(
                    f"{name} is {value}, but teacher.kind is {kind!r}, who does not plan: leave it out, or give "
                    f"{' or '.join(PLANNERS)}"
                )
            return
        for name, value, wanted, why in (
            ("env.jobworld.aliased", world.aliased, 0.0, "takes what is hidden for known"),
            ("env.max_steps", self.env.max_steps, None, "goes by the world's own deadline"),
        ):
            if value != wanted:
                raise ValueError(f"{name} is {value}, but teacher.kind is {kind!r}, and who plans {why}: give {wanted}")
        try:
            self.plan.search.considered(world.num_actions)
        except ValueError as error:
            raise ValueError(f"plan.{error}") from error

    def _check_objective(self) -> None:
        """Refuses settings that the objective does not look at."""
        night = self.consolidation
        if night.objective == "distil":
            asks = self.teacher.kind != "sharpened" or night.states != "student"
            if asks != (night.session_length > 0):
                raise ValueError(
                    f"consolidation.session_length is {night.session_length} where teacher.kind is "
                    f"{self.teacher.kind!r}: give {'1 or more' if asks else '0, for nobody reads the session'}"
                )
            if self.distill.reinforce_weight and night.states != "student":
                raise ValueError(
                    f"distill.reinforce_weight is {self.distill.reinforce_weight} and consolidation.states "
                    f"{night.states!r}, but rewards speak for what the student really did: give 0, or states 'student'"
                )
            return
        anchored = DistillConfig(anchor_weight=self.distill.anchor_weight)
        for name, changed in (("teacher", self.teacher != TeacherConfig()), ("distill", self.distill != anchored)):
            if changed:
                raise ValueError(
                    f"consolidation.objective is {night.objective!r}, which asks no teacher, but settings of {name} "
                    "are changed: leave them out (but distill.anchor_weight), or give objective 'distil'"
                )

    def _check_refine(self) -> None:
        """Refuses refined trajectories where they would not be what a paper says, or nobody could judge them; and
        failures that no teacher could take over."""
        night, world = self.consolidation, self.env.jobworld
        reads = night.session_length > 0 and self.teacher.kind == "session" and not world.aliased
        if self.recovery_episodes < 0 or (self.recovery_episodes and not reads):
            raise ValueError(
                f"recovery_episodes is {self.recovery_episodes}: give 0 (not measured), or more where a teacher has "
                "read a session of the job (teacher.kind 'session') and no key is aliased"
            )
        if (self.horizons or self.refine.arm != "raw") and self.env.max_steps is not None:
            raise ValueError(
                f"env.max_steps is {self.env.max_steps}, but horizons and refine.arm go by the world's own deadline: "
                "give None"
            )
        if self.horizons and world.feedback != "end":
            raise ValueError(f"horizons ask for success, but env.jobworld.feedback is {world.feedback!r}: give 'end'")
        if self.refine.arm == "raw":
            return
        _allow(
            f"refine.arm is {self.refine.arm!r}, which refines states that the student came to, for a teacher with the "
            "session",
            ("env.jobworld.feedback", world.feedback, ("end",)),
            ("consolidation.objective", night.objective, ("distil",)),
            ("consolidation.states", night.states, ("student",)),
            ("teacher.kind", self.teacher.kind, ("session",)),
            ("distill.state_weight", self.distill.state_weight, ("uniform",)),
            ("distill.reinforce_weight", self.distill.reinforce_weight, (0.0,)),
            ("env.jobworld.aliased", world.aliased, (0.0,)),
        )

    def _check_carrier(self) -> None:
        """Refuses more than there is to carry, and memories that would have to carry on."""
        kind, size, night = self.carrier.kind, self.carrier.size, self.consolidation
        if self.coded and kind == "window":
            raise ValueError("coded is set, but nothing of a window is learned: leave it out, or give another carrier")
        said = f"carrier.kind is {kind!r} and size {size}"
        if kind == "lora" and size > self.agent.slot.width:
            raise ValueError(f"{said}, above the width {self.agent.slot.width} of the agent: give that rank or less")
        if self.nap.places:
            _allow(
                f"nap.places is {self.nap.places}, whose cartridge is made of a session, and teaches weights",
                ("nap.places", self.nap.places, range(1, night.session_length + 1)),
                ("carrier.kind", kind, ("weights", "lora")),
                ("teacher.kind", self.teacher.kind, ("session", "other_job")),
                ("teacher.weights", self.teacher.weights, ("frozen",)),
                ("consolidation.objective", night.objective, ("distil",)),
                ("refine.arm", self.refine.arm, ("raw",)),
            )
        if kind not in MEMORIES:
            return
        _allow(
            f"{said}, a memory of one session beside weights that stay",
            ("teacher.kind", self.teacher.kind, ("session",)),
            ("consolidation.num_nights", night.num_nights, (1,)),
            ("sequence", self.sequence, (1,)),
            ("consolidation.objective", night.objective, ("distil",)),
            ("teacher.weights", self.teacher.weights, ("frozen",)),
            ("distill.anchor_weight", self.distill.anchor_weight, (0.0,)),
            ("distill.reinforce_weight", self.distill.reinforce_weight, (0.0,)),
            ("update.weight_decay", self.update.weight_decay, (0.0,)),
        )
        if size > night.session_length:
            raise ValueError(f"{said}, but a session has {night.session_length} decisions: give that many or less")

    @property
    def jobs(self) -> range:
        """The numbers of the jobs among all: the first of every student, then the second of every student, and on."""
        first = self.env.job_world.job
        return pool_jobs(self.env.job_world)[first : first + self.num_jobs * self.sequence]

    @property
    def num_nights(self) -> int:
        """Nights of a student in all of its jobs."""
        return self.sequence * self.consolidation.num_nights

    @property
    def nap_updates(self) -> int:
        """Updates of a nap, each on all states of the session; 0 where none is taken."""
        return self.nap.num_updates if self.nap.places else 0

    @property
    def row(self) -> dict:
        """What its rows say of it."""
        night = self.consolidation
        rows = night.num_updates * night.rows_per_update + self.nap_updates * night.session_length
        ratio = rows // night.real_per_night  # of what is not refined
        return {"dream_ratio": ratio, "actor": "session", "episodes": self.num_jobs * self.episodes}

    def finished(self, real: int, updates: int) -> bool:
        """Whether a run whose students lived `real` transitions each is at its end."""
        del updates
        return real >= self.num_nights * self.consolidation.real_per_night

    def identity(self) -> dict:
        """Returns all that decides the outcome but the seed."""
        identity = identity_of(self) | {"agent": self.agent.identity()}
        # Rows that are older than these settings are of the same runs.
        for name in ("sequence", "plan", "refine", "carrier", "recovery_episodes", "horizons", "coded", "nap"):
            if getattr(self, name) == getattr(DistillationConfig, name) and not (name == "plan" and self.teacher.plans):
                del identity[name]
        return identity

    def hash(self) -> str:
        """Returns the hash of `identity()`, as `Config.hash`."""
        return config_hash(self.identity())


SessionsConfig = PretrainingConfig | DistillationConfig


def _allow(why: str, *settings: tuple[str, Any, Sequence]) -> None:
    """Refuses the first of some settings, each (name, value, values that are allowed), that has another value."""
    for name, value, allowed in settings:
        if value not in allowed:
            given = f"1 to {allowed[-1]}" if isinstance(allowed, range) else " or ".join(map(repr, allowed))
            raise ValueError(f"{name} is {value!r}, but {why}: give {given}")


_KINDS = {kind.kind: kind for kind in (PretrainingConfig, DistillationConfig)}


def sessions_to_dict(config: SessionsConfig) -> dict:
    """Returns the config as plain JSON values, with its kind."""
    return to_dict(config) | {"kind": config.kind}


def sessions_from_dict(tree: dict) -> SessionsConfig:
    """Returns the config that `sessions_to_dict` wrote; errors as of `experiments.config.from_dict`."""
    values = dict(tree)
    return restore(_KINDS[values.pop("kind")], values)
