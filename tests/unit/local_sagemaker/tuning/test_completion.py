"""When a tuning job completes before all its training jobs have run."""

import pytest
from local_sagemaker.tuning.completion import has_converged, jobs_not_improving, read_completion_criteria


def criteria(*, is_maximized=False, **document):
    return read_completion_criteria({"TuningJobCompletionCriteria": document}, is_maximized=is_maximized)


@pytest.mark.parametrize(
    ("is_maximized", "objectives", "reached"),
    [(False, [3, 2], True), (False, [3, 2.1], False), (True, [1, 2], True), (True, [1, 1.9], False), (True, [], False)],
)
def test_a_target_is_reached_in_the_objectives_direction(is_maximized, objectives, reached):
    """24.7."""
    found = criteria(is_maximized=is_maximized, TargetObjectiveMetricValue=2.0).reached(objectives)
    assert (found == "the objective has reached 2") == reached


def test_jobs_that_do_not_improve_are_counted_since_the_best():
    """24.7."""
    assert [jobs_not_improving(values) for values in ([], [1], [1, 1, 0], [1, 2, 0, 3])] == [0, 0, 2, 0]
    rule = criteria(BestObjectiveNotImproving={"MaxNumberOfTrainingJobsNotImproving": 3})
    assert rule.reached([5, 4, 4, 4]) is None
    assert rule.reached([5, 4, 4, 4, 4]) == "3 training jobs have not improved the objective"


def test_convergence_is_ten_jobs_that_hardly_move_the_best():
    """24.7."""
    moving = [float(place) for place in range(20)]
    settled = [*moving[:10], *([9.0] * 10)]
    assert not has_converged(moving)
    assert not has_converged(settled[:-1])
    assert has_converged(settled)
    rule = criteria(is_maximized=True, ConvergenceDetected={"CompleteOnConvergence": "Enabled"})
    assert rule.reached(settled) == "the objective has converged"
    assert criteria(is_maximized=True).reached(settled) is None
