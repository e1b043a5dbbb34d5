"""Knobs on any device environment: what may be replayed, when rewards come, what changes and what slips.

Each is a wrapper of its own; a neutral one is not applied at all. What a knob must know of the life so far it carries
in the environment's state, (state of the environment inside, what is carried); what it draws follows from the keys
that the environment is given, so that counters remain the whole state of randomness. A actions, V kept states.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from dreamer.core.keys import stream
from dreamer.core.types import PyTree
from dreamer.wake.envs.base import EnvConfig, JaxEnv
from dreamer.wake.envs.stacked import with_frame_stack

_NUM_KEPT = 64  # V: enough that a start is rarely the one before, and megabytes a copy at most


def with_knobs(env: JaxEnv, config: EnvConfig) -> JaxEnv:
    """Returns a bare environment with `config.knobs` turned, then its frames stacked; where all is neutral, `env`.

    Of `config` nothing else is read but `max_steps`, which under `continuing` is the limit of the one life, and
    `frame_stack`.

    Raises:
      ValueError: a knob that does not fit the environment.
    """
    knobs = config.knobs
    for name in ("continuing", "visited_starts"):
        if getattr(knobs, name) and env.spec.frame_stack > 1:
            raise ValueError(
                f"knobs.{name} is {getattr(knobs, name)}, but observations of {env.spec.id} are stacks of "
                f"{env.spec.frame_stack} frames, which must begin with copies of an episode's first: leave it out."
            )
    if knobs.hold > 1:  # inside all else, which counts decisions
        env = _held(env, knobs.hold)
    if knobs.slip:
        env = _slipping(env, knobs.slip)
    if knobs.visited_starts:
        env = _from_visited(env, knobs.visited_starts)
    if knobs.continuing:  # around the starts that it makes use of
        env = _continuing(env, config.max_steps)
    if knobs.reward_delay:  # around the ends that are told
        env = _delayed(env, knobs.reward_delay)
    if knobs.drift_every:  # around all else, so that no kept state brings back the rules of its day
        env = _drifting(env, knobs.drift_every)
    return with_frame_stack(env, config.frame_stack)


def settled(env: JaxEnv, *, seed: int | jax.Array, life: int | jax.Array, num_envs: int) -> JaxEnv:
    """Returns the environment under the rules that a run last lived under, and which no longer change.

    Args:
      env: where rules never change, it is returned as it is.
      seed: of the run.
      life: decisions that each copy of the run has lived.
      num_envs: copies in the run; every episode is under the rules of one of them, drawn with its start.
    """
    if env.rules is None:
        return env

    def reset(key: jax.Array) -> tuple[PyTree, jax.Array]:
        key, copy_key = jax.random.split(key)
        state, obs = env.reset(key)
        copy = jax.random.randint(copy_key, (), 0, num_envs)
        return env.rules(seed, copy, jnp.maximum(life - 1, 0), state), obs

    return env._replace(reset=reset, restart=lambda key, state: reset(key), rules=None)


def _held(env: JaxEnv, num_steps: int) -> JaxEnv:
    """Carries out every decision for so many steps of the world, until it ends or no longer allows the action."""

    def step(key: jax.Array, state: PyTree, action: jax.Array) -> tuple:
        def once_more(outcome: tuple, key: jax.Array) -> tuple:
            state, _, paid, terminated, truncated = outcome
            goes_on = ~(terminated | truncated) & env.action_mask(state)[action]
            state, obs, reward, *ends = env.step(key, state, action)
            return _either(goes_on, (state, obs, paid + reward, *ends), outcome), None

        keys = jax.random.split(key, num_steps)
        return jax.lax.scan(once_more, env.step(keys[0], state, action), keys[1:])[0]

    return env._replace(step=step)  # with its limit: of decisions that are never held for long there are as many


def _slipping(env: JaxEnv, prob: float) -> JaxEnv:
    """Carries out a random allowed action instead of the one decided, with probability `prob`."""

    def step(key: jax.Array, state: PyTree, action: jax.Array) -> tuple:
        key, slip_key, action_key = jax.random.split(key, 3)
        other = jax.random.categorical(action_key, jnp.where(env.action_mask(state), 0.0, -jnp.inf))
        slips = jax.random.bernoulli(slip_key, prob)
        return env.step(key, state, jnp.where(slips, other.astype(action.dtype), action))

    return env._replace(step=step)


@struct.dataclass
class _Visited:
    """A fair sample of what a copy has visited: each state is in it with equal probability."""

    states: PyTree
    """States, leading [V]."""
    obs: jax.Array
    """[V, *obs_shape]"""
    count: jax.Array
    """[] int32 states visited so far."""

    def with_state(self, key: jax.Array, state: PyTree, obs: jax.Array, *, visited: jax.Array) -> "_Visited":
        """Takes a state in if `visited`: "Random sampling with a reservoir" (https://doi.org/10.1145/3147.3165)."""
        drawn = jax.random.randint(key, (), 0, self.count + 1)
        place = jnp.where(self.count < _NUM_KEPT, self.count, drawn)
        place = jnp.where(visited, place, _NUM_KEPT)  # a place past the end is dropped
        states, seen = jax.tree.map(
            lambda kept, new: kept.at[place].set(new, mode="drop"), (self.states, self.obs), (state, obs)
        )
        return _Visited(states, seen, self.count + visited)

    def draw(self, key: jax.Array) -> tuple[PyTree, jax.Array]:
        """Returns (state, obs) of one of them; of none, whatever lies there."""
        place = jax.random.randint(key, (), 0, jnp.clip(self.count, 1, _NUM_KEPT))
        return jax.tree.map(lambda kept: kept[place], (self.states, self.obs))


def _from_visited(env: JaxEnv, prob: float) -> JaxEnv:
    """Starts later episodes, with probability `prob`, from a state that a decision of this life led to."""

    def nothing_yet(state: PyTree, obs: jax.Array) -> _Visited:
        states, seen = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (_NUM_KEPT, *leaf.shape)), (state, obs))
        return _Visited(states, seen, jnp.int32(0))

    def step(key: jax.Array, state: PyTree, action: jax.Array) -> tuple:
        key, keep_key = jax.random.split(key)
        inner, visited = state
        inner, obs, reward, terminated, truncated = env.step(key, inner, action)
        visited = visited.with_state(keep_key, inner, obs, visited=~(terminated | truncated))
        return (inner, visited), obs, reward, terminated, truncated

    def restart(key: jax.Array, state: PyTree) -> tuple[PyTree, jax.Array]:
        key, coin_key, draw_key = jax.random.split(key, 3)
        inner, visited = state
        again = jax.random.bernoulli(coin_key, prob) & (visited.count > 0)
        inner, obs = _either(again, visited.draw(draw_key), env.restart(key, inner))
        return (inner, visited), obs

    return _carrying(env, nothing_yet, step=step)._replace(restart=restart)


