"""What is said of several seeds: interquartile means and medians with bootstrap intervals."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

Summary = tuple[float, float, float]


def middle_mean(values: Sequence[float], axis: int = 0) -> np.floating | np.ndarray:
    """Returns the mean of the middle half along an axis of `values` [...], without an interval."""
    return stats.trim_mean(values, 0.25, axis=axis)


def interquartile_mean(values: Sequence[float]) -> Summary:
    """Returns (mean of the middle half, lower, upper end of its 95 % bootstrap interval).

    "Deep RL at the edge of the statistical precipice" (https://arxiv.org/abs/2108.13264). One value says nothing of
    others: both ends are NaN.
    """
    return _with_interval(values, middle_mean)


def median(values: Sequence[float]) -> Summary:
    """Returns (median, lower, upper end of its 95 % bootstrap interval); of one value both ends are NaN."""
    return _with_interval(values, np.median)


def _with_interval(values: Sequence[float], statistic: Callable) -> Summary:
    sample = np.asarray(values, np.float64)
    if sample.size == 0 or not np.isfinite(sample).all():
        raise ValueError(f"cannot summarise {list(values)}: give at least one number, all finite")
    centre = float(statistic(sample, axis=0))
    if sample.size == 1:
        return centre, math.nan, math.nan
    if np.ptp(sample) == 0:
        return centre, centre, centre
    interval = stats.bootstrap(
        (sample,), statistic, n_resamples=2000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return centre, float(interval.low), float(interval.high)
