"""Atari games (https://ale.farama.org) as a `HostEnv`. An extra: the library is not required.

Emulation, frame skip, maximum and resizing are those of ale-py's C++ `AtariVectorEnv`, one of one game for each copy,
which computes in a thread of its own and is reset or stepped alone. Stacks, lives and the time limit are kept here:
ale-py begins a stack with black frames, lets what follows a lost life wait for a whole game, and shows a stale picture
at its own limit. Rewards are the game's, not clipped.

Letters: E environment copies, H height, W width, C channels of a frame, F frames of a stack.
"""

import importlib.metadata
from collections.abc import Sequence

import gymnasium as gym
import numpy as np

from dreamer.core.types import EnvSpec
from dreamer.wake.envs.base import EnvConfig, HostEnv, episode_seed, unknown

try:
    from ale_py import AtariVectorEnv
except ImportError as error:
    raise ImportError(
        f"atari environments need an extra that is not installed ({error}): pip install -r requirements-atari.txt"
    ) from error

_NOOP = 0  # the first action of every game that counts lives
_NO_LIMIT = 2**31 - 2  # frames: ale-py counts in 32 bits, from one more than this
_ENLARGED = 2  # pixels of a picture for each of an observation


def make(config: EnvConfig, seed: int) -> HostEnv:
    """Returns `config.num_envs` copies of the game `config.id`, e.g. `ALE/Pong-v5`.

    Raises:
      ValueError: unknown game, or keywords, of which there are none.
      FileNotFoundError: the game's ROM is not where ale-py looks for it, or is another one.
    """
    games = {name: spec.kwargs["game"] for name, spec in gym.registry.items() if name.startswith("ALE/")}
    if config.id not in games:
        raise unknown("atari game", config.id, games)
    if config.kwargs:
        raise ValueError(f"kwargs {dict(config.kwargs)} do not fit {config.id}: a game is set by the fields of atari.")
    return _HostAtari(config, seed, game=games[config.id])


