"""Which model's data a person means: a training job's, a file, a folder, or an address in the local buckets."""

from __future__ import annotations

import json
from pathlib import Path

from local_sagemaker.errors import UsageError
from local_sagemaker.state.buckets import SCHEME
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import Workspace

MODEL_ARCHIVE = "model.tar.gz"


def find_model_data(workspace: Workspace, text: str) -> str | Path | None:
    """The address in S3, or the file or folder of this machine, that has a model's data; None if there is nothing."""
    if text.startswith(SCHEME):
        return text
    for job in workspace.store.find(Kind.TRAINING_JOB, text):
        artifact = str(job.description.get("ModelArtifacts", {}).get("S3ModelArtifacts", ""))
        if artifact.endswith("/") or (artifact and workspace.buckets.exists(artifact)):
            return artifact
    path = Path(text).expanduser().resolve()
    if path.exists():
        return path
    of_job = workspace.directory_of(Kind.TRAINING_JOB, text) / MODEL_ARCHIVE
    return of_job if of_job.is_file() else None


def newest_model(project_root: Path) -> Path:
    """The ``model.tar.gz`` of the newest completed job of a project.

    Raises:
        UsageError: if there is none.
    """
    completed = []
    for job_file in (project_root / ".byoc" / "jobs").glob("*/job.json"):
        document = json.loads(job_file.read_text(encoding="utf-8"))
        if document["status"] == "Completed":
            completed.append((document["ended_at"], Path(document["model_data"])))
    if not completed:
        raise UsageError(
            f"{project_root} has no completed training job",
            "an endpoint serves a model",
            "train one with `byoc train`, or name one with --model-data",
        )
    return max(completed)[1]
