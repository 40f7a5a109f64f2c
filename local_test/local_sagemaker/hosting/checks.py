"""What SageMaker checks of models, endpoint configurations and updates beyond the members' types and patterns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from local_sagemaker.errors import NoSuchObjectError, ValidationError
from local_sagemaker.state.buckets import Buckets

MOST_CONTAINERS = 15
ENVIRONMENT_BYTES = 32 * 1024
ENVIRONMENT_PAIR_BYTES = 1024
BIND_LABEL = "com.amazonaws.sagemaker.capabilities.accept-bind-to-port"
MULTI_MODEL_LABEL = "com.amazonaws.sagemaker.capabilities.multi-models"

Document = Mapping[str, Any]


def containers_of(model: Document) -> list[dict[str, Any]]:
    """A model's containers, each with the host name that direct invocations call it by."""
    if "PrimaryContainer" in model:
        return [dict(model["PrimaryContainer"])]
    return [
        {**container, "ContainerHostname": container.get("ContainerHostname", f"container-{place}")}
        for place, container in enumerate(model["Containers"], 1)
    ]


def is_multi_model(container: Document) -> bool:
    """Whether the container loads models by request."""
    return container.get("Mode") == "MultiModel"


def check_model(request: Document, buckets: Buckets) -> None:
    """Raise ValidationError where CreateModel would be refused."""
    if ("PrimaryContainer" in request) == ("Containers" in request):
        raise ValidationError(
            "Exactly one of PrimaryContainer and Containers must be specified.",
            "give PrimaryContainer for one container, Containers for several",
        )
    containers = request.get("Containers") or [request.get("PrimaryContainer", {})]
    if "Containers" in request and not 2 <= len(containers) <= MOST_CONTAINERS:
        raise ValidationError(
            f"The number of Containers must be between 2 and {MOST_CONTAINERS}, and there are {len(containers)}.",
            "a single container is the PrimaryContainer",
        )
    _check_hostnames(containers)
    if sum(map(is_multi_model, containers)) > 1:
        raise ValidationError("At most one container of a model can have Mode MultiModel.", "make several models")
    if "InferenceExecutionConfig" in request and "Containers" not in request:
        raise ValidationError("InferenceExecutionConfig needs Containers.", "leave it out for a single container")
    _check_environment(containers)
    for container in containers:
        _check_container(container, buckets)


def _check_hostnames(containers: Sequence[Document]) -> None:
    named = [container["ContainerHostname"] for container in containers if "ContainerHostname" in container]
    if len(containers) > 1 and named and len(named) != len(containers):
        raise ValidationError(
            "ContainerHostname must be specified for all containers or for none.", "name each, or leave all out"
        )
    _check_unique("ContainerHostname", named)


