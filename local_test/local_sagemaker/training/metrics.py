"""Metrics in a job's log: each line is searched for each definition's expression, and group 1 is the value.

Source: SageMaker developer guide, "Define Training Metrics"; API reference, MetricDefinition.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

from local_sagemaker.engines.base import Chunk
from local_sagemaker.errors import LocalSageMakerError, ValidationError
from local_sagemaker.logs import Lines, Sink
from local_sagemaker.state.store import MetricPoint

FLUSH_SECONDS = 0.5


def compile_definitions(definitions: Mapping[str, str]) -> dict[str, re.Pattern[str]]:
    """The compiled expressions by the metrics' names.

    Raises:
        ValidationError: if one does not compile, or has no group.
    """
    compiled = {}
    for name, text in definitions.items():
        try:
            expression = re.compile(text)
        except re.error as error:
            raise ValidationError(f"Metric {name}: the regular expression {text!r} is invalid: {error}") from error
        if not expression.groups:
            raise ValidationError(
                f"Metric {name}: the regular expression {text!r} has no group", "the value is group 1: loss=([0-9.]+)"
            )
        compiled[name] = expression
    return compiled


class MetricLog:
    """Collects the values that all hosts print, and hands them on twice a second and at the end."""

    def __init__(self, definitions: Mapping[str, re.Pattern[str]], put: Callable[[list[MetricPoint]], None]) -> None:
        self._definitions = definitions
        self._put = put
        self._waiting: list[MetricPoint] = []
        self._lock = threading.Lock()
        self.last: dict[str, float] = {}

    def sink(self, host: str) -> Lines:
        """Where the output of ``host`` goes."""
        return Lines(lambda lines: self.search(host, lines))

    def search(self, host: str, lines: Iterable[bytes]) -> None:
        """Look for every metric in each line."""
        now = time.time()
        found = [
            MetricPoint(name, value, now, host)
            for text in (line.decode(errors="replace") for line in lines)
            for name, expression in self._definitions.items()
            if (match := _find(expression, text)) and (value := _number(match[1])) is not None
        ]
        if found:
            with self._lock:
                self._waiting += found
                self.last.update({point.metric: point.value for point in found})

    def flush(self) -> None:
        """Hand on what has come since the last time."""
        with self._lock:
            points, self._waiting = self._waiting, []
        if points:
            try:
                self._put(points)
            except LocalSageMakerError:
                with self._lock:
                    self._waiting = points + self._waiting
                raise

    @contextmanager
    def flushed(self) -> Iterator[None]:
        """Hand on during a block, and what is left at its end."""
        if not self._definitions:
            yield
            return
        ended = threading.Event()

        def keep_flushing() -> None:
            while not ended.wait(FLUSH_SECONDS):
                with suppress(LocalSageMakerError):  # the disk is full, say: what waits is handed on later
                    self.flush()

        thread = threading.Thread(target=keep_flushing, name="metrics", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.flush()


class Tee:
    """Gives what comes to several sinks."""

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = sinks

    def write(self, chunk: Chunk) -> None:
        """Give one chunk to all."""
        for sink in self._sinks:
            sink.write(chunk)

    def end(self) -> None:
        """Tell all."""
        for sink in self._sinks:
            sink.end()


def _find(expression: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The first match in a line."""
    # A ``.*`` in front takes whatever precedes the rest; begun anew at each character, as a search does, it costs the
    # square of the line's length: minutes for one of 256 KB.
    takes_all = expression.pattern.startswith(".*") and "|" not in expression.pattern
    return expression.match(text) if takes_all else expression.search(text)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
