"""Traces: whole, in the caller's trace, and nothing unless asked for. What is sent is read by a receiver of OTLP."""

import re
import socket
import subprocess
import sys
import threading
import time
import timeit
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span
from sagemaker_byoc.serving import tracing
from sagemaker_byoc.serving.exchange import EnvironHeaders

from tests.support.training import clean_environment

HOW_TO = Path(__file__).parents[3] / "docs/how-to/watch-an-endpoint.md"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
STARTS = """
import asyncio, os, sys, threading, time
from sagemaker_byoc.logs import configure_logs
from sagemaker_byoc.serving import tracing
configure_logs()
tracer = tracing.start(os.environ)
"""


class Receiver(ThreadingHTTPServer):
    """A collector: keeps what it is sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taking)
        self.received: list[ResourceSpans] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def spans(self) -> dict[str, Span]:
        """By name; each name once."""
        found = [span for part in self.received for scope in part.scope_spans for span in scope.spans]
        assert len({span.name for span in found}) == len(found)
        return {span.name: span for span in found}


class Taking(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Receiver)
        assert self.path == "/v1/traces"
        request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received.extend(request.resource_spans)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def run(program: str, environ: Mapping[str, str]) -> str:
    """Run in a worker of its own, as the provider of a process cannot be taken back; returns its standard error."""
    clean = {name: value for name, value in clean_environment().items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", STARTS + program],
        env={**clean, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def attributes(of: Span | ResourceSpans) -> dict[str, str | int]:
    pairs = of.resource.attributes if isinstance(of, ResourceSpans) else of.attributes
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in pairs}


ONE_REQUEST = f"""
headers = {{
    "traceparent": "{TRACEPARENT}",
    "X-Amzn-SageMaker-Inference-Id": "call-7",
    "Content-Length": "800",
}}
with tracer.request(headers, "/invocations") as request:
    with tracer.stage("decode"):
        pass
    with tracer.stage("predict") as predict:
        predict.set("byoc.batch.rows", 4)
        from opentelemetry import trace
        with trace.get_tracer("users").start_as_current_span("lookup"):
            pass
    with tracer.stage("encode"):
        pass
    request.answered(200, 90)
tracer.stop()
"""


def test_a_request_and_its_parts_are_in_the_callers_trace(receiver: Receiver) -> None:
    """15.7: with the user's own spans in their place, sent before the worker ends."""
    assert run(ONE_REQUEST, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}) == ""
    spans = receiver.spans()
    assert set(spans) == {"POST /invocations", "decode", "predict", "lookup", "encode"}
    request = spans["POST /invocations"]
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    assert request.parent_span_id.hex() == PARENT
    assert [spans[name].parent_span_id for name in ("decode", "predict", "encode")] == [request.span_id] * 3
    assert spans["lookup"].parent_span_id == spans["predict"].span_id
    assert request.kind == Span.SPAN_KIND_SERVER
    assert attributes(request) == {
        "http.request.method": "POST",
        "http.route": "/invocations",
        "url.scheme": "http",
        "http.request.body.size": 800,
        "http.response.status_code": 200,
        "http.response.body.size": 90,
        "sagemaker.inference_id": "call-7",
    }
    assert attributes(spans["predict"]) == {"byoc.batch.rows": 4}
    assert {attributes(part)["service.name"] for part in receiver.received} == {"sagemaker-byoc"}


