"""How a score rises with the dream ratio: a fit between two known ends, and what the last of the dreams added."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.statistics import Summary, middle_mean

NUM_DRAWS = 500
"""Bootstrap draws of the seeds behind each interval."""
MOST_GROWTH = 100.0
"""The steepest rise: of the odds by four times the dreams, a step as far as ratios four apart can tell."""
_REACH = 256  # times beyond the ratios that were measured the halfway one may lie
_NUM_HALFWAY, _NUM_GROWTH = 400, 60  # candidates

Scores = Mapping[int, Sequence[float]]
"""Dream ratio, 1 or more -> final returns, one a seed."""


def rise(scores: Scores, *, low: float, high: float) -> tuple[Summary, Summary]:
    """Returns the ratio at which half of the way from `low` to `high` is made, and by how much four times the dreams
    multiply the odds, (score - low) / (high - score).

    Each as (value, lower, upper end of its 95 % bootstrap interval over seeds, NaN where a ratio has one seed). Both by
    least squares over all seeds, hence to means and not to interquartile ones, of a logistic function of the logarithm
    of the ratio, among candidates a few hundredths apart. Where scores do not rise there is no halfway ratio: infinity.

    Args:
      scores: at two ratios or more.
      low: the score of an agent that learned nothing, taken as known.
      high: the most that can be scored, above `low`.
    """
    ratios = sorted(scores)
    seeds = [np.asarray(scores[ratio], float) for ratio in ratios]
    weight = np.array([len(own) for own in seeds])
    halfways = np.geomspace(ratios[0] / _REACH, ratios[-1] * _REACH, _NUM_HALFWAY)
    tried = np.stack(np.meshgrid(halfways, np.geomspace(1, MOST_GROWTH, _NUM_GROWTH)), axis=-1).reshape(-1, 2)
    says = curve(np.array(ratios), tried[:, :1], tried[:, 1:], low=low, high=high)  # [candidates, ratios]

    def fitted(drawn: Sequence[np.ndarray]) -> np.ndarray:
        means = np.array([own.mean() for own in drawn])  # what lies about a mean is in every candidate's error
        halfway, growth = tried[np.argmin((weight * says * (says - 2 * means)).sum(axis=1))]
        return np.array([halfway if growth > 1 else math.inf, growth])

    measured, ends = fitted(seeds), np.full((2, 2), math.nan)
    if weight.min() > 1:
        rng = np.random.default_rng(0)
        drawn = [fitted([rng.choice(own, len(own)) for own in seeds]) for _ in range(NUM_DRAWS)]
        ends = np.percentile(drawn, [2.5, 97.5], axis=0, method="nearest")  # infinities have no mean
    halfway, growth = ((float(value), *map(float, own)) for value, own in zip(measured, ends.T, strict=True))
    return halfway, growth


def curve(ratios: np.ndarray, halfway: np.ndarray, growth: np.ndarray, *, low: float, high: float) -> np.ndarray:
    """Returns the score at each of `ratios` [R] by a halfway ratio and a growth of the odds, as `rise` fits them."""
    return low + (high - low) / (1 + growth ** -(np.log(ratios / halfway) / math.log(4)))


def last_step(scores: Scores) -> Summary:
    """Returns the IQM at the largest ratio less that at the one before, below 0 where more dreams cost something, and
    the ends of its 95 % bootstrap interval, NaN where either has one seed."""
    before, last = (scores[ratio] for ratio in sorted(scores)[-2:])
    low, high = math.nan, math.nan
    if min(len(before), len(last)) > 1:
        low, high = np.percentile(drawn_means(last, 0) - drawn_means(before, 1), [2.5, 97.5])
    return float(middle_mean(last) - middle_mean(before)), float(low), float(high)


def drawn_means(scores: Sequence[float], seed: int) -> np.ndarray:
    """Returns [NUM_DRAWS] interquartile means of seeds drawn with replacement."""
    drawn = np.random.default_rng(seed).choice(np.asarray(scores, float), (NUM_DRAWS, len(scores)))
    return np.asarray(middle_mean(drawn, axis=1))
