import dataclasses
import itertools

import numpy as np
import pytest

from dreamer.wake.envs import JobWorldConfig
from experiments.measures import believed, known
from experiments.measures.bits import certain, privilege_floor

TINY = JobWorldConfig(num_keys=2, num_answers=2, chain_length=2, slack=1, pool="pretraining")
UNSURE = np.full((2, 2), 0.5)
WORLDS = [
    dict(),
    dict(error="detour", detour=1, slack=3),
    dict(error="dead_end"),
    dict(error="dead_end", dead_end_prob=0.5, slack=2),
]


def world_of(**fields):
    return dataclasses.replace(TINY, **fields)


def test_values_with_the_codebook_known_by_hand():
    q = known.best_q(TINY, [1, 0], gamma=0.5)
    np.testing.assert_array_equal(
        q[3, 2], [[0.25, 0.5], [0.5, 0.25]]
    )  # a wrong answer wastes the one decision of slack
    np.testing.assert_array_equal(q[2, 2], [[0, 0.5], [0.5, 0]])  # now there is none
    np.testing.assert_array_equal(q[1], [np.zeros((2, 2)), [[0, 1], [1, 0]], np.zeros((2, 2))])
    np.testing.assert_array_equal(q[0], 0)
    step = known.best_q(world_of(feedback="step"), [1, 0], gamma=0.5)
    np.testing.assert_array_equal(step[3, 2], [[0.375, 0.75], [0.75, 0.375]])
    assert known.value(TINY, [1, 0], gamma=0.5) == 0.5 and known.success_rate(TINY, [1, 0]) == 1


@pytest.mark.parametrize(
    ("fields", "success"),
    [
        (dict(slack=0), 0.25),
        (dict(), 0.5),  # three decisions: right right, wrong right right, right wrong right
        (dict(error="dead_end"), 0.25),
        (dict(error="dead_end", dead_end_prob=0.5, slack=1), 0.375),
        (dict(error="detour", detour=1), 0.25),
    ],
)
def test_policies_that_guess_succeed_by_hand(fields, success):
    world = world_of(**fields)
    np.testing.assert_allclose(known.success_rate(world, [1, 0], UNSURE), success)
    np.testing.assert_allclose(believed.policy_success(world, certain([1, 0], 2), UNSURE), success)


def test_aliased_keys_by_hand():
    world = world_of(num_keys=2, aliased=1.0, chain_length=1, slack=1, look_cost=0.125)
    q = known.best_q(world, [1, 0], gamma=0.5)
    np.testing.assert_array_equal(q[2, 1, 2], [0.75, 0.75, 0.375])  # a guess, right or told by its error; a look
    np.testing.assert_array_equal(q[2, 1, 0], [0.5, 1, 0.375])
    looks = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    assert known.value(world, [1, 0], looks, gamma=0.5) == 0.375 and known.success_rate(world, [1, 0], looks) == 1
    assert believed.policy_success(world, UNSURE, looks) == 0.25 * (1 + 0.5 + 0.5 + 0)
    fatal = dataclasses.replace(world, error="dead_end")
    np.testing.assert_array_equal(known.best_q(fatal, [1, 0], gamma=0.5)[2, 1, 2], [0.5, 0.5, 0.375])


def test_values_with_a_belief_by_hand():
    one = world_of(num_keys=1, chain_length=1, slack=1)
    np.testing.assert_allclose(believed.best_q(one, [[0.25, 0.75]], key=0, gamma=0.5), [0.625, 0.875])
    assert believed.best_value(one, [[0.25, 0.75]], gamma=0.5) == 0.875
    twice = world_of(num_keys=1, chain_length=2, slack=0, error="dead_end")
    assert believed.best_success(twice, [[0.25, 0.75]]) == 0.75  # who is right once is right twice
    np.testing.assert_allclose(believed.policy_success(twice, [[0.25, 0.75]], [[0.5, 0.5]]), 0.25)
    assert believed.best_success(world_of(slack=0), UNSURE) == 0.375  # the same key again in half of all chains


@pytest.mark.parametrize("fields", WORLDS)
@pytest.mark.parametrize("feedback", ["end", "step"])
def test_a_reader_who_is_sure_is_one_who_knows(fields, feedback):
    world = world_of(feedback=feedback, **fields)
    codebook, sure = [1, 0], certain([1, 0], 2)
    np.testing.assert_allclose(believed.best_value(world, sure, gamma=0.9), known.value(world, codebook, gamma=0.9))
    q = known.best_q(world, codebook, gamma=0.9)
    for T, h, key in itertools.product(range(world.deadline + 1), (1, 2), (0, 1)):
        mine = believed.best_q(world, sure, key=key, gamma=0.9, keys_left=h, decisions_left=T)
        np.testing.assert_allclose(mine, q[T, h, key], err_msg=f"{T} {h} {key}")


