"""What is left of a training job: its status in the platform's words, and its archives."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from local_sagemaker.archive import MODEL, pack_entries
from local_sagemaker.files import write_whole
from local_sagemaker.left_behind import read_beginning
from local_sagemaker.merge import merge
from local_sagemaker.state.buckets import join_uri
from local_sagemaker.training.hosts import HostEnd, StopReason
from local_sagemaker.training.training_job import TrainingJob

FAILURE_CHARACTERS = 1024
LONGEST_CHARACTER = 4  # bytes of UTF-8

Status = Literal["Completed", "Failed", "Stopped"]


@dataclass(frozen=True)
class TrainingResult:
    """How a job ended, in the platform's words, and where its artifacts lie; ``job.json`` holds the same.

    Attributes:
        exit_code: of the host that failed first, else of the first host.
        host_exit_codes: of every host, by name.
        stopped_hosts: which of them had to be stopped.
        checkpoints: where the checkpoints are.
        warnings: what was lost or doubtful in collecting, in sentences.
        attempts: how often its containers were started: once, and again after each spot interruption.
        metrics: the last value of each.
        training_seconds: the containers' run time.
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
    host_exit_codes: Mapping[str, int] = field(default_factory=dict)
    stopped_hosts: list[str] = field(default_factory=list)
    checkpoints: Path | None = None
    warnings: list[str] = field(default_factory=list)
    attempts: int = 1
    metrics: Mapping[str, float] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The result as a JSON object; paths are absolute strings."""
        return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}


def collect(
    job: TrainingJob,
    engine: str,
    ends: Sequence[HostEnd],
    stopped: StopReason | None,
    started_at: str,
    training_seconds: float,
    warnings: Sequence[str] = (),
    *,
    attempts: int = 1,
    metrics: Mapping[str, float] | None = None,
) -> TrainingResult:
    """Merge and pack what the hosts left, decide the status, and write ``job.json``.

    Args:
        job: the job.
        engine: the name of what ran it.
        ends: how each host ended, the first to end first.
        stopped: why the whole job was stopped, or None.
        started_at: a time in ISO 8601.
        training_seconds: the containers' run time.
        warnings: what is doubtful already.
        attempts: how often its containers were started.
        metrics: the last value of each.
    """
    clock = time.monotonic()
    failed = next((end for end in ends if end.failed), None)
    status: Status = "Failed" if failed else "Stopped" if stopped else "Completed"
    model, output = merge(job.folders("model")), merge(job.folders("output/data"))
    doubts = [*warnings, *(f"/opt/ml/output/data: {clash}" for clash in output.clashes)]
    model_data = None
    if status != "Failed":  # a failed job's model is not to be relied on, so there is none to serve by mistake
        model_data = upload(job, model.entries, "model")
        doubts += [f"/opt/ml/model: {clash}" for clash in model.clashes]
        doubts += [f"/opt/ml/model: {doubt}" for doubt in doubtful_links(model.entries)]
    output_data = upload(job, output.entries, "output")
    codes = {end.host: end.exit_code for end in ends}
    result = TrainingResult(
        job_name=job.name,
        status=status,
        secondary_status=stopped if stopped and status == "Stopped" else status,
        failure_reason=explain(job, failed, ends) if failed else None,
        exit_code=failed.exit_code if failed else codes[job.cluster.leader],
        engine=engine,
        image=job.image,
        directory=job.directory,
        model_data=model_data,
        output_data=output_data,
        log_file=job.log_file,
        started_at=started_at,
        ended_at=timestamp(),
        training_seconds=round(training_seconds, 3),
        collecting_seconds=round(time.monotonic() - clock, 3),
        hyperparameters=dict(job.hyperparameters),
        host_exit_codes={host: codes[host] for host in job.hosts},
        stopped_hosts=sorted(end.host for end in ends if end.was_stopped),
        checkpoints=job.checkpoint_store or job.directory / "checkpoints",
        warnings=doubts,
        attempts=attempts,
        metrics=metrics or {},
    )
    document = json.dumps(result.document(), indent=2, ensure_ascii=False)
    write_whole(job.directory / "job.json", document + "\n")
    return result


def upload(job: TrainingJob, entries: Mapping[str, Path], part: Literal["model", "output"]) -> Path:
    """Put an artifact into the local S3: an archive, or file by file where the job wants none; returns its place."""
    if job.compressed:
        archive = pack_entries(entries, job.directory / f"{part}.tar.gz")
        job.buckets.put(join_uri(job.output_uri, archive.name), archive)
        return archive
    prefix = join_uri(job.output_uri, part)
    place = job.buckets.path(prefix)
    place.mkdir(parents=True, exist_ok=True)
    for name, path in entries.items():
        if path.is_file() and not path.is_symlink():
            job.buckets.copy(join_uri(prefix, name), path)
    return place


def doubtful_links(entries: Mapping[str, Path]) -> list[str]:
    """The links of a model that lead out of it, in sentences."""
    links = {name: path.readlink() for name, path in entries.items() if path.is_symlink()}
    return [
        f"{name!r} is a link to {str(target)!r}, which is not packed with it, and byoc serves no such archive: "
        "copy the file instead"
        for name, target in links.items()
        if not PurePosixPath(os.path.normpath(MODEL / PurePosixPath(name).parent / target)).is_relative_to(MODEL)
    ]


def explain(job: TrainingJob, failed: HostEnd, ends: Sequence[HostEnd]) -> str:
    """Why a job failed: what the host that failed first says, else what the leader says.

    What fails later often only complains that the first is gone, and a host that was stopped says just that.
    """
    leader = next(end for end in ends if end.host == job.cluster.leader)
    spoken = job.host_directory(failed.host) / "output" / "failure"
    told = job.host_directory(leader.host) / "output" / "failure"
    if not _read_failure(spoken) and not leader.was_stopped and _read_failure(told):
        return failure_reason(told, leader.exit_code)
    return failure_reason(spoken, failed.exit_code)


def failure_reason(failure_file: Path, exit_code: int) -> str:
    """What the platform would say about a failed job: the beginning of the failure file, or the exit code."""
    return f"AlgorithmError: {_read_failure(failure_file) or f'Exit Code: {exit_code}'}"


def read_result(directory: Path) -> dict[str, Any] | None:
    """The ``job.json`` of a job's directory; None if the job has not ended."""
    try:
        document: dict[str, Any] = json.loads((directory / "job.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return document


def timestamp() -> str:
    """The time now, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _read_failure(failure_file: Path) -> str:
    data = read_beginning(failure_file, FAILURE_CHARACTERS * LONGEST_CHARACTER)
    return data.decode("utf-8", errors="replace")[:FAILURE_CHARACTERS].strip()
