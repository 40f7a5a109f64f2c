"""What an endpoint's fleet consists of: variants, and the containers of an instance of each. Nothing starts here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_sagemaker.engines.base import BASE_DIR, SERVING_PORT, SHARED_NETWORK, ContainerPlan, Limits, Mount
from local_sagemaker.hosting.checks import containers_of, is_multi_model
from local_sagemaker.hosting.description import instance_count
from local_sagemaker.hosting.routing import InvocationMode, RoutingStrategy

STARTUP_SECONDS = 480.0
FIRST_SAFE_PORT, LAST_SAFE_PORT = 23000, 23999
MEGABYTE = 1024 * 1024
SERVERLESS_PAYLOAD = 4 * MEGABYTE


@dataclass(frozen=True)
class ContainerSpec:
    """One container of a model.

    Attributes:
        hostname: what a direct invocation calls it by.
        image: its image.
        environment: the model's own variables.
        model: the folder to mount read-only at /opt/ml/model, or None.
        more: folders of additional model data, by channel.
        models: the address that a multi-model container's archives lie below, or None.
        caches: whether loaded models may stay loaded.
    """

    hostname: str
    image: str
    environment: Mapping[str, str] = field(default_factory=dict)
    model: Path | None = None
    more: Mapping[str, Path] = field(default_factory=dict)
    models: str | None = None
    caches: bool = True


@dataclass(frozen=True)
class VariantPlan:
    """One variant of a fleet.

    Attributes:
        name: of the variant.
        model_name: of its model.
        containers: of each instance.
        mode: what they do with a request.
        count: of instances at the start.
        weight: its part of the traffic.
        strategy: how an instance is chosen.
        startup_seconds: how long an instance may take until it answers /ping with 200.
        limits: of each container.
        isolated: whether containers reach nothing.
        max_concurrency: of a serverless variant.
        payload_bytes: of a serverless variant.
        explained: whether the configuration has an ExplainerConfig.
    """

    name: str
    model_name: str
    containers: tuple[ContainerSpec, ...]
    mode: InvocationMode = InvocationMode.SINGLE
    count: int = 1
    weight: float = 1.0
    strategy: RoutingStrategy = RoutingStrategy.RANDOM
    startup_seconds: float = STARTUP_SECONDS
    limits: Limits = field(default_factory=Limits)
    isolated: bool = False
    max_concurrency: int | None = None
    payload_bytes: int | None = None
    explained: bool = False

    @property
    def images(self) -> tuple[str, ...]:
        """Of all containers."""
        return tuple(container.image for container in self.containers)


def plan_variant(
    variant: Mapping[str, Any],
    model: Mapping[str, Any],
    config: Mapping[str, Any],
    folders: Mapping[str, tuple[Path | None, Mapping[str, Path]]],
    limits: Limits,
) -> VariantPlan:
    """Describe a variant of an endpoint configuration.

    Args:
        variant: one of ProductionVariants or ShadowProductionVariants.
        model: its model, described.
        config: the endpoint configuration, described.
        folders: where each container's model data was unpacked, and its additional data, by the container's host name.
        limits: what this machine gives each container.
    """
    documents = containers_of(model)
    specs = tuple(_spec(document, folders) for document in documents)
    serverless = variant.get("ServerlessConfig")
    return VariantPlan(
        variant["VariantName"],
        variant["ModelName"],
        specs,
        _mode(model, documents),
        instance_count(variant),
        float(variant.get("InitialVariantWeight", 1.0)),
        RoutingStrategy(variant.get("RoutingConfig", {}).get("RoutingStrategy", RoutingStrategy.RANDOM)),
        float(variant.get("ContainerStartupHealthCheckTimeoutInSeconds", STARTUP_SECONDS)),
        limits if serverless is None else Limits(memory_bytes=serverless["MemorySizeInMB"] * MEGABYTE),
        bool(model.get("EnableNetworkIsolation") or config.get("EnableNetworkIsolation")),
        None if serverless is None else serverless["MaxConcurrency"],
        None if serverless is None else SERVERLESS_PAYLOAD,
        "ExplainerConfig" in config,
    )


def hostname_of(document: Mapping[str, Any]) -> str:
    """The name that a container is known by in logs and to direct invocations."""
    return str(document.get("ContainerHostname", "model"))


def _spec(document: Mapping[str, Any], folders: Mapping[str, tuple[Path | None, Mapping[str, Path]]]) -> ContainerSpec:
    hostname = hostname_of(document)
    folder, more = folders.get(hostname, (None, {}))
    multi_model = is_multi_model(document)
    return ContainerSpec(
        hostname,
        document["Image"],
        document.get("Environment", {}),
        folder,
        more,
        document["ModelDataUrl"] if multi_model else None,
        document.get("MultiModelConfig", {}).get("ModelCacheSetting", "Enabled") == "Enabled",
    )


def _mode(model: Mapping[str, Any], documents: list[dict[str, Any]]) -> InvocationMode:
    if len(documents) == 1:
        return InvocationMode.MULTI_MODEL if is_multi_model(documents[0]) else InvocationMode.SINGLE
    chosen = model.get("InferenceExecutionConfig", {}).get("Mode", "Serial")
    return InvocationMode.DIRECT if chosen == "Direct" else InvocationMode.SERIAL


def plan_containers(
    plan: VariantPlan,
    instance: str,
    directory: Path,
    labels: Mapping[str, str],
    *,
    region: str,
    network: str = "bridge",
    publishes: bool = True,
) -> tuple[ContainerPlan, ...]:
    """The containers of one instance, in the pipeline's order; they share the first one's network.

    Args:
        plan: the variant.
        instance: its name, unique at the endpoint and more.
        directory: of the instance's own; each container that stands for /opt/ml has a folder of it.
        labels: what to find the containers by.
        region: what the containers are told.
        network: of the first one.
        publishes: whether the engine has ports of containers to publish.
    """
    count = len(plan.containers)
    ports = [SERVING_PORT + place for place in range(count)]
    return tuple(
        ContainerPlan(
            name=_container_name(instance, place),
            command="serve",
            image=spec.image,
            base_directory=directory / spec.hostname,
            environment={
                "AWS_REGION": region,
                **_platform_environment(spec, ports[place], place, count),
                **spec.environment,
            },
            mounts=_mounts(spec, directory),
            hostname=spec.hostname,
            network=network if place == 0 else f"{SHARED_NETWORK}{_container_name(instance, 0)}",
            port=0 if place == 0 or not publishes else None,
            labels=labels,
            limits=plan.limits,
            container_port=ports[place],
            publish=tuple(ports[1:]) if place == 0 and publishes else (),
        )
        for place, spec in enumerate(plan.containers)
    )


def _container_name(instance: str, place: int) -> str:
    return f"byoc-{instance}" + (f"-{place + 1}" if place else "")


def _platform_environment(spec: ContainerSpec, port: int, place: int, count: int) -> dict[str, str]:
    environment = {}
    if spec.models is not None:
        environment["SAGEMAKER_MULTI_MODEL"] = "true"
    if count > 1:
        # A share of the range each, since all containers of an instance have one set of ports.
        size = (LAST_SAFE_PORT + 1 - FIRST_SAFE_PORT) // count
        first = FIRST_SAFE_PORT + place * size
        environment["SAGEMAKER_BIND_TO_PORT"] = str(port)
        environment["SAGEMAKER_SAFE_PORT_RANGE"] = f"{first}-{first + size - 1}"
    return environment


def _mounts(spec: ContainerSpec, directory: Path) -> tuple[Mount, ...]:
    mounts = []
    if spec.model is not None:
        mounts.append(Mount(spec.model, f"{BASE_DIR}/model", read_only=True))
    if spec.models is not None:
        mounts.append(Mount(models_folder(spec, directory), f"{BASE_DIR}/models", read_only=True))
    for channel, folder in spec.more.items():
        mounts.append(Mount(folder, f"{BASE_DIR}/additional-model-data-sources/{channel}", read_only=True))
    return tuple(mounts)


def models_folder(spec: ContainerSpec, directory: Path) -> Path:
    """Where a multi-model container's archives are unpacked; a folder of the instance's own."""
    return directory / f"{spec.hostname}-models"
