"""What the service refuses beyond types and patterns, and what it answers."""

from pathlib import Path
from typing import Any

import pytest
from local_sagemaker.api.operations import call
from local_sagemaker.errors import ValidationError
from local_sagemaker.hosting.checks import BIND_LABEL, MULTI_MODEL_LABEL, check_labels
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import Workspace

from tests.unit.local_sagemaker.hosting.fake_engine import ROLE, variant

BOX = {"Image": "image"}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace.of(tmp_path)
    call(made, "CreateModel", {"ModelName": "m", "PrimaryContainer": BOX, "ExecutionRoleArn": ROLE})
    return made


def model(**request: Any) -> dict[str, Any]:
    return {"ModelName": "other", "ExecutionRoleArn": ROLE, **request}


@pytest.mark.parametrize(
    ("request_document", "words"),
    [
        (model(), "Exactly one of PrimaryContainer and Containers"),
        (model(PrimaryContainer=BOX, Containers=[BOX, BOX]), "Exactly one of PrimaryContainer and Containers"),
        (model(Containers=[BOX]), "must be between 2 and 15"),
        (model(Containers=[{**BOX, "ContainerHostname": "a"}, BOX]), "for all containers or for none"),
        (model(Containers=[{**BOX, "ContainerHostname": "a"}] * 2), "used more than once"),
        (model(PrimaryContainer={"ModelDataUrl": "s3://bucket/m.tar.gz"}), "needs an Image"),
        (model(PrimaryContainer={**BOX, "ModelDataUrl": "s3://bucket/m.zip"}), "must end with .tar.gz"),
        (model(PrimaryContainer={**BOX, "ModelDataUrl": "s3://bucket/m.tar.gz"}), "Could not find model data"),
        (model(PrimaryContainer={**BOX, "Mode": "MultiModel"}), "needs a ModelDataUrl"),
        (
            model(Containers=[{**BOX, "Mode": "MultiModel", "ModelDataUrl": "s3://bucket/"}] * 2),
            "At most one container",
        ),
        (model(PrimaryContainer={**BOX, "Environment": {f"K{n}": "v" * 1000 for n in range(33)}}), "at most 32768"),
    ],
)
def test_a_model_that_the_service_refuses_is_refused(workspace, request_document, words):
    """13.4, 13.6, 15.30, 15.33, 23.3."""
    with pytest.raises(ValidationError, match=words):
        call(workspace, "CreateModel", request_document)


SERVERLESS = {
    "VariantName": "s",
    "ModelName": "m",
    "ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 2},
}


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"ProductionVariants": [variant("blue", "absent")]}, 'Could not find model "absent"'),
        ({"ProductionVariants": [variant("blue", "m"), variant("blue", "m")]}, "used more than once"),
        ({"ProductionVariants": [{"VariantName": "blue", "ModelName": "m"}]}, "needs InitialInstanceCount"),
        ({"ProductionVariants": [variant("blue", "m", weight=0)]}, "needs a weight above 0"),
        (
            {
                "ProductionVariants": [variant("blue", "m"), variant("green", "m")],
                "ShadowProductionVariants": [variant("dark", "m")],
            },
            "exactly one production variant and exactly one shadow variant",
        ),
        ({"ProductionVariants": [SERVERLESS, {**SERVERLESS, "VariantName": "t"}]}, "does not support several"),
    ],
)
def test_an_endpoint_configuration_that_the_service_refuses_is_refused(workspace, members, words):
    """18.4, 20.3, 20.4, 23.4."""
    with pytest.raises(ValidationError, match=words):
        call(workspace, "CreateEndpointConfig", {"EndpointConfigName": "c", **members})


def canary(kind: str, **sizes: Any) -> dict[str, Any]:
    routing = {"Type": kind, "WaitIntervalInSeconds": 0, **sizes}
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing}}


def percent(value: int) -> dict[str, Any]:
    return {"Type": "CAPACITY_PERCENT", "Value": value}


