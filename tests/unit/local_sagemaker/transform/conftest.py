"""Transform jobs whose containers are small HTTP servers of the test's own, which misbehave where it says so."""

import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from local_sagemaker.api.operations import call
from local_sagemaker.engines.base import Chunk
from local_sagemaker.state.records import Kind
from local_sagemaker.state.runner import run
from local_sagemaker.state.workspace import Workspace
from local_sagemaker.transform import plan


@dataclass
class Seen:
    """One request as a container got it."""

    container: str
    path: str
    headers: dict
    body: bytes


@dataclass
class FakeEngine:
    """Runs no image: a container is ``answer(seen) -> (status, content_type, body)``, None for a closed connection.

    ``parameters`` is its answer to GET /execution-parameters.
    """

    answer: object
    parameters: tuple = (404, b"")
    name: str = "fake"
    seen: list = field(default_factory=list)
    plans: list = field(default_factory=list)
    stopped: list = field(default_factory=list)
    running: dict = field(default_factory=dict)
    most_at_once: Counter = field(default_factory=Counter)

    def start(self, container_plan):
        self.plans.append(container_plan)
        running = self.running[container_plan.hostname] = FakeContainer(self, container_plan)
        return running

    def give_back(self, directory, image, labels=None):
        pass

    def remove_all(self, labels):
        return 0

    @property
    def bodies(self):
        return [seen.body for seen in self.seen]


class FakeContainer:
    """A server on a port of its own."""

    def __init__(self, engine, container_plan):
        self.engine = engine
        self.name = container_plan.name
        self._host = container_plan.hostname
        self._ended = threading.Event()
        self._code = 0
        self._at_once = 0
        self._lock = threading.Lock()
        container = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = 65536

            def log_message(self, *_):
                pass

            def do_GET(self):
                status, body = (200, b"") if self.path == "/ping" else engine.parameters
                self.reply(status, "application/json", body)

            def do_POST(self):
                seen = Seen(container._host, self.path, dict(self.headers), self.read())
                with container._lock:
                    engine.seen.append(seen)
                    container._at_once += 1
                    engine.most_at_once[container._host] = max(engine.most_at_once[container._host], container._at_once)
                try:
                    answered = engine.answer(seen)
                finally:
                    with container._lock:
                        container._at_once -= 1
                if answered is None:
                    self.close_connection = True
                    self.connection.close()
                else:
                    self.reply(*answered)

            def read(self):
                if "Content-Length" in self.headers:
                    return self.rfile.read(int(self.headers["Content-Length"]))
                pieces = []
                while size := int(self.rfile.readline(), 16):
                    pieces.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(pieces)

            def reply(self, status, content_type, body):
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                # A type that says so stands for a server that closes without having said so.
                self.close_connection = content_type.endswith("close")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                self.wfile.flush()

            def finish(self):
                with suppress(OSError, ValueError):  # the test has closed the connection
                    super().finish()

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_):
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.address = ("127.0.0.1", self.port)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def logs(self):
        yield Chunk("stdout", b"hello from the model\n")
        self._ended.wait()

    def wait(self, timeout=None):
        if not self._ended.wait(timeout):
            raise TimeoutError
        return self._code

    def die(self, code):
        self._code = code
        self._server.shutdown()
        self._server.server_close()
        self._ended.set()

    def stop(self, grace_seconds):
        self.engine.stopped.append((self._host, grace_seconds))
        if not self._ended.is_set():
            self.die(143)
        return self._code

    def kill(self, number):
        self.die(128 + number)

    def remove(self):
        if not self._ended.is_set():
            self.die(137)


def upper(seen):
    """The container of most tests: the records in capitals."""
    return 200, "text/csv", seen.body.upper()


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "project").mkdir()
    return Workspace(tmp_path / "project")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Retries follow at once, and /ping is asked at once."""
    monkeypatch.setattr("local_sagemaker.hosting.endpoint.POLL_SECONDS", 0.01)
    monkeypatch.setattr(plan, "PAUSE_SECONDS", 0.0)


@pytest.fixture
def transform(workspace):
    """Run a transform job over objects ``name=bytes``; gives its description, its outputs by name, and its engine."""

    def run_job(objects, answer=upper, *, parameters=(404, b""), engine=None, containers=1, report=None, **request):
        for name, data in objects.items():
            workspace.buckets.put_bytes(f"s3://bucket/in/{name}", data)
        image = {"Image": "anybody/model:1", "Environment": {"OF_MODEL": "yes"}}
        model = {"PrimaryContainer": image} if containers == 1 else {"Containers": [image] * containers}
        if not workspace.store.find(Kind.MODEL, "model"):
            call(workspace, "CreateModel", {"ModelName": "model", **model})
        call(workspace, "CreateTransformJob", make_request(**request))
        engine = engine or FakeEngine(answer, parameters)
        lines = []
        record = run(workspace, engine, Kind.TRANSFORM_JOB, "job", None, report or lines.append)
        return SimpleNamespace(
            told=record.description, outputs=outputs(workspace), engine=engine, lines=lines, status=record.status
        )

    return run_job


def outputs(workspace):
    """What lies in the output's place."""
    return {
        item.key.removeprefix("out/"): item.path.read_bytes() for item in workspace.buckets.objects("s3://bucket/out/")
    }


def make_request(
    *, content_type="text/csv", split=None, assemble=None, accept=None, uri="s3://bucket/in/", kind="S3Prefix",
    compression=None, instances=1, **members,
):  # fmt: skip
    """A request with what a test says and no more."""

    def said(**given):
        return {key: value for key, value in given.items() if value is not None}

    return {
        "TransformJobName": "job",
        "ModelName": "model",
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": kind, "S3Uri": uri}},
            **said(ContentType=content_type, SplitType=split, CompressionType=compression),
        },
        "TransformOutput": {"S3OutputPath": "s3://bucket/out/", **said(AssembleWith=assemble, Accept=accept)},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": instances},
        **members,
    }
