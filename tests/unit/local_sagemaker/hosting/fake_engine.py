"""An engine whose containers are HTTP servers of this process, and an endpoint that runs on it in a thread."""

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from local_sagemaker.api.operations import call
from local_sagemaker.engines.base import Chunk, ContainerPlan
from local_sagemaker.hosting.journal import read_running
from local_sagemaker.hosting.runner import run_endpoint
from local_sagemaker.state.records import Kind, Record
from local_sagemaker.state.workspace import Workspace

from tests.support.waiting import wait_until

ROLE = "arn:aws:iam::000000000000:role/tests"


class FakeContainer:
    """A model server as its plan's variables say: ANSWER, DELAY, PING and STATUS, EXIT, MODELS (room)."""

    def __init__(self, plan: ContainerPlan) -> None:
        self.plan = plan
        self.name = plan.name
        self.says = dict(plan.environment)
        self.loaded: dict[str, str] = {}
        self.asked: list[str] = []
        self.answering = 0
        self.cut_off = 0
        self.ended = threading.Event()
        self.exit_code = 0
        self.stopped_at = 0.0
        container = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def handle_any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                container.answering += 1
                status, answer = container.answer(self.command, self.path, body)
                container.answering -= 1
                if container.ended.is_set():
                    container.cut_off += 1
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_DELETE = handle_any  # noqa: N815 - the base class calls them so

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.address = ("127.0.0.1", self.port)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        if "EXIT" in self.says:
            self.end(int(self.says["EXIT"]))

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if path == "/ping":
            return int(self.says.get("PING", 200)), b""
        if path.startswith("/models") and not path.endswith("/invoke"):
            return self.models(method, path, body)
        self.asked.append(path)
        time.sleep(float(self.says.get("DELAY", 0)))
        heard = body.decode() if body else ""
        return int(self.says.get("STATUS", 200)), json.dumps({"by": self.says.get("ANSWER"), "heard": heard}).encode()

    def models(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if method == "DELETE":
            return (200 if self.loaded.pop(path.rpartition("/")[2], None) else 404), b"{}"
        if len(self.loaded) >= int(self.says["MODELS"]):
            return 507, b"{}"
        document = json.loads(body)
        self.loaded[document["model_name"]] = document["url"]
        return 200, b"{}"

    def end(self, code: int) -> None:
        if not self.ended.is_set():
            self.exit_code = code
            self.server.shutdown()
            self.server.server_close()
            self.ended.set()

    def logs(self) -> Iterator[Chunk]:
        yield Chunk("stdout", f"{self.name} says hello\n".encode())
        self.ended.wait()

    def wait(self, timeout: float | None = None) -> int:
        if not self.ended.wait(timeout):
            raise TimeoutError
        return self.exit_code

    def stop(self, grace_seconds: float) -> int:
        self.stopped_at = time.monotonic()
        self.end(143)
        return self.exit_code

    def kill(self, number: int) -> None:
        self.end(128 + number)

    def remove(self) -> None:
        self.end(137)


@dataclass
class FakeEngine:
    """Keeps every container that it started."""

    name: str = "fake"
    network_interface: str = "lo"
    leaves_out: tuple[str, ...] = ()
    containers: list[FakeContainer] = field(default_factory=list)

    def start(self, plan: ContainerPlan) -> FakeContainer:
        container = FakeContainer(plan)
        self.containers.append(container)
        return container

    def remove_all(self, labels: Mapping[str, str | None]) -> int:
        for container in self.containers:
            container.end(137)
        return 0

    def give_back(self, directory: Path, image: str, labels: Mapping[str, str] | None = None) -> None:
        pass

    def living(self, answer: str | None = None) -> list[FakeContainer]:
        return [one for one in self.containers if not one.ended.is_set() and answer in {None, one.says.get("ANSWER")}]


@dataclass
class FakeEndpoint:
    """An endpoint that runs in a thread of this process."""

    workspace: Workspace
    engine: FakeEngine
    name: str = "digits"
    thread: threading.Thread | None = None

    @property
    def directory(self) -> Path:
        return self.workspace.directory_of(Kind.ENDPOINT, self.name)

    @property
    def url(self) -> str:
        return str(read_running(self.directory)["Url"])

    def ask(self, operation: str, **request: Any) -> dict[str, Any]:
        return call(self.workspace, operation, request)

    def model(self, name: str, **environment: str) -> None:
        container = {"Image": "image", "Environment": {"ANSWER": name, **environment}}
        self.ask("CreateModel", ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)

    def config(self, name: str, *variants: dict[str, Any], **more: Any) -> None:
        self.ask("CreateEndpointConfig", EndpointConfigName=name, ProductionVariants=list(variants), **more)

    def start(self, config: str) -> None:
        self.ask("CreateEndpoint", EndpointName=self.name, EndpointConfigName=config)
        self.run()

    def run(self) -> None:
        record = self.workspace.store.claim(Kind.ENDPOINT, self.name)
        target = run_endpoint
        self.thread = threading.Thread(
            target=target, args=(self.workspace, self.engine, record, None, print), daemon=True
        )
        self.thread.start()

    def record(self) -> Record:
        return self.workspace.store.get(Kind.ENDPOINT, self.name)

    def wait(self, *statuses: str) -> Record:
        wait_until(lambda: self.record().status in statuses, f"status {statuses}", 60, self._gone)
        return self.record()

    def _gone(self) -> str | None:
        return None if self.thread is None or self.thread.is_alive() else "its thread ended"

    def invoke(
        self, body: bytes = b"[1]", path: str = "invocations", **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        host, _, port = self.url.removeprefix("http://").partition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=30)
        sent = {"Content-Type": "application/json"}
        sent |= {f"X-Amzn-SageMaker-{name.replace('_', '-')}": value for name, value in headers.items()}
        try:
            connection.request("POST", f"/endpoints/{self.name}/{path}", body, sent)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text or b"{}"), {key.lower(): value for key, value in answer.getheaders()}
        finally:
            connection.close()

    def events(self) -> str:
        return (self.directory / "events.log").read_text()

    def delete(self) -> None:
        if self.thread is not None and self.thread.is_alive():
            self.ask("DeleteEndpoint", EndpointName=self.name)
            self.thread.join(60)
            assert not self.thread.is_alive(), "the endpoint's thread did not end"


def variant(name: str, model: str | None = None, weight: float = 1.0, count: int = 1, **more: Any) -> dict[str, Any]:
    """One variant of an endpoint configuration."""
    return {
        "VariantName": name,
        "ModelName": model or name,
        "InitialInstanceCount": count,
        "InstanceType": "ml.m5.large",
        "InitialVariantWeight": weight,
        **more,
    }


@contextmanager
def callers(endpoint: FakeEndpoint, count: int = 4) -> Iterator[list[tuple[int, str]]]:
    """Ask an endpoint without a pause for the length of the block; the status and the variant of every answer."""
    over = threading.Event()
    answers: list[tuple[int, str]] = []

    def ask() -> None:
        while not over.is_set():
            status, _, headers = endpoint.invoke()
            answers.append((status, headers.get("x-amzn-invoked-production-variant", "")))

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()
