"""The operations of the API on processing jobs.

Source: API reference, CreateProcessingJob, DescribeProcessingJob, ListProcessingJobs, StopProcessingJob.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local_sagemaker.api.answers import list_page, prune
from local_sagemaker.processing.plan import DEFAULT_MAX_RUNTIME_SECONDS, plan_processing_job
from local_sagemaker.state.records import Kind
from local_sagemaker.state.stop import stop_job
from local_sagemaker.training.local_options import LocalOptions, write_local_options

if TYPE_CHECKING:
    from local_sagemaker.state.workspace import Workspace

KIND = Kind.PROCESSING_JOB


def create_processing_job(
    workspace: Workspace, request: dict[str, Any], options: LocalOptions | None = None
) -> dict[str, Any]:
    """Make the record of a processing job; it is run by ``local_sagemaker.state.runner``.

    Args:
        workspace: where.
        request: CreateProcessingJob's, which holds to the service's model.
        options: what the request cannot say.

    Raises:
        ValidationError: if the service would refuse the request all the same.
        ResourceInUseError: if there is a job of this name.
    """
    name = request["ProcessingJobName"]
    chosen = options or LocalOptions()
    plan_processing_job(request, workspace, chosen)
    description = {
        **{key: value for key, value in request.items() if key != "Tags"},
        "StoppingCondition": {
            "MaxRuntimeInSeconds": DEFAULT_MAX_RUNTIME_SECONDS,
            **request.get("StoppingCondition", {}),
        },
        "ProcessingJobArn": workspace.arn(KIND, name),
        "ProcessingJobStatus": "InProgress",
    }
    workspace.store.create(KIND, name, request, description)
    write_local_options(chosen, workspace.directory_of(KIND, name))
    return {"ProcessingJobArn": workspace.arn(KIND, name)}


def describe_processing_job(workspace: Workspace, request: dict[str, Any]) -> dict[str, Any]:
    """What is known of a job now.

    Raises:
        ResourceNotFoundError: if there is none.
    """
    record = workspace.store.get(KIND, request["ProcessingJobName"])
    return prune("DescribeProcessingJob", record.description)


def list_processing_jobs(workspace: Workspace, request: dict[str, Any]) -> dict[str, Any]:
    """The jobs that the request asks for, a page at a time."""
    return list_page("ListProcessingJobs", KIND, workspace.store.find(KIND), request)


def stop_processing_job(workspace: Workspace, request: dict[str, Any]) -> dict[str, Any]:
    """Ask for a job's end; one that nobody runs yet has ended at once.

    Raises:
        ResourceNotFoundError: if there is none.
        ValidationError: if it has ended.
    """
    stop_job(workspace, KIND, request["ProcessingJobName"])
    return {}
