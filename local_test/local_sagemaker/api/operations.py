"""Every operation of the API that is played here, and the function that plays it.

A function takes the workspace and the request, which has been validated, and returns the API's answer. What makes a job
or endpoint only makes its record; running it is the caller's.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from local_sagemaker.api.documents import without_nulls
from local_sagemaker.api.validation import validate
from local_sagemaker.errors import UnknownOperationError

if TYPE_CHECKING:
    from local_sagemaker.state.workspace import Workspace

Operation = Callable[["Workspace", dict[str, Any]], dict[str, Any]]

ROOM = "local_sagemaker.{}.operations:{}"
TRAINING, PROCESSING, TRANSFORM, TUNING, HOSTING = "training", "processing", "transform", "tuning", "hosting"
OPERATIONS: dict[str, str] = {
    name: ROOM.format(room, function)
    for room, operations in {
        TRAINING: {
            "CreateTrainingJob": "create_training_job",
            "DescribeTrainingJob": "describe_training_job",
            "ListTrainingJobs": "list_training_jobs",
            "StopTrainingJob": "stop_training_job",
            "DeleteTrainingJob": "delete_training_job",
        },
        PROCESSING: {
            "CreateProcessingJob": "create_processing_job",
            "DescribeProcessingJob": "describe_processing_job",
            "ListProcessingJobs": "list_processing_jobs",
            "StopProcessingJob": "stop_processing_job",
        },
        TRANSFORM: {
            "CreateTransformJob": "create_transform_job",
            "DescribeTransformJob": "describe_transform_job",
            "ListTransformJobs": "list_transform_jobs",
            "StopTransformJob": "stop_transform_job",
        },
        TUNING: {
            "CreateHyperParameterTuningJob": "create_tuning_job",
            "DescribeHyperParameterTuningJob": "describe_tuning_job",
            "ListHyperParameterTuningJobs": "list_tuning_jobs",
            "StopHyperParameterTuningJob": "stop_tuning_job",
            "ListTrainingJobsForHyperParameterTuningJob": "list_training_jobs_of_tuning_job",
        },
        HOSTING: {
            "CreateModel": "create_model",
            "DescribeModel": "describe_model",
            "ListModels": "list_models",
            "DeleteModel": "delete_model",
            "CreateEndpointConfig": "create_endpoint_config",
            "DescribeEndpointConfig": "describe_endpoint_config",
            "ListEndpointConfigs": "list_endpoint_configs",
            "DeleteEndpointConfig": "delete_endpoint_config",
            "CreateEndpoint": "create_endpoint",
            "DescribeEndpoint": "describe_endpoint",
            "ListEndpoints": "list_endpoints",
            "UpdateEndpoint": "update_endpoint",
            "UpdateEndpointWeightsAndCapacities": "update_endpoint_weights_and_capacities",
            "DeleteEndpoint": "delete_endpoint",
        },
    }.items()
    for name, function in operations.items()
}


def call(workspace: Workspace, operation: str, request: dict[str, Any]) -> dict[str, Any]:
    """Play an operation: validate its request, and answer as the API does.

    Raises:
        ServiceError: in the service's words, with its error code.
    """
    if operation not in OPERATIONS:
        raise UnknownOperationError(f"the operation {operation} is not played here", "see the reference of `byoc`")
    validate(operation, request)
    module, _, attribute = OPERATIONS[operation].partition(":")
    play: Operation = getattr(importlib.import_module(module), attribute)
    return play(workspace, without_nulls(request))