@pytest.mark.parametrize("fields", WORLDS)
def test_a_policy_without_memory_is_the_mean_over_codebooks(fields):
    world = world_of(num_keys=3, chain_length=3, slack=2) if not fields else world_of(num_keys=3, **fields)
    rng = np.random.default_rng(0)
    belief, policy = rng.dirichlet([1, 1], 3), rng.dirichlet([1, 1], 3)
    books = believed.codebooks(world)
    probs = belief[np.arange(3), books].prod(axis=1)
    mean = sum(p * known.success_rate(world, book, policy) for p, book in zip(probs, books, strict=True))
    np.testing.assert_allclose(believed.policy_success(world, belief, policy), mean)


def searched(world, belief, gamma, *, h, T, key=None):
    """The naive twin: the value of the best of all ways to act on what is known, by expectimax over chains."""
    if h == 0 or T <= 0:
        return 0.0
    if key is None:
        return np.mean([searched(world, belief, gamma, h=h, T=T, key=key) for key in range(world.num_keys)])
    paid = 1 / world.chain_length if world.feedback == "step" else float(h == 1)
    back, best = 1 + world.error_delay, 0.0
    for answer, prob in enumerate(belief[key]):
        told, ruled_out = np.array(belief), np.array(belief)
        told[key] = np.eye(len(told[key]))[answer]
        worth = prob * (paid + gamma * searched(world, told, gamma, h=h - 1, T=T - 1))
        if prob < 1:
            ruled_out[key, answer] = 0
            ruled_out[key] /= ruled_out[key].sum()
            again = searched(world, ruled_out, gamma, h=h, T=T - back, key=key)
            worth += (1 - prob) * (1 - world.fatal_prob) * gamma**back * again
        best = max(best, worth)
    return best


@pytest.mark.parametrize("fields", WORLDS)
@pytest.mark.parametrize("feedback", ["end", "step"])
def test_the_best_reader_is_the_best_of_all_ways_to_act(fields, feedback):
    world = world_of(num_answers=3, feedback=feedback, **fields)
    belief = np.random.default_rng(1).dirichlet([1, 1, 1], 2)
    naive = searched(world, belief, 0.9, h=2, T=world.deadline)
    np.testing.assert_allclose(believed.best_value(world, belief, gamma=0.9), naive)
    best = np.mean([believed.best_q(world, belief, key=key, gamma=0.9).max() for key in range(2)])
    np.testing.assert_allclose(best, naive)


def test_the_floor_of_veterans_who_play_by_their_values():
    q = np.stack([known.best_q(TINY, [z, 0], gamma=0.5)[3, 2, 0] for z in (0, 1)])  # at key 0, by its right answer
    soft = np.exp(q / 0.25) / np.exp(q / 0.25).sum(axis=1, keepdims=True)
    right = 1 / (1 + np.exp(-1))
    by_hand = 1 + right * np.log2(right) + (1 - right) * np.log2(1 - right)
    np.testing.assert_allclose(privilege_floor([0.5, 0.5], soft), by_hand)
    np.testing.assert_allclose(privilege_floor([0.5, 0.5], np.eye(2)[q.argmax(axis=1)]), 1)


def test_jobs_of_any_size_unless_they_are_enumerated():
    large = JobWorldConfig(num_keys=20, num_answers=4, slack=4)
    assert 0.1 < believed.best_success(large, np.full((20, 4), 0.25)) < 0.4
    with pytest.raises(ValueError, match=r"num_keys 20 .* make 1099511627776 codebooks, .* enumerates \(4096\): take"):
        believed.codebooks(large)
    aliased = dataclasses.replace(large, aliased=0.5)
    with pytest.raises(ValueError, match="leave jobworld.aliased at 0"):
        believed.policy_success(aliased, np.full((20, 4), 0.25), np.full((21, 5), 0.2))
    with pytest.raises(
        ValueError, match="jobworld.aliased is 0.5, where the best reader's looks depend on all beliefs"
    ):
        believed.best_value(aliased, np.full((20, 4), 0.25), gamma=0.9)
