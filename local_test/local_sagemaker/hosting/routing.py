"""Where an endpoint's requests go: a frozen table of variants, their weights, instances and containers.

The router reads one table at a time. A change of traffic is a new table; requests in flight end on the one they
began with.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import accumulate
from random import Random


class RoutingStrategy(StrEnum):
    """How a variant's instance is chosen."""

    RANDOM = "RANDOM"
    LEAST_OUTSTANDING_REQUESTS = "LEAST_OUTSTANDING_REQUESTS"


class InvocationMode(StrEnum):
    """What an instance's containers do with a request.

    SINGLE asks the only container; SERIAL sends each container's answer to the next one; DIRECT asks the container
    that the request names; MULTI_MODEL asks the only container for the model that the request names.
    """

    SINGLE = "SINGLE"
    SERIAL = "SERIAL"
    DIRECT = "DIRECT"
    MULTI_MODEL = "MULTI_MODEL"


@dataclass(frozen=True)
class Container:
    """One container as the router reaches it; ``hostname`` is the ContainerHostname, ``model`` if it has none."""

    host: str
    port: int
    hostname: str = "model"

    @cached_property
    def authority(self) -> bytes:
        """What a request's Host says."""
        return f"{self.host}:{self.port}".encode()


@dataclass(frozen=True)
class Instance:
    """One copy of a variant's model: a container, or several in the pipeline's order.

    ``name`` is unique at the endpoint and never used again for other containers.
    """

    name: str
    containers: tuple[Container, ...]


@dataclass(frozen=True)
class Variant:
    """A production or shadow variant, or one of the two fleets that it has during a deployment.

    Attributes:
        weight: its part of the traffic is this by the sum of all weights; for a shadow variant, the share of requests
            that are copied to it is this by the sum of the production variants' weights.
        fleet: tells two fleets of one variant apart, in metrics too; they share the variant's name.
        log_stream: the ARN that a ModelError gives as LogStreamArn.
        payload_bytes: the largest request body, where it is not the router's limit; a serverless variant has its own.
        max_concurrency: of a serverless variant; more requests at once are throttled. None is no limit.
        explained: whether the endpoint configuration has an ExplainerConfig, which requests may override.
    """

    name: str
    instances: tuple[Instance, ...] = ()
    weight: float = 1.0
    strategy: RoutingStrategy = RoutingStrategy.RANDOM
    mode: InvocationMode = InvocationMode.SINGLE
    fleet: str = ""
    log_stream: str = ""
    payload_bytes: int | None = None
    max_concurrency: int | None = None
    explained: bool = False


@dataclass(frozen=True)
class RoutingTable:
    """All that routing needs to know at one time.

    ``shadows`` get copies of production requests; ``asynchronous`` endpoints refuse requests that want the answer.
    """

    variants: tuple[Variant, ...] = ()
    shadows: tuple[Variant, ...] = ()
    asynchronous: bool = False

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Every instance, of production and shadow variants."""
        return tuple(instance for variant in (*self.variants, *self.shadows) for instance in variant.instances)


class WeightedChoice:
    """Draws positions with the probability of their weights; a position of weight 0 is never drawn."""

    def __init__(self, weights: Sequence[float]) -> None:
        self._ends = list(accumulate(weights))
        self.total = self._ends[-1] if self._ends else 0.0

    def draw(self, random: Random) -> int | None:
        """A position, or None if no weight is above 0."""
        if self.total <= 0:
            return None
        return bisect_right(self._ends, random.random() * self.total)


def by_affinity(names: Sequence[str], key: str) -> list[int]:
    """Positions of ``names``, best place for ``key`` first; most keys keep their place when a name comes or goes."""
    scores = [hashlib.blake2b(f"{name}\0{key}".encode(), digest_size=8).digest() for name in names]
    return sorted(range(len(names)), key=scores.__getitem__, reverse=True)
