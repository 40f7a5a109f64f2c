"""Jobs and endpoints for tests: what the fixtures of ``local_sagemaker.pytest_plugin`` are made of."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from local_sagemaker.archive import unpack
from local_sagemaker.engines import Engine, EngineName, choose_engine
from local_sagemaker.errors import BuildFailedError, EngineMissingError
from local_sagemaker.hosting.endpoint import STARTUP_SECONDS, Endpoint, Reply, plan_endpoint, running_endpoint
from local_sagemaker.image import DEFAULT_TAG, build_image, image_exists
from local_sagemaker.names import make_job_name
from local_sagemaker.project import read_project
from local_sagemaker.state.process_space import process_space
from local_sagemaker.state.records import Kind, Runner
from local_sagemaker.state.runner import run
from local_sagemaker.state.workspace import SESSION_LABEL, Workspace
from local_sagemaker.training.cluster import INSTANCE_TYPE
from local_sagemaker.training.local_options import LocalOptions
from local_sagemaker.training.operations import create_training_job
from local_sagemaker.training.plan import make_options, make_request
from local_sagemaker.training.request import DEFAULT_MAX_RUNTIME_SECONDS, TrainingFlags

PREFIX = "pytest-"


def session_name() -> str:
    """The value of the session label of this process's containers; tells whether the process still runs."""
    runner = Runner.here()
    return f"{PREFIX}{runner.pid}-{runner.started}-{_short_space()}"


@contextmanager
def clean_engine(name: EngineName) -> Iterator[Engine]:
    """An engine without leftovers, before and after: containers of test runs that were killed, then this run's own.

    Raises:
        EngineMissingError: if Docker was asked for and does not answer.
    """
    engine = choose_engine(name)
    remove_leftovers(engine)
    try:
        yield engine
    finally:
        engine.remove_all({SESSION_LABEL: session_name()})


def remove_leftovers(engine: Engine) -> int:
    """Remove the containers of test runs whose process is gone; returns how many."""
    sessions = {one.labels[SESSION_LABEL] for one in engine.find({SESSION_LABEL: None})}
    return sum(engine.remove_all({SESSION_LABEL: session}) for session in sessions if _has_ended(session))


