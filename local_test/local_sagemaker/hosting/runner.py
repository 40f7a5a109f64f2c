"""The process behind an endpoint: its fleet, its router, and the changes that are asked of it by its record.

What the API's operations ask stands in the endpoint's description; this process makes it so and says so there. It
looks ten times a second, and never waits for one thing while another could need it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, BinaryIO, Self

from local_sagemaker.archive import remove_tree
from local_sagemaker.engines.base import Chunk, Engine, NetworkPlan
from local_sagemaker.errors import LocalSageMakerError, UsageError
from local_sagemaker.hosting.alarms import AlarmBook
from local_sagemaker.hosting.async_invocations import AsyncQueue
from local_sagemaker.hosting.capture import Capture, capture_config
from local_sagemaker.hosting.deployment import plan_deployment
from local_sagemaker.hosting.description import from_config
from local_sagemaker.hosting.endpoint_record import EndpointRecord, apply_desired
from local_sagemaker.hosting.fleet import FLEETS_FILE, Fleet, FleetTags, Retirement, shared_table
from local_sagemaker.hosting.fleet_builder import FleetBuilder, read_config
from local_sagemaker.hosting.hooks import Hooks
from local_sagemaker.hosting.instance import HostedInstance
from local_sagemaker.hosting.journal import CAPTURE_FOLDER, Journal, running_document
from local_sagemaker.hosting.local_options import LocalOptions
from local_sagemaker.hosting.measurements import Measurements
from local_sagemaker.hosting.multi_model import ModelLoader
from local_sagemaker.hosting.open_files import allow_open_files
from local_sagemaker.hosting.router_thread import RouterThread
from local_sagemaker.hosting.routing import RoutingTable
from local_sagemaker.hosting.update import Phase, Update
from local_sagemaker.logs import StreamSink
from local_sagemaker.progress import silent
from local_sagemaker.state.records import Kind, Record
from local_sagemaker.state.workspace import Workspace

LOOK_SECONDS = 0.1
DRAIN_SECONDS = 30.0

Document = dict[str, Any]


def run_endpoint(
    workspace: Workspace,
    engine: Engine,
    record: Record,
    output: BinaryIO | None,
    report: Callable[[str], None] = silent,
) -> None:
    """Bring an endpoint into service and keep it there until it is deleted; see ``state.runner``."""
    allow_open_files()
    with EndpointService(workspace, engine, record, output, report) as service:
        if service.create():
            service.serve()


class EndpointService:
    """An endpoint from Creating to its end; a context, that leaves nothing running behind."""

    def __init__(
        self,
        workspace: Workspace,
        engine: Engine,
        record: Record,
        output: BinaryIO | None,
        report: Callable[[str], None],
    ) -> None:
        self.name = record.name
        self._workspace = workspace
        self._store = workspace.store
        self._engine = engine
        self._record = record
        self._directory = workspace.directory_of(Kind.ENDPOINT, record.name)
        self._endpoint = EndpointRecord(workspace.store, record.name)
        self._journal = Journal(self._directory, report)
        self._tags = FleetTags(self._directory / FLEETS_FILE)
        self._options = LocalOptions.read(self._directory)
        self._stack = ExitStack()
        self._networks = ExitStack()
        self._wake = threading.Event()
        self._network: str | None = None
        shown = StreamSink(output)
        lock = threading.Lock()

        def show(chunk: Chunk) -> None:
            with lock:
                shown.write(chunk)

        self._builder = FleetBuilder(
            workspace,
            record.name,
            engine,
            self._options,
            self._isolated_network,
            self._wake.set,
            self._journal.event,
            None if output is None else show,
        )
        self._loader = ModelLoader(
            workspace.buckets, self._find_instance, self._journal.event, in_process=engine.name == "process"
        )
        self._fleet: Fleet | None = None
        self._update: Update | None = None
        self._wanted: Document = {}  # the endpoint configuration of the last update, which may be deleted meanwhile
        self._capture: Capture | None = None
        self._queue: AsyncQueue | None = None
        self._is_changing = False
        self._counts: dict[str, int] = {}  # of instances, before the change under way
        self._port = 0

    def __enter__(self) -> Self:
        """Nothing is started yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Answer what is in flight, stop every container, and remove all that was only for running."""
        self._stack.close()

    # Creating

    def create(self) -> bool:
        """Start the first fleet and the router; False if the endpoint could not be brought into service."""
        config, models = read_config(self._workspace, self._record.description["EndpointConfigName"])
        self._stack.callback(self._clean)
        asynchronous = config.get("AsyncInferenceConfig")
        started_again = "ProductionVariants" in self._record.description
        tag = self._tags.current if started_again and self._tags.current else self._tags.make()
        self._fleet = self._builder.build(config, models, tag)
        apply_desired(self._fleet, self._record.description)
        if asynchronous is not None:
            self._queue = AsyncQueue(
                self._directory / "async",
                self._workspace.buckets,
                asynchronous,
                f"s3://{self._workspace.default_bucket}/async-endpoint-outputs/{self.name}",
                self._journal.event,
            )
        self._capture = self._new_capture(config)
        hooks = Hooks(
            enqueue=None if self._queue is None else self._queue.enqueue,
            load_model=self._loader.load,
            forget_model=self._loader.forget,
        )
        table = RoutingTable(asynchronous=asynchronous is not None)
        self._router = RouterThread(self.name, table, seed=self._options.seed, hooks=hooks, capture=self._capture)
        self._retire = Retirement(self._drain)
        self._measurements = Measurements(
            self._directory, self._router.metrics, partial(self._store.put_metrics, Kind.ENDPOINT, self.name)
        )
        self._stack.callback(self._stop_fleet)
        if not self._await_first_fleet(self._fleet):
            return False
        self._tags.settle(self._fleet.tag)
        self._listen()
        if self._queue is not None:
            self._queue.start(self._router.forward, lambda: sum(len(one.in_service) for one in self._current()))
        self._note_running()
        self._endpoint.tell(self._fleet, EndpointStatus="InService")
        self._journal.event(f"endpoint {self.name} is in service at {self._url}")
        return True

    def _listen(self) -> None:
        try:
            self._port = self._router.start(self._options.port)
        except OSError as error:
            raise UsageError(
                f"port {self._options.port} of 127.0.0.1 cannot be used: {error.strerror}",
                "an endpoint needs a free port",
                "choose another, or --port 0",
            ) from error
        replace(self._options, port=self._port).write(self._directory)  # a start after a kill listens there again
        self._stack.callback(self._stop_router)

    def _drain(self, instance: str, limit_seconds: float) -> None:
        if self._port:  # before and after there is nobody to ask
            self._router.drain(instance, limit_seconds)

    def _await_first_fleet(self, fleet: Fleet) -> bool:
        while not fleet.is_complete:
            fleet.tend()
            self._note_running()
            if fleet.failed is not None:
                variant = fleet.failed.variant
                reason = (
                    f"The {'primary ' if len(variant.containers) == 1 else ''}container for production variant "
                    f"{variant.name} did not pass the ping health check: {fleet.failed.reason()}"
                )
                self._journal.event(reason)
                self._endpoint.fail(reason)
                return False
            if self._endpoint.is_unwanted:
                return False
            self._pause()
        self._router.set_table(self._table())
        return True

    def _isolated_network(self) -> str:
        if self._network is None:
            if self._engine.name == "process":
                self._journal.event("network isolation: a plain process cannot be isolated, so it is not")
                return "bridge"
            labels = self._workspace.labels(Kind.ENDPOINT, self.name)
            name = f"byoc-{self._workspace.identity}-{self.name}"
            self._networks.enter_context(self._engine.network(NetworkPlan(name, (), isolated=True, labels=labels)))
            self._network = name
        return self._network

    # In service

    def serve(self) -> None:
        """Do what the record asks until the endpoint is deleted."""
        version = -1
        trouble = ""
        while True:
            current = self._endpoint.version
            if current != version:
                version = current
                if self._endpoint.is_unwanted:
                    return
                self._obey(self._endpoint.description)
            try:
                self._tend()
            except (OSError, LocalSageMakerError) as error:  # a full disk, say: what is in service goes on
                if str(error) != trouble:
                    trouble = str(error)
                    self._journal.event(f"endpoint {self.name} cannot be tended: {error}")
            self._pause()

    def _pause(self) -> None:
        if self._wake.wait(LOOK_SECONDS):
            self._wake.clear()

    def _obey(self, description: Document) -> None:
        if description["EndpointStatus"] != "Updating" or self._update is not None:
            return
        pending = description.get("PendingDeploymentSummary")
        if pending is None:
            self._change_variants(description)
        else:
            self._begin_update(description, pending)

    def _change_variants(self, description: Document) -> None:
        for variant in self._current():
            self._counts[variant.plan.name] = variant.desired
            variant.failed = None
        apply_desired(self._current(), description)
        self._is_changing = True

    def _look_at_change(self) -> None:
        """Whether the variants are as asked, or one of them cannot be: then it keeps the instances that it had."""
        fleet = self._current()
        failed = fleet.failed
        if failed is not None:
            for variant in fleet:
                variant.desired = min(variant.desired, self._counts[variant.plan.name])
            reason = f"Variant {failed.variant.name} did not get the instances that are desired: {failed.reason()}"
            self._journal.event(reason)
            self._endpoint.settle(fleet, reason)
        elif fleet.is_complete:
            self._endpoint.settle(fleet, None)
        else:
            return
        self._is_changing = False

    def _begin_update(self, description: Document, pending: Document) -> None:
        try:
            config, models = read_config(self._workspace, pending["EndpointConfigName"])
            fleet = self._builder.build(config, models, self._tags.make())
        except LocalSageMakerError as error:
            self._journal.event(f"the update is refused: {error}")
            self._endpoint.settle(self._current(), f"The update was rolled back: {error}")
            return
        apply_desired(fleet, pending)
        instances = sum(variant.desired for variant in self._current().variants)
        deployment = plan_deployment(description.get("LastDeploymentConfig"), instances)
        self._wanted = dict(config)
        self._journal.event(f"updating to {fleet.config_name}: {deployment.kind}, {len(deployment.steps)} steps")
        mix = partial(shared_table, asynchronous=self._queue is not None)
        now = time.monotonic()
        self._update = Update(self._current(), fleet, deployment, self._alarm, self._journal.event, mix, now)

    def _tend(self) -> None:
        now = time.monotonic()
        if self._update is None:
            self._current().tend()
        else:
            self._update.tend(now)
        if self._update is not None and self._update.is_over:
            self._finish_update(self._update)
        self._route()
        self._measurements.look(now)
        if self._is_changing:
            self._look_at_change()
        rolling_back = self._update is not None and self._update.phase is Phase.ROLLING_BACK
        self._endpoint.tell(self._current(), **({"EndpointStatus": "RollingBack"} if rolling_back else {}))
        self._note_running()

    def _route(self) -> None:
        """The router's table first; only then end what it does not have any more."""
        table = self._table()
        if table != self._router.table:
            self._router.set_table(table)
        for fleet in self._fleets():
            for instance in fleet.take_leaving():
                self._loader.end(instance.name)
                self._retire(instance)

    def _finish_update(self, update: Update) -> None:
        loser = update.old if update.winner is update.new else update.new
        self._fleet = update.winner
        self._tags.settle(update.winner.tag)
        self._update = None
        self._router.set_table(self._table())
        for instance in loser.let_go():
            self._loader.end(instance.name)
            self._retire(instance)
        if update.phase is Phase.DONE:
            old_capture, self._capture = self._capture, self._new_capture(self._wanted)
            self._router.set_capture(self._capture)
            if old_capture is not None:
                old_capture.close()
            self._endpoint.settle(
                self._current(), None, EndpointConfigName=update.new.config_name, **from_config(self._wanted)
            )
            self._journal.event(f"the update to {update.new.config_name} is complete")
        elif update.phase is Phase.ROLLED_BACK:
            self._endpoint.settle(
                self._current(), f"The update to {update.new.config_name} was rolled back: {update.reason}"
            )
            self._journal.event(f"rolled back to {update.old.config_name}")
        else:
            self._endpoint.settle(
                self._current(),
                f"The update to {update.new.config_name} could not be rolled back: {update.reason}",
                EndpointStatus="UpdateRollbackFailed",
            )

    def _alarm(self, fleet: Fleet) -> str | None:
        """Why one of the update's alarms fires on a variant of its new fleet."""
        if self._update is None:
            return None
        known = AlarmBook.of(self._workspace).alarms()
        for alarm in filter(None, map(known.get, self._update.deployment.alarms)):
            for variant in fleet.variants:
                if alarm.variant in {None, variant.plan.name}:
                    reason = self._measurements.fires(alarm, (variant.plan.name, fleet.tag), time.monotonic())
                    if reason:
                        return f"alarm {alarm.name} of variant {variant.plan.name}: {reason}"
        return None

    # What is so

    def _current(self) -> Fleet:
        if self._fleet is None:
            raise RuntimeError("the endpoint has no fleet yet")
        return self._fleet

    def _find_instance(self, name: str) -> HostedInstance | None:
        return next((one for fleet in self._fleets() for one in fleet.instances() if one.name == name), None)

    def _fleets(self) -> list[Fleet]:
        if self._update is not None:
            return [self._update.old, self._update.new]
        return [] if self._fleet is None else [self._fleet]

    def _table(self) -> RoutingTable:
        if self._update is not None:
            return self._update.table()
        return self._current().table(asynchronous=self._queue is not None)

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self._port}" if self._port else ""

    def _note_running(self) -> None:
        self._journal.now(running_document(self._url, self._engine.name, self._fleets(), self._update))

    def _new_capture(self, config: Document | Any) -> Capture | None:
        wanted = config.get("DataCaptureConfig")
        if wanted is None or not wanted.get("EnableCapture"):
            return None
        settings = capture_config(wanted, self._workspace.buckets, self._directory / CAPTURE_FOLDER)
        try:
            return Capture(self.name, settings, self._journal.event)
        except OSError as error:  # a full disk, say
            self._journal.event(f"data capture cannot begin, requests go on: {error}")
            return None

    # The end

    def _stop_router(self) -> None:
        if self._queue is not None:
            self._queue.stop()
        self._retire.join()
        self._router.stop(DRAIN_SECONDS)
        self._port = 0
        self._measurements.close()

    def _stop_fleet(self) -> None:
        for fleet in self._fleets():
            for instance in fleet.let_go():
                self._retire(instance)
        self._retire.join()
        if self._capture is not None:
            self._capture.close()

    def _clean(self) -> None:
        labels = self._workspace.labels(Kind.ENDPOINT, self.name)
        self._networks.close()
        self._engine.remove_all(labels)
        images = {image for fleet in self._fleets() for variant in fleet for image in variant.plan.images}
        for image in sorted(images)[:1]:
            self._engine.give_back(self._directory / "instances", image)
        self._builder.remove_models()
        remove_tree(self._directory / "instances")
        self._journal.end()
        self._endpoint.end(self._journal.event)
