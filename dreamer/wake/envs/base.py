"""What an environment is to this project: two protocols, one configuration, and one way to say no to a wrong name.

Letters: E environment copies, A actions. An environment never resets itself and never knows who acts.
"""

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from dreamer.core.types import EnvSpec
from dreamer.wake.envs.jobs import JobWorldConfig
from dreamer.wake.envs.lakes import LakeConfig

DEVICE_SUITES = ("gymnax", "jobworld", "jumanji", "lake")
JOB_SUITES = ("jobworld", "lake")
"""Worlds that are one of many jobs, whose hidden rule persists from episode to episode."""
SUITES = ("atari", "gymnasium", *DEVICE_SUITES)


@dataclasses.dataclass(frozen=True)
class AtariConfig:
    """How a screen of 210 x 160 pixels, 60 times a second, becomes observations and decisions.

    A frame is what the emulator draws; a decision is held for `frame_skip` of them.
    """

    frame_skip: int = 4
    """Frames that a decision is held for. Their rewards are summed; the last two are seen, as their maximum."""
    size: int = 96
    """Height and width of an observation in pixels, averaged over areas."""
    grey: bool = False
    """One channel of luminance instead of red, green and blue."""
    noop_max: int = 30
    """A game begins with 0 to this many frames without an action, drawn from its seed."""
    sticky_actions: float = 0.0
    """Probability that a frame repeats the action of the frame before it instead of the one decided."""
    full_actions: bool = False
    """All 18 actions of the joystick instead of those the game knows."""
    life_loss_ends: bool = True
    """A lost life terminates the episode, and the next one goes on in the same game; evaluation plays whole games."""
    max_frames: int = 108_000
    """Frames after which a game is truncated, over all its lives, as `EnvConfig.max_steps` decisions if that is set."""

    def __post_init__(self):
        for name in ("frame_skip", "size"):
            if getattr(self, name) < 1:
                raise ValueError(f"atari.{name} is {getattr(self, name)}: set 1 or more.")
        if self.noop_max < 0:
            raise ValueError(f"atari.noop_max is {self.noop_max}: set 0 or more frames.")
        if not 0 <= self.sticky_actions < 1:
            raise ValueError(
                f"atari.sticky_actions is {self.sticky_actions}: set a probability from 0 to below 1, 0 for none."
            )
        if self.max_frames < self.frame_skip:
            raise ValueError(
                f"atari.max_frames is {self.max_frames}, less than the {self.frame_skip} frames of one decision "
                "(atari.frame_skip): set that many or more."
            )


