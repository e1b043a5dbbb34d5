"""What a perfect reader of a session knows of the job's codebook.

Right or wrong is seen at once, and with the key it belongs to, so the posterior of a uniform codebook is a product of
one belief a key, and a Bayes filter of K rows is exact. Letters: T decisions, K keys, A answers.
"""

import functools

import jax
import jax.numpy as jnp

from dreamer.core.types import Transition
from dreamer.wake.envs import EnvConfig, JobWorldConfig, KnobsConfig
from dreamer.wake.envs.jobworld import view


def prior(world: JobWorldConfig) -> jax.Array:
    """Returns [K, A] what is known before anything was lived: nothing."""
    return jnp.full((world.num_keys, world.num_answers), 1 / world.num_answers)


def beliefs(config: EnvConfig, session: Transition) -> jax.Array:
    """Returns [T + 1, K, A] the probability of each answer to each key: before every transition, and after the last.

    Pure; vmap it over sessions. Transitions that no single codebook explains give NaN, which `bits` refuse.

    Args:
      config: the world that was lived in, of which the reader knows all but the codebook, `period` and all.
      session: [T] consecutive transitions of one life, from its first on.

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
    world = config.jobworld

    def read(carry, transition):
        belief, episode = carry
        belief = after_answer(world, belief, transition)
        ended = transition.terminated | transition.truncated
        episode = episode + ended
        if world.period:
            blurred = (1 - world.redrawn_prob) * belief + world.redrawn_prob / world.num_answers
            belief = jnp.where(ended & (episode % world.period == 0), blurred, belief)
        return (belief, episode), belief

    first = prior(world)
    _, later = jax.lax.scan(read, (first, jnp.int32(0)), session)
    return jnp.concatenate([first[None], later])


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
