"""Traces by OpenTelemetry, for those who set its variables and have it installed; nothing at all for everyone else.

Variables are OpenTelemetry's own: its library reads most of them itself. Traces are asked for by an endpoint
(`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`) or by `OTEL_TRACES_EXPORTER`.
"""

import contextlib
import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Self

from sagemaker_byoc.errors import ByocError, RequestError
from sagemaker_byoc.logs import NAME
from sagemaker_byoc.serving.exchange import CUSTOM_ATTRIBUTES, INFERENCE_ID

log = logging.getLogger(f"{NAME}.tracing")

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
EXPORTERS = "OTEL_TRACES_EXPORTER"
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
OTLP = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
PACKAGES = "opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http"
STOP_SECONDS = 3.0  # of the time that a worker has to end; a collector that is gone must not use it up
TRACEPARENT = r'\btraceparent"?\s*[=:]\s*"?([0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})(?![0-9a-f])'


class Span:
    """A part of a trace, or nothing, which costs nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def set(self, name: str, value: str | float) -> None:
        """Say more about it."""

    def answered(self, status: int, response_bytes: int) -> None:
        """The request's outcome."""


NO_SPAN = Span()


class Tracer:
    """Makes spans; this one makes none. `on` lets a caller spare itself what only a span would need."""

    on = False

    def request(self, headers: Mapping[str, str], route: str, method: str = "POST") -> AbstractContextManager[Span]:
        """The span of a request, in the caller's trace if the headers name one. Route: as in the metrics."""
        del headers, route, method
        return NO_SPAN

    def stage(self, name: str) -> AbstractContextManager[Span]:
        """A span within the request's, of the same thread or task: decode, predict, encode."""
        del name
        return NO_SPAN

    def stop(self) -> None:
        """Send what has not been sent."""


def start(environ: Mapping[str, str]) -> Tracer:
    """The worker's tracer, to be made after the fork, for it has a thread, and before the user's code is imported.

    Traces that are asked for and cannot be had cost one line in the log.
    """
    asked_by = next((name for name in (*ENDPOINTS, EXPORTERS) if environ.get(name)), None)
    if asked_by is None or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return Tracer()
    wanted = _exporters(environ)
    if not wanted:
        return Tracer()
    try:
        return RecordingTracer(environ, wanted)
    except ImportError as error:
        log.warning("no traces, although %s is set: %s; install %s in the image", asked_by, error.msg, PACKAGES)
    except Exception as error:  # noqa: BLE001 - whatever the library thinks of its variables, requests are answered
        log.warning("no traces, although %s is set: %s: %s", asked_by, type(error).__name__, error)
    return Tracer()


class RecordingTracer(Tracer):
    """Makes spans of the OpenTelemetry SDK. Spans that the user's code makes are sent as well, within these."""

    on = True

    def __init__(self, environ: Mapping[str, str], exporters: list[str]) -> None:
        """Raises ImportError where a package is missing, ValueError for a variable that cannot be used."""
        from opentelemetry import propagate, trace  # noqa: PLC0415 - 125 ms, for those who asked
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        made = [_exporter_class(name)() for name in exporters]
        own: dict[str, str | int] = {"process.pid": os.getpid()}
        if "service.name=" not in environ.get("OTEL_RESOURCE_ATTRIBUTES", "") and not environ.get("OTEL_SERVICE_NAME"):
            own["service.name"] = "sagemaker-byoc"
        self._provider = TracerProvider(resource=Resource.create(own), shutdown_on_exit=False)
        for exporter in made:
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        trace.set_tracer_provider(self._provider)
        self._tracer = self._provider.get_tracer(NAME)
        self._extract = propagate.extract
        self._server = trace.SpanKind.SERVER
        self._error = trace.Status(trace.StatusCode.ERROR)

    @contextlib.contextmanager
    def request(self, headers: Mapping[str, str], route: str, method: str = "POST") -> Iterator[Span]:
        attributes: dict[str, str | int] = {"http.request.method": method, "http.route": route, "url.scheme": "http"}
        if INFERENCE_ID in headers:
            attributes["sagemaker.inference_id"] = headers[INFERENCE_ID]
        if headers.get("Content-Length", "").isdecimal():
            attributes["http.request.body.size"] = int(headers["Content-Length"])
        context = self._extract(trace_context(headers))
        with self._span(f"{method} {route}", context=context, kind=self._server, attributes=attributes) as span:
            try:
                yield span
            except ByocError as error:
                span.answered(error.status, 0)
                raise

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Span]:
        with self._span(name) as span:
            yield span

    @contextlib.contextmanager
    def _span(self, name: str, **details: Any) -> Iterator["RecordedSpan"]:
        """A span of the calling thread or task. What the caller did wrong is no error of it."""
        made = self._tracer.start_as_current_span(
            name, record_exception=False, set_status_on_exception=False, **details
        )
        with made as span:
            try:
                yield RecordedSpan(span, self._error)
            except RequestError as error:
                span.add_event(type(error).__name__, {"exception.message": str(error)})
                raise
            except Exception as error:
                span.record_exception(error)
                span.set_status(self._error)
                raise

    def stop(self) -> None:
        thread = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        thread.start()
        thread.join(STOP_SECONDS)


class RecordedSpan(Span):
    """A span that is sent."""

    def __init__(self, span: Any, error: Any) -> None:
        self._span = span
        self._error = error

    def set(self, name: str, value: str | float) -> None:
        self._span.set_attribute(name, value)

    def answered(self, status: int, response_bytes: int) -> None:
        """The request's outcome; a 4xx is no error of the span."""
        self._span.set_attribute("http.response.status_code", status)
        self._span.set_attribute("http.response.body.size", response_bytes)
        if status >= 500:
            self._span.set_attribute("error.type", str(status))
            self._span.set_status(self._error)


def trace_context(headers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers, or the trace that the custom attributes name: SageMaker passes on no header named `traceparent`."""
    if "traceparent" in headers:
        return headers
    found = re.search(TRACEPARENT, headers.get(CUSTOM_ATTRIBUTES, ""))
    return {"traceparent": found[1]} if found else headers


def _exporters(environ: Mapping[str, str]) -> list[str]:
    """The names under which the exporters are installed."""
    names = [name.strip() for name in (environ.get(EXPORTERS) or "otlp").split(",")]
    protocol = next((environ[name] for name in PROTOCOLS if environ.get(name)), "http/protobuf")
    return [OTLP.get(protocol, protocol) if name == "otlp" else name for name in names if name not in ("", "none")]


def _exporter_class(name: str) -> Any:
    from importlib.metadata import entry_points  # noqa: PLC0415 - as above

    for found in entry_points(group="opentelemetry_traces_exporter", name=name):
        return found.load()
    raise ImportError(f"no exporter named {name!r} is installed")
