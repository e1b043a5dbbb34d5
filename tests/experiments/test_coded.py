"""Codes for what was learned, held against codes worked out by hand."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.sessions.coded import SHARE, STEPS, code_bits, make_coded


def one_by_one(numbers):
    """The code's length, number after number: each value has half a count before it was ever seen."""
    largest = max(map(abs, numbers), default=0)
    seen, bits = dict.fromkeys(range(-largest, largest + 1), 0.5), 0.0
    for number in numbers:
        bits -= math.log2(seen[number] / sum(seen.values()))
        seen[number] += 1
    return bits


@pytest.mark.parametrize("numbers", [[0, 0, 0], [1, -1, 0, 0, 2], [3], []])
def test_code_lengths_by_hand(numbers):
    assert code_bits({"a": np.array(numbers, int)}) == pytest.approx(64 + one_by_one(numbers))
    for order in itertools.permutations(numbers):  # whatever comes first
        assert one_by_one(order) == pytest.approx(one_by_one(numbers))
    both = code_bits({"a": np.array(numbers, int), "b": np.array([5, 0])})
    assert both == pytest.approx(96 + one_by_one(numbers) + one_by_one([5, 0]))


def test_a_code_is_no_longer_than_the_entropy_and_what_it_costs_to_learn_it():
    numbers = np.random.default_rng(0).choice([-1, 0, 1], size=5000, p=[0.05, 0.9, 0.05])
    entropy = -(0.9 * math.log2(0.9) + 0.1 * math.log2(0.05))
    assert abs(code_bits([numbers]) - 64 - 5000 * entropy) < 150


def test_the_widest_grid_that_keeps_enough_of_what_was_won_is_taken():
    first = {"w": jnp.array([1.0, 2.0, 0.0])}
    changes = jnp.array([[3.0, -3.0, 3.0], [3.0, 3.0, 3.0]])  # root mean square 3
    told = []

    def success(learned, base):
        change = np.abs(np.asarray(learned["w"]) - np.asarray(first["w"])).mean(axis=1) / 3
        told.append(change)  # 1 where it is as it was
        return np.where(abs(change - 1) < 0.01, 1.0, base)

    learned, coded = {"w": first["w"][None] + changes}, make_coded(success, first)
    row = coded(learned, np.ones(2), 0.97)
    # At first nothing; grids 8, 4 and 2 times as wide round all of it away; one as wide has it exactly.
    np.testing.assert_allclose(told, [[0, 0]] * 4 + [[1, 1]], atol=1e-6)
    assert sorted(STEPS, reverse=True)[3] == 1.0 and SHARE == 0.95
    assert row["coded_return"] == 1
    assert row["coded_bits"] == pytest.approx(64 + (one_by_one([1, -1, 1]) + one_by_one([1, 1, 1])) / 2)
    assert coded(learned, np.ones(2), 1.0) == {}  # nothing was won
    assert make_coded(lambda learned: np.zeros(2), first)(learned, np.ones(2)) == {}  # nothing keeps it
    assert make_coded(lambda learned: np.zeros(2), first)({"w": jnp.stack([first["w"]] * 2)}, np.zeros(2)) == {}
