import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.core import supports
from dreamer.core.supports import Support

KINDS = ("signed_sqrt", "symlog", "identity")
REWARDS = jnp.array([-1e5, -300.0, -1.0, -1e-4, 0.0, 1e-6, 0.3, 7.0, 500.0, 1e6], jnp.float32)


def support(transform="signed_sqrt", low=-4.0, high=4.0, num_bins=9):
    return Support(low=low, high=high, num_bins=num_bins, transform=transform)


def test_transforms_by_hand():
    x = jnp.array([-3.0, 0.0, 8.0])
    np.testing.assert_allclose(supports.transform(support("signed_sqrt"), x), [-1.003, 0, 2.008], rtol=1e-6)
    np.testing.assert_allclose(supports.transform(support("symlog"), x), [-np.log(4), 0, np.log(9)], rtol=1e-6)
    np.testing.assert_array_equal(supports.transform(support("identity"), x), x)


@pytest.mark.parametrize("kind", KINDS)
def test_inverse_undoes_transform_in_float32(kind):
    there = supports.transform(support(kind), REWARDS)
    np.testing.assert_allclose(supports.inverse(support(kind), there), REWARDS, rtol=3e-6, atol=0)
    assert np.all(np.diff(np.asarray(there)) > 0)
    np.testing.assert_array_equal(supports.transform(support(kind), -REWARDS), -there)


def test_signed_sqrt_agrees_with_the_published_pair_in_float64():
    x, eps = np.float64(REWARDS), 0.001
    published = np.sign(x) * (np.sqrt(np.abs(x) + 1) - 1) + eps * x
    np.testing.assert_allclose(supports.transform(support(), REWARDS), published, rtol=1e-6)
    root = (np.sqrt(1 + 4 * eps * (np.abs(published) + 1 + eps)) - 1) / (2 * eps)
    undone = np.sign(published) * (root**2 - 1)
    np.testing.assert_allclose(supports.inverse(support(), jnp.float32(published)), undone, rtol=1e-5, atol=1e-9)


def test_signed_sqrt_has_its_slope_at_zero():
    np.testing.assert_allclose(jax.grad(lambda x: supports.transform(support(), x))(0.0), 0.501, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda y: supports.inverse(support(), y))(0.0), 1 / 0.501, rtol=1e-6)


def test_two_hot_by_hand_and_clipped():
    bins = support("identity", low=-1.0, high=2.0, num_bins=4)
    got = supports.two_hot(bins, jnp.array([-1.0, 0.25, 2.0, 9.0, -9.0]))
    expected = [[1, 0, 0, 0], [0, 0.75, 0.25, 0], [0, 0, 0, 1], [0, 0, 0, 1], [1, 0, 0, 0]]
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_two_hot_is_a_distribution_whose_expectation_is_the_value(kind):
    wide = support(kind, low=-20.0, high=20.0, num_bins=51)
    x = jnp.linspace(-15.0, 15.0, 60).reshape(3, 20)
    probs = supports.two_hot(wide, x)
    np.testing.assert_allclose(jnp.sum(probs, -1), 1, rtol=1e-6)
    assert int(jnp.max(jnp.sum(probs > 0, -1))) <= 2
    np.testing.assert_allclose(supports.expectation(wide, jnp.log(probs)), x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_bins", [2, 21, 601])
def test_equal_logits_mean_exactly_zero(kind, num_bins):
    symmetric = support(kind, low=-7.3, high=7.3, num_bins=num_bins)
    np.testing.assert_array_equal(supports.expectation(symmetric, jnp.full((3, num_bins), 0.7)), np.zeros(3))


def test_expectation_off_centre_by_hand():
    bins = support("identity", low=0.0, high=3.0, num_bins=4)
    np.testing.assert_allclose(supports.expectation(bins, jnp.log(jnp.array([0.1, 0.2, 0.3, 0.4]))), 2.0, rtol=1e-6)


def test_cross_entropy_by_hand_and_least_at_the_target():
    bins = support("identity", low=0.0, high=2.0, num_bins=3)
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25]]))
    got = supports.cross_entropy(bins, logits, jnp.array([0.5]))
    np.testing.assert_allclose(got, [-(0.5 * np.log(0.5) + 0.5 * np.log(0.25))], rtol=1e-6)
    gradient = jax.grad(lambda z: supports.cross_entropy(bins, z, jnp.array([0.5]))[0])(logits)
    expected = np.array([[0.5, 0.25, 0.25]]) - np.array([[0.5, 0.5, 0]])
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("low", dict(low=4.0)),
        ("low", dict(low=float("nan"))),
        ("num_bins", dict(num_bins=1)),
        ("transform", dict(transform="log")),
    ],
)
def test_impossible_supports_are_refused(field, bad):
    with pytest.raises(ValueError, match=f"Support.{field}"):
        support(**bad)
