"""Environments whose answers are known beforehand, as `JaxEnv`s.

The probe ladder goes up one thing to learn at a time: a value, a value that depends on the observation, a discounted
value, an action, an action that depends on the observation. See https://andyljones.com/posts/rl-debugging.html.
"""

import dataclasses

import jax
import jax.numpy as jnp

from dreamer.core.types import EnvSpec
from dreamer.wake.envs.base import JaxEnv
from dreamer.wake.envs.pure import pure_env


def toy(
    name: str, *, num_actions: int, start, observe, transition, max_steps: int | None = None, obs_dtype: str = "float32"
) -> JaxEnv:
    """Returns a `JaxEnv` from three small functions; its state is (data, step).

    Args:
      name: the spec's id.
      num_actions: A.
      start: (key) -> data.
      observe: (data, step) -> obs.
      transition: (key, data, step, action) -> (data, reward, terminated, truncated).
      max_steps: for evaluation; `transition` truncates by itself.
      obs_dtype: of the observation.
    """

    def reset(key):
        data = start(key)
        return (data, jnp.int32(0)), observe(data, 0)

    def step(key, state, action):
        data, reward, terminated, truncated = transition(key, *state, action)
        return (data, state[1] + 1), observe(data, state[1] + 1), reward, terminated, truncated

    shape = jax.eval_shape(reset, jax.random.key(0))[1].shape
    spec = EnvSpec(name, suite="toys", version="1", obs_shape=shape, obs_dtype=obs_dtype, num_actions=num_actions)
    return pure_env(spec, reset=reset, step=step, max_steps=max_steps)


def _coin(key: jax.Array) -> jax.Array:
    return jax.random.rademacher(key, (1,), jnp.float32)


def constant_reward() -> JaxEnv:
    """One action, one step, reward 1: the value is 1."""
    return toy(
        "constant-reward",
        num_actions=1,
        start=lambda key: jnp.zeros(1),
        observe=lambda data, step: data,
        transition=lambda key, data, step, action: (data, 1.0, True, False),
        max_steps=1,
    )


def predictable_reward() -> JaxEnv:
    """One action, one step, reward as observed, +1 or -1: the value is the observation."""
    return toy(
        "predictable-reward",
        num_actions=1,
        start=_coin,
        observe=lambda data, step: data,
        transition=lambda key, data, step, action: (data, data[0], True, False),
        max_steps=1,
    )


def delayed_reward() -> JaxEnv:
    """One action, two steps, observation 0 then 1, reward 1 at the end: the values are gamma and 1."""
    return toy(
        "delayed-reward",
        num_actions=1,
        start=lambda key: jnp.zeros(1),
        observe=lambda data, step: jnp.full(1, step, jnp.float32),
        transition=lambda key, data, step, action: (data, step == 1, step == 1, False),
        max_steps=2,
    )


def action_matters() -> JaxEnv:
    """One step, reward +1 for action 1 and -1 for action 0: the value of the best policy is 1."""
    return toy(
        "action-matters",
        num_actions=2,
        start=lambda key: jnp.zeros(1),
        observe=lambda data, step: data,
        transition=lambda key, data, step, action: (data, 2 * action - 1, True, False),
        max_steps=1,
    )


def obs_and_action() -> JaxEnv:
    """One step, reward +1 for action 1 at observation +1 and action 0 at -1, else -1: the best value is 1."""
    return toy(
        "obs-and-action",
        num_actions=2,
        start=_coin,
        observe=lambda data, step: data,
        transition=lambda key, data, step, action: (data, data[0] * (2 * action - 1), True, False),
        max_steps=1,
    )


def corridor(length: int = 5) -> JaxEnv:
    """`length` cells, start in the first; action 1 goes right, 0 left; reward 1 and the end on leaving at the right.

    Truncated after 4 * length decisions. The best value of cell i, counted from 0, is gamma ** (length - 1 - i).
    """

    def transition(key, cell, step, action):
        cell = jnp.maximum(cell + 2 * action - 1, 0)
        return cell, cell == length, cell == length, step + 1 == 4 * length

    return toy(
        f"corridor-{length}",
        num_actions=2,
        start=lambda key: jnp.int32(0),
        observe=lambda cell, step: jax.nn.one_hot(cell, length),
        transition=transition,
        max_steps=4 * length,
    )


def counting(max_length: int = 5) -> JaxEnv:
    """A tape recorder: the observation is [tag, step, last draw, last action], int32, and nothing else happens.

    The tag is drawn by the episode's reset key, so it names (seed, copy, episode), and decides how the episode goes
    (`counting_plan`); the draw is drawn by the step's key. Reward tag % 7 + step.
    """

    def transition(key, data, step, action):
        tag = data[0]
        length, terminates = counting_plan(tag, max_length)
        ends = step + 1 == length
        data = jnp.stack([tag, counting_tag(key), action])
        return data, tag % 7 + step, ends & terminates, ends & ~terminates

    return toy(
        "counting",
        num_actions=3,
        start=lambda key: jnp.stack([counting_tag(key), 0, 0]),
        observe=lambda data, step: jnp.stack([data[0], jnp.int32(step), data[1], data[2]]),
        transition=transition,
        max_steps=max_length,
        obs_dtype="int32",
    )


def stacked(frame_stack: int = 3) -> JaxEnv:
    """Stacks of single-channel frames [3, 3]: each tells (episode's tag, step) and differs from pixel to pixel.

    One step in four ends by termination, and every seventh by truncation.
    """

    def frame(tag, step):
        return (tag + step + 25 * jnp.arange(9).reshape(3, 3, 1)).astype(jnp.uint8)

    def observe(data, step):
        return jnp.concatenate([frame(data, jnp.maximum(step - back, 0)) for back in reversed(range(frame_stack))], -1)

    env = toy(
        "stacked",
        num_actions=2,
        start=counting_tag,
        observe=observe,
        transition=lambda key, data, step, action: (data, action, jax.random.bernoulli(key, 0.25), step == 6),
        obs_dtype="uint8",
        max_steps=7,
    )
    return env._replace(spec=dataclasses.replace(env.spec, frame_stack=frame_stack))


def counting_tag(key: jax.Array) -> jax.Array:
    """Returns the tag of the counting episode that `key` started."""
    return (jax.random.bits(key) >> 12).astype(jnp.int32)


def counting_plan(tag: jax.Array, max_length: int = 5) -> tuple[jax.Array, jax.Array]:
    """Returns (decisions, whether it ends by termination) of the counting episode named `tag`."""
    return 1 + tag % max_length, tag // max_length % 2 == 0
