"""Living in the real world: one contract, two drivers.

The *jitted* driver runs a `JaxEnv` and the agent as one `lax.scan`; the *host* driver (`host_session`) loops over a
`HostEnv` with a jitted agent. Both write down every decision exactly once, see the true last observation of an episode
before anything restarts, and draw their randomness from counters: key = (seed, use, copy, episode, decision), and of
what is left to chance (seed, use, copy, spell of its life).

An agent acts through one function, the planner and the search-free student alike:

    act(params, keys [E], obs [E, ...], action_mask [E, A], memory) -> (action [E] int32, memory)

and may carry `memory` (`()` if it has none) through `remember(params, memory, transition [E]) -> memory`. The drivers
never touch memory at the end of an episode: the transition's end flags tell `remember` what it wants to know.

Letters: E environment copies, T decisions, A actions.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from flax import struct

from dreamer.core.keys import stream
from dreamer.core.types import PyTree, Transition
from dreamer.wake.envs.base import HostEnv, JaxEnv
from dreamer.wake.envs.copies import copy_keys, reset_copies, reset_ended, step_copies
from dreamer.wake.explore import Explore

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
    explore: Explore | None = None,
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
      explore: what leaves decisions to chance; None leaves none.

    Returns:
      the state to go on from, and the transitions [T, E].
    """

    def decide(state: SessionState, _):
        return _decide(env, act, params, state, seed=seed, remember=remember, explore=explore)

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
    max_steps = step_limit(env, max_steps)
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
    env: JaxEnv,
    act: Act,
    params: PyTree,
    state: SessionState,
    *,
    seed: int | jax.Array,
    remember: Remember | None,
    explore: Explore | None = None,
) -> tuple[SessionState, Transition]:
    """One decision in every copy, and a new episode wherever one ended; returns (state, transition [E])."""
    keys = copy_keys(seed, "act", state.episode, state.step)
    action, memory = act(params, keys, state.obs, state.action_mask, state.memory)
    chex.assert_shape(action, state.step.shape)
    action = action.astype(jnp.int32)
    if explore is not None:
        action = explore(seed, state.life, state.action_mask, action)
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


def step_limit(env: JaxEnv | HostEnv, max_steps: int | None) -> int:
    """Returns the decisions an evaluated episode may take."""
    limit = env.max_steps if max_steps is None else max_steps
    if limit is None:
        raise ValueError(f"{env.spec.id} has no time limit of its own: give max_steps, or an episode may never end.")
    return limit
