import jax
import jax.numpy as jnp
import numpy as np

from agents.acting import make_planner, make_student
from agents.tabular import make_tabular_agent
from dreamer.core.types import Params
from dreamer.sleep.search import SearchConfig, make_search
from tests import tiny

WORLD = tiny.bandit([0.0, 1.0, 0.2])
AGENT = make_tabular_agent(*WORLD.shape)
LOGITS = np.log([[0.6, 0.1, 0.3]])


def actor(spread=0.0, progress=0.0):
    params = {"logits": jnp.asarray(LOGITS, jnp.float32), "value": jnp.zeros(1)}
    return (
        Params(tuple(jnp.asarray(table) for table in WORLD.tables), params),
        jnp.float32(spread),
        jnp.float32(progress),
    )


def decide(act, num_rows, mask=(1, 1, 1), spread=0.0, seed=0):
    """Returns the actions of `num_rows` copies in the one state there is."""
    keys = jax.random.split(jax.random.key(seed), num_rows)
    masks = jnp.broadcast_to(jnp.array(mask, bool), (num_rows, 3))
    act = jax.jit(act, compiler_options=tiny.QUICK)
    action, memory = act(actor(spread), keys, jnp.zeros(num_rows, jnp.int32), masks, jnp.arange(num_rows))
    assert action.dtype == jnp.int32
    np.testing.assert_array_equal(memory, np.arange(num_rows))
    return np.asarray(action)


def test_greedy_student_takes_the_likeliest_action_allowed():
    act = make_student(tiny.TABLES, AGENT, greedy=True)
    assert (decide(act, 4) == 0).all()
    assert (decide(act, 4, mask=(0, 1, 1)) == 2).all()
    assert (decide(act, 4, mask=(0, 1, 0)) == 1).all()


def test_sampling_student_follows_its_policy_over_what_is_allowed():
    act = make_student(tiny.TABLES, AGENT, greedy=False)
    actions = decide(act, 4000)
    np.testing.assert_allclose(np.bincount(actions, minlength=3) / 4000, [0.6, 0.1, 0.3], atol=0.03)
    masked = decide(act, 4000, mask=(1, 0, 1))
    np.testing.assert_allclose(np.bincount(masked, minlength=3) / 4000, [2 / 3, 0, 1 / 3], atol=0.03)
    np.testing.assert_array_equal(decide(act, 4000), actions)
    assert not np.array_equal(decide(act, 4000, seed=1), actions)


def planner(greedy, **settings):
    search = make_search(tiny.TABLES, AGENT, SearchConfig(num_simulations=6, **settings), gamma=WORLD.gamma)
    return make_planner(tiny.TABLES, AGENT, search, greedy=greedy)


def test_planner_sees_what_the_student_does_not():
    act = planner(greedy=True)
    assert (decide(act, 64) == 1).all()
    assert (decide(act, 64, mask=(1, 0, 1)) == 2).all()
    # With returns spread over 10,000 a reward of 1 is noise, and what is left is the prior.
    assert (decide(act, 64, spread=10_000.0) == 0).all()


def test_planner_explores_by_day_only():
    by_day = decide(planner(greedy=False), 64, spread=10_000.0)
    assert set(by_day) == {0, 1, 2}
