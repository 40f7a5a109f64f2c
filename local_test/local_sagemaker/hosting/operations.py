"""SageMaker's operations on models, endpoint configurations and endpoints: records are made and changed, nothing runs.

An endpoint's runner sees what changed and acts on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local_sagemaker.api.answers import list_page, prune
from local_sagemaker.errors import ValidationError
from local_sagemaker.hosting.alarms import AlarmBook
from local_sagemaker.hosting.checks import check_deployment_config, check_endpoint_config, check_model
from local_sagemaker.hosting.description import described_endpoint, retained, variant_counts
from local_sagemaker.state.reconcile import reconcile
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import Workspace

Document = dict[str, Any]


def create_model(workspace: Workspace, request: Document) -> Document:
    """CreateModel: raises ValidationError as the service does, also where the model's data is not there."""
    check_model(request, workspace.buckets)
    name = request["ModelName"]
    arn = workspace.arn(Kind.MODEL, name)
    described = {key: value for key, value in request.items() if key != "Tags"}
    workspace.store.create(Kind.MODEL, name, request, {"EnableNetworkIsolation": False, **described, "ModelArn": arn})
    return {"ModelArn": arn}


def describe_model(workspace: Workspace, request: Document) -> Document:
    """DescribeModel."""
    return prune("DescribeModel", workspace.store.get(Kind.MODEL, request["ModelName"]).description)


def list_models(workspace: Workspace, request: Document) -> Document:
    """ListModels."""
    return list_page("ListModels", Kind.MODEL, workspace.store.find(Kind.MODEL), request)


def delete_model(workspace: Workspace, request: Document) -> Document:
    """DeleteModel; endpoints that have it loaded go on."""
    workspace.store.get(Kind.MODEL, request["ModelName"])
    workspace.store.delete(Kind.MODEL, request["ModelName"])
    return {}


def create_endpoint_config(workspace: Workspace, request: Document) -> Document:
    """CreateEndpointConfig: raises ValidationError as the service does, also for a model that is not there."""
    variants = [*request["ProductionVariants"], *request.get("ShadowProductionVariants", ())]
    models = {
        variant["ModelName"]: workspace.store.get(Kind.MODEL, variant["ModelName"]).description
        for variant in variants
        if "ModelName" in variant
    }
    check_endpoint_config(request, models)
    name = request["EndpointConfigName"]
    arn = workspace.arn(Kind.ENDPOINT_CONFIG, name)
    described = {key: value for key, value in request.items() if key != "Tags"}
    for member in ("ProductionVariants", "ShadowProductionVariants"):
        if member in described:
            described[member] = [{"InitialVariantWeight": 1.0, **variant} for variant in described[member]]
    workspace.store.create(Kind.ENDPOINT_CONFIG, name, request, {**described, "EndpointConfigArn": arn})
    return {"EndpointConfigArn": arn}


def describe_endpoint_config(workspace: Workspace, request: Document) -> Document:
    """DescribeEndpointConfig."""
    record = workspace.store.get(Kind.ENDPOINT_CONFIG, request["EndpointConfigName"])
    return prune("DescribeEndpointConfig", record.description)


def list_endpoint_configs(workspace: Workspace, request: Document) -> Document:
    """ListEndpointConfigs."""
    kind = Kind.ENDPOINT_CONFIG
    return list_page("ListEndpointConfigs", kind, workspace.store.find(kind), request)


def delete_endpoint_config(workspace: Workspace, request: Document) -> Document:
    """DeleteEndpointConfig; endpoints made from it go on."""
    workspace.store.get(Kind.ENDPOINT_CONFIG, request["EndpointConfigName"])
    workspace.store.delete(Kind.ENDPOINT_CONFIG, request["EndpointConfigName"])
    return {}


def create_endpoint(workspace: Workspace, request: Document) -> Document:
    """CreateEndpoint: a record in status Creating, for a runner to bring into service."""
    config = workspace.store.get(Kind.ENDPOINT_CONFIG, request["EndpointConfigName"]).description
    for variant in (*config["ProductionVariants"], *config.get("ShadowProductionVariants", ())):
        workspace.store.get(Kind.MODEL, variant["ModelName"])
    check_deployment_config(request.get("DeploymentConfig"), AlarmBook.of(workspace).names)
    name = request["EndpointName"]
    arn = workspace.arn(Kind.ENDPOINT, name)
    workspace.store.create(Kind.ENDPOINT, name, request, described_endpoint(name, arn, config, request))
    return {"EndpointArn": arn}