def find_or_build_image(engine: Engine, tag: str | None, project: Path) -> str:
    """The image to test: the named one, or one built from the project's Dockerfile, or from its folder ``code``.

    Raises:
        EngineMissingError: if the named one is not there.
        BuildFailedError: if it cannot be built.
    """
    if engine.name == "process":
        return tag or DEFAULT_TAG
    if tag is not None:
        if not image_exists(tag):
            raise EngineMissingError(
                f"there is no image {tag}",
                "--byoc-image names one of this machine",
                "build it, or leave out the option",
            )
        return tag
    made = f"byoc-pytest:{hashlib.sha256(os.fsencode(project)).hexdigest()[:12]}"
    if not (project / "Dockerfile").is_file():
        build_image(made, code=project / "code", output=sys.stderr.buffer)
        return made
    built = subprocess.run(
        ["docker", "build", "--tag", made, str(project)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if built.returncode != 0:
        raise BuildFailedError(
            f"the Dockerfile of {project} cannot be built",
            built.stdout.decode(errors="replace")[-2000:],
            "correct it, or name an image: --byoc-image TAG",
        )
    return made


@dataclass(frozen=True)
class FinishedJob:
    """A training job that has ended.

    Attributes:
        name: the job's.
        directory: its files.
        description: what DescribeTrainingJob answers.
    """

    name: str
    directory: Path
    description: Mapping[str, Any]

    @property
    def status(self) -> str:
        """``Completed``, ``Failed`` or ``Stopped``."""
        return str(self.description["TrainingJobStatus"])

    @property
    def failure_reason(self) -> str | None:
        """Why it failed, if it did."""
        return self.description.get("FailureReason")

    @property
    def exit_code(self) -> int:
        """Of the host that failed first, else of the first host."""
        return int(self._result["exit_code"])

    @property
    def logs(self) -> str:
        """What all hosts wrote."""
        return Path(self._result["log_file"]).read_text(encoding="utf-8", errors="replace")

    @property
    def metrics(self) -> Mapping[str, float]:
        """The last value of each metric."""
        return dict(self._result["metrics"])

    @property
    def model_data(self) -> Path:
        """The ``model.tar.gz``."""
        return Path(self._result["model_data"] or self.directory / "model.tar.gz")

    @cached_property
    def model(self) -> Path:
        """The folder that ``model.tar.gz`` unpacks to."""
        return unpack(self.model_data, self.directory / "unpacked-model")

    @cached_property
    def output(self) -> Path:
        """The folder that ``output.tar.gz`` unpacks to."""
        return unpack(Path(self._result["output_data"]), self.directory / "unpacked-output")

    @cached_property
    def _result(self) -> dict[str, Any]:
        result: dict[str, Any] = json.loads((self.directory / "job.json").read_text(encoding="utf-8"))
        return result


@dataclass(frozen=True)
class TrainingJobs:
    """Runs training jobs of a project, in scratch folders: the project itself gets no files."""

    engine: Engine
    image: str
    project: Path
    make_folder: Callable[[], Path]

    def __call__(
        self,
        project: Path | None = None,
        *,
        request: Mapping[str, Any] | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        channels: Mapping[str, Path | str] | None = None,
        environment: Mapping[str, str] | None = None,
        metrics: Mapping[str, str] | None = None,
        hosts: int | None = None,
        max_runtime_seconds: float | None = None,
    ) -> FinishedJob:
        """Run a job to its end, whichever it is.

        Args:
            project: the project, where it is not the one of the tests.
            request: the API's CreateTrainingJob, in place of the project; what else is said wins over it.
            hyperparameters: win over the project's; other values than strings become JSON, as in the SDKs.
            channels: a folder of this machine for each; win over the project's.
            environment: variables for the user's code.
            metrics: a regular expression for each.
            hosts: how many; several need Docker.
            max_runtime_seconds: after which the job is stopped.

        Raises:
            LocalSageMakerError: if it cannot be started.
        """
        texts = {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in (hyperparameters or {}).items()
        }
        folders = {name: Path(folder) for name, folder in (channels or {}).items()}
        # A document says all about its job; without one the project does.
        read = read_project(project or self.project, texts, folders)
        workspace = Workspace.of(self.make_folder())
        flags = TrainingFlags(
            image=self.image if request is None else None,
            hyperparameters=read.hyperparameters if request is None else texts,
            channels=dict(read.channels) if request is None else folders,
            environment=environment or {},
            metrics=metrics or {},
            hosts=1 if hosts is None and request is None else hosts,
            instance_type=INSTANCE_TYPE if request is None else None,
            max_runtime_seconds=max_runtime_seconds or (DEFAULT_MAX_RUNTIME_SECONDS if request is None else None),
        )
        name = (request or {}).get("TrainingJobName") or make_job_name(read.root.name, datetime.now().astimezone())
        wanted = make_request(flags, workspace, name, request)
        options = make_options(flags, LocalOptions(read.code if request is None else None, session=session_name()))
        create_training_job(workspace, wanted, options)
        with (workspace.directory / "shown.txt").open("wb") as output:
            ended = run(workspace, self.engine, Kind.TRAINING_JOB, name, output)
        return FinishedJob(name, workspace.directory_of(Kind.TRAINING_JOB, name), ended.description)


@dataclass(frozen=True)
class TestEndpoint:
    """A running endpoint."""

    endpoint: Endpoint
    log_file: Path
    stop: Callable[[], None]

    __test__ = False  # pytest would take it for a class of tests

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return self.endpoint.url

    @property
    def logs(self) -> str:
        """What it has written so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    def ping(self) -> int | None:
        """The status of GET /ping, None for no answer within two seconds."""
        return self.endpoint.ping()

    def invoke(self, body: Any, content_type: str | None = None, accept: str | None = None) -> Reply:
        """Send one request; returns the answer, whatever its status.

        Args:
            body: bytes or text as they are; anything else becomes JSON.
            content_type: by default ``application/json``, for bytes ``application/octet-stream``.
            accept: the content type wanted back.
        """
        default = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
        return self.endpoint.invoke(data, content_type or default, accept)


class Endpoints:
    """Starts endpoints; a context that ends those that nobody has ended."""

    def __init__(self, engine: Engine, image: str, project: Path, make_folder: Callable[[], Path]) -> None:
        self._engine = engine
        self._image = image
        self._project = project
        self._make_folder = make_folder
        self._open = ExitStack()

    def __enter__(self) -> Self:
        """Nothing runs yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all of them."""
        self._open.close()

    def __call__(
        self,
        model_data: Path | str,
        *,
        code: Path | None = None,
        environment: Mapping[str, str] | None = None,
        startup_seconds: float = STARTUP_SECONDS,
    ) -> TestEndpoint:
        """Start an endpoint and wait until ``/ping`` answers 200.

        Args:
            model_data: a ``model.tar.gz`` or a model directory.
            code: the code folder; by default the project's, where it has an ``inference.py``.
            environment: variables for the user's code.
            startup_seconds: the limit.

        Raises:
            JobFailedError: if the container ends before; carries its last lines.
            TimedOutError: if it is not ready within the limit; carries its last lines.
        """
        own = self._project / "code"
        folder = self._make_folder()
        plan = plan_endpoint(
            folder,
            Path(model_data),
            self._image,
            code=code or (own if (own / "inference.py").is_file() else None),
            environment=environment,
            startup_seconds=startup_seconds,
            session=session_name(),
        )
        log_file = folder / f"{uuid.uuid4().hex[:8]}.log"
        one = ExitStack()
        endpoint = one.enter_context(running_endpoint(plan, self._engine, log_file=log_file))
        self._open.push(one)
        return TestEndpoint(endpoint, log_file, one.close)


def _has_ended(session: str) -> bool:
    if not session.startswith(PREFIX):
        return False
    pid, started, space = (*session.removeprefix(PREFIX).split("-"), "", "")[:3]
    # A container that shares the engine, as CI's may, has other processes of the same numbers.
    return space == _short_space() and pid.isdigit() and not Runner(int(pid), started).is_alive


def _short_space() -> str:
    return hashlib.sha256(process_space().encode()).hexdigest()[:12]
