"""What a worker counts and times, for Prometheus. The text for all workers together is made in `scrape`."""

import logging
import threading
import time
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.logs import NAME
from sagemaker_byoc.serving import writers
from sagemaker_byoc.serving.shared_values import SharedValues

log = logging.getLogger(f"{NAME}.metrics")

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"  # read by prometheus-client on import, so that users' metrics go there as well
OTHER = "other"
ROUTES = (
    "/invocations",
    "/ping",
    "/metrics",
    "/execution-parameters",
    "/openapi.json",
    "/models",
    "/models/{name}",
    "/models/{name}/invoke",
    "/invocations-bidirectional-stream",
)
SECONDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 300.0, float("inf")),
)
SIZES = (*(float(2**power) for power in range(11)), float("inf"))


@dataclass(frozen=True)
class Metric:
    """A name and what stands for it in the text."""

    name: str
    kind: str  # counter, gauge or histogram
    unit: str
    text: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()  # of a histogram's buckets


REQUESTS = Metric("byoc_requests_total", "counter", "requests", "Requests that were answered.", ("route", "status"))
REQUEST_SECONDS = Metric(
    "byoc_request_seconds", "histogram", "seconds", "From a request's arrival to its answer's end.", ("route",), SECONDS
)
REQUEST_BYTES = Metric("byoc_request_bytes_total", "counter", "bytes", "Bodies of requests.", ("route",))
RESPONSE_BYTES = Metric("byoc_response_bytes_total", "counter", "bytes", "Bodies of answers.", ("route",))
SLOT_REQUESTS = Metric("byoc_slot_requests_total", "counter", "requests", "Requests that the slot answered.", ("slot",))
IN_FLIGHT = Metric("byoc_in_flight_requests", "gauge", "requests", "Requests that workers are busy with or that wait.")
REJECTED = Metric("byoc_rejected_total", "counter", "requests", "Requests that no handler has seen.", ("reason",))
STAGE_SECONDS = Metric("byoc_stage_seconds", "histogram", "seconds", "Parts of a request.", ("stage",), SECONDS)
BATCHES = Metric("byoc_batches_total", "counter", "batches", "Batches, by why each was released.", ("reason",))
BATCH_ROWS = Metric("byoc_batch_rows", "histogram", "rows", "Rows of a batch.", (), SIZES)
BATCH_REQUESTS = Metric("byoc_batch_requests", "histogram", "requests", "Requests of a batch.", (), SIZES)
BATCH_WAIT = Metric(
    "byoc_batch_wait_seconds", "histogram", "seconds", "How long a batch's oldest request waited for it.", (), SECONDS
)
BATCH_RUN = Metric("byoc_batch_run_seconds", "histogram", "seconds", "How long a batch took to run.", (), SECONDS)
MODEL_LOAD = Metric("byoc_model_load_seconds", "gauge", "seconds", "How long the slot's model took to load.", ("slot",))
READY = Metric("byoc_workers_ready", "gauge", "workers", "Living workers whose model is loaded.")
STARTS = Metric("byoc_worker_starts_total", "counter", "starts", "Worker processes that began in the slot.", ("slot",))
RECORDED = (
    *(REQUESTS, REQUEST_SECONDS, REQUEST_BYTES, RESPONSE_BYTES, SLOT_REQUESTS, IN_FLIGHT, REJECTED, STAGE_SECONDS),
    *(BATCHES, BATCH_ROWS, BATCH_REQUESTS, BATCH_WAIT, BATCH_RUN, MODEL_LOAD, READY, STARTS),
)


@dataclass(frozen=True)
class Histogram:
    """Where a histogram's numbers are."""

    total: int
    buckets: list[int]  # one for each bound


