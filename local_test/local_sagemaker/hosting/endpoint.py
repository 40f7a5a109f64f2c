"""One hosted container: model mounted read-only, awaited until /ping answers 200, invoked over HTTP."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import httpx

from local_sagemaker.archive import make_read_only, remove_tree, unpack
from local_sagemaker.code_folder import copy_code
from local_sagemaker.engines.base import BASE_DIR, ContainerPlan, Engine, Mount, Running
from local_sagemaker.errors import JobFailedError, TimedOutError, UsageError
from local_sagemaker.logs import LogPump, StreamSink
from local_sagemaker.names import check_environment_key
from local_sagemaker.progress import Progress, silent
from local_sagemaker.state.workspace import SESSION_LABEL

PING_SECONDS = 2.0
INVOCATION_SECONDS = 60.0
POLL_SECONDS = 0.2
STARTUP_SECONDS = 480.0
STOP_GRACE_SECONDS = 30.0
LOG_DRAIN_SECONDS = 10.0


@dataclass(frozen=True)
class Reply:
    """An endpoint's answer to one request."""

    status: int
    content_type: str
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the request succeeded."""
        return 200 <= self.status < 300


@dataclass(frozen=True)
class EndpointPlan:
    """An endpoint, completely described and not yet started.

    Attributes:
        directory: a folder of the endpoint's own, made and deleted with it.
        model_data: a ``model.tar.gz`` or a model directory.
        code: the user's code folder, or None for the model's or the image's own.
        port: of 127.0.0.1; 0 is any free one.
    """

    name: str
    directory: Path
    image: str
    model_data: Path
    code: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    startup_seconds: float = STARTUP_SECONDS
    session: str = "local"


@dataclass(frozen=True)
class Endpoint:
    """A running endpoint; ``url`` is without a path."""

    url: str
    running: Running
    pump: LogPump

    def ping(self) -> int | None:
        """The status of GET /ping, or None if there is no answer within the platform's two seconds."""
        try:
            return httpx.get(f"{self.url}/ping", timeout=PING_SECONDS, trust_env=False).status_code
        except httpx.HTTPError:
            return None

    def invoke(self, body: bytes, content_type: str = "application/json", accept: str | None = None) -> Reply:
        """Send one request and return the answer, whatever its status; see ``invoke``."""
        return invoke(self.url, body, content_type, accept)

    def last_lines(self) -> str:
        """The end of the container's log so far."""
        return self.pump.last_lines()


