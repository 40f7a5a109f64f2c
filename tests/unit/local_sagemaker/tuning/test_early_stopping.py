"""The median rule."""

import pytest
from local_sagemaker.tuning.early_stopping import is_behind

# On average up to the second epoch: 0.8, 0.6, 0.4; their median is 0.6.
EARLIER = [[1.0, 0.6, 0.1], [0.8, 0.4, 0.1], [0.6, 0.2, 0.1]]


@pytest.mark.parametrize(("value", "behind"), [(0.61, True), (0.6, False), (0.59, False)])
def test_the_newest_value_is_held_against_the_median_of_averages_up_to_the_same_epoch(value, behind):
    """24.6."""
    assert is_behind([0.9, value], EARLIER, is_maximized=False) == behind
    negated = [[-one for one in values] for values in EARLIER]
    assert is_behind([-0.9, -value], negated, is_maximized=True) == behind


def test_jobs_that_ended_before_that_epoch_are_not_compared_with():
    """24.6."""
    assert not is_behind([9.0, 9.0, 9.0, 9.0], EARLIER, is_maximized=False)
    assert not is_behind([9.0, 9.0], [*EARLIER[:2], [0.1]], is_maximized=False)


def test_nothing_is_stopped_before_it_has_a_value():
    """24.6."""
    assert not is_behind([], EARLIER, is_maximized=False)


def test_jobs_that_diverged_do_not_stop_the_comparison():
    """24.6."""
    diverged = [[1.7e308, 1.7e308]] * 3
    assert not is_behind([1.0, 1.0], diverged, is_maximized=False)
    assert is_behind([1.0, 1.0], diverged, is_maximized=True)
