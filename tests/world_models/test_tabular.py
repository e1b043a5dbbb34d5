import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.tabular import make_tabular_agent
from dreamer.core.types import Params
from dreamer.sleep.search import SearchConfig, make_search
from tests import tiny
from world_models.tabular import make_tabular

NEXT = np.array([[1, 2], [2, 0], [2, 2]])
REWARD = np.array([[0.5, 1.0], [2.0, -1.0], [0.0, 0.0]])
CONTINUATION = np.array([[1.0, 0.0], [1.0, 0.5], [1.0, 1.0]])


def test_looks_up_every_entry():
    model = make_tabular(NEXT, REWARD, CONTINUATION, num_unroll_steps=1)
    params = model.init(jax.random.key(0), jnp.zeros(1, jnp.int32))
    state, action = jnp.repeat(jnp.arange(3), 2), jnp.tile(jnp.arange(2), 3)
    for told, table in zip(model.step(params, state, action), (NEXT, REWARD, CONTINUATION), strict=True):
        np.testing.assert_array_equal(told, table.reshape(-1))


def test_observes_numbers_and_one_hot_rows():
    model = make_tabular(NEXT, REWARD, CONTINUATION, num_unroll_steps=1)
    states = jnp.array([2, 0, 1])
    np.testing.assert_array_equal(model.observe({}, states), states)
    for dtype in (jnp.float32, jnp.bool_, jnp.uint8):
        np.testing.assert_array_equal(model.observe({}, jnp.eye(3, dtype=dtype)[states]), states)
    for obs in (jnp.zeros((2, 4)), jnp.zeros(2)):
        with pytest.raises(ValueError, match=r"tabular: observations are float32.*one-hot rows \[B, 3\]"):
            model.observe({}, obs)


def test_unroll_follows_the_real_actions_at_no_loss():
    model = make_tabular(NEXT, REWARD, CONTINUATION, num_unroll_steps=2)
    batch = tiny.sequence(np.eye(3)[[[0, 1, 0, 2], [1, 0, 2, 2]]], [[0, 1, 1], [1, 1, 0]])
    latents, loss, metrics = jax.jit(model.unroll)({}, jax.random.key(0), batch)
    np.testing.assert_array_equal(latents, [[0, 1, 0], [1, 0, 2]])
    np.testing.assert_array_equal(loss, [0, 0])
    assert metrics == {}


def test_agent_reads_its_tables_and_learns_half_squares():
    agent = make_tabular_agent(3, 2)
    params = agent.init(jax.random.key(0), None)
    np.testing.assert_array_equal(params["logits"], np.zeros((3, 2)))
    params = {"logits": jnp.arange(6.0).reshape(3, 2), "value": jnp.array([1.0, 2, 3])}
    thought = agent.evaluate(params, (), jnp.array([2, 0]))
    np.testing.assert_array_equal(thought.logits, [[4, 5], [0, 1]])
    np.testing.assert_array_equal(thought.value, [3, 1])
    np.testing.assert_array_equal(agent.value_loss(thought, jnp.array([1.0, 1.0])), [2, 0])
    assert agent.remember(params, (), None) == ()


def test_plans_in_its_own_world():
    world = tiny.corridor(2)
    model, agent = make_tabular(*world.tables, num_unroll_steps=1), make_tabular_agent(*world.shape)
    search = make_search(model, agent, SearchConfig(num_simulations=8), gamma=world.gamma)
    roots = model.observe({}, jnp.eye(3)[:2])
    keys = jax.random.split(jax.random.key(0), 2)
    found = jax.jit(
        lambda params: search(
            params, (), roots, jnp.ones((2, 2), bool), keys, explore=0.0, return_spread=0.0, progress=0.0
        ),
        compiler_options=tiny.QUICK,
    )(Params({}, agent.init(None, None)))
    np.testing.assert_array_equal(found.action, [1, 1])


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ((NEXT[:, :1], REWARD, CONTINUATION), r"shapes \(\(3, 1\), \(3, 2\), \(3, 2\)\)"),
        ((NEXT + 1, REWARD, CONTINUATION), r"next_state must hold integers in \[0, 3\)"),
        ((NEXT.astype(float), REWARD, CONTINUATION), "next_state must hold integers"),
        ((NEXT, REWARD + np.inf, CONTINUATION), "reward must be finite"),
        ((NEXT, REWARD, CONTINUATION + 0.1), "continuation must hold probabilities"),
    ],
)
def test_tables_that_are_no_world_are_refused(tables, message):
    with pytest.raises(ValueError, match=message):
        make_tabular(*tables, num_unroll_steps=1)
