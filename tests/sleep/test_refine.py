"""Where episodes go wrong and how a teacher repairs them: by hand, and against a naive twin over cut episodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.sleep import refine
from dreamer.sleep.refine import RefineConfig

first_harm = jax.jit(refine.first_harm)


def test_the_first_harm_by_hand():
    # Four episodes: harm at its second step of four, at its last, none, and at once in one that goes on.
    advantage = np.array([0.0, -0.3, -0.05, -0.5, 0.0, -0.2, -0.01, -0.9], np.float32)
    ended = np.array([0, 0, 0, 1, 0, 1, 1, 0], bool)
    harm, after = first_harm(advantage, ended, 0.1)
    np.testing.assert_array_equal(harm, [0, 1, 0, 0, 0, 1, 0, 1])
    np.testing.assert_array_equal(after, [0, 0, 1, 1, 0, 0, 0, 0])
    harm, after = first_harm(advantage, ended, 0.9)  # no further below than forgiven
    assert not harm.any() and not after.any()


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


def repaired(student, q, temperature):
    return jnp.exp(refine.repair_policy(student, q, temperature))


def test_repair_by_hand():
    student = jnp.log(jnp.array([0.75, 0.25]))
    # exp(q / T) = (1, 9): weights 3 and 9.
    found = repaired(student, jnp.array([0.0, 0.5 * np.log(9)]), 0.5)
    np.testing.assert_allclose(found, [0.25, 0.75], rtol=1e-5)


def test_repair_goes_from_the_student_to_the_greedy_teacher_and_never_out_of_support():
    student, q = jnp.array([2.0, 0.0, -jnp.inf, -1e9]), jnp.array([0.0, 1.0, 5.0, 1e6])
    np.testing.assert_allclose(repaired(student, q, 1e9), jax.nn.softmax(student), atol=1e-6)
    for temperature in (1e-3, 1e-30):
        np.testing.assert_allclose(repaired(student, q, temperature), [0, 1, 0, 0], atol=1e-6)
    found = repaired(student, q.at[2].set(jnp.nan), 1.0)
    np.testing.assert_allclose(found, repaired(student[:2], q[:2], 1.0).tolist() + [0, 0], atol=1e-6)


def test_no_policy_repairs_more_with_less_change():
    q_key, student_key, other_key = jax.random.split(jax.random.key(0), 3)
    q, student = jax.random.normal(q_key, (3,)), jax.random.normal(student_key, (3,))
    log_student, temperature = jax.nn.log_softmax(student), 0.7

    def worth(probs):
        return (probs * (q[None] - temperature * (jnp.log(probs) - log_student[None]))).sum(axis=-1)

    best = repaired(student, q, temperature)
    others = jax.random.dirichlet(other_key, jnp.ones(3), (1000,))
    near = jax.nn.softmax(jnp.log(best)[None] + 0.1 * jax.random.normal(other_key, (1000, 3)))
    assert float(worth(best[None])[0]) >= float(worth(jnp.concatenate([others, near])).max()) - 1e-6


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"arm": "T3"}, "refine.arm is 'T3': give one of raw, truncate"),
        ({"arm": "rewrite", "harm": -0.1}, "refine.harm is -0.1: give a return of 0 or more"),
        ({"arm": "rewrite", "temperature": 0.0}, "refine.temperature is 0.0: give a return above 0"),
        ({"harm": 0.2}, "refine.harm is 0.2, which has no effect where arm is 'raw'"),
        ({"arm": "truncate", "temperature": 1.0}, "refine.temperature is 1.0, which has no effect where arm is"),
        ({"arm": "fresh", "temperature": 1.0}, "refine.temperature is 1.0, which has no effect where arm is"),
    ],
)
def test_settings_that_mean_nothing_are_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        RefineConfig(**fields)
