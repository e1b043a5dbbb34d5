"""Bits about a job: what a session tells, what a policy retains, what no student without context can have; leaks.

Everything is in bits, float64. Letters: K keys, A answers, N teachers or codebooks, J jobs.
"""

import math

import numpy as np


class LeakError(ValueError):
    """More was retained about jobs than the data that was learned from could tell."""


def certain(codebook: np.ndarray, num_answers: int) -> np.ndarray:
    """Returns [..., K, A] the belief of somebody who knows the codebook [..., K]."""
    return np.eye(num_answers)[np.asarray(codebook)]


def entropy(prob: np.ndarray) -> np.ndarray:
    """Returns [...] the entropy of distributions [..., A].

    Raises:
      ValueError: not distributions, as the beliefs of somebody who read transitions of two codebooks as one.
    """
    prob = _distributions(prob)
    return -_x_log2_y(prob, prob).sum(axis=-1)


def information(belief: np.ndarray) -> np.ndarray:
    """Returns [...] I(session; z) = H(z) - H(z | session), by the belief [..., K, A] after the session.

    H(z) = K log2 A: a codebook is uniform over all.
    """
    return math.log2(np.shape(belief)[-1]) * np.shape(belief)[-2] - entropy(belief).sum(axis=-1)


def retained_bits(policy: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns [...] what a policy's answers retain of the job: H(z) less their log2 loss, summed over keys.

    The right answer of each key is H(z) bits away from somebody who answers at random, and 0 from somebody who is sure
    and right; who is sure and wrong has -inf.

    Args:
      policy: [..., K, A] probabilities of the answers to each key; looks left out, renormalised.
      truth: [..., K, A] `certain` of the codebook; or a belief, and the bits are those expected under it, which are at
        most `information(belief)` for any policy, and equal for the one that answers by the belief.
    """
    policy, truth = _distributions(policy), _distributions(truth)
    return (math.log2(policy.shape[-1]) + _x_log2_y(truth, policy).sum(axis=-1)).sum(axis=-1)


def gained_bits(policy: np.ndarray, before: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns [...] how many bits fewer a policy leaves to be told of what is right than somebody who knows nothing of
    the job, added up over K questions.

    As `retained_bits`, where nobody who knows nothing answers at random, and what is right may be shared by several
    answers. Answers of one job hang together, so it is no information about the job; but in each question the answers
    expected by a perfect reader gain the most in the mean over jobs.

    Args:
      policy: [..., K, A] probabilities of the answers.
      before: [..., K, A] the same of a perfect reader before anything was lived.
      truth: [..., K, A] how what is right is shared; all 0 in questions that do not come up.
    """
    policy, before = _distributions(policy), _distributions(before)
    return (_x_log2_y(truth, policy) - _x_log2_y(truth, before)).sum(axis=(-1, -2))


def privilege_floor(prob: np.ndarray, policies: np.ndarray) -> np.ndarray:
    """Returns [...] I(A; Z | S = s), the least mean KL(teacher || student) of a student who does not know which it is.

    The best it can do is to play the mean of its teachers; what is left is their mutual information with the action
    (their generalised Jensen-Shannon divergence: "Divergence measures based on the Shannon entropy",
    https://doi.org/10.1109/18.61115). 0 where one teacher is certain. Times ln 2 it is the floor of a loss in nats;
    over states it is averaged by how often the student meets them.

    Args:
      prob: [..., N] of each codebook, or session, in that state.
      policies: [..., N, A] what the teacher who has it in context plays there.
    """
    prob, policies = _distributions(prob), _distributions(policies)
    mean = (prob[..., None] * policies).sum(axis=-2)
    return entropy(mean) - (prob * entropy(policies)).sum(axis=-1)


def check_shared(retained: np.ndarray, codebooks: np.ndarray, *, num_answers: int) -> None:
    """Refuses one policy for several codebooks that retains more of them, in the mean, than any one can.

    That is H(z) less the privilege floor of each key: one answer for teachers that differ.

    Args:
      retained: [N] `retained_bits` of the policy of each codebook.
      codebooks: [N, K].
      num_answers: A.

    Raises:
      LeakError: it is more, so they were not one policy.
    """
    open_bits = shared_floor(codebooks, num_answers=num_answers)
    most = (math.log2(num_answers) - open_bits) * np.shape(codebooks)[-1]
    if not np.mean(retained) <= most + 1e-6:
        raise LeakError(
            f"a student shared by {len(codebooks)} jobs retains {np.mean(retained):.3f} bits of each, and one policy "
            f"can hold {most:.3f}: look for what tells it which of the jobs it is in"
        )


def shared_floor(codebooks: np.ndarray, *, num_answers: int) -> float:
    """Returns I(A; Z | S) in bits an answer, the mean over keys of `privilege_floor`, where a student meets each of
    several codebooks [N, K] as often and nothing tells it which it is in."""
    policies = certain(codebooks, num_answers).swapaxes(0, 1)
    return float(privilege_floor(np.full(policies.shape[:2], 1 / policies.shape[1]), policies).mean())


def check_no_leak(retained: np.ndarray, available: np.ndarray, *, false_alarm: float = 1e-4) -> None:
    """Refuses policies that retain more than the data could tell, beyond what luck explains.

    Without a leak the codebook is distributed as the reader believes, so 2 ** (retained - available) is 1 or less in
    the mean, for any policies that follow from the data, and so are its product over independent jobs, which adds up
    small leaks, its mean over jobs, which a job answered surely and wrongly does not drown, and the mean of these two:
    by Markov's inequality that exceeds 1 / p with probability p at most.

    Args:
      retained: [J] `retained_bits(policy, certain(codebook))` of each job.
      available: [J] `retained_bits(belief, certain(codebook))` of a perfect reader of all real transitions that the
        policy's training saw of the job, the student's own too; where codebooks are never redrawn, I(data; z).
      false_alarm: probability of an error though nothing leaked.

    Raises:
      LeakError: the surplus cannot be luck.
    """
    retained, available = np.broadcast_arrays(np.asarray(retained, float), np.asarray(available, float))
    if not np.isfinite(available).all():
        raise ValueError(
            f"available is {available}: bits that the data could tell are finite, unless a reader's belief contradicts "
            "the codebook; read each job's session by itself, under its own codebook"
        )
    surplus = retained - available
    product, mean = surplus.sum(), np.logaddexp2.reduce(surplus) - math.log2(surplus.size)
    evidence, allowed = np.logaddexp2(product, mean) - 1, math.log2(1 / false_alarm)
    if not evidence <= allowed:
        worst = int(np.argmax(surplus))
        raise LeakError(
            f"{surplus.size} job(s) retain more than the data could tell: by {evidence:.2f} bits, where luck explains "
            f"{allowed:.2f} but once in {1 / false_alarm:.0f}; job {worst} has {retained.flat[worst]:.2f} of "
            f"{available.flat[worst]:.2f} available. Look for the codebook, or real transitions that nobody counted, "
            "in what was learned from."
        )


def _distributions(prob: np.ndarray) -> np.ndarray:
    prob = np.asarray(prob, np.float64)
    total = prob.sum(axis=-1)
    if not ((prob >= 0).all() and (abs(total - 1) < 1e-4).all()):
        raise ValueError(
            "probabilities of answers are not distributions (some are NaN or negative, or do not sum to 1): "
            "transitions of different codebooks read as one give that; read each job's session by itself."
        )
    return prob / total[..., None]


def _x_log2_y(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns x * log2(y), 0 where x is, and -inf where y is 0 and x is not."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(x > 0, x * np.log2(y), 0.0)
