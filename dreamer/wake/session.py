"""Living in the real world: one contract, two drivers.

The *jitted* driver runs a `JaxEnv` and the agent as one `lax.scan`; the *host* driver (`HostSession`) loops over a
`HostEnv` with a jitted agent. Both write down every decision exactly once, see the true last observation of an episode
before anything restarts, and draw their randomness from counters: key = (seed, use, copy, episode, decision).

An agent acts through one function, the planner and the search-free student alike:

    act(params, keys [E], obs [E, ...], action_mask [E, A], memory) -> (action [E] int32, memory)

and may carry `memory` (`()` if it has none) through `remember(params, memory, transition [E]) -> memory`. The drivers
never touch memory at the end of an episode: the transition's end flags tell `remember` what it wants to know.

Letters: E environment copies, T decisions, A actions.
"""

from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from dreamer.core.keys import stream
from dreamer.core.types import PyTree, Transition
from dreamer.wake.envs.base import HostEnv, JaxEnv
from dreamer.wake.envs.copies import copy_keys, reset_copies, reset_ended, step_copies

Act = Callable[[PyTree, jax.Array, jax.Array, jax.Array, PyTree], tuple[jax.Array, PyTree]]
Remember = Callable[[PyTree, PyTree, Transition], PyTree]


@struct.dataclass
class SessionState:
    """Where E copies stand between two decisions; all that a session needs to go on."""

    env_state: PyTree
    """The copies' states, leading [E]; `()` under the host driver, whose environment holds its own."""
    obs: jax.Array
    """[E, *obs_shape] what the agent sees now."""
    action_mask: jax.Array
    """[E, A] bool"""
    memory: PyTree
    """What the agent carries."""
    episode: jax.Array
    """[E] int32 number of the copy's current episode."""
    step: jax.Array
    """[E] int32 number of the coming decision within its episode."""
    life: jax.Array
    """[E] int32 number of the coming decision within all that the copy lives."""


def evaluation_seed(seed: int | jax.Array, *counters: int | jax.Array) -> jax.Array:
    """Returns a uint32 seed whose episodes training never lives; `int()` of it seeds a host environment."""
    return jax.random.bits(stream(seed, "evaluate", *counters), dtype=jnp.uint32)


def begin(
    env: JaxEnv,
    *,
    seed: int | jax.Array,
    num_envs: int,
    memory: PyTree = (),
    episode: jax.Array | int = 0,
    life: jax.Array | int = 0,
) -> SessionState:
    """Starts `episode` of every copy at decision `life` of its life, each [E] or one number.

    Pure: jit it, else leaves may share a buffer: no donation.
    """
    episode, step, life = (jnp.full(num_envs, count, jnp.int32) for count in (episode, 0, life))
    env_state, obs = reset_copies(env, seed, episode=episode, life=life)
    return SessionState(env_state, obs, jax.vmap(env.action_mask)(env_state), memory, episode, step, life)


def live(
    env: JaxEnv,
    act: Act,
    params: PyTree,
    state: SessionState,
    *,
    seed: int | jax.Array,
    num_steps: int,
    remember: Remember | None = None,
) -> tuple[SessionState, Transition]:
    """Lives `num_steps` decisions in every copy. Pure: jit it at the outermost place, with `state` donated.

    Args:
      env: one copy; `state` says how many there are.
      act: who decides, see the module's docstring.
      params: for `act` and `remember`.
      state: from `begin` or the last `live`.
      seed: the one given to `begin`.
      num_steps: T, static.
      remember: how the agent's memory takes a transition in; None leaves it to `act`.

    Returns:
      the state to go on from, and the transitions [T, E].
    """

    def decide(state: SessionState, _):
        return _decide(env, act, params, state, seed=seed, remember=remember)

    return jax.lax.scan(decide, state, length=num_steps)


