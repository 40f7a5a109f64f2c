"""An endpoint's record and its fleet: what the record asks of the fleet, and what it is told of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from local_sagemaker.hosting.description import GROUPS, summary
from local_sagemaker.hosting.fleet import Fleet
from local_sagemaker.state.records import FAILURE_CHARACTERS, Kind
from local_sagemaker.state.store import Store

Document = dict[str, Any]


class EndpointRecord:
    """The record of one endpoint, as its own process reads and writes it."""

    def __init__(self, store: Store, name: str) -> None:
        self.name = name
        self._store = store
        self._told: Document = {}

    @property
    def version(self) -> int:
        """Another number when another process has changed something."""
        return self._store.data_version()

    @property
    def description(self) -> Document:
        """What DescribeEndpoint answers now."""
        return self._store.get(Kind.ENDPOINT, self.name).description

    @property
    def is_unwanted(self) -> bool:
        """Whether the endpoint is to be deleted, or is."""
        found = self._store.find(Kind.ENDPOINT, self.name)
        return not found or found[0].status == "Deleting"

    def tell(self, fleet: Fleet, **members: Any) -> None:
        """Write what is so, where it is not what was written last."""
        now = {**described_variants(fleet), **members}
        if now == self._told:
            return

        def tell(description: Document) -> None:
            if description["EndpointStatus"] == "Deleting":
                return
            asked = {one["VariantName"]: one for one in description.get("ProductionVariants", ())}
            description.update(now)
            if description["EndpointStatus"] == "Updating":  # what is desired is the asker's to say
                for variant in description["ProductionVariants"]:
                    for member in ("DesiredWeight", "DesiredInstanceCount"):
                        variant[member] = asked.get(variant["VariantName"], variant)[member]

        self._store.change(Kind.ENDPOINT, self.name, tell)
        self._told = now

    def settle(self, fleet: Fleet, failure: str | None, **members: Any) -> None:
        """Nothing is under way any more."""

        def settle(description: Document) -> None:
            if description["EndpointStatus"] == "Deleting":
                return
            description.pop("PendingDeploymentSummary", None)
            description.pop("FailureReason", None)
            if "EndpointConfigName" in members and "DataCaptureConfig" not in members:
                description.pop("DataCaptureConfig", None)
            description.update({"EndpointStatus": "InService", **described_variants(fleet), **members})
            if failure is not None:
                description["FailureReason"] = failure[:FAILURE_CHARACTERS]

        self._store.change(Kind.ENDPOINT, self.name, settle)

    def fail(self, reason: str) -> None:
        """The endpoint could not be brought into service."""
        members = {"EndpointStatus": "Failed", "FailureReason": reason[:FAILURE_CHARACTERS]}
        self._store.change(Kind.ENDPOINT, self.name, lambda described: described.update(members))

    def end(self, note: Callable[[str], None]) -> None:
        """Remove the record if the endpoint was to be deleted; ``note`` is told before."""
        found = self._store.find(Kind.ENDPOINT, self.name)
        if found and found[0].status == "Deleting":
            note(f"endpoint {self.name} is deleted")
            self._store.delete(Kind.ENDPOINT, self.name)


def described_variants(fleet: Fleet) -> Document:
    """A fleet's variants as DescribeEndpoint answers them."""
    return {
        member: [
            summary(one.plan.name, one.plan.images, fleet.made_at, one.weight, len(one.in_service), one.desired)
            for one in variants
        ]
        for member, variants in zip(GROUPS, (fleet.variants, fleet.shadows), strict=True)
        if variants
    }


def apply_desired(fleet: Fleet, description: Document) -> None:
    """Give a fleet the weights and numbers of instances that are desired; what is not described stays as planned."""
    wanted = {variant["VariantName"]: variant for member in GROUPS for variant in description.get(member, ())}
    for variant in fleet:
        if variant.plan.name in wanted:
            variant.weight = float(wanted[variant.plan.name]["DesiredWeight"])
            variant.desired = int(wanted[variant.plan.name]["DesiredInstanceCount"])
