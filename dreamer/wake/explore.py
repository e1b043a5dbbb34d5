"""Decisions left to chance, whoever acts: a share of them, each alone or in spells that hold on to one action.

Letters: E environment copies, A actions.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from dreamer.wake.envs.copies import copy_keys

Explore = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
"""(seed, life [E], action_mask [E, A], action [E] that was decided on) -> action [E] int32 that is carried out."""


def make_explore(epsilon: float, *, spell: int = 1) -> Explore | None:
    """Returns what replaces a share of decisions by chance; None where the share is 0.

    A policy that is certain lives the same episode again and again where the world leaves nothing to chance, and one
    that knows nothing walks at random, which leads nowhere far. So each copy's life is parted into spells; in a share
    of these it holds on to an action drawn from all allowed ones, over the ends of episodes too. Where that action is
    not allowed the next of one random order is taken, until it is again. After "Temporally-extended epsilon-greedy
    exploration" (https://arxiv.org/abs/2006.01782), whose spells are of random length: these are equal, so that they
    follow from the number of the decision and nothing has to be remembered.

    Args:
      epsilon: share of spells left to chance.
      spell: decisions of each; 1 is epsilon-greedy as ever.
    """
    if not epsilon:
        return None

    def explore(seed: jax.Array, life: jax.Array, action_mask: jax.Array, action: jax.Array) -> jax.Array:
        number = life // spell
        drawn = jax.vmap(jax.random.categorical)(
            copy_keys(seed, "explore", number), jnp.where(action_mask, 0.0, -jnp.inf)
        )
        by_chance = jax.vmap(lambda key: jax.random.bernoulli(key, epsilon))(copy_keys(seed, "by chance", number))
        return jnp.where(by_chance, drawn, action).astype(jnp.int32)

    return explore