def episode_returns(
    env: JaxEnv,
    act: Act,
    params: PyTree,
    *,
    seed: int | jax.Array,
    num_episodes: int,
    memory: PyTree = (),
    max_steps: int | None = None,
    remember: Remember | None = None,
) -> jax.Array:
    """Returns [num_episodes] undiscounted returns of one episode in each of as many copies. Pure: jit it.

    Args:
      env: one copy.
      act: who decides.
      params: for `act` and `remember`.
      seed: from `evaluation_seed`; equal seeds meet equal episodes.
      num_episodes: static.
      memory: what each copy's agent starts with, leading [num_episodes].
      max_steps: decisions to stop after, with the return so far; None takes the environment's own limit.
      remember: as in `live`.
    """
    max_steps = _step_limit(env, max_steps)
    state = begin(env, seed=seed, num_envs=num_episodes, memory=memory)

    def unfinished(carry):
        state, _ = carry
        return ((state.episode == 0) & (state.step < max_steps)).any()

    def decide(carry):
        state, returns = carry
        counted = state.episode == 0
        state, transition = _decide(env, act, params, state, seed=seed, remember=remember)
        return state, returns + jnp.where(counted, transition.reward, 0.0)

    return jax.lax.while_loop(unfinished, decide, (state, jnp.zeros(num_episodes)))[1]


def _decide(
    env: JaxEnv, act: Act, params: PyTree, state: SessionState, *, seed: int | jax.Array, remember: Remember | None
) -> tuple[SessionState, Transition]:
    """One decision in every copy, and a new episode wherever one ended; returns (state, transition [E])."""
    keys = copy_keys(seed, "act", state.episode, state.step)
    action, memory = act(params, keys, state.obs, state.action_mask, state.memory)
    chex.assert_shape(action, state.step.shape)
    action = action.astype(jnp.int32)
    env_state, next_obs, reward, terminated, truncated = step_copies(
        env, seed, state.env_state, action, episode=state.episode, step=state.step, life=state.life
    )
    transition = Transition(state.obs, state.action_mask, action, reward, terminated, truncated, next_obs)
    if remember is not None:
        memory = remember(params, memory, transition)
    ended = terminated | truncated
    episode = state.episode + ended
    step = jnp.where(ended, 0, state.step + 1)
    env_state, obs = reset_ended(env, seed, env_state, next_obs, ended=ended, episode=episode)
    action_mask = jax.vmap(env.action_mask)(env_state)
    return SessionState(env_state, obs, action_mask, memory, episode, step, state.life + 1), transition


@jax.jit
def _act_keys(seed: jax.Array, episode: jax.Array, step: jax.Array) -> jax.Array:
    return copy_keys(seed, "act", episode, step)


class HostSession:
    """The host driver: the same life as `live`, for an environment that cannot enter a jitted program.

    `state` is between two decisions whenever no method runs; after an exception, as it was before the call that raised
    it, while the environment may have moved on: `restore` brings it back.
    """

    state: SessionState

    def __init__(self, env: HostEnv, act: Act, *, seed: int, remember: Remember | None = None):
        """Takes E copies and who decides in them.

        Args:
          env: made with the same seed.
          act: see the module's docstring; jitted by the caller.
          seed: for the agent's own randomness.
          remember: as in `live`, jitted by the caller.
        """
        self.env = env
        self._act = act
        self._remember = remember
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
        action = np.asarray(action, np.int32)
        chex.assert_shape(action, state.step.shape)
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
    max_steps = _step_limit(env, max_steps)
    session = HostSession(env, act, seed=seed, remember=remember)
    state = session.begin(memory)
    returns = np.zeros(env.num_envs, np.float32)
    while ((state.episode == 0) & (state.step < max_steps)).any():
        counted = state.episode == 0
        returns += np.where(counted, session.live(params, 1).reward[0], 0.0)
        state = session.state
    return returns


def _step_limit(env: JaxEnv | HostEnv, max_steps: int | None) -> int:
    """Returns the decisions an evaluated episode may take."""
    limit = env.max_steps if max_steps is None else max_steps
    if limit is None:
        raise ValueError(f"{env.spec.id} has no time limit of its own: give max_steps, or an episode may never end.")
    return limit
