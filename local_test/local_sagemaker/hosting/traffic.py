"""A routing table made ready for the router: what is in flight where, and whose turn it is."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from random import Random

from local_sagemaker.hosting.container_connection import ContainerPool
from local_sagemaker.hosting.invocation_errors import invalid, unavailable
from local_sagemaker.hosting.invocation_metrics import VariantCounter, VariantKey
from local_sagemaker.hosting.limits import InvocationLimits
from local_sagemaker.hosting.routing import (
    Instance,
    RoutingStrategy,
    RoutingTable,
    Variant,
    WeightedChoice,
    by_affinity,
)

AVOID_SECONDS = 1.0


class InstanceTraffic:
    """An instance's connections and what is in flight on it; lives as long as one of its requests."""

    __slots__ = ("avoid_until", "in_flight", "instance", "pools", "retired")

    def __init__(self, instance: Instance, limits: InvocationLimits) -> None:
        self.instance = instance
        self.pools = [ContainerPool(one, limits.connections, limits.connect_seconds) for one in instance.containers]
        self.in_flight = 0
        self.avoid_until = 0.0
        self.retired = False

    def avoid(self) -> None:
        """It refused a connection: choose others for a while."""
        self.avoid_until = time.perf_counter() + AVOID_SECONDS

    def close(self) -> None:
        """End its idle connections."""
        for pool in self.pools:
            pool.close()


class VariantTraffic:
    """A variant, its instances, and its counts, which outlive the table."""

    __slots__ = ("counter", "instances", "key", "name", "variant")

    def __init__(self, variant: Variant, instances: list[InstanceTraffic], counter: VariantCounter) -> None:
        self.variant = variant
        self.name = variant.name.encode()
        self.key: VariantKey = (variant.name, variant.fleet)
        self.instances = instances
        self.counter = counter

    def choose(self, random: Random, tried: Collection[InstanceTraffic] = (), key: str = "") -> InstanceTraffic:
        """An instance by the variant's strategy, not one of ``tried``; with a ``key``, the one that holds it best.

        Raises:
            InvocationError: ServiceUnavailable, no instance is left.
        """
        found = self.instances
        if len(found) == 1 and not tried:
            return found[0]
        now = time.perf_counter()
        left = [one for one in found if one not in tried]
        left = [one for one in left if one.avoid_until <= now] or left
        if not left:
            raise unavailable(f"No instance of variant {self.variant.name} can be reached.")
        if key:
            return left[by_affinity([one.instance.name for one in left], key)[0]]
        if self.variant.strategy is RoutingStrategy.LEAST_OUTSTANDING_REQUESTS:
            least = min(one.in_flight for one in left)
            left = [one for one in left if one.in_flight == least]
        return left[int(random.random() * len(left))]


class Traffic:
    """What one routing table says, ready to be asked for each request."""

    def __init__(
        self,
        table: RoutingTable,
        instances: Mapping[str, InstanceTraffic],
        counters: Mapping[VariantKey, VariantCounter],
    ) -> None:
        def ready(variant: Variant) -> VariantTraffic:
            places = [instances[one.name] for one in variant.instances]
            return VariantTraffic(variant, places, counters[variant.name, variant.fleet])

        self.table = table
        self._variants = [ready(one) for one in table.variants]
        self._choice = WeightedChoice([one.weight for one in table.variants])
        self._named: dict[bytes, list[VariantTraffic]] = {}
        for one in self._variants:
            self._named.setdefault(one.name, []).append(one)
        total = self._choice.total or 1.0
        self.shadows = [(ready(one), min(1.0, one.weight / total)) for one in table.shadows]
        self._place = {instance.name: one for one in self._variants for instance in one.variant.instances}

    @property
    def ready(self) -> bool:
        """Whether some variant with traffic has an instance."""
        return any(one.instances and one.variant.weight > 0 for one in self._variants)

    def variant(self, random: Random, endpoint: str, target: bytes | None) -> VariantTraffic:
        """The variant that the request names, or one by weight.

        Raises:
            InvocationError: ValidationError, there is no such variant; ServiceUnavailable, none has any traffic.
        """
        if target is not None:
            named = self._named.get(target)
            if named is None:
                raise invalid(f"Variant {target.decode('latin-1')} not found for endpoint {endpoint}.")
            if len(named) == 1:
                return named[0]
            place = WeightedChoice([one.variant.weight for one in named]).draw(random)
            return named[place if place is not None else int(random.random() * len(named))]
        place = self._choice.draw(random)
        if place is None:
            raise unavailable(f"No variant of endpoint {endpoint} takes traffic.")
        return self._variants[place]

    def variant_of(self, instance: str) -> VariantTraffic | None:
        """The variant that has an instance."""
        return self._place.get(instance)