def describe_endpoint(workspace: Workspace, request: Document) -> Document:
    """DescribeEndpoint; what is unset is left out, as clients send parts of it back."""
    return prune("DescribeEndpoint", workspace.store.get(Kind.ENDPOINT, request["EndpointName"]).description)


def list_endpoints(workspace: Workspace, request: Document) -> Document:
    """ListEndpoints."""
    return list_page("ListEndpoints", Kind.ENDPOINT, workspace.store.find(Kind.ENDPOINT), request)


def update_endpoint(workspace: Workspace, request: Document) -> Document:
    """UpdateEndpoint: asks the endpoint's runner for another fleet, and for the way there."""
    name = request["EndpointName"]
    record = workspace.store.get(Kind.ENDPOINT, name)
    config = workspace.store.get(Kind.ENDPOINT_CONFIG, request["EndpointConfigName"]).description
    for variant in (*config["ProductionVariants"], *config.get("ShadowProductionVariants", ())):
        workspace.store.get(Kind.MODEL, variant["ModelName"])
    check_deployment_config(request.get("DeploymentConfig"), AlarmBook.of(workspace).names)
    if ("AsyncInferenceConfig" in config) != ("AsyncInferenceConfig" in record.description):
        raise ValidationError(
            "An endpoint cannot change between real-time and asynchronous inference.", "create another endpoint"
        )

    def ask(description: Document) -> None:
        _refuse_in_progress(description)
        pending = {"EndpointConfigName": request["EndpointConfigName"], **variant_counts(config)}
        if request.get("RetainAllVariantProperties"):
            excluded = {one["VariantPropertyType"] for one in request.get("ExcludeRetainedVariantProperties", ())}
            pending["ProductionVariants"] = retained(
                pending["ProductionVariants"], description["ProductionVariants"], excluded
            )
        description["EndpointStatus"] = "Updating"
        description["PendingDeploymentSummary"] = pending
        if not request.get("RetainDeploymentConfig"):
            description.pop("LastDeploymentConfig", None)
            if "DeploymentConfig" in request:
                description["LastDeploymentConfig"] = request["DeploymentConfig"]

    workspace.store.change(Kind.ENDPOINT, name, ask)
    return {"EndpointArn": record.description["EndpointArn"]}


def update_endpoint_weights_and_capacities(workspace: Workspace, request: Document) -> Document:
    """UpdateEndpointWeightsAndCapacities: what is desired; the runner makes it the current."""
    desired = {one["VariantName"]: one for one in request["DesiredWeightsAndCapacities"]}
    name = request["EndpointName"]

    def ask(description: Document) -> None:
        _refuse_in_progress(description)
        variants = {variant["VariantName"]: variant for variant in description["ProductionVariants"]}
        unknown = sorted(desired.keys() - variants.keys())
        if unknown:
            raise ValidationError(
                f'The variant name(s) "{", ".join(unknown)}" is/are not present within endpoint configuration '
                f'"{description["EndpointConfigName"]}".',
                f"the endpoint has {', '.join(sorted(variants))}",
            )
        for variant_name, change in desired.items():
            for member in ("DesiredWeight", "DesiredInstanceCount"):
                if member in change:
                    variants[variant_name][member] = change[member]
        if not any(variant["DesiredWeight"] > 0 for variant in variants.values()):
            raise ValidationError("At least one production variant needs a weight above 0.", "give one a weight")
        description["EndpointStatus"] = "Updating"

    record = workspace.store.change(Kind.ENDPOINT, name, ask)
    return {"EndpointArn": record.description["EndpointArn"]}


def delete_endpoint(workspace: Workspace, request: Document) -> Document:
    """DeleteEndpoint: asks the runner to answer what is in flight and end; without one the endpoint is gone at once."""
    name = request["EndpointName"]
    if workspace.store.get(Kind.ENDPOINT, name).is_abandoned:
        reconcile(workspace)  # removes the containers that a killed process left
    record = workspace.store.get(Kind.ENDPOINT, name)
    if record.runner is not None and record.runner.is_alive:
        workspace.store.change(Kind.ENDPOINT, name, lambda described: described.update(EndpointStatus="Deleting"))
    else:
        workspace.store.delete(Kind.ENDPOINT, name)
    return {}


def _refuse_in_progress(description: Mapping[str, Any]) -> None:
    if description["EndpointStatus"] not in {"InService", "UpdateRollbackFailed"}:
        raise ValidationError(
            f'Cannot update in-progress endpoint "{description["EndpointArn"]}".',
            f"its status is {description['EndpointStatus']}: `byoc endpoint wait` waits until it is InService",
        )
