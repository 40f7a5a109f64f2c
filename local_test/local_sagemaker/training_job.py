"""One training job as the platform runs it: plan, container, limits, and what is collected at the end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal

from local_sagemaker.archive import copy_code, pack, remove_tree
from local_sagemaker.engines.base import BASE_DIR, ContainerPlan, Engine, Mount, Running
from local_sagemaker.errors import UsageError
from local_sagemaker.logs import LogPump
from local_sagemaker.names import check_environment_key, check_job_name, make_job_name
from local_sagemaker.platform_files import write_platform_files
from local_sagemaker.progress import silent
from local_sagemaker.project import Project

DEFAULT_IMAGE = "sagemaker-byoc:latest"
DEFAULT_MAX_RUNTIME_SECONDS = 86400
STOP_GRACE_SECONDS = 120.0
LOG_DRAIN_SECONDS = 10.0
FAILURE_CHARACTERS = 1024
ACCOUNT = "000000000000"
SESSION_LABEL = "sagemaker-byoc.session"
JOB_LABEL = "sagemaker-byoc.job"

Status = Literal["Completed", "Failed", "Stopped"]


@dataclass(frozen=True)
class TrainingJob:
    """A job, completely described and not yet started.

    Attributes:
        directory: where all of the job's files go.
        code: the user's code folder, or None for the image's own.
        max_runtime_seconds: the limit after which the job is stopped.
        stop_grace_seconds: from SIGTERM to SIGKILL.
        session: marks this invocation's containers.
    """

    name: str
    directory: Path
    image: str
    code: Path | None
    hyperparameters: Mapping[str, str]
    channels: Mapping[str, Path]
    environment: Mapping[str, str]
    max_runtime_seconds: float = DEFAULT_MAX_RUNTIME_SECONDS
    stop_grace_seconds: float = STOP_GRACE_SECONDS
    network: str = "bridge"
    session: str = "local"


@dataclass(frozen=True)
class TrainingResult:
    """How a job ended, in the platform's words, and where its artifacts lie; ``job.json`` holds the same.

    Attributes:
        training_seconds: the container's run time.
        collecting_seconds: what packing the artifacts took.
    """

    job_name: str
    status: Status
    secondary_status: str
    failure_reason: str | None
    exit_code: int
    engine: str
    image: str
    directory: Path
    model_data: Path | None
    output_data: Path | None
    log_file: Path
    started_at: str
    ended_at: str
    training_seconds: float
    collecting_seconds: float
    hyperparameters: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The result as a JSON object; paths are absolute strings."""
        return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}


def plan_training_job(
    project: Project,
    environ: Mapping[str, str],
    now: datetime,
    *,
    image: str = DEFAULT_IMAGE,
    name: str | None = None,
    environment: Mapping[str, str] | None = None,
    max_runtime_seconds: float = DEFAULT_MAX_RUNTIME_SECONDS,
    network: str = "bridge",
    session: str = "local",
) -> TrainingJob:
    """Turn a project into a job.

    Args:
        project: what the job is made from.
        environ: the invoking user's environment, for the region.
        now: names the job where ``name`` does not.
        image: the tag of the image that the docker engine runs.
        name: the job's name; by default made of the project's and the time.
        environment: variables for the user's code.
        max_runtime_seconds: the limit after which the job is stopped.
        network: ``bridge``, or ``none`` for network isolation.
        session: marks this invocation's containers.

    Raises:
        UsageError: if a name is not allowed or the job exists.
    """
    if max_runtime_seconds < 1:
        raise UsageError(
            f"--max-runtime {max_runtime_seconds}", "expected at least 1 second", "the platform's default is 86400"
        )
    job_name = check_job_name(name) if name else make_job_name(project.root.name, now)
    directory = project.jobs_dir / job_name
    if directory.exists():
        raise UsageError(
            f"there is a job {job_name} already: {directory}", "a job name is used once", "give another --job-name"
        )
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    own = {
        "TRAINING_JOB_NAME": job_name,
        "TRAINING_JOB_ARN": f"arn:aws:sagemaker:{region}:{ACCOUNT}:training-job/{job_name.lower()}",
        "AWS_REGION": region,
    }
    users = {check_environment_key(key): value for key, value in (environment or {}).items()}
    return TrainingJob(
        name=job_name,
        directory=directory,
        image=image,
        code=project.code,
        hyperparameters=project.hyperparameters,
        channels=project.channels,
        environment=own | users,
        max_runtime_seconds=max_runtime_seconds,
        network=network,
        session=session,
    )


def plan_container(job: TrainingJob) -> ContainerPlan:
    """The job's one container. Folders are mounted one by one, never all of /opt/ml, so the image's files stay seen."""
    mounts = [Mount(job.directory / "input", f"{BASE_DIR}/input")]
    # The job gets links or mounts of the user's own folders, so it may not write to them.
    mounts += [
        Mount(folder, f"{BASE_DIR}/input/data/{name}", read_only=True) for name, folder in sorted(job.channels.items())
    ]
    mounts += [Mount(job.directory / part, f"{BASE_DIR}/{part}") for part in ("model", "output", "checkpoints")]
    if job.code is not None:
        mounts.append(Mount(job.directory / "code", f"{BASE_DIR}/code"))
    return ContainerPlan(
        name=f"byoc-train-{job.name}",
        command="train",
        image=job.image,
        base_directory=job.directory,
        environment=job.environment,
        mounts=tuple(mounts),
        network=job.network,
        labels={SESSION_LABEL: job.session, JOB_LABEL: job.name},
    )


