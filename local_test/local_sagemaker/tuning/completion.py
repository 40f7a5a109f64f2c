"""When a tuning job is done before its number of training jobs: its completion criteria."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# The service does not say how it detects convergence; here the last jobs have not moved the best by more than a share
# of all that was seen.
CONVERGENCE_JOBS = 10
CONVERGENCE_SHARE = 0.01


@dataclass(frozen=True)
class CompletionCriteria:
    """When to complete.

    Attributes:
        is_maximized: the objective's direction.
        target: an objective that is good enough.
        not_improving: after how many jobs in a row that were no better than the best before.
        on_convergence: whether to complete when nothing better is to be expected.
    """

    is_maximized: bool
    target: float | None = None
    not_improving: int | None = None
    on_convergence: bool = False

    def reached(self, objectives: Sequence[float]) -> str | None:
        """Why to complete, in words, or None.

        Args:
            objectives: of the jobs that have ended, in the order of their ends.
        """
        values = [value if self.is_maximized else -value for value in objectives]
        if self.target is not None and values:
            target = self.target if self.is_maximized else -self.target
            if max(values) >= target:
                return f"the objective has reached {self.target:g}"
        if self.not_improving is not None and jobs_not_improving(values) >= self.not_improving:
            return f"{self.not_improving} training jobs have not improved the objective"
        if self.on_convergence and has_converged(values):
            return "the objective has converged"
        return None


def read_completion_criteria(config: Mapping[str, Any], *, is_maximized: bool) -> CompletionCriteria:
    """The criteria of a HyperParameterTuningJobConfig."""
    document = config.get("TuningJobCompletionCriteria") or {}
    return CompletionCriteria(
        is_maximized,
        document.get("TargetObjectiveMetricValue"),
        (document.get("BestObjectiveNotImproving") or {}).get("MaxNumberOfTrainingJobsNotImproving"),
        (document.get("ConvergenceDetected") or {}).get("CompleteOnConvergence") == "Enabled",
    )


def jobs_not_improving(values: Sequence[float]) -> int:
    """How many jobs have ended since the best one; more is better."""
    if not values:
        return 0
    return len(values) - 1 - values.index(max(values))


def has_converged(values: Sequence[float]) -> bool:
    """Whether the best has hardly become better over the last jobs, after as many before them; more is better."""
    if len(values) < 2 * CONVERGENCE_JOBS:
        return False
    before = max(values[:-CONVERGENCE_JOBS])
    spread = max(values) - min(values)
    return max(values) - before <= CONVERGENCE_SHARE * spread