def test_the_service_is_called_what_the_variables_call_it(receiver: Receiver) -> None:
    """OpenTelemetry's own variables come first."""
    for named in ({"OTEL_SERVICE_NAME": "digits"}, {"OTEL_RESOURCE_ATTRIBUTES": "service.name=digits"}):
        receiver.received.clear()
        run(ONE_REQUEST, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{receiver.endpoint}/v1/traces", **named})
        assert {attributes(part)["service.name"] for part in receiver.received} == {"digits"}


def test_an_error_of_the_containers_marks_the_span_and_a_callers_does_not(receiver: Receiver) -> None:
    """15.4."""
    program = """
for status in (400, 500):
    with tracer.request({}, f"/{status}") as request:
        request.answered(status, 0)
tracer.stop()
"""
    run(program, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint})
    spans = receiver.spans()
    assert spans["POST /400"].status.code == 0
    assert spans["POST /500"].status.code == 2
    assert attributes(spans["POST /500"])["error.type"] == "500"
    assert spans["POST /400"].trace_id != spans["POST /500"].trace_id


def test_errors_that_are_raised_are_in_the_part_that_raised_them(receiver: Receiver) -> None:
    """15.4, 15.5: the user's with its trace, the caller's by its name."""
    program = """
from sagemaker_byoc.errors import HandlerError, MalformedBody
for part, error in (("decode", MalformedBody("no JSON")), ("predict", HandlerError("predict_fn failed"))):
    try:
        with tracer.request({}, f"/{part}"), tracer.stage(part):
            raise error
    except (HandlerError, MalformedBody):
        pass
tracer.stop()
"""
    run(program, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint})
    spans = receiver.spans()
    assert [spans[name].status.code for name in ("decode", "POST /decode", "predict", "POST /predict")] == [0, 0, 2, 2]
    assert [event.name for event in spans["decode"].events] == ["MalformedBody"]
    assert [event.name for event in spans["predict"].events] == ["exception"]
    assert attributes(spans["POST /decode"])["http.response.status_code"] == 400
    assert attributes(spans["POST /predict"])["http.response.status_code"] == 500


def test_requests_of_other_threads_and_tasks_keep_to_themselves(receiver: Receiver) -> None:
    """Both lanes: threads, and tasks of one thread that take turns."""
    program = """
together = threading.Barrier(2)
def answer(name):
    with tracer.request({}, name):
        together.wait()
        with tracer.stage(f"in {name}"):
            together.wait()
threads = [threading.Thread(target=answer, args=(f"thread-{n}",)) for n in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
async def answer_too(name, mine, other):
    with tracer.request({}, name):
        other.set()
        await mine.wait()
        with tracer.stage(f"in {name}"):
            await asyncio.sleep(0)
async def both():
    one, two = asyncio.Event(), asyncio.Event()
    await asyncio.gather(answer_too("task-0", one, two), answer_too("task-1", two, one))
asyncio.run(both())
tracer.stop()
"""
    run(program, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint})
    spans = receiver.spans()
    for name in ("thread-0", "thread-1", "task-0", "task-1"):
        assert spans[f"in {name}"].parent_span_id == spans[f"POST {name}"].span_id
    assert len({span.trace_id for span in spans.values()}) == 4


@pytest.mark.parametrize(
    "custom",
    [
        f"traceparent={TRACEPARENT}",
        f"user=7,traceparent={TRACEPARENT},more=1",
        f"user=7; traceparent: {TRACEPARENT}",
        f'{{"user": 7, "traceparent": "{TRACEPARENT}"}}',
    ],
)
def test_the_custom_attributes_may_name_the_trace(custom: str) -> None:
    """15.6, 15.7: the platform drops a header of the caller's own."""
    headers = EnvironHeaders({"HTTP_X_AMZN_SAGEMAKER_CUSTOM_ATTRIBUTES": custom})
    assert tracing.trace_context(headers) == {"traceparent": TRACEPARENT}


def test_the_custom_attributes_of_the_how_to_name_a_trace() -> None:
    """15.7."""
    (line,) = re.findall(r'^attributes = \{"CustomAttributes": "(.*)"\}$', HOW_TO.read_text(), re.MULTILINE)
    headers = EnvironHeaders({"HTTP_X_AMZN_SAGEMAKER_CUSTOM_ATTRIBUTES": line})
    assert tracing.trace_context(headers) == {"traceparent": TRACEPARENT}


