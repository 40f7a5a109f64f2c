"""The operations of the API on training jobs.

Source: API reference, CreateTrainingJob, DescribeTrainingJob, ListTrainingJobs, StopTrainingJob, DeleteTrainingJob.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from local_sagemaker.api.answers import list_page, prune
from local_sagemaker.archive import remove_tree
from local_sagemaker.errors import ValidationError
from local_sagemaker.state.buckets import join_uri
from local_sagemaker.state.records import Kind
from local_sagemaker.state.stop import stop_job
from local_sagemaker.training.local_options import LocalOptions, write_local_options
from local_sagemaker.training.plan import plan_from_request
from local_sagemaker.training.request import DEFAULT_MAX_RUNTIME_SECONDS
from local_sagemaker.training.transitions import begin

if TYPE_CHECKING:
    from local_sagemaker.state.workspace import Workspace

KIND = Kind.TRAINING_JOB
NOT_DESCRIBED = frozenset({"Tags"})


def create_training_job(
    workspace: Workspace, request: dict[str, Any], options: LocalOptions | None = None
) -> dict[str, Any]:
    """Make the record of a training job; it is run by ``local_sagemaker.state.runner``.

    Args:
        workspace: where.
        request: CreateTrainingJob's, which holds to the service's model.
        options: what the request cannot say.

    Raises:
        ValidationError: if the service would refuse the request all the same.
        ResourceInUseError: if there is a job of this name.
    """
    name = request["TrainingJobName"]
    check_stopping(request)
    chosen = options or LocalOptions()
    job = None
    if not workspace.store.find(KIND, name):
        job = plan_from_request(request, workspace, chosen)
    model_uri = job.model_uri if job else ""
    workspace.store.create(KIND, name, request, describe_new(workspace, request, model_uri))
    write_local_options(chosen, workspace.directory_of(KIND, name))
    return {"TrainingJobArn": workspace.arn(KIND, name)}


def check_stopping(request: dict[str, Any]) -> None:
    """Raise ValidationError where the limits do not fit together."""
    stopping = request.get("StoppingCondition", {})
    wait = stopping.get("MaxWaitTimeInSeconds")
    runtime = stopping.get("MaxRuntimeInSeconds", DEFAULT_MAX_RUNTIME_SECONDS)
    if request.get("EnableManagedSpotTraining"):
        if wait is None:
            raise ValidationError("MaxWaitTimeInSeconds must be specified when EnableManagedSpotTraining is true")
        if wait < runtime:
            raise ValidationError(
                f"Invalid MaxWaitTimeInSeconds {wait}. It must be present and be greater than or equal to "
                f"MaxRuntimeInSeconds {runtime}"
            )
    elif wait is not None:
        raise ValidationError("MaxWaitTimeInSeconds is only allowed when EnableManagedSpotTraining is true")


def describe_new(workspace: Workspace, request: dict[str, Any], model_uri: str) -> dict[str, Any]:
    """The description of a job that has just been made, with what the service adds to a request."""
    described = {key: value for key, value in request.items() if key not in NOT_DESCRIBED}
    output = {"KmsKeyId": "", "CompressionType": "GZIP", **request["OutputDataConfig"]}
    stopping = {"MaxRuntimeInSeconds": DEFAULT_MAX_RUNTIME_SECONDS, **request.get("StoppingCondition", {})}
    description: dict[str, Any] = {
        "EnableNetworkIsolation": False,
        "EnableInterContainerTrafficEncryption": False,
        "EnableManagedSpotTraining": False,
        **described,
        "TrainingJobArn": workspace.arn(KIND, request["TrainingJobName"]),
        "ModelArtifacts": {"S3ModelArtifacts": model_uri},
        "OutputDataConfig": output,
        "StoppingCondition": stopping,
        "TrainingJobStatus": "InProgress",
        "ProfilingStatus": "Disabled",
    }
    if request.get("ResourceConfig", {}).get("KeepAlivePeriodInSeconds"):
        description["WarmPoolStatus"] = {"Status": "InUse"}
    begin(description, "Starting", "", time.time())
    return description


def describe_training_job(workspace: Workspace, request: dict[str, Any]) -> dict[str, Any]:
    """What is known of a job now.

    Raises:
        ResourceNotFoundError: if there is none.
    """
    return prune("DescribeTrainingJob", workspace.store.get(KIND, request["TrainingJobName"]).description)


def stop_training_job(workspace: Workspace, request: dict[str, Any]) -> dict[str, Any]:
    """Ask for a job's end; one that nobody runs yet has ended at once.

    Raises:
        ResourceNotFoundError: if there is none.
        ValidationError: if it has ended.
    """
    stop_job(workspace, KIND, request["TrainingJobName"])
    return {}


def delete_training_job(workspace: Workspace, request: dict[str, Any]) -> dict[str, Any]:
    """Forget a job that has ended, with its files; what it left in S3 stays.

    Raises:
        ResourceNotFoundError: if there is none.
        ValidationError: if it has not ended.
    """
    name = request["TrainingJobName"]
    record = workspace.store.get(KIND, name)
    if not record.is_final:
        raise ValidationError(f"The training job {name} is in status {record.status} and cannot be deleted.")
    workspace.buckets.delete_prefix(join_uri(f"s3://{workspace.default_bucket}", name, "input"))
    workspace.buckets.delete(join_uri(f"s3://{workspace.default_bucket}", name, "checkpoints"))
    remove_tree(workspace.directory_of(KIND, name))
    workspace.store.delete(KIND, name)
    return {}


def list_training_jobs(workspace: Workspace, request: dict[str, Any]) -> dict[str, Any]:
    """The jobs that the request asks for, a page at a time."""
    records = workspace.store.find(KIND)
    pool = request.get("WarmPoolStatusEquals")
    if pool is not None:
        records = [record for record in records if record.description.get("WarmPoolStatus", {}).get("Status") == pool]
    return list_page("ListTrainingJobs", KIND, records, request)