def invoke(
    url: str,
    body: bytes,
    content_type: str = "application/json",
    accept: str | None = None,
    timeout_seconds: float = INVOCATION_SECONDS,
) -> Reply:
    """POST ``body`` to the endpoint at ``url`` and return the answer, whatever its status.

    Raises:
        UsageError: if nothing listens at ``url``.
        TimedOutError: if there is no answer within ``timeout_seconds``.
    """
    headers = {"Content-Type": content_type, **({"Accept": accept} if accept else {})}
    address = f"{url.rstrip('/')}/invocations"
    try:
        answer = httpx.post(address, content=body, headers=headers, timeout=timeout_seconds, trust_env=False)
    except httpx.TimeoutException as error:
        raise TimedOutError(
            f"{address} did not answer within {timeout_seconds:g} s",
            "the platform gives an invocation 60 s",
            "see the endpoint's log",
        ) from error
    except (httpx.TransportError, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise UsageError(
            f"{address} cannot be reached: {error}",
            "expected the address that `byoc serve` prints",
            "start an endpoint: `byoc serve`",
        ) from error
    return Reply(answer.status_code, answer.headers.get("content-type", ""), answer.content)


def plan_endpoint(
    work_dir: Path,
    model_data: Path,
    image: str,
    *,
    code: Path | None = None,
    environment: Mapping[str, str] | None = None,
    port: int = 0,
    startup_seconds: float = STARTUP_SECONDS,
    session: str = "local",
) -> EndpointPlan:
    """Describe an endpoint whose files will lie below ``work_dir``.

    Raises:
        UsageError: if there is no model data, or a variable's name is not allowed.
    """
    model_data = model_data.expanduser().resolve()
    if not model_data.exists():
        raise UsageError(
            f"there is no {model_data}", "expected a model.tar.gz or a model directory", "train one with `byoc train`"
        )
    name = f"endpoint-{uuid.uuid4().hex[:12]}"
    users = {check_environment_key(key): value for key, value in (environment or {}).items()}
    directory = work_dir.expanduser().resolve() / "endpoints" / name
    return EndpointPlan(name, directory, image, model_data, code, users, port, startup_seconds, session)


def plan_container(plan: EndpointPlan) -> ContainerPlan:
    """The endpoint's one container."""
    model = plan.model_data if plan.model_data.is_dir() else plan.directory / "model"
    mounts = [Mount(model, f"{BASE_DIR}/model", read_only=True)]
    if plan.code is not None:
        mounts.append(Mount(plan.directory / "code", f"{BASE_DIR}/code"))
    return ContainerPlan(
        name=f"byoc-serve-{plan.name}",
        command="serve",
        image=plan.image,
        base_directory=plan.directory,
        environment=plan.environment,
        mounts=tuple(mounts),
        hostname="model",
        port=plan.port,
        labels={SESSION_LABEL: plan.session},
    )


@contextmanager
def running_endpoint(
    plan: EndpointPlan,
    engine: Engine,
    log_stream: BinaryIO | None = None,
    progress: AbstractContextManager[Callable[[Progress], None]] | None = None,
    log_file: Path | None = None,
) -> Iterator[Endpoint]:
    """Start an endpoint, yield it once /ping answers 200, and stop and remove it at the end.

    Args:
        plan: the endpoint.
        engine: what runs it.
        log_stream: where the container's output goes.
        progress: entered while /ping is awaited, and left once it answers; what it gives is told the progress.
        log_file: where the output goes as well.

    Raises:
        EngineMissingError, UsageError: if the container cannot be started.
        JobFailedError: if it ends before it is ready; carries its last lines.
        TimedOutError: if it is not ready within the plan's limit; carries its last lines.
    """
    try:
        _prepare(plan)
        running = engine.start(plan_container(plan))
        try:
            pump = LogPump(running.logs(), log_file, StreamSink(log_stream))
            endpoint = Endpoint(f"http://127.0.0.1:{running.port}", running, pump)
            try:
                with progress or nullcontext(silent) as report:
                    wait_until_ready(endpoint, plan.startup_seconds, report)
                yield endpoint
            finally:
                running.stop(STOP_GRACE_SECONDS)
                pump.join(LOG_DRAIN_SECONDS)
        finally:
            running.remove()
    finally:
        if plan.directory.exists():
            engine.give_back(plan.directory, plan.image)
            remove_tree(plan.directory)


def _prepare(plan: EndpointPlan) -> None:
    plan.directory.mkdir(parents=True)
    if not plan.model_data.is_dir():
        make_read_only(unpack(plan.model_data, plan.directory / "model"))
    if plan.code is not None:
        copy_code(plan.code, plan.directory / "code")


def wait_until_ready(endpoint: Endpoint, limit_seconds: float, report: Callable[[Progress], None] = silent) -> None:
    """Wait until /ping answers 200; see ``running_endpoint`` for what is raised."""
    start = time.monotonic()
    status: int | None = None
    while (elapsed := time.monotonic() - start) < limit_seconds:
        report(Progress(f"/ping ({'no answer yet' if status is None else f'status {status}'})", elapsed, limit_seconds))
        fail_if_ended(endpoint, POLL_SECONDS)
        status = endpoint.ping()
        if status == 200:
            return
    raise TimedOutError(
        f"the endpoint was not ready within {limit_seconds:g} s; the last answer to /ping was {status or 'none'}",
        f"the last lines of its log:\n{endpoint.last_lines()}",
        "correct what the log says about loading the model, or raise --startup-timeout",
    )


def fail_if_ended(endpoint: Endpoint, within_seconds: float) -> None:
    """Raise JobFailedError with the container's last lines if it ends within the time."""
    try:
        code = endpoint.running.wait(within_seconds)
    except TimeoutError:
        return
    endpoint.pump.join(LOG_DRAIN_SECONDS)
    raise JobFailedError(
        f"the container ended with exit code {code}",
        f"the last lines of its log:\n{endpoint.last_lines()}",
        "a model server runs until it is stopped; correct what the log says",
    )