def _check_unique(what: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValidationError(f"{what} {twice[0]!r} is used more than once.", "each needs a name of its own")


def _check_environment(containers: Iterable[Document]) -> None:
    pairs = [pair for container in containers for pair in container.get("Environment", {}).items()]
    for key, value in pairs:
        if len(value.encode()) > ENVIRONMENT_PAIR_BYTES:
            raise ValidationError(
                f"The value of {key} has {len(value.encode())} bytes; at most {ENVIRONMENT_PAIR_BYTES} are allowed.",
                "put it in a file of the model",
            )
    total = sum(len(key.encode()) + len(value.encode()) for key, value in pairs)
    if total > ENVIRONMENT_BYTES:
        raise ValidationError(
            f"The environments of the model's containers have {total} bytes; at most {ENVIRONMENT_BYTES} are allowed.",
            "put some of it in a file of the model",
        )


def _check_container(container: Document, buckets: Buckets) -> None:
    if "Image" not in container:
        raise ValidationError(
            "A container needs an Image.", "model packages are not played here: name the image and the model data"
        )
    url, source = container.get("ModelDataUrl"), container.get("ModelDataSource", {}).get("S3DataSource")
    if url and source:
        raise ValidationError("Only one of ModelDataUrl and ModelDataSource can be specified.", "leave one out")
    if is_multi_model(container):
        if not url:
            raise ValidationError(
                "A container with Mode MultiModel needs a ModelDataUrl.", "give the prefix that the models lie below"
            )
        return
    if url:
        _check_archive(url, buckets)
    elif source and not any(buckets.objects(source["S3Uri"])):
        raise ValidationError(f"Could not find model data at {source['S3Uri']}.", f"put it below {buckets.root}")


def _check_archive(url: str, buckets: Buckets) -> None:
    if not url.endswith(".tar.gz"):
        raise ValidationError(
            f"The ModelDataUrl {url!r} must end with .tar.gz.",
            "pack the model with `tar -czf model.tar.gz -C MODEL_DIR .`, or use ModelDataSource",
        )
    if not buckets.exists(url):
        try:
            buckets.open(url).close()
        except NoSuchObjectError as error:
            raise ValidationError(f"Could not find model data at {url}.", str(error)) from error


def check_endpoint_config(request: Document, models: Mapping[str, Document]) -> None:
    """Raise ValidationError where CreateEndpointConfig would be refused; ``models`` are the described ones by name."""
    variants: list[Document] = list(request["ProductionVariants"])
    shadows: list[Document] = list(request.get("ShadowProductionVariants", ()))
    if shadows and (len(variants) != 1 or len(shadows) != 1):
        raise ValidationError(
            "ShadowProductionVariants needs exactly one production variant and exactly one shadow variant, and there "
            f"are {len(variants)} and {len(shadows)}.",
            "shadow one variant at a time",
        )
    _check_unique("VariantName", [variant["VariantName"] for variant in (*variants, *shadows)])
    for variant in (*variants, *shadows):
        _check_variant(variant)
    if not any(variant.get("InitialVariantWeight", 1.0) > 0 for variant in variants):
        raise ValidationError("At least one production variant needs a weight above 0.", "give one a weight")
    serverless = [variant for variant in variants if "ServerlessConfig" in variant]
    if serverless:
        _check_serverless(request, variants, [models[variant["ModelName"]] for variant in serverless])


def _check_variant(variant: Document) -> None:
    name = variant["VariantName"]
    if "ModelName" not in variant:
        raise ValidationError(
            f"ModelName is required for the variant {name!r}.", "inference components are not played here"
        )
    if "ServerlessConfig" in variant:
        if "InitialInstanceCount" in variant or "InstanceType" in variant:
            raise ValidationError(
                f"The variant {name!r} has a ServerlessConfig and also InitialInstanceCount or InstanceType.",
                "leave them out",
            )
    elif "InitialInstanceCount" not in variant or ("InstanceType" not in variant and "InstancePools" not in variant):
        raise ValidationError(
            f"The variant {name!r} needs InitialInstanceCount and InstanceType.", "any type does here, as ml.m5.large"
        )


def _check_serverless(request: Document, variants: Sequence[Document], models: Iterable[Document]) -> None:
    unsupported = {
        "several production variants": len(variants) > 1,
        "ShadowProductionVariants": "ShadowProductionVariants" in request,
        "DataCaptureConfig": "DataCaptureConfig" in request,
        "AsyncInferenceConfig": "AsyncInferenceConfig" in request,
        "EnableNetworkIsolation": any(model.get("EnableNetworkIsolation") for model in models),
        "Containers": any("Containers" in model for model in models),
        "multi-model containers": any(is_multi_model(one) for model in models for one in containers_of(model)),
    }
    for what, asked in unsupported.items():
        if asked:
            raise ValidationError(f"Serverless inference does not support {what}.", "use instances")


def check_deployment_config(config: Document | None, known_alarms: Iterable[str]) -> None:
    """Raise ValidationError where a DeploymentConfig would be refused, or names an alarm that nobody defined."""
    config = config or {}
    if "BlueGreenUpdatePolicy" in config and "RollingUpdatePolicy" in config:
        raise ValidationError("Only one of BlueGreenUpdatePolicy and RollingUpdatePolicy can be specified.", "take one")
    routing = config.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
    for kind, member, least in (("CANARY", "CanarySize", 1), ("LINEAR", "LinearStepSize", 10)):
        if (routing.get("Type") == kind) != (member in routing):
            raise ValidationError(f"{member} goes with traffic routing of Type {kind}, and only with it.", "correct it")
        _check_percent(routing.get(member), member, least)
    _check_percent(config.get("RollingUpdatePolicy", {}).get("MaximumBatchSize"), "MaximumBatchSize", 5)
    known = set(known_alarms)
    for alarm in config.get("AutoRollbackConfiguration", {}).get("Alarms", ()):
        if alarm.get("AlarmName") not in known:
            raise ValidationError(
                f'Could not find alarm "{alarm.get("AlarmName")}".', "define it: `byoc endpoint alarm --help`"
            )


def _check_percent(size: Document | None, member: str, least: int) -> None:
    if size is not None and size["Type"] == "CAPACITY_PERCENT" and not least <= size["Value"] <= 50:
        raise ValidationError(
            f"{member} must be between {least} and 50 percent of the capacity, and is {size['Value']}.", "correct it"
        )


def check_labels(model_name: str, model: Document, labels: Mapping[str, Mapping[str, str]]) -> None:
    """Raise ValidationError if an image lacks a label that what the model asks of it needs.

    Args:
        model_name: for the message.
        model: the described model.
        labels: of each image that can be looked at, by its name.
    """
    containers = containers_of(model)
    for container in containers:
        needed = [BIND_LABEL] if len(containers) > 1 else []
        needed += [MULTI_MODEL_LABEL] if is_multi_model(container) else []
        found = labels.get(container["Image"])
        missing = [] if found is None else [name for name in needed if found.get(name) != "true"]
        if missing:
            raise ValidationError(
                f"Your Ecr Image {container['Image']} for model {model_name} does not contain required "
                f"{', '.join(missing)} Docker label(s).",
                f"add `LABEL {missing[0]}=true` to its Dockerfile",
            )
