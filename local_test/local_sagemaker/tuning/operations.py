"""The operations of the API on hyperparameter tuning jobs.

Source: API reference, CreateHyperParameterTuningJob, DescribeHyperParameterTuningJob, ListHyperParameterTuningJobs,
StopHyperParameterTuningJob, ListTrainingJobsForHyperParameterTuningJob.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from local_sagemaker.api.answers import list_page, prune
from local_sagemaker.errors import ValidationError
from local_sagemaker.state.records import Kind, Record
from local_sagemaker.state.stop import stop_job
from local_sagemaker.training.local_options import LocalOptions, write_local_options
from local_sagemaker.training.metrics import compile_definitions
from local_sagemaker.tuning.completion import read_completion_criteria
from local_sagemaker.tuning.definitions import OBJECTIVE_HYPERPARAMETER, check_limits, read_definitions
from local_sagemaker.tuning.standing import counters, objective_value, standing, summarize, training_jobs
from local_sagemaker.tuning.training_request import resources_of
from local_sagemaker.tuning.warm_start import check_parents, overall_best

if TYPE_CHECKING:
    from local_sagemaker.state.workspace import Workspace

KIND = Kind.TUNING_JOB
BY_OBJECTIVE = "FinalObjectiveMetricValue"


def create_tuning_job(
    workspace: Workspace, request: dict[str, Any], options: LocalOptions | None = None
) -> dict[str, Any]:
    """Make the record of a tuning job; it is run by ``local_sagemaker.state.runner``.

    Args:
        workspace: where.
        request: CreateHyperParameterTuningJob's, which holds to the service's model.
        options: what the requests of its training jobs cannot say.

    Raises:
        ValidationError, ResourceLimitExceededError: if the service would refuse the request all the same.
        ResourceInUseError: if there is a tuning job of this name.
    """
    name = request["HyperParameterTuningJobName"]
    check_tuning_job(workspace, request)
    arn = workspace.arn(KIND, name)
    description = {
        **_completed(request),
        "HyperParameterTuningJobArn": arn,
        "HyperParameterTuningJobStatus": "InProgress",
        **counters(()),
        "ConsumedResources": {"RuntimeInSeconds": 0},
    }
    workspace.store.create(KIND, name, request, description)
    write_local_options(options or LocalOptions(), workspace.directory_of(KIND, name))
    return {"HyperParameterTuningJobArn": arn}


def _completed(request: dict[str, Any]) -> dict[str, Any]:
    """The request as it is described: each definition names its objective and its resources, as SDKs rely on."""
    completed = {key: value for key, value in request.items() if key != "Tags"}
    objectives = [
        {
            **one.document,
            "StaticHyperParameters": {**one.static, OBJECTIVE_HYPERPARAMETER: one.metric},
            "ResourceConfig": resources_of(one.document),
        }
        for one in read_definitions(request)
    ]
    config = {"TrainingJobEarlyStoppingType": "Off", **request["HyperParameterTuningJobConfig"]}
    definitions: dict[str, Any] = (
        {"TrainingJobDefinition": objectives[0]}
        if "TrainingJobDefinition" in request
        else {"TrainingJobDefinitions": objectives}
    )
    return {**completed, "HyperParameterTuningJobConfig": config, **definitions}


def check_tuning_job(workspace: Workspace, request: dict[str, Any]) -> None:
    """Check a request against what the service's model cannot say.

    Raises:
        ValidationError, ResourceLimitExceededError: naming what is wrong.
    """
    definitions = read_definitions(request)
    check_limits(request, definitions)
    for definition in definitions:
        metrics = definition.document["AlgorithmSpecification"].get("MetricDefinitions") or ()
        compile_definitions({one["Name"]: one["Regex"] for one in metrics})
    config = request["HyperParameterTuningJobConfig"]
    criteria = read_completion_criteria(config, is_maximized=definitions[0].is_maximized)
    several = len({(one.metric, one.is_maximized) for one in definitions}) > 1
    if several and criteria.target is not None:
        raise ValidationError(
            "TargetObjectiveMetricValue needs the same objective in all TrainingJobDefinitions.", "leave it out"
        )
    check_parents(workspace, request, definitions)


def describe_tuning_job(workspace: Workspace, request: dict[str, Any]) -> dict[str, Any]:
    """What is known of a tuning job now.

    Raises:
        ResourceNotFoundError: if there is none.
    """
    record = workspace.store.get(KIND, request["HyperParameterTuningJobName"])
    return prune("DescribeHyperParameterTuningJob", described(workspace, record))


def described(workspace: Workspace, record: Record) -> dict[str, Any]:
    """A tuning job's description, counted anew from its training jobs."""
    known = standing(workspace, record)
    overall = overall_best(workspace, record, known.get("BestTrainingJob"))
    return {**record.description, **known, **({"OverallBestTrainingJob": overall} if overall else {})}


def list_tuning_jobs(workspace: Workspace, request: dict[str, Any]) -> dict[str, Any]:
    """The tuning jobs that the request asks for, a page at a time."""

    def summary(record: Record) -> dict[str, Any]:
        config = record.request["HyperParameterTuningJobConfig"]
        limits = {"Strategy": config["Strategy"], "ResourceLimits": config["ResourceLimits"]}
        return {**record.description, **standing(workspace, record), **limits}

    return list_page("ListHyperParameterTuningJobs", KIND, workspace.store.find(KIND), request, summary)


def stop_tuning_job(workspace: Workspace, request: dict[str, Any]) -> dict[str, Any]:
    """Ask for a tuning job's end and that of its training jobs; one that nobody runs yet has ended at once.

    Raises:
        ResourceNotFoundError: if there is none.
        ValidationError: if it has ended.
    """
    stop_job(workspace, KIND, request["HyperParameterTuningJobName"])
    return {}


def list_training_jobs_of_tuning_job(workspace: Workspace, request: dict[str, Any]) -> dict[str, Any]:
    """The training jobs of a tuning job, a page at a time.

    Raises:
        ResourceNotFoundError: if there is no such tuning job.
    """
    record = workspace.store.get(KIND, request["HyperParameterTuningJobName"])
    definitions = read_definitions(record.request)
    jobs = training_jobs(workspace, record.name)
    summaries = {one.name: summarize(one, definitions) for one in jobs}
    asked = dict(request)
    if asked.get("SortBy") == BY_OBJECTIVE:
        # A page is sorted by the time of creation, so the objective takes its place; jobs without one are not listed.
        values = {name: objective_value(summary) for name, summary in summaries.items()}
        jobs = [replace(one, created_at=value) for one in jobs if (value := values[one.name]) is not None]
        asked["SortBy"] = "CreationTime"
    operation = "ListTrainingJobsForHyperParameterTuningJob"
    return list_page(operation, Kind.TRAINING_JOB, jobs, asked, lambda one: summaries[one.name])
