"""The tree of frozen configs: one immutable, hashable value is the experiment."""

import dataclasses
import json

from agents.actor_critic import ActorCriticConfig
from dreamer.io.run_folder import config_hash
from dreamer.loop import LoopConfig
from dreamer.replay import ReplayConfig
from dreamer.sleep.augment import AugmentConfig
from dreamer.sleep.fit import FitConfig
from dreamer.sleep.gate import GateConfig
from dreamer.sleep.imagine import ImagineConfig
from dreamer.sleep.search import SearchConfig
from dreamer.sleep.targets import TargetsConfig
from dreamer.sleep.update import UpdateConfig
from dreamer.wake.envs import EnvConfig, KnobsConfig
from experiments.fields import restore
from world_models.efficientzero import EfficientZeroConfig
from world_models.ensemble import EnsembleConfig

WANDB_MODES = ("disabled", "offline", "online")


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How the deployed agent is measured. Its episodes are not real transitions: nobody learns from them."""

    episodes: int = 32
    """Episodes of each evaluation, each from its own start."""
    every: int = 500
    """Real transitions between evaluations of the deployed student; the final one always happens."""
    max_steps: int = 1000
    """Decisions after which an evaluation episode is cut where the environment itself sets no limit."""

    def __post_init__(self) -> None:
        for name in ("episodes", "every", "max_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"evaluation.{name} is {getattr(self, name)}: give 1 or more")


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Where a run writes. No part of what the experiment is, so no part of its hash."""

    folder: str | None = None
    """Run folder, which must not exist yet; None makes `runs/<name>-<hash>-seed<seed>`, with a number if taken."""
    checkpoint_every: int = 1000
    """Real transitions between checkpoints; facts are on disk at every day's end all the same."""
    preset: str = ""
    """Preset that the run was begun from, which `--resume` asks for; presets set it to their own name."""
    wandb: str = "offline"
    """`offline` (syncs later, no account), `online` or `disabled`; the plain log.jsonl is always written."""
    project: str = "dreamer"
    """The wandb project."""

    def __post_init__(self) -> None:
        if self.checkpoint_every < 1:
            raise ValueError(f"run.checkpoint_every is {self.checkpoint_every}: give 1 or more real transitions")
        if self.wandb not in WANDB_MODES:
            raise ValueError(f"run.wandb is {self.wandb!r}: give one of {', '.join(WANDB_MODES)}")


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment."""

    name: str
    """What the experiment is called in folders and rows; presets set it to their own name."""
    env: EnvConfig
    """Which world."""
    seed: int = 0
    """The run's one source of randomness."""
    loop: LoopConfig = LoopConfig()
    """Days and nights."""
    replay: ReplayConfig = ReplayConfig()
    """What is remembered."""
    targets: TargetsConfig = TargetsConfig()
    """What is learned towards."""
    search: SearchConfig = SearchConfig()
    """The teacher."""
    imagine: ImagineConfig = ImagineConfig()
    """What is dreamed beyond the real actions."""
    augment: AugmentConfig = AugmentConfig()
    """How images are changed before they are learned from."""
    fit: FitConfig = FitConfig()
    """Loss weights of the agent."""
    update: UpdateConfig = UpdateConfig()
    """The optimiser."""
    model: EfficientZeroConfig = EfficientZeroConfig()
    """The world model."""
    agent: ActorCriticConfig = ActorCriticConfig()
    """The student."""
    ensemble: EnsembleConfig = EnsembleConfig()
    """How many of both."""
    gate: GateConfig = GateConfig()
    """What a night's agent must show before it is deployed."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How it is measured."""
    run: RunConfig = RunConfig()
    """Where it writes."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed is {self.seed}: give an integer from 0 to {2**31 - 1}")
        rows_per_copy = self.replay.capacity // self.env.num_envs
        if self.targets.length > rows_per_copy:
            raise ValueError(
                f"targets.unroll_steps + td_steps is {self.targets.length} rows, but the replay holds {rows_per_copy} "
                f"a copy: raise replay.capacity to {self.targets.length * self.env.num_envs} or more, or unroll less"
            )
        day = self.loop.steps_per_day * self.env.num_envs
        if self.loop.steps_per_day > rows_per_copy:
            raise ValueError(
                f"loop.steps_per_day is {self.loop.steps_per_day}, but the replay holds {rows_per_copy} rows a copy: "
                f"raise replay.capacity to {day} or more, or live shorter days"
            )
        if self.loop.dream_ratio and not self.loop.updates_due(self.loop.real_transitions):
            raise ValueError(
                f"loop.real_transitions {self.loop.real_transitions} at dream_ratio {self.loop.dream_ratio}, "
                f"batch_size {self.loop.batch_size} and learn_after {self.loop.learn_after} come to no update at all: "
                "live longer, dream more, or take smaller batches"
            )
        judged = self.gate.look_every or not self.gate.is_open
        if judged and self.loop.final_updates:
            raise ValueError(
                f"loop.final_updates is {self.loop.final_updates}, but after the last day there is none to judge by: "
                "give final_updates 0, or gate.evidence none and gate.look_every 0"
            )
        if self.gate.look_every and (self.loop.learn_after <= day or self.imagine.begin_after):
            raise ValueError(
                f"gate.look_every is {self.gate.look_every}, which holds a day back and may leave updates undone, but "
                f"loop.learn_after is {self.loop.learn_after} and imagine.begin_after {self.imagine.begin_after}: give "
                f"learn_after {day + 1} or more, so that the first night has a day to learn from, and begin_after 0"
            )
        if self.loop.real_transitions % day:
            nearest = max(1, round(self.loop.real_transitions / day)) * day
            raise ValueError(
                f"loop.real_transitions is {self.loop.real_transitions}, no whole number of days of {day} transitions "
                f"(steps_per_day * num_envs): give {nearest}, or another steps_per_day"
            )
        if self.env.oracle and (self.ensemble.num_members > 1 or self.model.value_prefix):
            raise ValueError(
                f"env.oracle is set, but ensemble.num_members is {self.ensemble.num_members} and model.value_prefix "
                f"{self.model.value_prefix}: the true dynamics are one, and know each reward: give 1 and 0"
            )
        if self.loop.epsilon and self.targets.unsearched_policy == "action":
            raise ValueError(
                f"loop.epsilon is {self.loop.epsilon} and targets.unsearched_policy 'action', but the policy would "
                "learn the actions that were drawn at random: give epsilon 0, or unsearched_policy none"
            )
        targets = self.targets
        if not targets.research_fraction and targets.unsearched_policy == "none" and self.imagine.real_share == 1:
            raise ValueError(
                "targets.research_fraction is 0, unsearched_policy none and imagine.real_share 1, so no row teaches "
                "the policy anything: give a share above 0, unsearched_policy action, or a real_share below 1"
            )
        self._check_dreams()

    def _check_dreams(self) -> None:
        """Refuses settings of dreams and ensembles that would change nothing."""
        imagine, num_members = self.imagine, self.ensemble.num_members
        if imagine.real_share == 1:
            if imagine != ImagineConfig():
                raise ValueError(
                    "imagine.real_share is 1, so nothing is imagined, but other settings of imagine are changed: give "
                    "a share below 1, or leave them out"
                )
            return
        if not imagine.num_dreams(self.loop.batch_size):
            raise ValueError(
                f"imagine.real_share is {imagine.real_share}, which leaves no imagined row of loop.batch_size "
                f"{self.loop.batch_size}: give a smaller share, or 1 to imagine nothing"
            )
        for name, asks in (
            ("doubt_scale", imagine.doubt_scale > 0),
            ("value_source", imagine.value_source == "expansion"),
        ):
            if asks and num_members == 1:
                raise ValueError(
                    f"imagine.{name} is {getattr(imagine, name)!r}, but one model never disagrees with itself: set "
                    "ensemble.num_members to 2 or more"
                )
        if imagine.begin_after and not self.loop.learn_after <= imagine.begin_after < self.loop.real_transitions:
            raise ValueError(
                f"imagine.begin_after is {imagine.begin_after}: give loop.learn_after ({self.loop.learn_after}) to "
                f"loop.real_transitions - 1 ({self.loop.real_transitions - 1}), or 0 to imagine from the first update"
            )

    @property
    def row(self) -> dict:
        """What its rows of results say of it."""
        return {
            "dream_ratio": self.loop.dream_ratio,
            "actor": self.loop.actor,
            "episodes": self.evaluation.episodes,
        }

    def finished(self, real: int, updates: int) -> bool:
        """Whether a run of it that stands there is at its end."""
        return self.loop.finished(real, updates)

    def identity(self) -> dict:
        """Returns all that decides the outcome but the seed: the JSON that is hashed.

        Parts that are off are left out.
        """
        tree = to_dict(self)
        for name in ("seed", "run"):
            del tree[name]
        for name in _OFF_BY_DEFAULT:
            if getattr(self, name) == type(getattr(self, name))():
                del tree[name]
        tree["env"] = env_as_recorded(self.env, tree["env"])
        if self.env.knobs == KnobsConfig():
            del tree["env"]["knobs"]
        del tree["replay"]["placement"]  # the same rows, wherever they lie
        for part, name, neutral in (("replay", "event_share", 0), ("loop", "epsilon", 0), ("loop", "spell", 1)):
            if tree[part][name] == neutral:
                del tree[part][name]
        if self.env.suite != "jobworld":
            tree["env"].pop("jobworld", None)
        if not self.env.oracle:
            del tree["env"]["oracle"]
        return tree

    def hash(self) -> str:
        """Returns the first 12 hex digits of the SHA-256 of `identity()`: equal for runs that differ in seed alone."""
        return config_hash(self.identity())


def env_as_recorded(env: EnvConfig, tree: dict) -> dict:
    """Returns an environment's JSON as the hashes of recorded rows have it.

    Atari alone could stack frames when the first rows were made; of other suites the setting was of no effect. No
    decision could be held, there was no lake, and every job asked all keys.
    """
    tree = {name: part for name, part in tree.items() if name != ("jobworld" if env.suite == "lake" else "lake")}
    knobs = {name: value for name, value in tree["knobs"].items() if name != "hold" or value > 1}
    is_atari = env.suite == "atari"
    if tree.get("jobworld", {}).get("blocks") == 1:
        tree["jobworld"] = {name: value for name, value in tree["jobworld"].items() if name != "blocks"}
    frames = {} if is_atari or env.frame_stack == 1 else {"frame_stack": env.frame_stack}
    atari = tree["atari"] | {"frame_stack": env.frame_stack if is_atari else 4}
    return (
        {name: part for name, part in tree.items() if name != "frame_stack"} | frames | {"atari": atari, "knobs": knobs}
    )


_OFF_BY_DEFAULT = ("imagine", "ensemble", "gate")


def to_dict(config: Config) -> dict:
    """Returns the config as plain JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(tree: dict) -> Config:
    """Returns the config that `to_dict` wrote.

    Raises:
      ValueError: a field is missing or unknown, as in a file of another version, or it is a config of another kind; the
        message names it.
    """
    if "kind" in tree:
        raise ValueError(
            f"the run is one of {tree['kind']}, which has no world model and no planner, and is not resumed by hand: "
            "give the folder of a run of scripts.train"
        )
    return restore(Config, tree, "config")