@pytest.mark.parametrize("custom", ["", "trace=1", f"traceparent={TRACEPARENT}0", "traceparent=00-1-2-01"])
def test_custom_attributes_that_name_no_trace_are_left_alone(custom: str) -> None:
    """15.6, 15.7."""
    headers = EnvironHeaders({"HTTP_X_AMZN_SAGEMAKER_CUSTOM_ATTRIBUTES": custom})
    assert tracing.trace_context(headers) is headers


def test_a_header_of_its_own_comes_before_the_custom_attributes() -> None:
    """15.7: where there is no platform in between."""
    headers = EnvironHeaders(
        {"HTTP_TRACEPARENT": TRACEPARENT, "HTTP_X_AMZN_SAGEMAKER_CUSTOM_ATTRIBUTES": TRACEPARENT.replace("b", "c")}
    )
    assert tracing.trace_context(headers)["traceparent"] == TRACEPARENT


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_SERVICE_NAME": "digits"},
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"},
    ],
    ids=str,
)
def test_nobody_who_has_not_asked_pays(environ: dict[str, str]) -> None:
    """14.8: neither at the start nor in a request."""
    program = """
assert not tracer.on
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
with tracer.request({}, "/invocations") as request, tracer.stage("predict"):
    request.answered(200, 90)
tracer.stop()
"""
    assert run(program, environ) == ""


def test_a_tracer_that_is_off_costs_hardly_more_than_blocks_that_do_nothing() -> None:
    """15.14: what both take by turns on a busy machine; each about a microsecond a request on a quiet one."""
    tracer = tracing.start({})

    def one_request() -> None:
        with tracer.request({}, "/invocations") as request:
            with tracer.stage("decode"):
                pass
            with tracer.stage("predict"):
                pass
            with tracer.stage("encode"):
                pass
            request.answered(200, 90)

    def blocks() -> None:
        with nullcontext(), nullcontext(), nullcontext(), nullcontext():
            pass

    best = {one_request: 1.0, blocks: 1.0}
    for _ in range(20):
        for work, least in best.items():
            best[work] = min(least, timeit.timeit(work, timer=time.thread_time, number=1000))
    assert best[one_request] < 3 * best[blocks]


@pytest.mark.parametrize(
    ("before", "environ", "says"),
    [
        (
            "import sys; sys.modules['opentelemetry.sdk'] = None\n",
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"},
            "although OTEL_EXPORTER_OTLP_ENDPOINT is set: .*install opentelemetry-sdk and opentelemetry-exporter-otlp",
        ),
        (
            "",
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "although OTEL_TRACES_EXPORTER is set: no exporter named 'otlp_proto_grpc' is installed; install",
        ),
        (
            "",
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_BSP_MAX_QUEUE_SIZE": "-1"},
            "although OTEL_TRACES_EXPORTER is set: ValueError: .*positive",
        ),
    ],
    ids=["no SDK", "no exporter", "a wrong value"],
)
def test_traces_that_cannot_be_had_cost_one_line(before: str, environ: dict[str, str], says: str) -> None:
    """15.1: and requests are answered."""
    clean = {name: value for name, value in clean_environment().items() if not name.startswith("OTEL_")}
    program = before + STARTS + "with tracer.request({}, '/invocations') as request: request.answered(200, 90)\n"
    done = subprocess.run(
        [sys.executable, "-c", program], env={**clean, **environ}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert re.search(says, line)


def test_a_collector_that_does_not_answer_holds_up_no_worker_for_long() -> None:
    """13.2: a container has 30 s to stop, and requests need them."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        program = """
with tracer.request({}, "/invocations"):
    pass
started = time.monotonic()
tracer.stop()
print(time.monotonic() - started, file=sys.stderr, flush=True)
"""
        seconds = float(run(program, {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}).splitlines()[-1])
    assert tracing.STOP_SECONDS - 0.5 < seconds < tracing.STOP_SECONDS + 5
