"""Everything that the environment may say about serving: one field a setting, with its variables and its meaning.

`docs/reference/environment-variables.md` is generated from these fields.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from sagemaker_byoc.environment import (
    first_set,
    read_choice,
    read_flag,
    read_integer,
    read_media_type,
    read_module_name,
    read_names,
    read_seconds,
    read_text,
)
from sagemaker_byoc.paths import MLPaths
from sagemaker_byoc.serving.devices import find_devices
from sagemaker_byoc.settings import available_cpus, read_paths

BATCH_TRANSFORM_SECONDS = 3600.0  # what a transform job may wait for one answer
TRANSFORM_MB = 100  # what the requests of a transform job that are under way may have together
Reader = Callable[[Mapping[str, str], str], Any]


@dataclass(frozen=True)
class Variable:
    """The names of one setting's variable, the first that is set wins; how it is read, and two texts for people."""

    names: tuple[str, ...]
    read: Reader
    default: str
    meaning: str


def _variable(*names: str, read: Reader, default: str = "", meaning: str) -> Any:
    return field(metadata={"variable": Variable(names, read, default, meaning)})


def _whole(default: int, minimum: int, maximum: int | None = None) -> Reader:
    return lambda environ, name: read_integer(environ, name, default, minimum, maximum)


def _workers(environ: Mapping[str, str], name: str) -> int:
    devices = find_devices(environ).names
    return read_integer(environ, name, len(devices) or available_cpus(), minimum=1)


def _timeout(environ: Mapping[str, str], name: str) -> float:
    batch = read_flag(environ, "SAGEMAKER_BATCH")
    return read_seconds(environ, name, BATCH_TRANSFORM_SECONDS if batch else 60.0)


def _overload(environ: Mapping[str, str], name: str) -> int:
    return int(read_choice(environ, name, ("503", "429")))


def _program(environ: Mapping[str, str], name: str) -> str:
    """A file; AWS's images take a module's name too."""
    text = environ.get(name) or "inference.py"
    return text if Path(text).suffix else f"{text}.py"


def _folder(environ: Mapping[str, str], name: str) -> Path | None:
    text = environ.get(name, "").strip()
    return Path(text).absolute() if text and "://" not in text else None


def _strategy(environ: Mapping[str, str], name: str) -> str:
    """The platform writes MULTI_RECORD, its API MultiRecord."""
    chosen = read_choice(environ, name, ("multi_record", "single_record", "multirecord", "singlerecord"))
    return "MULTI_RECORD" if chosen.startswith("multi") else "SINGLE_RECORD"


