"""The CreateHyperParameterTuningJob request that flags, or a document and flags, amount to.

Source: API reference, CreateHyperParameterTuningJob.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from local_sagemaker.api.documents import merge
from local_sagemaker.errors import UsageError
from local_sagemaker.tuning.shorthand import expression_of
from local_sagemaker.tuning.training_request import SAME_MEMBERS

MAX_NAME = 32
NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,31}")
DEFAULT_JOBS = 12


@dataclass(frozen=True)
class TuningFlags:
    """What a user says about a tuning job besides its request document; None, or nothing, is not said.

    Attributes:
        objective: as the API has it.
        ranges: as the API has them.
        early_stopping: whether jobs that are behind are stopped.
        max_seconds: of the whole tuning job.
        target: an objective that is good enough.
        patience: how many jobs in a row may be no better than the best.
        least_epochs: what Hyperband gives a job at least.
        most_epochs: what Hyperband gives a job at most.
        parents: the tuning jobs to take over from.
    """

    objective: Mapping[str, str] | None = None
    ranges: Mapping[str, Any] = field(default_factory=dict)
    strategy: str | None = None
    jobs: int | None = None
    parallel: int | None = None
    early_stopping: bool = False
    seed: int | None = None
    max_seconds: int | None = None
    target: float | None = None
    patience: int | None = None
    least_epochs: int | None = None
    most_epochs: int | None = None
    parents: tuple[str, ...] = ()
    warm_start_type: str = "IdenticalDataAndAlgorithm"


def tuning_request(
    flags: TuningFlags, name: str, training: Mapping[str, Any] | None, document: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The request of a tuning job.

    Args:
        flags: they win over the document.
        name: the tuning job's.
        training: the CreateTrainingJob request that its training jobs resemble; None leaves the document's.
        document: the user's request, or None.

    Raises:
        UsageError: if neither flags nor a document name an objective.
    """
    known = document if document is not None else _defaults(flags)
    request = merge(known, {"HyperParameterTuningJobName": name, "HyperParameterTuningJobConfig": _config(flags)})
    if flags.parents:
        parents = [{"HyperParameterTuningJobName": parent} for parent in flags.parents]
        request["WarmStartConfig"] = {
            "ParentHyperParameterTuningJobs": parents,
            "WarmStartType": flags.warm_start_type,
        }
    if training is not None:
        config = request.get("HyperParameterTuningJobConfig", {})
        own = request.get("TrainingJobDefinition", {})
        request["TrainingJobDefinition"] = {**own, **_definition(training, config, own)}
    return request


def training_document(definition: Mapping[str, Any]) -> dict[str, Any]:
    """The CreateTrainingJob request that a training job definition amounts to, without a name."""
    request = {
        key: definition[key] for key in (*SAME_MEMBERS, "ResourceConfig", "CheckpointConfig") if key in definition
    }
    if "StaticHyperParameters" in definition:
        request["HyperParameters"] = dict(definition["StaticHyperParameters"])
    return request


def make_tuning_job_name(project: str, now: datetime) -> str:
    """Name a tuning job after its project and the time, as ``digits-20260131-120102``."""
    stem = re.sub(r"[^a-zA-Z0-9]+", "-", project).strip("-") or "tune"
    stamp = f"{now:%Y%m%d-%H%M%S}"
    return f"{stem[: MAX_NAME - len(stamp) - 1].rstrip('-')}-{stamp}"


def check_tuning_job_name(name: str) -> str:
    """Return ``name`` if it can name a tuning job, else raise UsageError."""
    if len(name) > MAX_NAME or not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a tuning job",
            f"expected 1 to {MAX_NAME} letters, digits and hyphens, with a letter or digit first and last",
            "give another --job-name, or leave it out",
        )
    return name


def _defaults(flags: TuningFlags) -> dict[str, Any]:
    """What a tuning job has where nothing else is said."""
    if flags.objective is None:
        raise UsageError(
            "no --objective", "a tuning job needs to know what is to be improved", "write --objective accuracy:Maximize"
        )
    limits: dict[str, Any] = {"MaxParallelTrainingJobs": 1}
    if flags.strategy != "Grid":
        limits["MaxNumberOfTrainingJobs"] = DEFAULT_JOBS
    return {"HyperParameterTuningJobConfig": {"Strategy": "Bayesian", "ResourceLimits": limits}}


def _config(flags: TuningFlags) -> dict[str, Any]:
    config: dict[str, Any] = {
        "Strategy": flags.strategy,
        "HyperParameterTuningJobObjective": flags.objective,
        "RandomSeed": flags.seed,
        "ResourceLimits": {
            "MaxNumberOfTrainingJobs": flags.jobs,
            "MaxParallelTrainingJobs": flags.parallel,
            "MaxRuntimeInSeconds": flags.max_seconds,
        },
        "ParameterRanges": flags.ranges or None,
        "TrainingJobEarlyStoppingType": "Auto" if flags.early_stopping else None,
        "TuningJobCompletionCriteria": {
            "TargetObjectiveMetricValue": flags.target,
            "BestObjectiveNotImproving": {"MaxNumberOfTrainingJobsNotImproving": flags.patience},
        },
        "StrategyConfig": {
            "HyperbandStrategyConfig": {"MinResource": flags.least_epochs, "MaxResource": flags.most_epochs}
        },
    }
    said: dict[str, Any] = _said(config)
    return said


def _said(value: Any) -> Any:
    """A document without what is None, and without objects of which nothing is left."""
    if not isinstance(value, Mapping):
        return value
    kept = {key: _said(item) for key, item in value.items()}
    return {key: item for key, item in kept.items() if item is not None and item != {}}


def _definition(training: Mapping[str, Any], config: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The definition that makes such training jobs: what is searched is not static, and the objective is found."""
    definition = {key: training[key] for key in SAME_MEMBERS if key in training}
    definition |= {key: training[key] for key in ("ResourceConfig", "CheckpointConfig") if key in training}
    if "HyperParameterTuningResourceConfig" in own:
        definition.pop("ResourceConfig", None)
    searched = {
        entry["Name"] for entries in config.get("ParameterRanges", {}).values() for entry in entries if "Name" in entry
    }
    static = {key: value for key, value in training.get("HyperParameters", {}).items() if key not in searched}
    if static:
        definition["StaticHyperParameters"] = static
    metric = config.get("HyperParameterTuningJobObjective", {}).get("MetricName")
    algorithm = definition.get("AlgorithmSpecification", {})
    defined = algorithm.get("MetricDefinitions", [])
    if metric and metric not in {one.get("Name") for one in defined}:
        own_regex = {"Name": metric, "Regex": expression_of(metric)}
        definition["AlgorithmSpecification"] = {**algorithm, "MetricDefinitions": [*defined, own_regex]}
    return definition