def run_training_job(
    job: TrainingJob,
    engine: Engine,
    log_stream: BinaryIO | None = None,
    report: Callable[[str], None] = silent,
) -> TrainingResult:
    """Run a job to its end and collect its artifacts.

    On KeyboardInterrupt the job is stopped as the platform stops one, collected with status Stopped, and the
    interrupt is raised again.

    Args:
        job: the job.
        engine: what runs it.
        log_stream: where the container's output goes, besides ``logs.txt``.
        report: called with one line per stage.

    Raises:
        EngineMissingError, UsageError: if the container cannot be started.
    """
    prepare_job_directory(job, engine.network_interface)
    started_at, clock = _now(), time.monotonic()
    report(f"training job {job.name} on the {engine.name} engine")
    try:
        running = engine.start(plan_container(job))
    except BaseException:
        remove_tree(job.directory)  # nothing ran, so the name stays free
        raise
    interrupt: KeyboardInterrupt | None = None
    try:
        pump = LogPump(running.logs(), job.directory / "logs.txt", log_stream)
        try:
            exit_code, stopped = _wait(running, job, report)
        except KeyboardInterrupt as error:
            interrupt = error
            report(f"stopping {job.name}; it has {job.stop_grace_seconds:.0f} s to save its work")
            exit_code, stopped = running.stop(job.stop_grace_seconds), "Stopped"
        pump.join(LOG_DRAIN_SECONDS)
    finally:
        running.remove()
    training_seconds = time.monotonic() - clock
    engine.give_back(job.directory, job.image)
    result = _collect(job, engine.name, exit_code, stopped, started_at, training_seconds)
    if interrupt is not None:
        raise interrupt
    return result


def prepare_job_directory(job: TrainingJob, network_interface: str) -> None:
    """Make the job's folders, the platform's documents, and a copy of the code as it is now."""
    for part in ("input/data", "model", "output/data", "checkpoints"):
        (job.directory / part).mkdir(parents=True)
    interface = "lo" if job.network == "none" else network_interface
    write_platform_files(job.directory / "input" / "config", job.hyperparameters, job.channels, interface)
    if job.code is not None:
        copy_code(job.code, job.directory / "code")


def _wait(running: Running, job: TrainingJob, report: Callable[[str], None]) -> tuple[int, str | None]:
    try:
        return running.wait(job.max_runtime_seconds), None
    except TimeoutError:
        report(f"{job.name} exceeds its limit of {job.max_runtime_seconds:g} s and is stopped")
        return running.stop(job.stop_grace_seconds), "MaxRuntimeExceeded"


def _collect(
    job: TrainingJob, engine: str, exit_code: int, stopped: str | None, started_at: str, training_seconds: float
) -> TrainingResult:
    clock = time.monotonic()
    status: Status = "Stopped" if stopped else "Completed" if exit_code == 0 else "Failed"
    # A failed job's model is not to be relied on, so there is none to serve by mistake.
    model_data = None if status == "Failed" else pack(job.directory / "model", job.directory / "model.tar.gz")
    output_data = pack(job.directory / "output" / "data", job.directory / "output.tar.gz")
    result = TrainingResult(
        job_name=job.name,
        status=status,
        secondary_status=stopped or status,
        failure_reason=failure_reason(job.directory / "output" / "failure", exit_code) if status == "Failed" else None,
        exit_code=exit_code,
        engine=engine,
        image=job.image,
        directory=job.directory,
        model_data=model_data,
        output_data=output_data,
        log_file=job.directory / "logs.txt",
        started_at=started_at,
        ended_at=_now(),
        training_seconds=round(training_seconds, 3),
        collecting_seconds=round(time.monotonic() - clock, 3),
        hyperparameters=dict(job.hyperparameters),
    )
    document = json.dumps(result.document(), indent=2, ensure_ascii=False)
    (job.directory / "job.json").write_text(document + "\n", encoding="utf-8")
    return result


def failure_reason(failure_file: Path, exit_code: int) -> str:
    """What the platform would say about a failed job: the beginning of the failure file, or the exit code."""
    try:
        text = failure_file.read_text(encoding="utf-8", errors="replace")[:FAILURE_CHARACTERS].strip()
    except OSError:
        text = ""
    return f"AlgorithmError: {text or f'Exit Code: {exit_code}'}"


def newest_model(project_root: Path) -> Path:
    """The ``model.tar.gz`` of the newest completed job of a project.

    Raises:
        UsageError: if there is none.
    """
    completed = []
    for job_file in (project_root / ".byoc" / "jobs").glob("*/job.json"):
        document = json.loads(job_file.read_text(encoding="utf-8"))
        if document["status"] == "Completed":
            completed.append((document["ended_at"], job_file.with_name("model.tar.gz")))
    if not completed:
        raise UsageError(
            f"{project_root} has no completed training job",
            "an endpoint serves a model",
            "train one with `byoc train`, or name one with --model-data",
        )
    return max(completed)[1]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