@dataclass(frozen=True)
class ServeSettings:
    """What the environment says about serving; times in seconds."""

    paths: MLPaths
    program: str = _variable(
        "SAGEMAKER_PROGRAM",
        read=_program,
        default="`inference.py`",
        meaning="the file with the functions that serve",
    )
    submit_directory: Path | None = _variable(
        "SAGEMAKER_SUBMIT_DIRECTORY",
        read=_folder,
        meaning="a folder with code, looked into after the model's own `code`; an `s3://` address is left alone",
    )
    serving_module: str | None = _variable(
        "SAGEMAKER_SERVING_MODULE",
        "SAGEMAKER_SERVICE_MODULE",
        read=read_module_name,
        meaning="`module:object`, an application of yours (Flask, FastAPI) to serve instead of `inference.py`; it "
        "answers every path. `/ping` answers 200 once each worker has imported it; without nginx the application "
        "answers `/ping` too",
    )
    port: int = _variable("SAGEMAKER_BIND_TO_PORT", read=_whole(8080, 1, 65535), default="`8080`", meaning="the port")
    bind_host: str = _variable(
        "BYOC_BIND_HOST",
        read=lambda environ, name: environ.get(name) or "0.0.0.0",  # noqa: S104 - the platform connects from outside
        default="`0.0.0.0`",
        meaning="the address to listen on; the process engine sets `127.0.0.1`",
    )
    lane: str = _variable(
        "BYOC_LANE",
        read=lambda environ, name: read_choice(environ, name, ("wsgi", "asgi")),
        default="`wsgi`; `asgi` for a FastAPI application of yours, or the like, that stands alone",
        meaning="`asgi`: requests are answered on an event loop, for models under a millisecond and for WebSockets",
    )
    workers: int = _variable(
        "SAGEMAKER_MODEL_SERVER_WORKERS",
        "MODEL_SERVER_WORKERS",
        read=_workers,
        default="the GPUs, else the cores that the container may use",
        meaning="worker processes, each with its own model",
    )
    threads: int = _variable(
        "BYOC_THREADS",
        read=_whole(8, 1),
        default="`8`",
        meaning="requests that each worker answers at once",
    )
    queue: int = _variable(
        "BYOC_QUEUE_LIMIT",
        read=_whole(64, 0),
        default="`64`",
        meaning="further requests of each worker that may wait; more are turned away at once",
    )
    overload_status: int = _variable(
        "BYOC_OVERLOAD_STATUS",
        read=_overload,
        default="`503`",
        meaning="`503` or `429`, for requests that are turned away; both come with `Retry-After`",
    )
    timeout: float = _variable(
        "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS",
        "SAGEMAKER_MODEL_SERVER_TIMEOUT",
        "MODEL_SERVER_TIMEOUT",
        read=_timeout,
        default="`60`; `3600` in batch transform",
        meaning="seconds that nginx waits for an answer, or for the next piece of one; then the caller gets 504",
    )
    model_load_timeout: float = _variable(
        "BYOC_MODEL_LOAD_TIMEOUT",
        "SAGEMAKER_STARTUP_TIMEOUT",
        read=lambda environ, name: read_seconds(environ, name, 480.0),
        default="`480`",
        meaning="seconds that a worker may take to load its model before it is started anew",
    )
    silent_seconds: float = _variable(
        "BYOC_SILENT_SECONDS",
        read=lambda environ, name: read_seconds(environ, name, 30.0),
        default="`30`, and never less than a request may take",
        meaning="seconds without a sign of life after which a worker is ended, its stacks logged, and another started",
    )
    max_request_mb: int = _variable(
        "BYOC_MAX_REQUEST_MB",
        read=_whole(1100, 0),
        default="`1100`",
        meaning="the largest request body, in MB; a larger one is answered with 413 before it is read. `0`: no limit",
    )
    max_decoded_mb: int = _variable(
        "BYOC_MAX_DECODED_MB",
        read=_whole(512, 1),
        default="`512`",
        meaning="how large a compressed body (NPZ, Parquet, an image) may become, in MB",
    )
    default_accept: str = _variable(
        "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT",
        read=lambda environ, name: read_media_type(environ, name, "application/json"),
        default="`application/json`",
        meaning="content type of the answer where the caller names none",
    )
    batch_max_rows: int = _variable(
        "BYOC_BATCH_MAX_ROWS",
        read=_whole(0, 0),
        default="`0`",
        meaning="rows that `predict_fn` gets at once, from several requests together; `0`: requests are not joined, "
        "but where the function is marked with `@batched`",
    )
    batch_gather: bool = _variable(
        "BYOC_BATCH_GATHER",
        read=lambda environ, name: read_choice(environ, name, ("on", "off")) == "on",
        default="`on`",
        meaning="`off`: with `BYOC_BATCH_MAX_ROWS` the model never waits, not even for callers that come right back",
    )
    install_requirements: bool = _variable(
        "BYOC_INSTALL_REQUIREMENTS",
        read=lambda environ, name: read_choice(environ, name, ("on", "off")) == "on",
        default="`on`",
        meaning="`off`: a `requirements.txt` beside the code that travels with the model, or is mounted, is left alone",
    )
    nginx: str = _variable(
        "BYOC_NGINX",
        read=lambda environ, name: read_choice(environ, name, ("auto", "on", "off")),
        default="`auto`",
        meaning="`on`, `off`, or `auto`: nginx in front of gunicorn if it is installed, else gunicorn alone",
    )
    shortcut: bool = _variable(
        "BYOC_SHORTCUT",
        read=lambda environ, name: read_choice(environ, name, ("on", "off")) == "on",
        default="`on`",
        meaning="`off`: Flask answers `/invocations` too, as slowly as it does; the answers are the same",
    )
    runtime: str = _variable(
        "BYOC_RUNTIME",
        read=lambda environ, name: read_choice(environ, name, ("auto", "python", "onnx")),
        default="`auto`",
        meaning="`onnx`: `model.onnx` is served whatever code there is; `python`: only `inference.py` decides",
    )
    onnx_providers: tuple[str, ...] = _variable(
        "BYOC_ONNX_PROVIDERS",
        read=read_names,
        default="CUDA where there is a GPU, else CPU",
        meaning="ONNX Runtime's execution providers, best first, with commas between",
    )
    torch_compile: bool = _variable(
        "BYOC_TORCH_COMPILE",
        read=lambda environ, name: read_choice(environ, name, ("off", "on")) == "on",
        default="`off`",
        meaning="`on`: what `model_fn` returns goes through `torch.compile`",
    )
    allow_pickle: bool = _variable(
        "BYOC_ALLOW_PICKLE",
        read=read_flag,
        meaning="`true`: a `model.joblib` or `model.pkl` without code is unpickled, which can run any code",
    )
    preload: str = _variable(
        "BYOC_PRELOAD",
        read=lambda environ, name: read_choice(environ, name, ("on", "off")),
        default="`on`",
        meaning="`off`: each worker imports its libraries itself, instead of sharing those of gunicorn's master",
    )
    multi_model: bool = _variable(
        "SAGEMAKER_MULTI_MODEL", read=read_flag, meaning="`true`: a multi-model endpoint, with the routes of `/models`"
    )
    model_memory_mb: int = _variable(
        "BYOC_MODEL_MEMORY_MB",
        read=_whole(0, 0),
        default="the container's memory limit",
        meaning="memory for the models of a multi-model endpoint, in MB; a model that does not fit is refused with 507",
    )
    model_eviction: str = _variable(
        "BYOC_MODEL_EVICTION",
        read=lambda environ, name: read_choice(environ, name, ("off", "lru")),
        default="`off`",
        meaning="`lru`: where memory is short the model used longest ago is put aside, and loaded again when asked",
    )
    sessions: bool = _variable(
        "SAGEMAKER_ENABLE_STATEFUL_SESSIONS", read=read_flag, meaning="`true`: callers may open sessions"
    )
    session_seconds: int = _variable(
        "SAGEMAKER_SESSIONS_EXPIRATION",
        read=_whole(1200, 1),
        default="`1200`",
        meaning="seconds after which a session ends",
    )
    session_folder: Path | None = _variable(
        "SAGEMAKER_SESSIONS_PATH",
        read=_folder,
        default="a folder in `/dev/shm`, on the disk where that has less than 256 MB",
        meaning="where sessions are kept, for all workers to see",
    )
    batch_transform: bool = _variable("SAGEMAKER_BATCH", read=read_flag, meaning="`true` in a transform job")
    max_payload_mb: int = _variable(
        "SAGEMAKER_MAX_PAYLOAD_IN_MB",
        read=_whole(6, 0, 100),
        default="`6`",
        meaning="`MaxPayloadInMB` of `/execution-parameters`",
    )
    batch_strategy: str = _variable(
        "SAGEMAKER_BATCH_STRATEGY",
        read=_strategy,
        default="`MULTI_RECORD`",
        meaning="`BatchStrategy` of `/execution-parameters`",
    )
    max_concurrent_transforms: int = _variable(
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS",
        read=_whole(0, 0),
        default="the workers, but no more than make 100 MB at once",
        meaning="`MaxConcurrentTransforms` of `/execution-parameters`",
    )
    hide_credentials: bool = _variable(
        "BYOC_HIDE_CREDENTIALS",
        read=read_flag,
        meaning="`true`: your code does not see AWS credentials, nor where to fetch them",
    )
    log_level: int = _variable(
        "SAGEMAKER_CONTAINER_LOG_LEVEL",
        read=_whole(logging.INFO, 0),
        default="`20`",
        meaning="level of the container's own messages",
    )
    device: str = _variable(
        "BYOC_DEVICE",
        read=lambda environ, name: read_text(environ, name, ""),
        default="`cuda:0` where the worker has a GPU, else `cpu`",
        meaning="the device that functions find in their context",
    )

    @property
    def own_folders(self) -> list[Path]:
        """Where inference.py is looked for before the image's code: what travels with the model, what was mounted."""
        submitted = [self.submit_directory] if self.submit_directory else []
        return [self.paths.model / "code", *submitted, self.paths.code, self.paths.model]

    @property
    def code_folders(self) -> list[Path]:
        """The same with the image's own."""
        return [*self.own_folders, self.paths.image_code]

    @property
    def places(self) -> int:
        """Requests that one worker holds at once: those in the model and those that wait."""
        return max(self.threads + self.queue, 2 * self.batch_max_rows, self.max_concurrent_transforms)

    @property
    def concurrent_transforms(self) -> int:
        """Requests that a transform job is advised to send at once: one for each worker, within the job's 100 MB."""
        most = TRANSFORM_MB // self.max_payload_mb if self.max_payload_mb else self.workers
        return self.max_concurrent_transforms or max(1, min(self.workers, most))

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "ServeSettings":
        """Raises PlatformInputError for a value that cannot be used."""
        values = {
            name: variable.read(environ, first_set(environ, *variable.names)) for name, variable in variables().items()
        }
        return cls(paths=read_paths(environ), **values)


def variables() -> dict[str, Variable]:
    """Each field of ServeSettings that has a variable, and that variable."""
    return {entry.name: entry.metadata["variable"] for entry in fields(ServeSettings) if "variable" in entry.metadata}


def variable_names() -> tuple[str, ...]:
    """Every variable that `serve` reads, by all its names."""
    return ("SAGEMAKER_BASE_DIR", "BYOC_IMAGE_CODE_DIR", *(name for v in variables().values() for name in v.names))
