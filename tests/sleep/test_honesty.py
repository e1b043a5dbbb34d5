import functools

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.core.types import Transition
from dreamer.sleep.honesty import open_loop
from dreamer.wake import session
from tests import tiny, toys
from world_models.oracle import make_oracle


@functools.partial(jax.jit, static_argnames=("model", "horizon"), compiler_options=tiny.QUICK)
def measure(model, params, lived, horizon):
    return open_loop(model, params, lived, horizon=horizon)


def lived(obs, action, reward, terminated=None, truncated=None):
    """Transitions [T, E] from columns written out a copy a row."""
    obs, action, reward = (jnp.asarray(x).T for x in (obs, action, reward))
    flags = (
        jnp.zeros(action.shape, bool) if flag is None else jnp.asarray(flag, bool).T for flag in (terminated, truncated)
    )
    mask = jnp.ones((*action.shape, 2), bool)
    return Transition(obs, mask, action.astype(jnp.int32), reward.astype(jnp.float32), *flags, obs)


CORRIDOR = tiny.corridor(4)
# A walk to the end, and one that a clock cuts in its middle.
WALK = lived(
    obs=[[0, 1, 2, 3, 0], [0, 1, 2, 1, 2]],
    action=[[1, 1, 1, 1, 1], [1, 1, 0, 1, 1]],
    reward=[[0, 0, 0, 1, 0], [0, 0, 0, 0, 0]],
    terminated=[[0, 0, 0, 1, 0], [0, 0, 0, 0, 0]],
    truncated=[[0, 0, 0, 0, 0], [0, 0, 1, 0, 0]],
)


def tables(**changes):
    """The corridor's tables with some entries changed: {table: {(state, action): value}}."""
    named = dict(zip(("next_state", "reward", "continuation"), map(np.array, CORRIDOR.tables), strict=True))
    for name, entries in changes.items():
        for place, value in entries.items():
            named[name][place] = value
    return tuple(jnp.asarray(table) for table in named.values())


def test_the_truth_has_no_error_and_nothing_is_compared_past_an_end():
    found = measure(tiny.TABLES, tables(), WALK, horizon=5)
    # Episodes of 4 and 1 decisions, and of 3 and 2: so many of their states have a transition h - 1 later.
    np.testing.assert_array_equal(found.num_compared, [4 + 1 + 3 + 2, 3 + 2 + 1, 2 + 1, 1, 0])
    for errors in (found.reward_error, found.continuation_error):
        np.testing.assert_array_equal(errors, [0, 0, 0, 0, np.nan])
    assert found.reward_doubt is None and found.continuation_calibration is None


def test_a_wrong_step_shows_from_there_on():
    # Cell 2 is believed to be the last: a reward of 1 and the end on leaving it to the right.
    wrong = tables(reward={(2, 1): 1.0}, continuation={(2, 1): 0.2})
    walk = jax.tree.map(lambda leaf: leaf[:4, :1], WALK)
    found = measure(tiny.TABLES, wrong, walk, horizon=4)
    # From cell 2 it is the first step, from 1 the second, from 0 the third; of 4, 3, 2 and 1 compared.
    np.testing.assert_allclose(found.reward_error, [1 / 4, 1 / 3, 1 / 2, 0], rtol=1e-6)
    np.testing.assert_allclose(found.continuation_error, [0.64 / 4, 0.64 / 3, 0.64 / 2, 0], rtol=1e-5)
    # Cell 0 leads astray: all that is seen from it is wrong at the second step and later, never at the first.
    astray = tables(next_state={(0, 1): 3})
    found = measure(tiny.TABLES, astray, walk, horizon=4)
    np.testing.assert_allclose(found.reward_error, [0, 1 / 3, 0, 1], rtol=1e-6)


def test_an_ensemble_that_doubts_where_it_errs_is_calibrated():
    # Two members that differ by the first table's number in their second: an error of d / 2 where they are d apart.
    def members(params, latent, action):
        after, reward, continuation = tiny.TABLES.step(params[0], latent, action)
        apart = params[1][latent]
        return after, jnp.stack([reward, reward + apart], axis=1), jnp.stack([continuation] * 2, axis=1)

    def step(params, latent, action):
        latent_after, _, continuation = tiny.TABLES.step(params[0], latent, action)
        return latent_after, members(params, latent, action)[1].mean(axis=1), continuation

    model = tiny.TABLES._replace(step=step, members=members)
    apart = jnp.array([0.0, 0.4, 0.8, 0.2, 0.0])
    walk = jax.tree.map(lambda leaf: leaf[:4, :1], WALK)
    found = measure(model, (tables(), apart), walk, horizon=2)
    np.testing.assert_allclose(found.reward_error, [1.4 / 8, 1.4 / 6], rtol=1e-6)
    np.testing.assert_allclose(found.reward_doubt, found.reward_error, rtol=1e-6)
    np.testing.assert_allclose(found.reward_calibration, [1, 1], rtol=1e-5)
    assert np.isnan(found.continuation_calibration).all()  # one opinion, and no error


def test_the_true_dynamics_are_honest_along_any_life():
    env = toys.corridor(4)
    model = make_oracle(env, lambda obs: (jnp.argmax(obs).astype(jnp.int32), jnp.int32(0)), num_unroll_steps=1)

    def act(params, keys, obs, action_mask, memory):
        return jax.vmap(lambda key: jax.random.bernoulli(key, 0.7))(keys), memory

    @functools.partial(jax.jit, compiler_options=tiny.QUICK)
    def run():
        state = session.begin(env, seed=3, num_envs=4)
        _, lived = session.live(env, act, {}, state, seed=3, num_steps=40)
        return lived, open_loop(model, {}, lived, horizon=6)

    lived, found = run()
    np.testing.assert_array_equal(found.reward_error, 0)
    np.testing.assert_array_equal(found.continuation_error, 0)
    ended, count = np.asarray(lived.terminated | lived.truncated), np.zeros(6, int)
    for copy in range(4):
        for start in range(40):
            for ahead in range(6):
                if start + ahead < 40 and not ended[start : start + ahead, copy].any():
                    count[ahead] += 1
    np.testing.assert_array_equal(found.num_compared, count)
    assert lived.terminated.any() and (np.diff(count) < 0).all()
