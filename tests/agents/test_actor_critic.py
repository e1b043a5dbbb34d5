import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.actor_critic import ActorCriticConfig, make_actor_critic
from dreamer.core.types import Latent
from tests import tiny

VECTOR, GRID = (4,), (3, 2, 4)


def made(state_shape=VECTOR, **changes):
    agent = make_actor_critic(tiny.spec(num_actions=3), dataclasses.replace(tiny.AGENT, **changes))
    latent = Latent(jax.random.normal(jax.random.key(0), (5, *state_shape)))
    return agent, jax.jit(agent.init)(jax.random.key(1), latent), latent


@pytest.mark.parametrize("state_shape", [VECTOR, GRID])
def test_untrained_it_has_no_opinion_exactly(state_shape):
    agent, params, latent = made(state_shape)
    thought = agent.evaluate(params, (), latent)
    np.testing.assert_array_equal(thought.logits, np.zeros((5, 3)))
    np.testing.assert_array_equal(thought.value, np.zeros(5))
    np.testing.assert_allclose(agent.value_loss(thought, jnp.linspace(-3, 3, 5)), np.log(31), rtol=1e-6)


def test_trained_its_value_is_what_its_loss_asks_for():
    agent, params, latent = made()
    params, target = tiny.shaken(params), jnp.array([-2.0, -0.5, 0.0, 1.0, 5.0])

    @jax.jit
    def descend(value_logits):
        def loss(value_logits):
            thought = agent.evaluate(params, (), latent).replace(value_logits=value_logits)
            return agent.value_loss(thought, target).sum()

        return jax.lax.fori_loop(0, 2000, lambda _, logits: logits - 2 * jax.grad(loss)(logits), value_logits)

    thought = agent.evaluate(params, (), latent)
    assert thought.value_logits.shape == (5, 31) and (thought.value != 0).all()
    fitted = descend(jnp.zeros((5, 31)))
    # The head's categorical, read as the agent reads it: softmax mean in transformed units, transformed back.
    bins = np.linspace(-3, 3, 31)
    means = jax.nn.softmax(fitted) @ bins
    np.testing.assert_allclose(means, np.sign(target) * (np.sqrt(abs(target) + 1) - 1) + 1e-3 * target, atol=0.02)


@pytest.mark.parametrize("state_shape", [VECTOR, GRID])
def test_rows_are_independent_and_memory_passes_through(state_shape):
    agent, params, latent = made(state_shape)
    params = tiny.shaken(params)
    evaluate = jax.jit(agent.evaluate)
    other = latent.replace(state=latent.state.at[1:].multiply(-2))
    here, there = evaluate(params, (), latent), evaluate(params, (), other)
    assert not np.array_equal(here.value, there.value)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0], b[0]), here, there)
    assert agent.remember(params, "kept", None) == "kept"


def test_a_model_may_carry_what_it_likes_beside_the_state():
    agent, params, latent = made()
    params, burdened = tiny.shaken(params), latent.replace(recurrent={"anything": jnp.ones((5, 2))})
    jax.tree.map(np.testing.assert_array_equal, *(agent.evaluate(params, (), each) for each in (latent, burdened)))


@pytest.mark.parametrize("state_shape", [VECTOR, GRID])
def test_in_bfloat16_parameters_and_opinions_stay_float32(state_shape):
    agent, params, latent = made(state_shape, compute_dtype="bfloat16")
    full, *_ = made(state_shape)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    params = tiny.shaken(params, scale=0.1)
    thought, exact = (jax.jit(each.evaluate)(params, (), latent) for each in (agent, full))
    for mine, other in zip(jax.tree.leaves(thought), jax.tree.leaves(exact), strict=True):
        assert mine.dtype == jnp.float32 and not np.array_equal(mine, other)
        np.testing.assert_allclose(mine, other, atol=0.05)


def test_bad_settings_are_refused_by_name():
    with pytest.raises(ValueError, match="agent.compute_dtype is 'float16': give one of float32, bfloat16"):
        ActorCriticConfig(compute_dtype="float16")
    with pytest.raises(ValueError, match="agent.hidden_size is 0"):
        ActorCriticConfig(hidden_size=0)