class Metrics:
    """The metrics of one worker, to be made after the fork. Every method may be called by any thread at any time.

    Numbers go on where the last worker with this one's files stopped, so that no restart takes from a sum.
    """

    def __init__(self, directory: Path, slot: int = 0, routes: Iterable[str] = ROUTES) -> None:
        """Files in the directory, one set a living worker; without room for them one warning, and counts for nobody."""
        self.directory = directory
        self.slot = str(slot)
        self._routes = frozenset(routes)
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, int], tuple[int, int, int, Histogram]] = {}
        self._counters: dict[tuple[str, ...], int] = {}
        self._histograms: dict[tuple[str, str], Histogram] = {}
        self._batch: list[Histogram] = []
        try:
            self._open(directory, f"writer-{writers.take(directory, slot).number}")
        except OSError as error:
            log.warning("/metrics leaves out slot %d: no files in %s: %s", slot, directory, error)
            self._open(None, "")
        self._count = self._counter_file.numbers
        self._time = self._histogram_file.numbers
        self._now = self._sum_file.numbers
        with self._lock:
            self._in_flight = self._sum_file.index(IN_FLIGHT.name, IN_FLIGHT.name, {}, IN_FLIGHT.text)
            self._ready = self._sum_file.index(READY.name, READY.name, {}, READY.text)
            self._slot_requests = self._counter(SLOT_REQUESTS, self.slot)
            self._count[self._counter(STARTS, self.slot)] += 1.0

    def begin(self) -> None:
        """A request has arrived."""
        with self._lock:
            self._now[self._in_flight] += 1.0

    def end(self) -> None:
        """A request that has begun is over, whether it was answered or not."""
        with self._lock:
            self._now[self._in_flight] -= 1.0

    def request(self, route: str, status: int, seconds: float, request_bytes: int, response_bytes: int) -> None:
        """An answered request. A route that is not one of ours counts as `other`: a caller cannot make up labels."""
        with self._lock:
            cells = self._requests.get((route, status)) or self._request_cells(route, status)
            answered, received, sent, duration = cells
            count = self._count
            count[answered] += 1.0
            count[received] += request_bytes
            count[sent] += response_bytes
            count[self._slot_requests] += 1.0
            self._observe(duration, SECONDS, seconds)

    def stage(self, name: str, seconds: float) -> None:
        """A part of a request: decode, queue, predict, encode."""
        with self._lock:
            key = (STAGE_SECONDS.name, name)
            self._observe(self._histograms.get(key) or self._histogram(STAGE_SECONDS, name), SECONDS, seconds)

    def batch(self, rows: int, requests: int, reason: str, waited_seconds: float, ran_seconds: float) -> None:
        """A batch that ran, and why it waited no longer."""
        with self._lock:
            if not self._batch:  # an endpoint without batches has no rows of zeros
                self._batch = [self._histogram(one, "") for one in (BATCH_ROWS, BATCH_REQUESTS, BATCH_WAIT, BATCH_RUN)]
            of_rows, of_requests, waited, ran = self._batch
            self._count[self._counter(BATCHES, reason)] += 1.0
            self._observe(of_rows, SIZES, rows)
            self._observe(of_requests, SIZES, requests)
            self._observe(waited, SECONDS, waited_seconds)
            self._observe(ran, SECONDS, ran_seconds)

    def rejected(self, reason: str) -> None:
        """A request that was turned away before a handler saw it."""
        with self._lock:
            self._count[self._counter(REJECTED, reason)] += 1.0

    def model_loaded(self, seconds: float) -> None:
        """The worker's model is loaded: it counts as ready until it ends."""
        with self._lock:
            index = self._last_file.index(MODEL_LOAD.name, MODEL_LOAD.name, {"slot": self.slot}, MODEL_LOAD.text)
            self._last_file.numbers[index] = seconds
            self._last_file.numbers[index + 1] = time.time()  # of two workers of the slot the later one counts
            self._now[self._ready] = 1.0

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The text for all workers, and its content type, as the scraper's Accept header asks."""
        from sagemaker_byoc.serving import scrape  # noqa: PLC0415 - the library takes 45 ms, and may never be needed

        return scrape.render(self.directory, accept)

    def _open(self, directory: Path | None, name: str) -> None:
        kinds = ("counter", "histogram", "gauge_livesum", "gauge_livemostrecent")
        files = [SharedValues(directory and directory / f"{kind}_{name}.db") for kind in kinds]
        self._counter_file, self._histogram_file, self._sum_file, self._last_file = files

    def _request_cells(self, route: str, status: int) -> tuple[int, int, int, Histogram]:
        route = route if route in self._routes else OTHER
        status = status if 100 <= status <= 599 else 0
        if (route, status) not in self._requests:
            text = str(status) if status else OTHER
            self._requests[route, status] = (
                self._counter(REQUESTS, route, text),
                self._counter(REQUEST_BYTES, route),
                self._counter(RESPONSE_BYTES, route),
                self._histogram(REQUEST_SECONDS, route),
            )
        return self._requests[route, status]

    def _observe(self, histogram: Histogram, bounds: tuple[float, ...], number: float) -> None:
        numbers = self._time
        numbers[histogram.buckets[bisect_left(bounds, number)]] += 1.0
        numbers[histogram.total] += number

    def _counter(self, metric: Metric, *values: str) -> int:
        key = (metric.name, *values)
        if key not in self._counters:
            labels = dict(zip(metric.labels, values, strict=True))
            family = metric.name.removesuffix("_total")
            self._counters[key] = self._counter_file.index(family, metric.name, labels, metric.text)
        return self._counters[key]

    def _histogram(self, metric: Metric, value: str) -> Histogram:
        key = (metric.name, value)
        if key not in self._histograms:
            labels = dict.fromkeys(metric.labels, value)
            index, name = self._histogram_file.index, metric.name
            buckets = [
                index(name, f"{name}_bucket", {**labels, "le": _bound(bound)}, metric.text) for bound in metric.bounds
            ]
            self._histograms[key] = Histogram(index(name, f"{name}_sum", labels, metric.text), buckets)
        return self._histograms[key]


def _bound(bound: float) -> str:
    """A bucket's bound as the format writes it."""
    return "+Inf" if bound == float("inf") else str(bound)
