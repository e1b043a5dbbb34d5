"""The true dynamics behind the world-model port: what planning could do if nothing had to be learned.

The upper bound for any learned model, and a model for tests of the search; in `make_seen_oracle` a student learns.
Letters: B batch, K unroll steps, A actions, P probed states.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.core import trees
from dreamer.core.ports import WorldModel
from dreamer.core.types import Latent, Metrics, PyTree, SequenceBatch
from dreamer.wake.envs.base import JaxEnv
from dreamer.wake.envs.shown import showing_state

_NUM_PROBES = 4


def make_oracle(env: JaxEnv, state_of: Callable[[jax.Array], PyTree], num_unroll_steps: int) -> WorldModel:
    """Returns the model that steps `env` itself. Its latent is the environment's state, a pytree with leading [B].

    For deterministic environments only: the port's `step` has no key, so every dreamed step uses the same one. The
    continuation is 1 - terminated; a truncation ends only what is known, so the dream goes on through it. Never
    trained: its params are `{}`, and `unroll` follows the real actions at zero loss. An agent on it reads the state.

    Args:
      env: one copy of the environment.
      state_of: (obs) -> state, for a single observation; parts of the state that no observation, reward or termination
        depends on, such as a clock, may be anything.
      num_unroll_steps: K, how far `unroll` follows the real actions.

    Raises:
      ValueError: in the first step after a few resets, chance decides something, or the state read from the observation
        leads elsewhere than the true one. Chance that strikes only later is not noticed.
    """
    _check_first_steps(env, state_of)
    key = jax.random.key(0)

    def init(key: jax.Array, obs: jax.Array) -> PyTree:
        del key, obs
        return {}

    def observe(params: PyTree, obs: jax.Array) -> PyTree:
        del params
        return jax.vmap(state_of)(obs)

    def step(params: PyTree, latent: PyTree, action: jax.Array) -> tuple[PyTree, jax.Array, jax.Array]:
        del params
        latent, _, reward, terminated, _ = jax.vmap(env.step, (None, 0, 0))(key, latent, action)
        return latent, reward, 1.0 - terminated

    def unroll(params: PyTree, key: jax.Array, batch: SequenceBatch) -> tuple[PyTree, jax.Array, Metrics]:
        del key
        return _follow(observe, step, params, batch, num_unroll_steps)

    return WorldModel(init=init, observe=observe, step=step, unroll=unroll)


def make_seen_oracle(env: JaxEnv, eye: WorldModel, num_unroll_steps: int) -> WorldModel:
    """Returns the true dynamics, seen through the eye of a learned model: all but the dynamics is learned.

    Its observations are those of `showing_state(env)`. Its latent is a `Latent`: what the eye makes of the observation,
    which is all that an agent reads, and behind it the environment's state, which `step` steps. The agent's losses
    alone teach the eye; what else `eye` has, its dynamics and projection, stays in the parameters, unused.

    Args:
      env: one copy of the bare environment.
      eye: a model whose `observe` returns a `Latent` without a recurrence.
      num_unroll_steps: K, how far `unroll` follows the real actions.

    Raises:
      ValueError: as `make_oracle`, and as `showing_state`.
    """
    shown = showing_state(env)
    # Numbers are compared, not bytes: two programs may round a number differently, and then all of its bytes differ.
    _check_first_steps(shown.env, lambda obs: shown.read(obs)[0], look=shown.read)
    key = jax.random.key(0)

    def init(key: jax.Array, obs: jax.Array) -> PyTree:
        return eye.init(key, jax.vmap(shown.read)(obs)[1])

    def observe(params: PyTree, obs: jax.Array) -> Latent:
        state, obs = jax.vmap(shown.read)(obs)
        return Latent(eye.observe(params, obs).state, state)

    def step(params: PyTree, latent: Latent, action: jax.Array) -> tuple[Latent, jax.Array, jax.Array]:
        state, obs, reward, terminated, _ = jax.vmap(env.step, (None, 0, 0))(key, latent.recurrent, action)
        return Latent(eye.observe(params, obs).state, state), reward, 1.0 - terminated

    def unroll(params: PyTree, key: jax.Array, batch: SequenceBatch) -> tuple[Latent, jax.Array, Metrics]:
        del key
        return _follow(observe, step, params, batch, num_unroll_steps)

    return WorldModel(init=init, observe=observe, step=step, unroll=unroll)


def _follow(
    observe: Callable, step: Callable, params: PyTree, batch: SequenceBatch, num_steps: int
) -> tuple[PyTree, jax.Array, Metrics]:
    """Returns what `WorldModel.unroll` does, of dynamics that have nothing to learn: latents along the real actions."""

    def dream_on(latent: PyTree, action: jax.Array) -> tuple[PyTree, PyTree]:
        latent, _, _ = step(params, latent, action)
        return latent, latent

    first = observe(params, batch.obs[:, 0])
    _, later = jax.lax.scan(dream_on, first, batch.action[:, :num_steps].T)
    return trees.then(first, later), jnp.zeros(batch.action.shape[0]), {}


def _check_first_steps(
    env: JaxEnv, state_of: Callable[[jax.Array], PyTree], look: Callable[[jax.Array], PyTree] = lambda obs: obs
) -> None:
    """Tries every action in P fresh states under two keys, and once more from the state read off the observation.

    `look` says what of an observation is compared.
    """
    actions = jnp.arange(env.spec.num_actions, dtype=jnp.int32)

    @jax.jit
    def probe() -> tuple[PyTree, PyTree, PyTree]:
        states, obs = jax.vmap(env.reset)(jax.random.split(jax.random.key(1), _NUM_PROBES))
        keys = jax.random.split(jax.random.key(2), 2)
        step = jax.vmap(jax.vmap(env.step, (None, None, 0)), (None, 0, None))

        def tried(key: jax.Array, states: PyTree) -> tuple:
            _, obs, reward, terminated, _ = step(key, states, actions)
            return jax.vmap(jax.vmap(look))(obs), reward, terminated

        one, other = (tried(key, states) for key in keys)
        return one, other, tried(keys[0], jax.vmap(state_of)(obs))

    def agree(one: PyTree, other: PyTree, **tolerance: float) -> bool:
        return all(jax.tree.leaves(jax.tree.map(functools.partial(np.allclose, **tolerance), one, other)))

    one, other, read = jax.tree.map(np.asarray, probe())
    for name, here, there, again in zip(("observation", "reward", "termination"), one, other, read, strict=True):
        if not agree(here, there, rtol=0, atol=0):
            raise ValueError(
                f"oracle: chance decides the {name} of {env.spec.id}'s first step, but a dreamed step draws nothing; "
                "give a deterministic environment"
            )
        if not agree(here, again, rtol=1e-5, atol=1e-6):
            raise ValueError(
                f"oracle: the {name} of {env.spec.id}'s first step differs from the state that `state_of` reads off "
                "the observation; give one that recovers all that the dynamics depend on"
            )
