"""Source that an SDK uploaded for a job: the container finds the archive among its input, for it has no S3 to ask."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from local_sagemaker.engines.base import BASE_DIR
from local_sagemaker.state.buckets import SCHEME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_sagemaker.training.training_job import TrainingJob

SUBMIT_DIRECTORY = "sagemaker_submit_directory"
PLACE = Path("input", "config", "sourcedir.tar.gz")
READABLE = 0o644


def bring_source(job: TrainingJob, host: str, base_directory: Path = Path(BASE_DIR)) -> Mapping[str, str]:
    """Copy the archive that the job's hyperparameters name to a host; returns the hyperparameters, which name the copy.

    One that is not in the local buckets is the container's to fetch.

    Args:
        job: whose source it is.
        host: who gets it.
        base_directory: what the container calls /opt/ml.
    """
    sent = job.hyperparameters.get(SUBMIT_DIRECTORY, "")
    uri = _unquoted(sent)
    if not uri.startswith(SCHEME) or not job.buckets.exists(uri):
        return job.hyperparameters
    copy = job.host_directory(host) / PLACE
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(job.buckets.path(uri), copy)
    copy.chmod(READABLE)
    place = str(base_directory / PLACE)
    return {**job.hyperparameters, SUBMIT_DIRECTORY: place if sent == uri else json.dumps(place)}


def _unquoted(value: str) -> str:
    """SDKs send every hyperparameter as JSON, people do not."""
    try:
        decoded = json.loads(value)
    except ValueError:
        return value
    return decoded if isinstance(decoded, str) else value
