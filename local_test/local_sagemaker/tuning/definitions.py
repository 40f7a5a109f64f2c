"""What a tuning job searches: one training job definition or several, each with its objective and its ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local_sagemaker.errors import ResourceLimitExceededError, ValidationError
from local_sagemaker.tuning.ranges import CategoricalRange, Range, read_ranges

OBJECTIVE_HYPERPARAMETER = "_tuning_objective_metric"
# The names that the service knows the number of epochs by.
EPOCH_NAMES = ("epochs", "numepochs", "n-epochs", "n_epochs", "num_epochs")
MAX_RESOURCE = 20_000
MAX_PARALLEL_JOBS = 100
MAX_JOBS = 750
MAX_RANDOM_JOBS = 10_000


@dataclass(frozen=True)
class Resources:
    """How many values of its objective a training job under Hyperband may report, one per epoch."""

    low: int
    high: int


@dataclass(frozen=True)
class Definition:
    """One training job definition of a tuning job.

    Attributes:
        name: told apart by it where there are several; empty where there is one only.
        document: as requested.
        metric: the objective's name.
        is_maximized: the objective's direction.
        ranges: what is searched.
        static: what every training job gets.
        resources: what Hyperband gives a job; None for other strategies.
    """

    name: str
    document: Mapping[str, Any]
    metric: str
    is_maximized: bool
    ranges: tuple[Range, ...]
    static: Mapping[str, str]
    resources: Resources | None = None

    @property
    def size(self) -> float:
        """How many different training jobs there are; infinite where a range is continuous."""
        return math.prod(one.size for one in self.ranges)

    def is_better(self, one: float, other: float) -> bool:
        """Whether an objective is better than another one."""
        return one > other if self.is_maximized else one < other


def read_definitions(request: Mapping[str, Any]) -> tuple[Definition, ...]:
    """The definitions of a CreateHyperParameterTuningJob request.

    Raises:
        ValidationError: where the service would refuse the request.
    """
    config = request["HyperParameterTuningJobConfig"]
    single, several = request.get("TrainingJobDefinition"), request.get("TrainingJobDefinitions")
    if (single is None) == (several is None):
        raise ValidationError(
            "Exactly one of TrainingJobDefinition and TrainingJobDefinitions must be given.", "give one of them"
        )
    if single is not None:
        objective, ranges = config.get("HyperParameterTuningJobObjective"), config.get("ParameterRanges")
        where = "HyperParameterTuningJobConfig"
        return (_read_definition(request, single, objective, ranges, where, single.get("DefinitionName", "")),)
    return tuple(
        _read_definition(
            request,
            document,
            document.get("TuningObjective"),
            document.get("HyperParameterRanges"),
            f"TrainingJobDefinitions.{number}",
            name,
        )
        for number, (document, name) in enumerate(zip(several or (), _definition_names(several or ()), strict=True), 1)
    )


def check_limits(request: Mapping[str, Any], definitions: tuple[Definition, ...]) -> None:
    """Check the strategy against its limits.

    Raises:
        ValidationError, ResourceLimitExceededError: where the service would refuse the request.
    """
    config = request["HyperParameterTuningJobConfig"]
    strategy, limits = config["Strategy"], config["ResourceLimits"]
    most = limits.get("MaxNumberOfTrainingJobs")
    if strategy == "Grid":
        _check_grid(definitions, most)
    elif most is None and not _ends_by_itself(request):
        raise ValidationError(
            "ResourceLimits must have MaxNumberOfTrainingJobs or MaxRuntimeInSeconds, or there must be "
            "TuningJobCompletionCriteria: else the tuning job would not end.",
            "say how many training jobs there are to be",
        )
    if strategy == "Hyperband" and config.get("TrainingJobEarlyStoppingType", "Off") != "Off":
        raise ValidationError(
            "TrainingJobEarlyStoppingType must be Off with the strategy Hyperband, which stops training jobs itself.",
            "leave TrainingJobEarlyStoppingType out",
        )
    if config.get("StrategyConfig", {}).get("HyperbandStrategyConfig") and strategy != "Hyperband":
        raise ValidationError(
            f"HyperbandStrategyConfig is for the strategy Hyperband, and Strategy is {strategy}.", "leave it out"
        )
    allowed = MAX_RANDOM_JOBS if strategy == "Random" else MAX_JOBS
    for name, value, limit in (
        ("MaxNumberOfTrainingJobs", most or 0, allowed),
        ("MaxParallelTrainingJobs", limits["MaxParallelTrainingJobs"], MAX_PARALLEL_JOBS),
    ):
        if value > limit:
            raise ResourceLimitExceededError(
                f"{name} is {value}; a tuning job with the strategy {strategy} has at most {limit}.", "ask for fewer"
            )


def number_of_jobs(request: Mapping[str, Any], definitions: tuple[Definition, ...]) -> float:
    """How many training jobs there are to be; infinite where something else ends the tuning job."""
    most = request["HyperParameterTuningJobConfig"]["ResourceLimits"].get("MaxNumberOfTrainingJobs")
    return min(most or math.inf, sum(one.size for one in definitions))


def _definition_names(documents: Sequence[Mapping[str, Any]]) -> list[str]:
    names = [document.get("DefinitionName", "") for document in documents]
    if not all(names):
        raise ValidationError("Each of TrainingJobDefinitions must have a DefinitionName.", "name them")
    if len(set(names)) < len(names):
        raise ValidationError(f"The DefinitionNames {', '.join(names)} must be unique.", "rename one of them")
    return names


def _read_definition(
    request: Mapping[str, Any],
    document: Mapping[str, Any],
    objective: Mapping[str, Any] | None,
    ranges_document: Mapping[str, Any] | None,
    where: str,
    name: str,
) -> Definition:
    if objective is None:
        raise ValidationError(f"{where} has no tuning objective.", "give its Type and MetricName")
    if (ranges_document or {}).get("AutoParameters") and "Autotune" not in request:
        raise ValidationError("AutoParameters need Autotune with Mode Enabled.", "add Autotune, or give ranges")
    ranges = read_ranges(ranges_document or {}, where)
    static = dict(document.get("StaticHyperParameters") or {})
    _check_metric(document, objective["MetricName"])
    _check_hyperparameters(ranges, static, where)
    resources = None
    if request["HyperParameterTuningJobConfig"]["Strategy"] == "Hyperband":
        resources = _read_resources(request["HyperParameterTuningJobConfig"], static)
    maximized = objective["Type"] == "Maximize"
    return Definition(name, document, objective["MetricName"], maximized, ranges, static, resources)


def _check_metric(document: Mapping[str, Any], metric: str) -> None:
    defined = [one["Name"] for one in document["AlgorithmSpecification"].get("MetricDefinitions") or ()]
    if metric not in defined:
        raise ValidationError(
            f"The objective metric {metric!r} is not among the MetricDefinitions of the training job definition "
            f"({', '.join(defined) or 'there are none'}).",
            "define it with a regular expression that finds it in the job's log",
        )


def _check_hyperparameters(ranges: tuple[Range, ...], static: Mapping[str, str], where: str) -> None:
    both = sorted(static.keys() & {one.name for one in ranges})
    if both:
        raise ValidationError(
            f"Hyperparameter {both[0]} is static and has a range in {where}; it can be only one of these.",
            "remove one of the two",
        )
    if not ranges:
        raise ValidationError(f"{where} has no ranges: there is nothing to search.", "give at least one range")
    if OBJECTIVE_HYPERPARAMETER in static or any(one.name == OBJECTIVE_HYPERPARAMETER for one in ranges):
        raise ValidationError(
            f"Hyperparameter {OBJECTIVE_HYPERPARAMETER} is set by the tuning job.", "leave it out of the request"
        )


def _check_grid(definitions: tuple[Definition, ...], most: int | None) -> None:
    for definition in definitions:
        other = next((one.name for one in definition.ranges if not isinstance(one, CategoricalRange)), None)
        if other is not None:
            raise ValidationError(
                f"Hyperparameter {other} is not categorical; the strategy Grid takes categorical ranges only.",
                "list its values as a categorical range",
            )
    combinations = int(sum(one.size for one in definitions))
    if most is not None and most != combinations:
        raise ValidationError(
            f"MaxNumberOfTrainingJobs is {most}; with the strategy Grid it must be the number of combinations, "
            f"which is {combinations}.",
            "leave MaxNumberOfTrainingJobs out",
        )
    if combinations > MAX_JOBS:
        raise ResourceLimitExceededError(
            f"The grid has {combinations} combinations; a tuning job has at most {MAX_JOBS}.", "list fewer values"
        )


def _read_resources(config: Mapping[str, Any], static: Mapping[str, str]) -> Resources:
    given = config.get("StrategyConfig", {}).get("HyperbandStrategyConfig", {})
    high = given.get("MaxResource")
    if high is None:
        epochs = next((static[name] for name in EPOCH_NAMES if static.get(name, "").isdigit()), None)
        if epochs is None:
            raise ValidationError(
                "MaxResource of HyperbandStrategyConfig is missing and cannot be inferred from the static "
                f"hyperparameters: none of {', '.join(EPOCH_NAMES)} is among them.",
                "give MaxResource, or the number of epochs as a static hyperparameter",
            )
        high = int(epochs)
    low = given.get("MinResource", 1)
    if not low < high <= MAX_RESOURCE:
        raise ValidationError(
            f"MinResource is {low} and MaxResource {high}; MinResource must be less than MaxResource, "
            f"and this at most {MAX_RESOURCE}.",
            "correct HyperbandStrategyConfig",
        )
    return Resources(low, high)


def _ends_by_itself(request: Mapping[str, Any]) -> bool:
    config = request["HyperParameterTuningJobConfig"]
    return bool(
        config["ResourceLimits"].get("MaxRuntimeInSeconds")
        or config.get("TuningJobCompletionCriteria")
        or "Autotune" in request
    )
