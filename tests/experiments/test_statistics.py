import numpy as np
import pytest

from experiments import table
from experiments.statistics import interquartile_mean, median


def test_by_hand():
    centre, low, high = interquartile_mean([0, 1, 2, 3, 4, 5, 6, 1000])  # the middle half: 2, 3, 4, 5
    assert centre == 3.5
    assert low <= centre <= high
    assert median([1, 2, 100])[0] == 2
    assert median([1, 3])[0] == 2


@pytest.mark.parametrize("statistic", [interquartile_mean, median])
def test_no_spread_no_width_and_one_value_no_interval(statistic):
    assert statistic([5.0] * 4) == (5.0, 5.0, 5.0)
    np.testing.assert_equal(statistic([5.0]), (5.0, np.nan, np.nan))
    assert table.interval(statistic([5.0])) == "5.00 [one seed]"


@pytest.mark.parametrize("statistic", [interquartile_mean, median])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(statistic):
    rng = np.random.default_rng(0)
    covered = [low <= 0 <= high for _, low, high in (statistic(rng.normal(size=20)) for _ in range(60))]
    assert np.mean(covered) > 0.8


def test_equal_rows_give_equal_figures():
    values = np.random.default_rng(1).normal(size=5)
    assert interquartile_mean(values) == interquartile_mean(values)


@pytest.mark.parametrize("values", [[], [1.0, np.nan], [np.inf]])
def test_nothing_to_summarise(values):
    with pytest.raises(ValueError, match="give at least one number, all finite"):
        median(values)
