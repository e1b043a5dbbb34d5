"""How an agent learns to use its memory, and what is asked of any config of sessions."""

import dataclasses
from typing import Any, ClassVar

from agents.session_slot import SessionSlotConfig
from dreamer.sleep.update import UpdateConfig
from dreamer.wake.envs import EnvConfig, JobWorldConfig, KnobsConfig, LakeConfig
from dreamer.wake.envs.jobs import pool_jobs
from experiments.config import RunConfig, config_hash, env_as_recorded, to_dict

LIVED_BY = ("agent", "reader")
WORLD = EnvConfig("JobWorld-v0", "jobworld", jobworld=JobWorldConfig(slack=2, pool="pretraining", job=None))
LAKE = EnvConfig("FrozenLakeJob-v0", "lake", lake=LakeConfig(pool="pretraining", job=None))


def check(config: Any, at_least_one: tuple[str, ...]) -> None:
    """Refuses what no config of sessions may have; these fields of it must be 1 or more."""
    for name in at_least_one:
        if getattr(config, name) < 1:
            raise ValueError(f"{name} is {getattr(config, name)}: give 1 or more")
    for name, neutral in (("knobs", KnobsConfig()), ("oracle", False), ("num_envs", 1)):
        if getattr(config.env, name) != neutral:
            raise ValueError(
                f"env.{name} is {getattr(config.env, name)}, but sessions are lived one a job in the bare world, of "
                f"which the exact reader knows all: leave it at {neutral}"
            )
    for name in ("reset_every", "target_period", "target_step"):
        if getattr(config.update, name) != getattr(UpdateConfig, name):
            raise ValueError(
                f"update.{name} is {getattr(config.update, name)}, which has no effect here, where there is neither a "
                f"lagged network nor a renewal: leave it at {getattr(UpdateConfig, name)}"
            )
    if not 0 <= config.seed < 2**31:
        raise ValueError(f"seed is {config.seed}: give an integer from 0 to {2**31 - 1}")


@dataclasses.dataclass(frozen=True)
class PretrainingConfig:
    """Learning to learn: sessions in ever new jobs, each decision labelled by a perfect reader of what came before."""

    name: str = "session-slot"
    """What the run is called in folders and rows."""
    env: EnvConfig = WORLD
    """The world; its jobs are drawn from the pool `pretraining`."""
    seed: int = 0
    """The run's one source of randomness."""
    session_length: int = 64
    """T, decisions of a session."""
    lived_by: str = "agent"
    """Who lives the sessions that are learned from: the `agent` itself, so that it is told what to do after its own
    mistakes; or the perfect `reader` whose decisions it imitates, in whose states alone it then learns."""
    num_sessions: int = 32
    """Sessions that are lived side by side, each in a job of its own, before they are learned from."""
    num_days: int = 300
    """How often sessions are lived."""
    updates_per_day: int = 2
    """Updates on each day's sessions."""
    prior_weight: float = 0.1
    """Weight of what the agent says with nothing in memory, beside 1 for what it says within its sessions."""
    slot: SessionSlotConfig = SessionSlotConfig(num_slots=64)
    """The agent."""
    update: UpdateConfig = UpdateConfig(warmup_updates=100, final_share=0.0, max_grad_norm=1.0)
    """The optimiser."""
    num_jobs: int = 32
    """Jobs of the pool `test` in which the agent is measured, with the session of each and without."""
    episodes: int = 32
    """Episodes of each measurement in each job."""
    run: RunConfig = RunConfig(checkpoint_every=100_000)
    """Where it writes."""

    kind: ClassVar[str] = "pretraining"
    """What its file says it is."""

    def __post_init__(self) -> None:
        check(self, ("session_length", "num_sessions", "num_days", "updates_per_day", "num_jobs", "episodes"))
        if self.lived_by not in LIVED_BY:
            raise ValueError(f"lived_by is {self.lived_by!r}: give one of {', '.join(LIVED_BY)}")
        world, keys = self.env.job_world, self.env.jobworld
        if (world.pool, world.job) != ("pretraining", None):
            raise ValueError(
                f"env.{self.env.suite}.pool is {world.pool!r} and job {world.job}: an agent is pre-trained on all jobs "
                "of the pool 'pretraining': give that pool, and job None"
            )
        if keys.period and keys.num_aliased:
            raise ValueError(
                f"env.jobworld.period is {keys.period} and aliased {keys.aliased}: nobody who labels can tell "
                "when to look again; set one of them to 0"
            )
        if self.num_jobs > (pool := len(pool_jobs(dataclasses.replace(world, pool="test")))):
            raise ValueError(f"num_jobs is {self.num_jobs}, but the pool 'test' holds {pool}: give that or less")
        if self.session_length > self.slot.num_slots:
            raise ValueError(
                f"session_length is {self.session_length}, but slot.num_slots is {self.slot.num_slots}: give "
                f"{self.slot.num_slots} or less, or more slots"
            )
        if self.prior_weight < 0:
            raise ValueError(f"prior_weight is {self.prior_weight}: give 0 or more")

    @property
    def num_updates(self) -> int:
        """Updates of the whole run."""
        return self.num_days * self.updates_per_day

    @property
    def real_per_day(self) -> int:
        """Transitions lived in all jobs of a day."""
        return self.num_sessions * self.session_length

    @property
    def row(self) -> dict:
        """What its rows say of it."""
        return {"dream_ratio": self.updates_per_day, "actor": "session", "episodes": self.num_jobs * self.episodes}

    def finished(self, real: int, updates: int) -> bool:
        """Whether a run that made so many updates is at its end."""
        del real
        return updates >= self.num_updates

    def identity(self) -> dict:
        """Returns all that decides the outcome but the seed."""
        identity = identity_of(self)
        # Rows that are older than these settings are of the same runs.
        if self.lived_by == PretrainingConfig.lived_by:
            del identity["lived_by"]
        if self.slot.memory == SessionSlotConfig.memory:
            del identity["slot"]["memory"]
        return identity

    def hash(self) -> str:
        """Returns the hash of `identity()`, as `Config.hash`."""
        return config_hash(self.identity())


RECIPES: dict[str, PretrainingConfig] = {
    "jobworld": PretrainingConfig(),
    "lake": PretrainingConfig(name="lake-reader", env=LAKE),
}
"""World -> how an agent is pre-trained there."""


def identity_of(config: Any) -> dict:
    """Returns all that decides the outcome of a config of sessions but the seed, and its kind."""
    tree = to_dict(config) | {"kind": config.kind}
    for name in ("seed", "run"):
        del tree[name]
    return tree | {"env": env_as_recorded(config.env, tree["env"])}
