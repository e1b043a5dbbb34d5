"""Where episodes go wrong and what is kept of them: by hand, and against a naive twin over cut episodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.sleep import refine

first_harm = jax.jit(refine.first_harm)


def column(*values, dtype=bool):
    return np.array(values, dtype)[:, None]


ADVANTAGE = column(0.0, -0.3, -0.05, -0.5, 0.0, -0.2, -0.01, -0.9, dtype=np.float32)
ENDED = column(0, 0, 0, 1, 0, 1, 1, 0)
HARM = column(0, 1, 0, 0, 0, 1, 0, 1)
AFTER = column(0, 0, 1, 1, 0, 0, 0, 0)


def test_the_first_harm_by_hand():
    # Four episodes: harm at its second step of four, at its last, none, and at once in one that goes on.
    harm, after = first_harm(ADVANTAGE, ENDED, 0.1)
    np.testing.assert_array_equal(harm, HARM)
    np.testing.assert_array_equal(after, AFTER)
    harm, after = first_harm(ADVANTAGE, ENDED, 0.9)  # no further below than forgiven
    assert not harm.any()
    assert not after.any()


def naive(advantage, ended, delta):
    harm, after = np.zeros(advantage.shape, bool), np.zeros(advantage.shape, bool)
    for e in range(advantage.shape[1]):
        begin = 0
        for end in [*np.flatnonzero(ended[:, e]) + 1, len(ended)]:
            bad = begin + np.flatnonzero(advantage[begin:end, e] < -delta)
            if len(bad):
                harm[bad[0], e] = True
                after[bad[0] + 1 : end, e] = True
            begin = end
    return harm, after


@pytest.mark.parametrize("seed", range(3))
def test_the_first_harm_is_that_of_each_episode_cut_by_hand(seed):
    rng = np.random.default_rng(seed)
    advantage = rng.normal(size=(40, 5)).astype(np.float32)
    ended = rng.random((40, 5)) < 0.2
    for found, expected in zip(first_harm(advantage, ended, 0.8), naive(advantage, ended, 0.8), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_no_decisions_no_harm():
    harm, after = refine.first_harm(jnp.zeros((0, 3)), jnp.zeros((0, 3), bool), 0.1)
    assert harm.shape == after.shape == (0, 3)


def test_what_an_episode_came_to_is_told_at_all_its_steps():
    at_end = column(1, 0, 0, 1, 1, 0, 1, 1)  # rows that end nothing say nothing
    found = jax.jit(refine.of_episode)(at_end, ENDED)
    np.testing.assert_array_equal(found, column(1, 1, 1, 1, 0, 0, 1, 0))  # the last episode is still going on
    assert refine.of_episode(jnp.zeros((0, 3), bool), jnp.zeros((0, 3), bool)).shape == (0, 3)


def test_what_each_arm_keeps_by_hand():
    success = column(0, 0, 0, 0, 1, 1, 0, 0)
    expected = {
        "raw": [1, 1, 1, 1, 1, 1, 1, 1],
        "truncate": [1, 1, 0, 0, 1, 1, 1, 1],
        "drop_failures": [0, 0, 0, 0, 1, 1, 0, 0],
    }
    assert tuple(expected) == refine.OWN_STATES
    for arm in refine.ARMS:
        found = refine.kept(arm, HARM, AFTER, success)
        assert found.dtype == jnp.float32
        np.testing.assert_array_equal(found[:, 0], expected.get(arm, [0] * 8))
    with pytest.raises(ValueError, match="arm is 'T0': give one of raw"):
        refine.kept("T0", HARM, AFTER, success)


def test_where_nothing_did_harm_truncation_is_raw():
    nothing = np.zeros_like(HARM)
    raw, cut = (refine.kept(arm, nothing, nothing, nothing) for arm in ("raw", "truncate"))
    np.testing.assert_array_equal(cut, raw)


def test_repair_by_hand():
    student = jnp.log(jnp.array([0.75, 0.25]))
    # exp(q / T) = (1, 9): weights 3 and 9.
    found = refine.repair_policy(student, jnp.array([0.0, 0.5 * np.log(9)]), 0.5)
    np.testing.assert_allclose(found, [0.25, 0.75], rtol=1e-5)


def test_repair_goes_from_the_student_to_the_greedy_teacher_and_never_out_of_support():
    student, q = jnp.array([2.0, 0.0, -jnp.inf, -1e9]), jnp.array([0.0, 1.0, 5.0, 1e6])
    np.testing.assert_allclose(refine.repair_policy(student, q, 1e9), jax.nn.softmax(student), atol=1e-6)
    for temperature in (1e-3, 1e-30):
        np.testing.assert_allclose(refine.repair_policy(student, q, temperature), [0, 1, 0, 0], atol=1e-6)
    found = refine.repair_policy(student, q.at[2].set(jnp.nan), 1.0)
    np.testing.assert_allclose(found, refine.repair_policy(student[:2], q[:2], 1.0).tolist() + [0, 0], atol=1e-6)


def test_no_policy_repairs_more_with_less_change():
    q_key, student_key, other_key = jax.random.split(jax.random.key(0), 3)
    q, student = jax.random.normal(q_key, (3,)), jax.random.normal(student_key, (3,))
    log_student, temperature = jax.nn.log_softmax(student), 0.7

    def worth(probs):
        return (probs * (q[None] - temperature * (jnp.log(probs) - log_student[None]))).sum(axis=-1)

    best = refine.repair_policy(student, q, temperature)
    others = jax.random.dirichlet(other_key, jnp.ones(3), (1000,))
    near = jax.nn.softmax(jnp.log(best)[None] + 0.1 * jax.random.normal(other_key, (1000, 3)))
    assert float(worth(best[None])[0]) >= float(worth(jnp.concatenate([others, near])).max()) - 1e-6
