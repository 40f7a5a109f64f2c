"""When a training job is not worth going on with: the median rule of the platform's early stopping."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

# With fewer jobs to compare with, a median says nothing.
MIN_EARLIER_JOBS = 3


def is_behind(objective: Sequence[float], earlier: Iterable[Sequence[float]], *, is_maximized: bool) -> bool:
    """Whether the newest value is worse than the median of what earlier jobs had on average up to the same epoch.

    Args:
        objective: the job's values so far, one per epoch.
        earlier: those of the jobs that have ended.
        is_maximized: the objective's direction.
    """
    epoch = len(objective)
    if epoch == 0:
        return False
    averages = [_mean(values[:epoch]) for values in earlier if len(values) >= epoch]
    averages = [average for average in averages if math.isfinite(average)]
    if len(averages) < MIN_EARLIER_JOBS:
        return False
    median = statistics.median(averages)
    return not (objective[-1] >= median if is_maximized else objective[-1] <= median)


def _mean(values: Sequence[float]) -> float:
    try:
        return statistics.fmean(values)
    except OverflowError:  # the job has diverged
        return math.fsum(value / len(values) for value in values)
