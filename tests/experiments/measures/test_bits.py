import numpy as np
import pytest

from experiments.measures.bits import (
    LeakError,
    certain,
    check_no_leak,
    check_shared,
    entropy,
    gained_bits,
    information,
    privilege_floor,
    retained_bits,
    shared_floor,
)

RNG = np.random.default_rng(0)


def distributions(*shape):
    return RNG.dirichlet(np.ones(shape[-1]), shape[:-1])


def test_bits_gained_by_hand():
    before = [[0.5, 0.5], [0.25, 0.75], [0.5, 0.5]]
    truth = np.array([[1, 0], [0.5, 0.5], [0, 0]])  # the second has two right answers, the third does not come up
    assert gained_bits(before, before, truth) == 0
    found = gained_bits([[0.75, 0.25], [0.5, 0.5], [1, 0]], before, truth)
    np.testing.assert_allclose(found, np.log2(1.5) + np.log2(2) / 2 + np.log2(2 / 3) / 2)
    assert gained_bits([[0, 1], [0.5, 0.5], [1, 0]], before, truth) == -np.inf


def test_bits_by_hand():
    np.testing.assert_allclose(entropy([[0.5, 0.5], [1, 0], [0.25, 0.75]]), [1, 0, 2 - 0.75 * np.log2(3)])
    np.testing.assert_array_equal(certain([1, 0], 2), [[0, 1], [1, 0]])
    belief = [[0.5, 0.5], [0.0, 1.0]]  # K = A = 2: one key told, one not
    assert information(belief) == 1
    np.testing.assert_allclose(retained_bits([[0.25, 0.75], [0.5, 0.5]], certain([1, 0], 2)), np.log2(1.5))
    assert retained_bits(certain([1, 0], 2), certain([1, 0], 2)) == 2
    assert retained_bits(certain([1, 0], 2), certain([1, 1], 2)) == -np.inf


def test_no_policy_retains_more_than_is_known_and_the_readers_own_retains_it_all():
    belief = distributions(20, 3, 4)
    belief[0, 0] = [0, 0, 1, 0]
    policy = distributions(20, 3, 4)
    assert (retained_bits(policy, belief) <= information(belief)).all()
    np.testing.assert_allclose(retained_bits(belief, belief), information(belief), atol=1e-9)


def test_the_floor_by_hand():
    veterans = np.eye(2)  # each plays the answer that is right in its job
    np.testing.assert_allclose(privilege_floor([0.5, 0.5], veterans), 1)
    np.testing.assert_allclose(privilege_floor([0.25, 0.75], veterans), 2 - 0.75 * np.log2(3))
    assert privilege_floor([1, 0], veterans) == 0  # a job that never changes
    assert privilege_floor([0.3, 0.7], np.full((2, 2), 0.5)) == 0  # teachers who agree


def test_one_policy_for_several_codebooks_holds_what_they_share_and_more_is_a_leak():
    books = np.array([[0, 1, 2], [0, 1, 3], [0, 2, 3], [0, 2, 3]])  # all alike, two and two, three of four
    by_hand = (0 + 1 + 2 - 0.75 * np.log2(3)) / 3
    np.testing.assert_allclose(shared_floor(books, num_answers=4), by_hand)
    assert shared_floor(books[:1], num_answers=4) == 0
    mean = certain(books, 4).mean(axis=0)  # what plays as its teachers do, taken together
    retained = retained_bits(np.broadcast_to(mean, (4, 3, 4)), certain(books, 4))
    np.testing.assert_allclose(retained.mean(), 3 * (2 - by_hand))
    check_shared(retained, books, num_answers=4)
    with pytest.raises(LeakError, match="shared by 4 jobs retains"):
        check_shared(retained + 0.01, books, num_answers=4)


def test_no_student_gets_below_the_floor_and_the_mean_of_the_teachers_reaches_it():
    prob, teachers = distributions(6, 5), distributions(6, 5, 3)

    def loss(student):  # [6, 3] -> [6] mean KL(teacher || student) in bits
        return (prob[..., None] * teachers * np.log2(teachers / student[:, None])).sum(axis=(1, 2))

    floor = privilege_floor(prob, teachers)
    np.testing.assert_allclose(loss(np.einsum("sn,sna->sa", prob, teachers)), floor, atol=1e-9)
    assert all((loss(distributions(6, 3)) > floor).all() for _ in range(20))


def test_a_leak_is_an_error_and_luck_is_not():
    books = RNG.integers(4, size=(50, 8))
    nothing = retained_bits(np.full((50, 8, 4), 0.25), certain(books, 4))
    check_no_leak(nothing, nothing)
    for _ in range(20):  # policies that guess
        check_no_leak(retained_bits(distributions(50, 8, 4), certain(books, 4)), nothing)
    with pytest.raises(LeakError, match=r"1 job\(s\) retain more .* by 16.00 bits, where luck explains 13.29 but once"):
        check_no_leak(retained_bits(certain(books[:1], 4), certain(books[:1], 4)), nothing[:1])
    told = 0.7 * np.full((50, 8, 4), 0.25) + 0.3 * certain(books, 4)  # a little leak in each of many jobs
    with pytest.raises(LeakError, match="Look for the codebook, or real transitions"):
        check_no_leak(retained_bits(told, certain(books, 4)), nothing)
    check_no_leak([-np.inf, 3.0], [0.0, 0.0])  # sure and wrong: no leak
    with pytest.raises(ValueError, match="bits that the data could tell are finite, unless a reader's belief"):
        check_no_leak([-np.inf], [-np.inf])
    with pytest.raises(LeakError, match=r"2 job.* by 18.00 bits, .* job 1 has 20.00 of 0.00 available"):
        check_no_leak([-np.inf, 20.0], [0.0, 0.0])  # but it hides none in another job


@pytest.mark.parametrize("belief", [[[np.nan, np.nan]], [[0.5, 0.6]], [[-0.5, 1.5]]])
def test_what_is_no_distribution_is_refused(belief):
    with pytest.raises(ValueError, match="are not distributions .* read each job's session by itself"):
        information(belief)
