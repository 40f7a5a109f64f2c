"""From an endpoint configuration to a fleet that can be started: models unpacked, containers planned."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from local_sagemaker.engines import Chunk, Engine, image_labels
from local_sagemaker.hosting.blueprint import VariantPlan, plan_containers, plan_variant
from local_sagemaker.hosting.checks import check_labels, containers_of
from local_sagemaker.hosting.fleet import Fleet, VariantFleet
from local_sagemaker.hosting.instance import HostedInstance
from local_sagemaker.hosting.local_options import LocalOptions
from local_sagemaker.hosting.model_data import ModelData
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import ACCOUNT, PARTITION, Workspace

Document = Mapping[str, Any]


class FleetBuilder:
    """Makes the fleets of one endpoint.

    Args:
        workspace: the project.
        endpoint: its name.
        engine: what runs containers.
        options: what this machine gives.
        isolated_network: makes a network that leads nowhere and returns its name; called where a model wants isolation.
        changed: called whenever an instance's state is another.
        note: told what a person may want to know.
        output: where the containers' output goes besides the logs.
    """

    def __init__(
        self,
        workspace: Workspace,
        endpoint: str,
        engine: Engine,
        options: LocalOptions,
        isolated_network: Callable[[], str],
        changed: Callable[[], None],
        note: Callable[[str], None],
        output: Callable[[Chunk], None] | None = None,
    ) -> None:
        self._workspace = workspace
        self._endpoint = endpoint
        self._engine = engine
        self._options = options
        self._isolated_network = isolated_network
        self._changed = changed
        self._note = note
        self._output = output
        self._directory = workspace.directory_of(Kind.ENDPOINT, endpoint)
        self._data = ModelData(self._directory / "models", workspace.buckets)

    def build(self, config: Document, models: Mapping[str, Document], tag: str) -> Fleet:
        """A fleet of an endpoint configuration, not started.

        Args:
            config: described.
            models: described, by name.
            tag: tells it from the endpoint's other fleets.

        Raises:
            ValidationError: if an image lacks a label that its model needs.
            UsageError: if a model's data cannot be had.
        """
        for name, model in models.items():
            labels = {one["Image"]: image_labels(self._engine, one["Image"]) for one in containers_of(model)}
            check_labels(name, model, {image: found for image, found in labels.items() if found is not None})
        groups = [
            [self._variant(self._plan(variant, config, models), tag) for variant in config.get(member, ())]
            for member in ("ProductionVariants", "ShadowProductionVariants")
        ]
        return Fleet(tag, config["EndpointConfigName"], *groups)

    def _plan(self, variant: Document, config: Document, models: Mapping[str, Document]) -> VariantPlan:
        model = models[variant["ModelName"]]
        return plan_variant(variant, model, config, self._data.folders(model), self._options.limits)

    def _variant(self, plan: VariantPlan, tag: str) -> VariantFleet:
        stream = (
            f"arn:{PARTITION}:logs:{self._workspace.region}:{ACCOUNT}:log-group:"
            f"/aws/sagemaker/Endpoints/{self._endpoint}:log-stream:{plan.name}"
        )
        return VariantFleet(plan, tag, self._instance, self._note, stream)

    def _instance(self, plan: VariantPlan, _tag: str) -> HostedInstance:
        name = f"i-{uuid.uuid4().hex[:12]}"
        directory = self._directory / "instances" / name
        plans = plan_containers(
            plan,
            name,
            directory,
            self._workspace.labels(Kind.ENDPOINT, self._endpoint),
            region=self._workspace.region,
            network=self._network(plan),
            publishes=self._engine.name == "docker",
        )
        log = self._directory / "logs" / plan.name / f"{name}.log"
        return HostedInstance(name, plan, plans, self._engine, directory, log, self._changed, self._output)

    def _network(self, plan: VariantPlan) -> str:
        return self._isolated_network() if plan.isolated else "bridge"

    def remove_models(self) -> None:
        """Delete what was unpacked."""
        self._data.remove()


def read_config(workspace: Workspace, name: str) -> tuple[Document, dict[str, Document]]:
    """An endpoint configuration and its models, all described.

    Raises:
        ValidationError: if one of them was deleted.
    """
    config = workspace.store.get(Kind.ENDPOINT_CONFIG, name).description
    variants = (*config["ProductionVariants"], *config.get("ShadowProductionVariants", ()))
    names = dict.fromkeys(variant["ModelName"] for variant in variants)
    return config, {name: workspace.store.get(Kind.MODEL, name).description for name in names}
