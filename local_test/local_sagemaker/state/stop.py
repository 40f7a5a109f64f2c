"""A job's end on request, the same for every kind of job."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from local_sagemaker.errors import ValidationError
from local_sagemaker.state.records import Kind, end

if TYPE_CHECKING:
    from local_sagemaker.state.workspace import Workspace


def stop_job(workspace: Workspace, kind: Kind, name: str) -> None:
    """Ask for a job's end; whoever runs it stops its containers. One that nobody runs yet has ended at once.

    Raises:
        ResourceNotFoundError: if there is none of this name.
        ValidationError: if it has ended.
    """
    record = workspace.store.get(kind, name)
    if record.is_final:
        raise ValidationError(
            f"The request was rejected because the {kind.words} is in status {record.status}.",
            f"see `byoc ps --all`, or {workspace.directory_of(kind, name)}",
        )
    if record.runner is None:
        workspace.store.change(kind, name, lambda description: end(kind, description, "Stopped", time.time()))
    else:
        workspace.store.request_stop(kind, name)
