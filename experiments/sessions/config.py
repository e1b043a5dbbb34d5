"""What is run: how an agent learns to use its memory, and how what a session taught enters the weights."""

import dataclasses
from typing import ClassVar

from dreamer.loop import ConsolidationConfig, PlanConfig
from dreamer.sleep.carriers import CarrierConfig, NapConfig
from dreamer.sleep.distill import DistillConfig
from dreamer.sleep.refine import RefineConfig
from dreamer.sleep.teachers import TeacherConfig
from dreamer.sleep.update import UpdateConfig
from dreamer.wake.envs import EnvConfig
from dreamer.wake.envs.jobs import pool_jobs
from experiments.config import RunConfig, config_hash, to_dict
from experiments.fields import restore
from experiments.sessions.checks import check_distillation
from experiments.sessions.pretraining_config import WORLD, PretrainingConfig, identity_of

_NEWER = (
    "sequence", "plan", "refine", "carrier", "recovery_episodes", "horizons", "drift", "self_conditioning", "coded",
    "nap", "shared_by",
)  # fmt: skip
"""Settings that are left out of the identity where they change nothing: rows older than they are of the same runs."""


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
    """Jobs at a time, each with a student of its own unless they share; `env.jobworld.job` is the first of them."""
    shared_by: int = 1
    """Jobs that share a student, neighbours among them: it lives a day in each, and one night learns from all."""
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
    over, and how good its labels are, decision by decision; 0 measures nothing of it."""
    horizons: tuple[int, ...] = ()
    """How many times as long chains, with as many times the slack, the student is measured in at the end of a job, of
    2, 4, 8 and 16; () in none."""
    drift: float = 0.0
    """Share of the keys of each job, drawn anew for every student, that have another answer by the time `horizons` are
    asked; 0 leaves the job as it was."""
    self_conditioning: int = 0
    """How many times as long the chains are in which it is asked, at the end of a job, how much likelier a mistake is
    after a mistake; 0 does not ask."""
    coded: bool = False
    """Whether it is asked, at the end of a job, in how few bits a code tells what was learned."""
    run: RunConfig = RunConfig()
    """Where it writes."""

    kind: ClassVar[str] = "distillation"
    """What its file says it is."""

    def __post_init__(self) -> None:
        check_distillation(self)

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
        """What its rows say of it; the ratio is that of states which are not refined, nor held to beside."""
        night = self.consolidation
        rows = night.num_updates * night.rows_per_update + self.nap_updates * night.session_length
        ratio, episodes = rows // night.real_per_night, self.num_jobs * self.episodes
        return {"dream_ratio": ratio, "actor": "session", "episodes": episodes}

    def finished(self, real: int, updates: int) -> bool:
        """Whether a run whose students lived `real` transitions each is at its end."""
        del updates
        return real >= self.num_nights * self.shared_by * self.consolidation.real_per_night

    def identity(self) -> dict:
        """Returns all that decides the outcome but the seed."""
        identity = identity_of(self) | {"agent": self.agent.identity()}
        # Rows that are older than these settings are of the same runs.
        for name in ("late_rewards", "lived_by", "credit_window"):
            if getattr(self.consolidation, name) == getattr(ConsolidationConfig, name):
                del identity["consolidation"][name]
        if not self.distill.rehearsal_weight:
            del identity["distill"]["rehearsal_weight"]
        if not self.teacher.reads_on:
            del identity["teacher"]["reads_on"]
        for name in _NEWER:
            if getattr(self, name) == getattr(DistillationConfig, name) and not (name == "plan" and self.teacher.plans):
                del identity[name]
        return identity

    def hash(self) -> str:
        """Returns the hash of `identity()`, as `Config.hash`."""
        return config_hash(self.identity())


SessionsConfig = PretrainingConfig | DistillationConfig


_KINDS = {kind.kind: kind for kind in (PretrainingConfig, DistillationConfig)}


def sessions_to_dict(config: SessionsConfig) -> dict:
    """Returns the config as plain JSON values, with its kind."""
    return to_dict(config) | {"kind": config.kind}


def sessions_from_dict(tree: dict) -> SessionsConfig:
    """Returns the config that `sessions_to_dict` wrote; errors as of `experiments.config.from_dict`."""
    values = dict(tree)
    return restore(_KINDS[values.pop("kind")], values)
