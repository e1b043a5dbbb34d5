"""Acting by the policy alone, without search; and living so in one copy, of the world or of a dream of it.

Letters: E environment copies, T decisions, A actions.
"""

import jax
import jax.numpy as jnp

from dreamer.core.ports import Agent, SessionAgent
from dreamer.core.types import PyTree, Transition
from dreamer.wake import session as sessions
from dreamer.wake.envs import JaxEnv


def make_act(agent: Agent, *, greedy: bool) -> sessions.Act:
    """Returns the `act` of `dreamer.wake.session`: its likeliest allowed action if `greedy`, a sample otherwise.

    Its params are the agent's, and it takes latents [E, ...]: the drivers can use it as it is where the latent is the
    observation.
    """

    def act(
        params: PyTree, keys: jax.Array, latent: jax.Array, action_mask: jax.Array, memory: PyTree
    ) -> tuple[jax.Array, PyTree]:
        logits = jnp.where(action_mask, agent.evaluate(params, memory, latent).logits, -jnp.inf)
        action = jnp.argmax(logits, axis=-1) if greedy else jax.vmap(jax.random.categorical)(keys, logits)
        return action.astype(jnp.int32), memory

    return act


def live_one(
    slot: SessionAgent, env: JaxEnv, params: PyTree, *, seed: jax.Array, num_steps: int, remembers: bool
) -> Transition:
    """Returns [T] transitions that one copy lives from its first decision on, sampling. Pure.

    Args:
      slot: the agent.
      env: one copy.
      params: of the agent.
      seed: [] of all randomness.
      num_steps: T, static.
      remembers: whether it keeps what it lived in memory, or acts with nothing there all along.
    """
    state = sessions.begin(env, seed=seed, num_envs=1, memory=slot.empty(1, num_steps) if remembers else ())
    act, remember = make_act(slot.agent, greedy=False), slot.agent.remember if remembers else None
    _, lived = sessions.live(env, act, params, state, seed=seed, num_steps=num_steps, remember=remember)
    return jax.tree.map(lambda leaf: leaf[:, 0], lived)