@pytest.mark.parametrize(
    ("deployment", "words"),
    [
        (canary("CANARY"), "CanarySize goes with"),
        (canary("ALL_AT_ONCE", CanarySize=percent(10)), "CanarySize goes with"),
        (canary("CANARY", CanarySize=percent(60)), "between 1 and 50 percent"),
        (canary("LINEAR", LinearStepSize=percent(5)), "between 10 and 50 percent"),
        ({"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "nobodys"}]}}, 'Could not find alarm "nobodys"'),
    ],
)
def test_a_deployment_that_the_service_refuses_is_refused(workspace, deployment, words):
    """20.5."""
    call(workspace, "CreateEndpointConfig", {"EndpointConfigName": "c", "ProductionVariants": [variant("blue", "m")]})
    request = {"EndpointName": "e", "EndpointConfigName": "c", "DeploymentConfig": deployment}
    with pytest.raises(ValidationError, match=words):
        call(workspace, "CreateEndpoint", request)


def test_what_is_not_there_is_not_found_in_the_services_words(workspace):
    """23.2: clients read the code ValidationException and the words."""
    for operation, member in (
        ("DescribeModel", "ModelName"),
        ("DescribeEndpointConfig", "EndpointConfigName"),
        ("DescribeEndpoint", "EndpointName"),
        ("DeleteEndpoint", "EndpointName"),
    ):
        with pytest.raises(ValidationError, match="Could not find") as raised:
            call(workspace, operation, {member: "absent"})
        assert raised.value.code == "ValidationException"


def test_an_unknown_variant_is_named_with_its_configuration(workspace):
    """23.2."""
    call(workspace, "CreateEndpointConfig", {"EndpointConfigName": "c", "ProductionVariants": [variant("blue", "m")]})
    call(workspace, "CreateEndpoint", {"EndpointName": "e", "EndpointConfigName": "c"})
    serving = {"EndpointStatus": "InService", "ProductionVariants": [{"VariantName": "blue", "DesiredWeight": 1.0}]}
    workspace.store.change(Kind.ENDPOINT, "e", lambda described: described.update(serving))
    wanted = [{"VariantName": "red", "DesiredWeight": 1.0}]
    with pytest.raises(ValidationError, match='"red" is/are not present within endpoint configuration "c"'):
        call(
            workspace,
            "UpdateEndpointWeightsAndCapacities",
            {"EndpointName": "e", "DesiredWeightsAndCapacities": wanted},
        )


def test_lists_are_filtered_sorted_and_paged(workspace):
    """23.2."""
    for name in ("a1", "a2", "a3", "b"):
        call(workspace, "CreateModel", {"ModelName": name, "PrimaryContainer": BOX, "ExecutionRoleArn": ROLE})
    request = {"NameContains": "a", "SortBy": "Name", "SortOrder": "Ascending", "MaxResults": 2}
    first = call(workspace, "ListModels", request)
    second = call(workspace, "ListModels", {**request, "NextToken": first["NextToken"]})
    assert [one["ModelName"] for one in (*first["Models"], *second["Models"])] == ["a1", "a2", "a3"]
    assert "NextToken" not in second


def test_an_image_without_the_label_that_its_model_needs_is_named_with_it():
    """0.12, 15.23, 15.30."""
    several = {"Containers": [BOX, BOX]}
    with pytest.raises(ValidationError, match=BIND_LABEL):
        check_labels("m", several, {"image": {}})
    check_labels("m", several, {"image": {BIND_LABEL: "true"}})
    with pytest.raises(ValidationError, match=MULTI_MODEL_LABEL):
        check_labels("m", {"PrimaryContainer": {**BOX, "Mode": "MultiModel"}}, {"image": {MULTI_MODEL_LABEL: "false"}})
    check_labels("m", {"PrimaryContainer": BOX}, {"image": {}})
