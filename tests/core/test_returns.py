"""Returns by hand around both kinds of end, and against a plain-Python twin on random episodes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.core import returns

HANDLED = dict(n=2, num_positions=3)


def row(*values, dtype=jnp.float32):
    return jnp.array([values], dtype)


def flags(*values):
    return row(*values, dtype=bool)


def test_discounts_are_gamma_times_continuation():
    continuation = 1.0 - flags(0, 1).astype(jnp.float32)
    np.testing.assert_array_equal(returns.discounts(continuation, 0.9), np.float32([[0.9, 0]]))
    np.testing.assert_array_equal(returns.discounts(jnp.float32(0.5), 0.5), 0.25)


@pytest.mark.parametrize(
    ("terminated", "truncated", "lived", "valid"),
    [
        ((0, 0, 0), (0, 0, 0), (1, 1, 1), (1, 1, 1)),
        ((0, 1, 0), (0, 0, 0), (1, 1, 1), (1, 1, 0)),  # the row that ends is still valid
        ((0, 0, 0), (1, 0, 0), (1, 1, 1), (1, 0, 0)),
        ((0, 0, 1), (0, 0, 1), (1, 1, 1), (1, 1, 1)),  # an end in the last row cuts nothing
        ((0, 0, 0), (0, 0, 0), (1, 0, 1), (1, 0, 0)),  # nothing comes back after the write head
        ((1, 1, 1), (0, 0, 0), (0, 0, 0), (0, 0, 0)),
    ],
)
def test_sequence_valid_by_hand(terminated, truncated, lived, valid):
    got = returns.sequence_valid(flags(*terminated), flags(*truncated), flags(*lived))
    np.testing.assert_array_equal(got, flags(*valid))


REWARD = row(1.0, 2.0, 4.0)
VALUE = row(80.0, 8.0, 16.0, 32.0)  # a value of the first state appears in no return of it


@pytest.mark.parametrize(
    ("discount", "valid", "expected"),
    [
        # No end within the rows: 1 + 2/2 + 16/4, 2 + 4/2 + 32/4, 4 + 32/2.
        ((0.5, 0.5, 0.5), (1, 1, 1), (6, 12, 20)),
        # Terminated in row 1: 1 + 2/2, 2, and no decision at position 2.
        ((0.5, 0, 0.5), (1, 1, 0), (2, 2, 0)),
        # Truncated in row 1, or the write head behind it: bootstrap from state 2, position 1 from one row.
        ((0.5, 0.5, 0.5), (1, 1, 0), (6, 10, 0)),
        # Truncated in row 0: the window of two rows is cut to one.
        ((0.5, 0.5, 0.5), (1, 0, 0), (5, 0, 0)),
        ((0.5, 0.5, 0.5), (0, 0, 0), (0, 0, 0)),
    ],
)
def test_two_step_returns_by_hand(discount, valid, expected):
    got = returns.n_step_returns(REWARD, row(*discount), VALUE, flags(*valid), **HANDLED)
    np.testing.assert_array_equal(got, row(*expected))


def test_each_sequence_may_have_a_shorter_window():
    rewards, discount, value, valid = (
        jnp.repeat(x, 3, axis=0) for x in (REWARD, row(0.5, 0.5, 0.5), VALUE, flags(1, 1, 1))
    )
    got = returns.n_step_returns(rewards, discount, value, valid, **HANDLED, horizon=jnp.array([2, 1, 2]))
    np.testing.assert_array_equal(got, [[6, 12, 20], [1 + 8 / 2, 2 + 16 / 2, 4 + 32 / 2], [6, 12, 20]])
    # Truncated in row 0, whatever the window.
    cut = returns.n_step_returns(
        rewards, discount, value, flags(1, 0, 0).repeat(3, 0), **HANDLED, horizon=jnp.array([2, 1, 2])
    )
    np.testing.assert_array_equal(cut, [[5, 0, 0]] * 3)


@pytest.mark.parametrize(
    ("discount", "valid", "expected"),
    [
        # Backwards with lam 0.5: 4 + 32/2, 2 + (16/2 + 20/2)/2, 1 + (8/2 + 11/2)/2.
        ((0.5, 0.5, 0.5), (1, 1, 1), (5.75, 11, 20)),
        ((0.5, 0, 0.5), (1, 1, 0), (1 + 0.5 * (4 + 1), 2, 0)),
        ((0.5, 0.5, 0.5), (1, 1, 0), (1 + 0.5 * (4 + 5), 2 + 8, 0)),
        ((0.5, 0.5, 0.5), (0, 0, 0), (0, 0, 0)),
    ],
)
def test_lambda_returns_by_hand(discount, valid, expected):
    got = returns.lambda_returns(REWARD, row(*discount), VALUE, flags(*valid), lam=0.5)
    np.testing.assert_array_equal(got, row(*expected))


def naive_n_step(reward, discount, value, num_valid, n, position):
    """One position of one sequence, as the definition reads."""
    if position >= num_valid:
        return 0.0
    total, factor = 0.0, 1.0
    end = min(position + n, num_valid)
    for i in range(position, end):
        total += factor * reward[i]
        factor *= discount[i]
    return total + factor * value[end]


def naive_lambda(reward, discount, value, num_valid, lam, position):
    """The lambda-return as the weighted mean of all n-step returns, not as a recursion."""
    if position >= num_valid:
        return 0.0
    longest = num_valid - position
    total = lam ** (longest - 1) * naive_n_step(reward, discount, value, num_valid, longest, position)
    for n in range(1, longest):
        total += (1 - lam) * lam ** (n - 1) * naive_n_step(reward, discount, value, num_valid, n, position)
    return total


def random_sequences(seed, num_sequences=64, num_rows=7):
    """Rows with random ends, as a replay gives them: rows past an end belong to the next episode."""
    rng = np.random.default_rng(seed)
    shape = (num_sequences, num_rows)
    terminated, truncated = rng.random(shape) < 0.15, rng.random(shape) < 0.15
    lived = np.arange(num_rows)[None] < rng.integers(0, num_rows + 1, (num_sequences, 1))
    valid = returns.sequence_valid(*map(jnp.asarray, (terminated, truncated, lived)))
    discount = returns.discounts(1 - jnp.asarray(terminated, jnp.float32), 0.9)
    reward = jnp.asarray(rng.normal(size=shape), jnp.float32)
    value = jnp.asarray(rng.normal(size=(num_sequences, num_rows + 1)), jnp.float32)
    return (terminated, truncated, lived), (reward, discount, value, valid)


def naive_num_valid(terminated, truncated, lived):
    count = 0
    for row_terminated, row_truncated, row_lived in zip(terminated, truncated, lived, strict=True):
        if not row_lived:
            break
        count += 1
        if row_terminated or row_truncated:
            break
    return count


@pytest.mark.parametrize("n", [1, 3, 10])
def test_n_step_returns_agree_with_the_twin(n):
    ends, arrays = random_sequences(n)
    got = jax.jit(functools.partial(returns.n_step_returns, n=n, num_positions=5))(*arrays)
    reward, discount, value, valid = map(np.asarray, arrays)
    for b in range(len(reward)):
        num_valid = naive_num_valid(*(flag[b] for flag in ends))
        assert valid[b].tolist() == [i < num_valid for i in range(valid.shape[1])]
        expected = [naive_n_step(reward[b], discount[b], value[b], num_valid, n, k) for k in range(5)]
        np.testing.assert_allclose(got[b], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lam", [0.0, 0.7, 1.0])
def test_lambda_returns_agree_with_the_twin(lam):
    ends, arrays = random_sequences(3)
    got = returns.lambda_returns(*arrays, lam=lam)
    reward, discount, value, _ = map(np.asarray, arrays)
    for b in range(len(reward)):
        num_valid = naive_num_valid(*(flag[b] for flag in ends))
        expected = [naive_lambda(reward[b], discount[b], value[b], num_valid, lam, k) for k in range(reward.shape[1])]
        np.testing.assert_allclose(got[b], expected, rtol=1e-5, atol=1e-5)


def test_lambda_bridges_one_step_and_all_steps():
    _, arrays = random_sequences(5)
    num_rows = arrays[0].shape[1]
    for lam, n in ((0.0, 1), (1.0, num_rows)):
        whole = returns.n_step_returns(*arrays, n=n, num_positions=num_rows)
        np.testing.assert_allclose(returns.lambda_returns(*arrays, lam=lam), whole, rtol=1e-5, atol=1e-5)


def test_what_lies_past_the_end_is_never_read():
    _, (reward, discount, value, valid) = random_sequences(6)
    num_valid = jnp.sum(valid, axis=1, keepdims=True)
    poisoned_value = jnp.where(jnp.arange(value.shape[1])[None] <= num_valid, value, jnp.nan)
    poisoned = (jnp.where(valid, reward, jnp.nan), jnp.where(valid, discount, jnp.nan), poisoned_value, valid)
    for function, options in (
        (returns.n_step_returns, dict(n=3, num_positions=4)),
        (returns.lambda_returns, dict(lam=0.9)),
    ):
        clean = function(reward, discount, value, valid, **options)
        np.testing.assert_array_equal(function(*poisoned, **options), clean)


@pytest.mark.parametrize(
    "options", [dict(n=0, num_positions=1), dict(n=1, num_positions=4), dict(n=1, num_positions=0)]
)
def test_impossible_windows_are_refused(options):
    with pytest.raises(ValueError, match="use"):
        returns.n_step_returns(REWARD, REWARD, VALUE, flags(1, 1, 1), **options)
