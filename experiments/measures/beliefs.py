"""What a perfect reader of a session knows of the job's codebook.

Right or wrong is seen at once, and with the key it belongs to, so the posterior of a uniform codebook is a product of
one belief a key, and a Bayes filter of K rows is exact. Letters: T decisions, K keys, A answers.
"""

import functools

import jax
import jax.numpy as jnp
from flax import struct

from dreamer.core.types import Transition
from dreamer.wake.envs import EnvConfig, JobWorldConfig, KnobsConfig
from dreamer.wake.envs.jobworld import view


def prior(world: JobWorldConfig) -> jax.Array:
    """Returns [K, A] what is known before anything was lived: nothing."""
    return jnp.full((world.num_keys, world.num_answers), 1 / world.num_answers)


@struct.dataclass
class Known:
    """What a perfect reader carries from one transition to the next."""

    belief: jax.Array
    """[K, A] the probability of each answer to each key."""
    episode: jax.Array
    """[] int32 episodes that came to their end so far."""


def begin(config: EnvConfig) -> Known:
    """Returns what is known before the first transition of a life.

    Raises:
      ValueError: a knob under which what is seen does not say which answer was right.
    """
    for name in ("continuing", "slip", "drift_every", "hold"):
        turned = getattr(config.knobs, name)
        if turned != getattr(KnobsConfig(), name):
            raise ValueError(
                f"knobs.{name} is {turned}, under which a transition does not show which answer was right or wrong: "
                f"the exact reader needs it at {getattr(KnobsConfig(), name)}."
            )
    return Known(prior(config.jobworld), jnp.int32(0))


def after(config: EnvConfig, known: Known, transition: Transition) -> Known:
    """Returns what is known after one more transition [], in a world of which the reader knows all but the codebook,
    `period` and all."""
    world = config.jobworld
    belief = after_answer(world, known.belief, transition)
    ended = transition.terminated | transition.truncated
    episode = known.episode + ended
    if world.period:
        blurred = (1 - world.redrawn_prob) * belief + world.redrawn_prob / world.num_answers
        belief = jnp.where(ended & (episode % world.period == 0), blurred, belief)
    return Known(belief, episode)


def beliefs(config: EnvConfig, session: Transition) -> jax.Array:
    """Returns [T + 1, K, A] the probability of each answer to each key: before every transition, and after the last.

    Pure; vmap it over sessions. Transitions that no single codebook explains give NaN, which `bits` refuse.

    Args:
      config: the world that was lived in.
      session: [T] consecutive transitions of one life, from its first on.

    Raises: as `begin`.
    """

    def read(known: Known, transition: Transition) -> tuple[Known, jax.Array]:
        known = after(config, known, transition)
        return known, known.belief

    first = begin(config)
    _, later = jax.lax.scan(read, first, session)
    return jnp.concatenate([first.belief[None], later])


def read_on(world: JobWorldConfig, belief: jax.Array, lived: Transition) -> jax.Array:
    """Returns the belief [K, A] after further transitions [T] of a codebook that stays."""
    return jax.lax.scan(lambda belief, one: (after_answer(world, belief, one), None), belief, lived)[0]


@functools.partial(jax.jit, static_argnums=0)
def after_answer(world: JobWorldConfig, belief: jax.Array, transition: Transition) -> jax.Array:
    """Returns the belief [K, A] after one transition []: an answer is the one, or it is ruled out."""
    before, after = view(world, transition.obs), view(world, transition.next_obs)
    # What follows tells a key that was hidden: as the one answered, or, after a wrong answer, as the one still asked.
    told = jnp.where(after.answered >= 0, after.answered, after.key)
    key = jnp.where(before.key >= 0, before.key, told)
    given = jax.nn.one_hot(transition.action, world.num_answers)
    row = belief[key] * jnp.where(after.progress > before.progress, given, 1 - given)
    answers = ~before.idle & (transition.action < world.num_answers)
    return jnp.where(answers, belief.at[key].set(row / row.sum()), belief)
