"""The API's operations on transform jobs: their records are made, told, listed and stopped here, and run elsewhere."""

from __future__ import annotations

from typing import Any

from local_sagemaker.api.answers import list_page, prune
from local_sagemaker.errors import ValidationError
from local_sagemaker.state.records import Kind
from local_sagemaker.state.stop import stop_job
from local_sagemaker.state.workspace import Workspace
from local_sagemaker.transform.pace import refuse_too_much
from local_sagemaker.transform.plan import find_objects, model_containers, plan_data_processing

KIND = Kind.TRANSFORM_JOB
# What Describe answers as it was asked for.
TOLD = (
    "ModelName",
    "MaxConcurrentTransforms",
    "ModelClientConfig",
    "MaxPayloadInMB",
    "BatchStrategy",
    "Environment",
    "TransformInput",
    "TransformOutput",
    "DataCaptureConfig",
    "TransformResources",
    "DataProcessing",
    "ExperimentConfig",
)
DATA_TYPES = ("S3Prefix", "ManifestFile")


def create_transform_job(workspace: Workspace, request: dict[str, Any]) -> dict[str, Any]:
    """Make the record of a transform job, and refuse what could only fail.

    Raises:
        ValidationError: if there is no such model, no object, or a limit or a filter is wrong.
        ResourceInUseError: if the name is taken.
    """
    name = request["TransformJobName"]
    check(workspace, request)
    arn = workspace.arn(KIND, name)
    description = {
        "TransformJobName": name,
        "TransformJobArn": arn,
        "TransformJobStatus": "InProgress",
        **{key: request[key] for key in TOLD if key in request},
    }
    workspace.store.create(KIND, name, request, description)
    return {"TransformJobArn": arn}


def check(workspace: Workspace, request: dict[str, Any]) -> None:
    """Raise ValidationError where the service refuses a request that its model allows."""
    concurrent, payload = request.get("MaxConcurrentTransforms") or 1, request.get("MaxPayloadInMB")
    if payload is not None:
        refuse_too_much(concurrent, payload)
    model_containers(workspace, request["ModelName"])
    source, output = request["TransformInput"]["DataSource"]["S3DataSource"], request["TransformOutput"]
    if source["S3DataType"] not in DATA_TYPES:
        raise ValidationError(
            f"S3DataType {source['S3DataType']} is not supported by transform jobs here.",
            f"use {' or '.join(DATA_TYPES)}",
        )
    plan_data_processing(request)
    any(find_objects(workspace, source, output["S3OutputPath"]))


def describe_transform_job(workspace: Workspace, request: dict[str, Any]) -> dict[str, Any]:
    """The job as it is now.

    Raises:
        ResourceNotFoundError: if there is none of this name.
    """
    return prune("DescribeTransformJob", workspace.store.get(KIND, request["TransformJobName"]).description)


def list_transform_jobs(workspace: Workspace, request: dict[str, Any]) -> dict[str, Any]:
    """The jobs that a request asks for, a page at a time, the newest first unless it says otherwise.

    Raises:
        ValidationError: if its NextToken is none of ours.
    """
    return list_page("ListTransformJobs", KIND, workspace.store.find(KIND), request)


def stop_transform_job(workspace: Workspace, request: dict[str, Any]) -> dict[str, Any]:
    """Ask for the job's end; whoever runs it stops its containers. What is written stays.

    Raises:
        ResourceNotFoundError: if there is none of this name.
        ValidationError: if it has ended.
    """
    stop_job(workspace, KIND, request["TransformJobName"])
    return {}
