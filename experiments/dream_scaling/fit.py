"""How a score rises with the dream ratio: a fit between two known ends, and what the last of the dreams added."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.statistics import middle_mean

NUM_DRAWS = 500
"""Bootstrap draws of the seeds behind each interval."""
REACH = 256
"""How far beyond the ratios that were measured the halfway one may lie, as a factor."""
MOST_GROWTH = 100.0
"""The steepest rise: of the odds by four times the dreams, a step as far as ratios four apart can tell."""
_NUM_HALFWAY, _NUM_GROWTH = 400, 60  # candidates

Scores = Mapping[int, Sequence[float]]
"""Dream ratio, 1 or more -> final returns, one a seed."""
Summary = tuple[float, float, float]
"""(value, lower, upper end of its 95 % bootstrap interval)"""


def rise(scores: Scores, *, low: float, high: float) -> tuple[Summary, Summary]:
    """Returns the ratio at which half of the way from `low` to `high` is made, and by how much four times the dreams
    multiply the odds, (score - low) / (high - score).

    Both by least squares over all seeds, of a logistic function of the logarithm of the ratio, among candidates a
    few hundredths apart. A halfway ratio further than `REACH` from those measured is put there: such a value is a
    bound, and so is a growth of `MOST_GROWTH`.

    Args:
      scores: at two ratios or more.
      low: the score of an agent that learned nothing.
      high: the most that can be scored, above `low`.
    """
    ratios = sorted(scores)
    seeds = [np.asarray(scores[ratio], float) for ratio in ratios]
    weight = np.array([len(own) for own in seeds])
    tried = np.stack(
        np.meshgrid(
            np.geomspace(ratios[0] / REACH, ratios[-1] * REACH, _NUM_HALFWAY), np.geomspace(1, MOST_GROWTH, _NUM_GROWTH)
        ),
        axis=-1,
    ).reshape(-1, 1, 2)
    says = curve(np.array(ratios), tried[..., 0], tried[..., 1], low=low, high=high)  # [candidates, ratios]
    rng = np.random.default_rng(0)

    def fitted(drawn: Sequence[np.ndarray]) -> np.ndarray:
        means = np.array([own.mean() for own in drawn])  # what lies about a mean is in every candidate's error
        return tried[np.argmin((weight * says * (says - 2 * means)).sum(axis=1)), 0]

    drawn = np.array([fitted([rng.choice(own, len(own)) for own in seeds]) for _ in range(NUM_DRAWS)])
    ends = np.percentile(drawn, [2.5, 97.5], axis=0)
    halfway, growth = ((float(value), *bounds) for value, bounds in zip(fitted(seeds), ends.T, strict=True))
    return halfway, growth


def curve(ratios: np.ndarray, halfway: float, growth: float, *, low: float, high: float) -> np.ndarray:
    """Returns the fitted score at each of `ratios` [R], with the two numbers of `rise`."""
    return low + (high - low) / (1 + growth ** -(np.log(ratios / halfway) / math.log(4)))


def last_step(scores: Scores) -> Summary:
    """Returns the IQM at the largest ratio less the one before it: below 0 where more dreams cost something."""
    before, last = (scores[ratio] for ratio in sorted(scores)[-2:])
    low, high = np.percentile(drawn_means(last, 0) - drawn_means(before, 1), [2.5, 97.5])
    return float(middle_mean(last) - middle_mean(before)), float(low), float(high)


def drawn_means(scores: Sequence[float], seed: int) -> np.ndarray:
    """Returns [NUM_DRAWS] interquartile means of seeds drawn with replacement."""
    drawn = np.random.default_rng(seed).choice(np.asarray(scores, float), (NUM_DRAWS, len(scores)))
    return np.asarray(middle_mean(drawn, axis=1))
