"""What an endpoint's variants did: counts and latencies since the endpoint exists, and of the last seconds for alarms.

The counts are the router's; here they are added to those of earlier runs, and kept in ``metrics.json``.
"""

from __future__ import annotations

import json
import pickle
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from local_sagemaker.files import write_whole
from local_sagemaker.hosting.alarms import Alarm
from local_sagemaker.hosting.comparison import MOST_LATENCIES, Outcomes
from local_sagemaker.hosting.invocation_metrics import Latency, VariantKey, VariantMetrics
from local_sagemaker.state.store import MetricPoint

FILE = "metrics.json"
SNAPSHOT_SECONDS = 0.25
RECENT_SECONDS = 60.0
OLDER_SECONDS = 5.0
WRITE_SECONDS = 1.0
POINT_SECONDS = 10.0
LONGEST_WINDOW_SECONDS = 900.0

Metrics = Mapping[VariantKey, VariantMetrics]


class Measurements:
    """An endpoint's counts, looked at four times a second.

    Args:
        directory: the endpoint's.
        ask: the router's counts since it began.
        keep: takes points for the endpoint's time series.
    """

    def __init__(
        self, directory: Path, ask: Callable[[], Metrics], keep: Callable[[Iterable[MetricPoint]], None]
    ) -> None:
        self._file = directory / FILE
        self._ask = ask
        self._keep = keep
        self._before = read_metrics(directory)
        # Pickled, for as objects those of a busy variant take 45 KB.
        self._recent: deque[tuple[float, bytes]] = deque()
        self._older: deque[tuple[float, bytes]] = deque()  # fewer of them
        self._last: Metrics = {}
        self._written_at = 0.0
        self._written: Metrics | None = None
        self._point_at = time.monotonic()
        self._point: Metrics = {}

    def look(self, now: float) -> None:
        """Take the counts of this moment (by the monotonic clock), and write them if it is time."""
        if self._recent and now - self._recent[-1][0] < SNAPSHOT_SECONDS:
            return
        snapshot = dict(self._ask())
        kept = self._recent[-1][1] if self._recent and snapshot == self._last else pickle.dumps(snapshot)
        self._recent.append((now, kept))
        self._last = snapshot
        while now - self._recent[0][0] > RECENT_SECONDS:
            last = self._recent.popleft()
            if not self._older or last[0] - self._older[-1][0] >= OLDER_SECONDS:
                self._older.append(last)
        while self._older and now - self._older[0][0] > LONGEST_WINDOW_SECONDS:
            self._older.popleft()
        if now - self._written_at >= WRITE_SECONDS:
            self._write(snapshot)
            self._written_at = now
        if now - self._point_at >= POINT_SECONDS:
            self._add_points(snapshot, time.time())
            self._point_at = now

    def close(self) -> None:
        """Write the last counts."""
        snapshot = dict(self._ask())
        self._write(snapshot)
        self._add_points(snapshot, time.time())

    def fires(self, alarm: Alarm, key: VariantKey, now: float) -> str | None:
        """Why an alarm fires on a variant of a fleet now, or None."""
        period = self.window(key, now, alarm.window_seconds)
        latencies = period.model_latency.sample_ms()
        return alarm.fires(period.invocations, period.model_errors, latencies)

    def window(self, key: VariantKey, now: float, seconds: float) -> VariantMetrics:
        """What a variant of a fleet did within the last seconds."""
        if not self._recent:
            return VariantMetrics()
        kept = (*self._older, *self._recent)
        at, start = next((one for one in kept if one[0] >= now - seconds), kept[-1])
        earliest = at == kept[0][0] and at > now - seconds
        metrics: Metrics = {} if earliest else pickle.loads(start)  # noqa: S301 - our own
        return self._last.get(key, VariantMetrics()) - metrics.get(key, VariantMetrics())

    def _write(self, snapshot: Metrics) -> None:
        if snapshot == self._written:
            return
        total = {key: added(self._before.get(key), metrics) for key, metrics in snapshot.items()}
        write_metrics(self._file, {**self._before, **total})
        self._written = snapshot

    def _add_points(self, snapshot: Metrics, timestamp: float) -> None:
        points = []
        for key, metrics in snapshot.items():
            period = metrics - self._point.get(key, VariantMetrics())
            if period.invocations:
                points += [MetricPoint(name, value, timestamp, key[0]) for name, value in period.named().items()]
        self._keep(points)
        self._point = snapshot


def added(one: VariantMetrics | None, other: VariantMetrics) -> VariantMetrics:
    """Both periods together."""
    if one is None:
        return other
    return VariantMetrics(
        one.invocations + other.invocations,
        one.errors_4xx + other.errors_4xx,
        one.errors_5xx + other.errors_5xx,
        one.model_errors + other.model_errors,
        one.left_out + other.left_out,
        other.in_flight,
        one.model_latency + other.model_latency,
        one.overhead_latency + other.overhead_latency,
    )


def write_metrics(file: Path, metrics: Metrics) -> None:
    """Write counts, at once or not at all."""
    document = [{"variant": name, "fleet": fleet, **asdict(one)} for (name, fleet), one in metrics.items()]
    write_whole(file, json.dumps(document))


def read_metrics(directory: Path) -> dict[VariantKey, VariantMetrics]:
    """An endpoint's counts as they were last written; {} before the first."""
    try:
        document: list[dict[str, Any]] = json.loads((directory / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    found = {}
    for one in document:
        key = (one.pop("variant"), one.pop("fleet"))
        one["model_latency"] = _latency(one["model_latency"])
        one["overhead_latency"] = _latency(one["overhead_latency"])
        found[key] = VariantMetrics(**one)
    return found


def _latency(document: dict[str, Any]) -> Latency:
    buckets = {int(bucket): count for bucket, count in document.pop("buckets").items()}
    return Latency(**document, buckets=buckets)


def outcomes(metrics: Metrics, variant: str, fleet: str, judged: int = 0, right: int = 0) -> Outcomes:
    """What a comparison needs to know of a variant."""
    one = metrics.get((variant, fleet), VariantMetrics())
    latencies = one.model_latency.sample_ms(MOST_LATENCIES)
    return Outcomes(variant, one.invocations, one.model_errors, latencies, judged, right)
