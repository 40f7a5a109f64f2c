"""The instances of an endpoint's variants: started, replaced when they fail, added and taken away.

A fleet is tended by one thread, ten times a second. It never waits: what takes time happens in threads, and the next
look finds its result.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from local_sagemaker.files import write_whole
from local_sagemaker.hosting import routing
from local_sagemaker.hosting.blueprint import VariantPlan
from local_sagemaker.hosting.instance import STOP_GRACE_SECONDS, HostedInstance, InstanceState

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 30.0
FLEETS_FILE = "fleets.json"

MakeInstance = Callable[[VariantPlan, str], HostedInstance]
Note = Callable[[str], None]


def delay_after(failures: int) -> float:
    """Seconds until an instance is replaced, when so many before it in turn did not last."""
    return min(FIRST_DELAY_SECONDS * 2.0 ** min(failures, 10), LONGEST_DELAY_SECONDS)  # days of them fit in no number


class VariantFleet:
    """The instances of one variant.

    What leaves the fleet stands in ``leaving`` until the routing table does not have it any more, and is ended then.

    Args:
        plan: the variant.
        tag: tells the fleets of one variant apart.
        make: makes an instance of the variant for a fleet's tag, not yet started.
        note: told what a person may want to know.
        log_stream: of errors that the router answers with.
    """

    def __init__(self, plan: VariantPlan, tag: str, make: MakeInstance, note: Note, log_stream: str) -> None:
        self.plan = plan
        self.tag = tag
        self.desired = plan.count
        self.weight = plan.weight
        self.instances: list[HostedInstance] = []
        self.failed: HostedInstance | None = None
        self.leaving: list[HostedInstance] = []
        self._make = make
        self._note = note
        self._log_stream = log_stream
        self._failures = 0
        self._not_before = 0.0

    @property
    def in_service(self) -> list[HostedInstance]:
        """Those that answer."""
        return [one for one in self.instances if one.state is InstanceState.IN_SERVICE]

    @property
    def is_complete(self) -> bool:
        """Whether as many answer as are desired."""
        return len(self.in_service) == self.desired == len(self.instances)

    def tend(self) -> None:
        """Start what is missing, and let what is out of service or too many leave."""
        for instance in [one for one in self.instances if one.state is InstanceState.OUT_OF_SERVICE]:
            self._lose(instance)
        if self.in_service and len(self.in_service) == len(self.instances):
            self._failures = 0
        while len(self.instances) < self.desired and time.monotonic() >= self._not_before:
            instance = self._make(self.plan, self.tag)
            self.instances.append(instance)
            instance.start()
        while len(self.instances) > self.desired:
            # Those that do not answer yet go first, then the youngest.
            last = next((one for one in reversed(self.instances) if one not in self.in_service), self.instances[-1])
            self.instances.remove(last)
            self.leaving.append(last)

    def _lose(self, instance: HostedInstance) -> None:
        self._note(f"instance {instance.name} of variant {self.plan.name} is out of service: {instance.reason()}")
        self.failed = instance
        self.instances.remove(instance)
        self.leaving.append(instance)
        if instance.was_in_service and not self._failures:
            self._not_before = 0.0
        else:
            self._not_before = time.monotonic() + delay_after(self._failures)
        self._failures += 1

    def let_go(self) -> list[HostedInstance]:
        """All instances, which are no longer this fleet's to tend."""
        gone = [*self.leaving, *self.instances]
        self.instances, self.leaving, self.desired = [], [], 0
        return gone

    def route(self, weight: float | None = None) -> routing.Variant:
        """The variant for the routing table, with its own weight or another one."""
        return routing.Variant(
            self.plan.name,
            tuple(one.route for one in self.in_service if one.route is not None),
            self.weight if weight is None else weight,
            self.plan.strategy,
            self.plan.mode,
            self.tag,
            self._log_stream,
            self.plan.payload_bytes,
            self.plan.max_concurrency,
            self.plan.explained,
        )