class _HostAtari:
    """See `HostEnv`. A game that is begun as episode n of copy c is seeded by (seed, c, n).

    After a lost life the next episode goes on in the same game, one decision without an action later, whose reward
    nobody gets. Asked for any other episode, a copy begins a new game.
    """

    def __init__(self, config: EnvConfig, seed: int, *, game: str):
        self.num_envs = config.num_envs
        self.max_steps = config.max_steps or config.atari.max_frames // config.atari.frame_skip
        self._config = config
        self._seed = seed
        self._game = game
        self._open()
        atari = config.atari
        self._num_channels = 1 if atari.grey else 3
        self.spec = EnvSpec(
            id=config.id,
            suite="atari",
            version=importlib.metadata.version("ale-py"),
            obs_shape=(atari.size, atari.size, config.frame_stack * self._num_channels),
            obs_dtype="uint8",
            num_actions=int(self._games[0].single_action_space.n),
            frame_stack=config.frame_stack,
        )
        self._obs = np.zeros((self.num_envs, *self.spec.obs_shape), np.uint8)
        self._episode = np.zeros(self.num_envs, np.int64)
        self._lives = np.zeros(self.num_envs, np.int64)
        self._decisions = np.zeros(self.num_envs, np.int64)  # of the game, over its lives
        self._goes_on = np.zeros(self.num_envs, bool)  # the episode has ended and the game has not

    def reset(self, copies: np.ndarray, episodes: Sequence[int]) -> np.ndarray:
        """See `HostEnv.reset`."""
        copies = np.asarray(copies, bool)
        if not self._begun and not copies.all():
            raise ValueError(f"{self.spec.id}: the first reset must start every copy, got copies={copies}.")
        self._begun = True
        self._obs = self._obs.copy()  # the old one has been handed out
        for copy in np.flatnonzero(copies):
            episode = int(episodes[copy])
            follows = self._goes_on[copy] and episode == self._episode[copy] + 1
            frame = self._next_life(copy) if follows else None
            if frame is None:
                frame = self._new_game(copy, episode)
            self._obs[copy] = np.tile(frame, self.spec.frame_stack)
            self._episode[copy], self._goes_on[copy] = episode, False
        return self._obs

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """See `HostEnv.step`."""
        action = np.asarray(action, np.int64)
        if ((action < 0) | (action >= self.spec.num_actions)).any():  # ale-py would wait for ever
            raise ValueError(f"{self.spec.id} has actions 0 to {self.spec.num_actions - 1}, got {action}.")
        try:
            for game, chosen in zip(self._games, action, strict=True):
                game.send(chosen[None])
            outcomes = [game.recv() for game in self._games]
        except BaseException:
            self._open()  # what nobody received would be taken for the next outcome
            raise
        frames = np.stack([self._frame(obs) for obs, *_ in outcomes])
        reward = np.array([reward[0] for _, reward, *_ in outcomes], np.float32)
        over = np.array([over[0] for _, _, over, *_ in outcomes])
        lives = np.array([info["lives"][0] for *_, info in outcomes])
        # Some games show no life for a while before they are over.
        lost = (lives < self._lives) & (lives > 0) & ~over & self._config.atari.life_loss_ends
        self._lives = lives
        self._decisions += 1
        in_time = self._decisions < self.max_steps
        self._goes_on = lost & in_time
        self._obs = np.concatenate([self._obs[..., self._num_channels :], frames], axis=-1)
        return self._obs, reward, over | lost, ~(over | lost | in_time)

    def action_mask(self) -> np.ndarray:
        """See `HostEnv.action_mask`; every action is allowed at any time."""
        return np.ones((self.num_envs, self.spec.num_actions), bool)

    def render(self, copy: int) -> np.ndarray:
        """Returns the newest frame as the agent sees it, enlarged; the game's own is not to be had from ale-py."""
        frame = self._obs[copy, ..., -self._num_channels :].repeat(_ENLARGED, axis=0).repeat(_ENLARGED, axis=1)
        return np.broadcast_to(frame, (*frame.shape[:2], 3))

    def close(self) -> None:
        """Forgets the games, which ends their threads."""
        self._games = []

    def _open(self) -> None:
        atari = self._config.atari
        try:
            self._games = [
                AtariVectorEnv(
                    self._game,
                    num_envs=1,
                    max_num_frames_per_episode=_NO_LIMIT,
                    repeat_action_probability=atari.sticky_actions,
                    full_action_space=atari.full_actions,
                    img_height=atari.size,
                    img_width=atari.size,
                    grayscale=atari.grey,
                    stack_num=1,
                    frameskip=atari.frame_skip,
                    noop_max=atari.noop_max + 1,  # ale-py draws fewer than it is told
                    use_fire_reset=False,
                    reward_clipping=False,
                )
                for _ in range(self.num_envs)
            ]
        except OSError as error:
            raise FileNotFoundError(
                f"the ROM of {self._config.id} is missing or another one ({error}): pip install --force-reinstall "
                "--no-deps -r requirements-atari.txt brings all of them; ALE_ROMS_DIR, if set, must hold them"
            ) from error
        self._begun = False

    def _new_game(self, copy: int, episode: int) -> np.ndarray:
        """Begins a game in one copy; returns its first frame [H, W, C]."""
        obs, info = self._games[copy].reset(seed=episode_seed(self._seed, copy, episode))
        self._lives[copy], self._decisions[copy] = info["lives"][0], 0
        return self._frame(obs)

    def _next_life(self, copy: int) -> np.ndarray | None:
        """Goes on in a copy's game; returns the frame [H, W, C], or None if the game was over at once."""
        obs, _, over, _, info = self._games[copy].step(np.array([_NOOP]))
        self._lives[copy] = info["lives"][0]
        return None if over[0] else self._frame(obs)

    def _frame(self, obs: np.ndarray) -> np.ndarray:
        """Returns ale-py's observation [1, 1, H, W] or [1, 1, H, W, C] as [H, W, C]."""
        return obs.reshape(*obs.shape[2:4], self._num_channels)