@dataclasses.dataclass(frozen=True)
class KnobsConfig:
    """What can be turned on any device environment, each by itself; all neutral is the bare environment, bit for bit.

    `continuing` and `visited_starts` are conditions of training and are left out when an agent is measured; the others
    are part of the task. Decisions are those of one copy.
    """

    continuing: bool = False
    """The agent is never told of an end: the world starts anew by itself, and the next observation is of that start.
    Life is one episode, truncated after `env.max_steps` decisions if that is set; the world keeps its own limit."""
    visited_starts: float = 0.0
    """Probability that the world starts anew from a state that this copy has visited, not from its start; 0 for never.
    A copy keeps a few of its states, each as likely as any other to be kept, and each with the clock it had."""
    reward_delay: int = 0
    """Decisions that a reward is paid late, 0 for none; an end that the agent is told of pays all that is owed."""
    drift_every: int = 0
    """Decisions of a copy's life, over all its episodes, between two changes of what its actions do; 0 for none. Each
    change permutes the actions at random, for each copy by itself. Agents are measured under the rules last lived
    under."""
    slip: float = 0.0
    """Probability that an action drawn from all that are allowed is carried out, not the one decided; 0 for none."""
    hold: int = 1
    """Steps of the world that a decision is held for, fewer where it ends or no longer allows the action; rewards are
    summed. The world's own clocks count its steps, and so does `env.max_steps` unless life is continuing; all else
    counts decisions."""

    def __post_init__(self):
        if self.hold < 1:
            raise ValueError(f"knobs.hold is {self.hold}: set 1 step of the world for each decision, or more.")
        for name in ("visited_starts", "slip"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"knobs.{name} is {getattr(self, name)}: set a probability from 0 to 1, 0 for none.")
        for name in ("reward_delay", "drift_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"knobs.{name} is {getattr(self, name)}: set 0 or more decisions, 0 for none.")


@dataclasses.dataclass(frozen=True)
class EnvConfig:
    """Which environment, and how many copies of it."""

    id: str
    """The environment's name in its suite, e.g. `CartPole-v1`, `Breakout-MinAtar`, `JobWorld-v0`, `ALE/Pong-v5`."""
    suite: str
    """`gymnasium` or `atari` (both on the host), `gymnax`, `jumanji`, `jobworld` or `lake` (all on the device)."""
    num_envs: int = 1
    """Copies that live side by side, E."""
    max_steps: int | None = None
    """Decisions after which an episode is truncated, or steps of the world where `knobs.hold` is above 1 and life is
    not `knobs.continuing`; None keeps the environment's own limit."""
    frame_stack: int = 1
    """Decisions that an observation looks back on, a frame of each, side by side along its last axis, the oldest first:
    what moves, and when, where one frame does not show it. Every frame is stored once."""
    kwargs: tuple[tuple[str, bool | int | float | str], ...] = ()
    """Further arguments of the environment's constructor, names and values in turn: on the command line
    `--env.kwargs size 10` for `DeepSea-bsuite`, in Python `kwargs=(("size", 10),)`."""
    atari: AtariConfig = AtariConfig()
    """Settings of the `atari` suite; the others have none of them."""
    jobworld: JobWorldConfig = JobWorldConfig()
    """Settings of the `jobworld` suite; the others have none of them."""
    lake: LakeConfig = LakeConfig()
    """Settings of the `lake` suite; the others have none of them."""
    knobs: KnobsConfig = KnobsConfig()
    """What is made harder, or forbidden, in an environment on the device."""
    oracle: bool = False
    """Whether search and dreams step a deterministic environment on the device itself, instead of a learned model: what
    could be done if its dynamics were known. Observations then carry the state, which the student does not look at, and
    whoever loads what is deployed shows it such observations. Chance is refused only where it strikes in the first step
    after a reset; later, as in Asterix, search would foresee one and the same draw."""

    def __post_init__(self):
        if self.suite not in SUITES:
            raise unknown("suite", self.suite, SUITES)
        if self.num_envs < 1:
            raise ValueError(
                f"num_envs is {self.num_envs}: a session needs at least one environment, set it to 1 or more."
            )
        if self.frame_stack < 1:
            raise ValueError(f"frame_stack is {self.frame_stack}: set 1 frame, which looks back on nothing, or more.")
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(
                f"max_steps is {self.max_steps}: set 1 or more decisions, or None for the environment's own limit."
            )
        for name, neutral in (("atari", AtariConfig()), ("jobworld", JobWorldConfig()), ("lake", LakeConfig())):
            if self.suite != name and getattr(self, name) != neutral:
                raise ValueError(
                    f"{name} is set, but the suite is {self.suite!r}, which has no such settings: leave them out."
                )
        if self.jobworld.period and self.knobs.visited_starts:
            raise ValueError(
                f"jobworld.period is {self.jobworld.period} and knobs.visited_starts {self.knobs.visited_starts}, but "
                "a visited state would bring back the codebook of its day: set one of them to 0."
            )
        if self.oracle and (self.suite not in DEVICE_SUITES or self.knobs != KnobsConfig()):
            raise ValueError(
                f"oracle is set, which takes a bare environment of {' or '.join(DEVICE_SUITES)}, not {self.suite!r} "
                "with knobs turned or on the host: leave it out, or choose such an environment."
            )
        for field in dataclasses.fields(KnobsConfig):
            turned = getattr(self.knobs, field.name)
            if self.suite not in DEVICE_SUITES and turned != field.default:
                raise ValueError(
                    f"knobs.{field.name} is {turned}, but {self.suite} environments run on the host, where no knob "
                    f"reaches: leave it at {field.default}, or choose an environment of {' or '.join(DEVICE_SUITES)}."
                )

    @property
    def job_world(self) -> JobWorldConfig | LakeConfig:
        """Settings of a world that is one of many jobs, which `pool_jobs` numbers.

        Raises:
          ValueError: a suite without jobs.
        """
        if self.suite not in JOB_SUITES:
            known = " or ".join(map(repr, JOB_SUITES))
            raise ValueError(f"env.suite is {self.suite!r}: sessions are told apart by jobs; give {known}")
        return getattr(self, self.suite)

    def with_jobs(self, **changes: Any) -> "EnvConfig":
        """Returns the same with some settings of its jobs replaced, as `pool` and `job`."""
        return dataclasses.replace(self, **{self.suite: dataclasses.replace(self.job_world, **changes)})


class JaxEnv(NamedTuple):
    """One copy of an environment as pure functions; vmap it for more. No function resets anything by itself.

    Every output is strongly typed and keeps its dtype from `reset` through any number of `step`s.
    """

    spec: EnvSpec
    reset: Callable
    """(key) -> (state, obs): the first episode of a life."""
    restart: Callable
    """(key, state) -> (state, obs): the next episode after one that ended in `state`, which a bare one ignores."""
    step: Callable
    """(key, state, action) -> (state, obs, reward float32, terminated bool, truncated bool); never both flags."""
    action_mask: Callable
    """(state) -> [A] bool, True where the action is allowed."""
    render: Callable
    """(state) -> [H, W, 3] uint8 NumPy frame, or None where there is nothing to draw. Not for use under jit."""
    max_steps: int | None
    """Decisions after which an episode is truncated at the latest; None if it never is."""
    rules: Callable | None = None
    """(seed, copy, life, state) -> state under the rules for decision `life` of that copy's whole life; None where
    rules never change."""


class HostEnv(Protocol):
    """E copies of an environment that run outside JAX, in step with each other.

    The environment owns its seed: what happens in episode n of copy c is a function of (seed, c, n) and the actions,
    and of nothing else, so that a driver only ever counts. Where `AtariConfig.life_loss_ends`, an episode that goes on
    in the game of the one before it depends on the game so far as well.
    """

    spec: EnvSpec
    num_envs: int
    max_steps: int | None

    def reset(self, copies: np.ndarray, episodes: Sequence[int]) -> np.ndarray:
        """Starts episode `episodes[c]` in each flagged copy c and leaves the others as they are.

        Args:
          copies: [E] bool, the copies to restart; all of them at the first call.
          episodes: [E] episode numbers; those of unflagged copies are ignored.

        Returns:
          [E, *obs_shape] the current observation of every copy.
        """
        ...

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Applies action [E] to the copies, none of which may have ended without a reset since.

        Returns:
          obs [E, *obs_shape] before any reset, reward [E] float32, terminated [E] bool, truncated [E] bool.
        """
        ...

    def action_mask(self) -> np.ndarray:
        """Returns [E, A] bool, True where the action is allowed now."""
        ...

    def render(self, copy: int) -> np.ndarray | None:
        """Returns a [H, W, 3] uint8 frame of one copy, or None where there is nothing to draw."""
        ...

    def close(self) -> None:
        """Frees what the copies hold."""
        ...


def episode_seed(seed: int, copy: int, episode: int) -> int:
    """Returns 31 bits that all three numbers went into; environments take no more and no fewer than an int32."""
    return int(np.random.SeedSequence((seed, copy, episode)).generate_state(1)[0] >> 1)


def unknown(what: str, name: str, known: Iterable[str]) -> ValueError:
    """Returns the error for a name that does not exist, with those that nearly have it, or all of a short list."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=5, cutoff=0.4)
    names = ", ".join(close if close and len(known) > 8 else known[:20])
    return ValueError(f"unknown {what} {name!r}; {'did you mean' if close else 'choose one of'}: {names}?")