def _continuing(env: JaxEnv, max_steps: int | None) -> JaxEnv:
    """Starts the world anew by itself wherever it ends and tells nobody; life is truncated after `max_steps`."""

    def step(key: jax.Array, state: PyTree, action: jax.Array) -> tuple:
        key, restart_key = jax.random.split(key)
        inner, lived = state
        inner, obs, reward, terminated, truncated = env.step(key, inner, action)
        # Made at every decision and mostly thrown away: over a batch, a condition would run both its branches too.
        fresh = env.restart(restart_key, inner)
        inner, obs = _either(terminated | truncated, fresh, (inner, obs))
        lived = lived + 1
        over = jnp.bool_(False) if max_steps is None else lived >= max_steps
        return (inner, lived), obs, reward, jnp.bool_(False), over

    return _carrying(env, lambda state, obs: jnp.int32(0), step=step)._replace(max_steps=max_steps)


def with_late_rewards(env: JaxEnv, delay: int) -> JaxEnv:
    """Returns the environment whose rewards come `delay` decisions late, in whatever episode is then lived: no end
    settles what is owed. At 0 it is `env`."""
    if not delay:
        return env
    late = _delayed(env, delay, settles=False)

    def restart(key: jax.Array, state: PyTree) -> tuple[PyTree, jax.Array]:
        inner, obs = env.restart(key, state[0])
        return (inner, state[1]), obs

    return late._replace(restart=restart)


def _delayed(env: JaxEnv, delay: int, *, settles: bool = True) -> JaxEnv:
    """Pays every reward `delay` decisions late, and, if it `settles`, all that is owed at an end."""

    def step(key: jax.Array, state: PyTree, action: jax.Array) -> tuple:
        inner, owed = state
        inner, obs, reward, terminated, truncated = env.step(key, inner, action)
        owed, ended = jnp.append(owed, reward), settles & (terminated | truncated)
        paid = jnp.where(ended, owed.sum(), owed[0])
        return (inner, jnp.where(ended, 0.0, owed[1:])), obs, paid, terminated, truncated

    return _carrying(env, lambda state, obs: jnp.zeros(delay), step=step)


def _drifting(env: JaxEnv, every: int) -> JaxEnv:
    """Permutes what the actions do, anew after every so many decisions of a life; in the first period nothing."""
    num_actions = env.spec.num_actions

    def step(key: jax.Array, state: PyTree, action: jax.Array) -> tuple:
        inner, meaning = state
        inner, *facts = env.step(key, inner, meaning[action])
        return (inner, meaning), *facts

    def restart(key: jax.Array, state: PyTree) -> tuple[PyTree, jax.Array]:
        inner, obs = env.restart(key, state[0])
        return (inner, state[1]), obs

    def rules(seed: int | jax.Array, copy: jax.Array, life: jax.Array, state: PyTree) -> PyTree:
        period = life // every
        drawn = jax.random.permutation(stream(seed, "drift", copy, period), num_actions)
        return state[0], jnp.where(period == 0, jnp.arange(num_actions), drawn)

    return _carrying(env, lambda state, obs: jnp.arange(num_actions), step=step)._replace(
        restart=restart, action_mask=lambda state: env.action_mask(state[0])[state[1]], rules=rules
    )


def _carrying(env: JaxEnv, begin: Callable, *, step: Callable) -> JaxEnv:
    """Returns an environment whose state is (the state of `env`, what is carried), begun anew with every episode.

    Args:
      env: the environment inside.
      begin: (state, obs) of an episode's start -> what is carried.
      step: as in `JaxEnv`, of the whole state.
    """

    def reset(key: jax.Array) -> tuple[PyTree, jax.Array]:
        state, obs = env.reset(key)
        return (state, begin(state, obs)), obs

    def restart(key: jax.Array, state: PyTree) -> tuple[PyTree, jax.Array]:
        inner, obs = env.restart(key, state[0])
        return (inner, begin(inner, obs)), obs

    return env._replace(
        reset=reset,
        restart=restart,
        step=step,
        action_mask=lambda state: env.action_mask(state[0]),
        render=lambda state: env.render(state[0]),
    )


def _either(one: jax.Array, yes: PyTree, no: PyTree) -> PyTree:
    """Returns the tree `yes` where `one` [] bool is up, else `no`."""
    return jax.tree.map(lambda left, right: jnp.where(one, left, right), yes, no)
