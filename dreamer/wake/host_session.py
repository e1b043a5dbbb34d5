"""The host driver: living in environments that cannot enter a jitted program.

Letters: E environment copies, T decisions.
"""

from collections.abc import Sequence

import chex
import jax
import numpy as np

from dreamer.core.types import PyTree, Transition
from dreamer.wake.envs.base import HostEnv
from dreamer.wake.envs.copies import copy_keys
from dreamer.wake.explore import Explore
from dreamer.wake.session import Act, Remember, SessionState, step_limit


@jax.jit
def _act_keys(seed: jax.Array, episode: jax.Array, step: jax.Array) -> jax.Array:
    return copy_keys(seed, "act", episode, step)


class HostSession:
    """The host driver: the same life as `live`, for an environment that cannot enter a jitted program.

    `state` is between two decisions whenever no method runs; after an exception, as it was before the call that raised
    it, while the environment may have moved on: `restore` brings it back.
    """

    state: SessionState

    def __init__(
        self, env: HostEnv, act: Act, *, seed: int, remember: Remember | None = None, explore: Explore | None = None
    ):
        """Takes E copies and who decides in them.

        Args:
          env: made with the same seed.
          act: see `dreamer.wake.session`; jitted by the caller.
          seed: for the agent's own randomness.
          remember: as in `session.live`, jitted by the caller.
          explore: the same.
        """
        self.env = env
        self._act = act
        self._remember = remember
        self._explore = explore
        self._seed = np.uint32(seed)

    def begin(self, memory: PyTree = ()) -> SessionState:
        """Starts episode 0 of every copy."""
        zeros = np.zeros(self.env.num_envs, np.int32)
        obs = self.env.reset(np.ones(self.env.num_envs, bool), zeros)
        self.state = SessionState((), obs, self.env.action_mask(), memory, zeros, zeros, zeros)
        return self.state

    def live(self, params: PyTree, num_steps: int) -> Transition:
        """Lives `num_steps` decisions in every copy; returns them as NumPy arrays [T, E]."""
        state, transitions = self.state, []
        for _ in range(num_steps):
            state, transition = self._decide(params, state)
            transitions.append(transition)
        self.state = state
        return jax.tree.map(lambda *rows: np.stack(rows), *transitions)

    def restart(self, copies: np.ndarray) -> SessionState:
        """Leaves the current episode of the flagged copies [E] unfinished and starts their next one.

        Nothing says so in any transition: whoever keeps them must cut the sequence there, as at a truncation.
        """
        copies = np.asarray(copies, bool)
        episode = (self.state.episode + copies).astype(np.int32)
        obs = self.env.reset(copies, episode) if copies.any() else self.state.obs
        self.state = self.state.replace(
            obs=obs,
            action_mask=self.env.action_mask(),
            episode=episode,
            step=np.where(copies, 0, self.state.step).astype(np.int32),
        )
        return self.state

    def restore(self, state: SessionState, actions: Sequence[np.ndarray]) -> np.ndarray:
        """Brings fresh environment copies to `state` by living their current episodes again.

        Each copy starts its episode once more and repeats its actions; all copies arrive together, so that one with a
        short past starts late. A copy whose episode ends early or that arrives at another observation cannot be
        replayed: call `restart` on it.

        Args:
          state: what `self.state` was, except that `action_mask`, and `obs` of a copy that has not decided anything in
            its episode, are not looked at: a record of transitions does not hold them.
          actions: for each copy, the [step] actions it took in its current episode, oldest first.

        Returns:
          [E] bool, True for the copies that stand where they stood.
        """
        lengths = np.array([len(past) for past in actions])
        if not np.array_equal(lengths, state.step):
            raise ValueError(
                f"restoring {self.env.spec.id} needs each copy's actions since its episode began: "
                f"the state is at decisions {np.asarray(state.step)}, got {lengths} actions."
            )
        episode, start, faithful = np.asarray(state.episode), lengths.max() - lengths, np.ones(len(lengths), bool)
        obs = self.env.reset(np.ones(len(lengths), bool), episode)
        for tick in range(lengths.max()):
            waiting = tick < start
            # A copy that waits must do something: it idles in the same episode, which begins anew when its turn comes.
            action = self.env.action_mask().argmax(axis=1).astype(np.int32)
            for copy in np.flatnonzero(~waiting):
                action[copy] = actions[copy][tick - start[copy]]
            obs, _, terminated, truncated = self.env.step(action)
            ended = terminated | truncated
            faithful &= waiting | ~ended
            again = ended | (start == tick + 1)
            if again.any():
                obs = self.env.reset(again, episode)
        counters = episode, np.asarray(state.step), np.asarray(state.life)
        self.state = SessionState((), obs, self.env.action_mask(), state.memory, *counters)
        same = np.array([np.array_equal(*pair) for pair in zip(obs, np.asarray(state.obs), strict=True)])
        return faithful & (same | (lengths == 0))

    def _decide(self, params: PyTree, state: SessionState) -> tuple[SessionState, Transition]:
        """One decision in every copy, and a new episode wherever one ended; returns (state, transition [E])."""
        keys = _act_keys(self._seed, state.episode, state.step)
        action, memory = self._act(params, keys, state.obs, state.action_mask, state.memory)
        chex.assert_shape(action, state.step.shape)
        if self._explore is not None:
            action = self._explore(self._seed, state.life, state.action_mask, action)
        action = np.asarray(action, np.int32)
        next_obs, reward, terminated, truncated = self.env.step(action)
        obs, action_mask = np.asarray(state.obs), np.asarray(state.action_mask)
        transition = Transition(obs, action_mask, action, reward, terminated, truncated, next_obs)
        if self._remember is not None:
            memory = self._remember(params, memory, transition)
        ended = terminated | truncated
        episode = (state.episode + ended).astype(np.int32)
        step = np.where(ended, 0, state.step + 1).astype(np.int32)
        obs = self.env.reset(ended, episode) if ended.any() else next_obs
        return SessionState((), obs, self.env.action_mask(), memory, episode, step, state.life + 1), transition


def host_episode_returns(
    env: HostEnv,
    act: Act,
    params: PyTree,
    *,
    seed: int,
    memory: PyTree = (),
    max_steps: int | None = None,
    remember: Remember | None = None,
) -> np.ndarray:
    """Returns [E] undiscounted returns of episode 0 of each copy, as `episode_returns`, for a host environment.

    The copies, made with the same `seed`, are restarted; `act` and `remember` are jitted by the caller.
    """
    max_steps = step_limit(env, max_steps)
    session = HostSession(env, act, seed=seed, remember=remember)
    state = session.begin(memory)
    returns = np.zeros(env.num_envs, np.float32)
    while ((state.episode == 0) & (state.step < max_steps)).any():
        counted = state.episode == 0
        returns += np.where(counted, session.live(params, 1).reward[0], 0.0)
        state = session.state
    return returns