class Fleet:
    """All variants of one endpoint configuration."""

    def __init__(self, tag: str, config_name: str, variants: list[VariantFleet], shadows: list[VariantFleet]) -> None:
        self.tag = tag
        self.config_name = config_name
        self.variants = variants
        self.shadows = shadows
        self.made_at = time.time()

    def __iter__(self) -> Iterator[VariantFleet]:
        yield from self.variants
        yield from self.shadows

    def tend(self) -> None:
        """Tend every variant."""
        for variant in self:
            variant.tend()

    @property
    def is_complete(self) -> bool:
        """Whether every variant is."""
        return all(variant.is_complete for variant in self)

    @property
    def failed(self) -> HostedInstance | None:
        """An instance that never came into service, if there was one."""
        lost = (variant.failed for variant in self)
        return next((one for one in lost if one is not None and not one.was_in_service), None)

    def instances(self) -> list[HostedInstance]:
        """Every instance."""
        return [instance for variant in self for instance in variant.instances]

    def let_go(self) -> list[HostedInstance]:
        """All instances; nothing is tended any more."""
        return [instance for variant in self for instance in variant.let_go()]

    def take_leaving(self) -> list[HostedInstance]:
        """The instances to end, once the routing table does not have them any more."""
        taken = [instance for variant in self for instance in variant.leaving]
        for variant in self:
            variant.leaving = []
        return taken

    def routes(self, share: float = 1.0) -> tuple[routing.Variant, ...]:
        """The production variants, that together get ``share`` of the endpoint's traffic."""
        total = sum(variant.weight for variant in self.variants) or 1.0
        if share == 1.0:
            return tuple(variant.route() for variant in self.variants)
        return tuple(variant.route(share * variant.weight / total) for variant in self.variants)

    def table(self, *, asynchronous: bool = False) -> routing.RoutingTable:
        """Where requests go if this is the only fleet."""
        return routing.RoutingTable(self.routes(), tuple(shadow.route() for shadow in self.shadows), asynchronous)


def shared_table(old: Fleet, new: Fleet, share: float, *, asynchronous: bool = False) -> routing.RoutingTable:
    """Where requests go during an update: ``share`` of them to the new fleet."""
    if share <= 0:
        return old.table(asynchronous=asynchronous)
    if share >= 1:
        return new.table(asynchronous=asynchronous)
    mixed = (*old.routes(1 - share), *new.routes(share))
    total = sum(variant.weight for variant in old.variants)
    # A shadow's part is its weight by the production variants' sum, which is 1 here.
    shadows = tuple(replace(one.route(), weight=one.weight / (total or 1.0)) for one in old.shadows)
    return routing.RoutingTable(mixed, shadows, asynchronous)


class FleetTags:
    """Names for an endpoint's fleets, never used twice, and which one is in service; outlives the process."""

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            document = {"last": 0, "current": ""}
        self._last: int = document["last"]
        self.current: str = document["current"]

    def make(self) -> str:
        """A tag for another fleet."""
        self._last += 1
        self._write()
        return str(self._last)

    def settle(self, tag: str) -> None:
        """The fleet of this tag is the one in service."""
        self.current = tag
        self._write()

    def _write(self) -> None:
        write_whole(self._file, json.dumps({"last": self._last, "current": self.current}))


class Retirement:
    """Ends instances in threads of their own: what is in flight first, then SIGTERM, then SIGKILL.

    Args:
        drain: waits until an instance has answered all it had, some seconds at most.
    """

    def __init__(self, drain: Callable[[str, float], object], grace_seconds: float = STOP_GRACE_SECONDS) -> None:
        self._drain = drain
        self._grace = grace_seconds
        self._threads: list[threading.Thread] = []

    def __call__(self, instance: HostedInstance) -> None:
        """End one instance, which the routing table no longer has or will not have in a moment."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=self._end, args=(instance,), name=f"end-{instance.name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _end(self, instance: HostedInstance) -> None:
        if instance.state is not InstanceState.OUT_OF_SERVICE:
            self._drain(instance.name, self._grace)
        instance.stop(self._grace)

    def join(self) -> None:
        """Wait until all have ended."""
        for thread in self._threads:
            thread.join()
