import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.actor_critic import ActorCriticConfig, make_actor_critic
from tests import tiny


def made(num_actions=3):
    agent = make_actor_critic(tiny.spec(num_actions=num_actions), tiny.AGENT)
    latent = jax.random.normal(jax.random.key(0), (5, 4))
    return agent, jax.jit(agent.init)(jax.random.key(1), latent), latent


def test_untrained_it_has_no_opinion_exactly():
    agent, params, latent = made()
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


def test_rows_are_independent_and_memory_passes_through():
    agent, params, latent = made()
    params = tiny.shaken(params)
    evaluate = jax.jit(agent.evaluate)
    here, there = evaluate(params, (), latent), evaluate(params, (), latent.at[1:].multiply(-2))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0], b[0]), here, there)
    assert agent.remember(params, "kept", None) == "kept"


def test_bad_width_is_refused_by_name():
    with pytest.raises(ValueError, match="agent.hidden_size is 0"):
        ActorCriticConfig(hidden_size=0)
