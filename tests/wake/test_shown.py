import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.wake.envs import EnvConfig, KnobsConfig, make_jax, showing_state
from tests import toys

CORRIDOR = toys.corridor(3)


def with_state(env, more):
    """The environment with more in its state that nothing depends on."""

    def reset(key):
        state, obs = env.reset(key)
        return (state, more), obs

    def step(key, state, action):
        inner, *told = env.step(key, state[0], action)
        return (inner, state[1]), *told

    return env._replace(reset=reset, restart=lambda key, state: reset(key), step=step)


def test_the_state_and_what_is_seen_of_it_are_read_back_bit_for_bit():
    odd = {"flags": jnp.array([[True, False, True]]), "far": jnp.float32(-1e-30), "count": jnp.uint16([7, 65535])}
    env = with_state(CORRIDOR, odd)
    shown = showing_state(env)
    state, obs = env.reset(jax.random.key(0))
    for action in (None, 1, 0):
        if action is not None:
            told = env.step(jax.random.key(1), state, jnp.int32(action))
            again = shown.env.step(jax.random.key(1), state, jnp.int32(action))
            jax.tree.map(np.testing.assert_array_equal, (told[0], *told[2:]), (again[0], *again[2:]))
            (state, obs), seen = told[:2], again[1]
        else:
            seen = shown.env.reset(jax.random.key(0))[1]
        assert seen.shape == shown.env.spec.obs_shape and seen.dtype == shown.env.spec.obs_dtype == "uint8"
        jax.tree.map(np.testing.assert_array_equal, shown.read(seen), (state, obs))


def test_bytes_by_hand():
    shown = showing_state(CORRIDOR)  # cell and clock are int32, the observation a float32 for each of three cells
    assert shown.env.spec.obs_shape == (4 + 4 + 3 * 4,)
    one = list(np.float32(1).tobytes())
    assert shown.env.reset(jax.random.key(0))[1].tolist() == [0] * 8 + one + [0] * 8
    stepped = shown.env.step(jax.random.key(0), shown.env.reset(jax.random.key(0))[0], jnp.int32(1))[1]
    assert stepped.tolist() == [1, 0, 0, 0, 1, 0, 0, 0] + [0] * 4 + one + [0] * 4


def test_what_cannot_be_shown_is_refused():
    with pytest.raises(ValueError, match="stacks of 3 frames"):
        showing_state(toys.stacked(3))
    with pytest.raises(ValueError, match="the state of corridor-3 carries a random key"):
        showing_state(with_state(CORRIDOR, jax.random.key(0)))
    with pytest.raises(ValueError, match="oracle is set, which takes a bare environment"):
        EnvConfig("CartPole-v1", "gymnasium", oracle=True)
    with pytest.raises(ValueError, match="with knobs turned"):
        EnvConfig("Catch-bsuite", "gymnax", knobs=KnobsConfig(slip=0.1), oracle=True)


def test_an_oracle_sees_what_the_bare_environment_shows():
    bare = EnvConfig("CartPole-v1", "gymnax")
    env = make_jax(dataclasses.replace(bare, oracle=True))
    state, seen = env.reset(jax.random.key(3))
    jax.tree.map(np.testing.assert_array_equal, showing_state(make_jax(bare)).read(seen)[0], state)
    np.testing.assert_array_equal(seen[-16:].view(jnp.float32), make_jax(bare).reset(jax.random.key(3))[1])
