"""Request documents that a verb is given, each held to be of the operation that the verb takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from local_sagemaker.api.documents import read_request
from local_sagemaker.errors import UsageError


class Known(NamedTuple):
    """An operation, the members by which its documents are known, and what to do with one; PATH is its file."""

    operation: str
    marks: frozenset[str]
    advice: str


# The first that has a mark in a document is what it is taken for: some names stand in requests of others, too.
KNOWN = (
    Known(
        "CreateHyperParameterTuningJob",
        frozenset({"HyperParameterTuningJobName", "HyperParameterTuningJobConfig"}),
        "`byoc tune --request PATH` takes it",
    ),
    Known(
        "CreateTrainingJob",
        frozenset({"TrainingJobName", "AlgorithmSpecification"}),
        "`byoc train --request PATH` takes it",
    ),
    Known(
        "CreateProcessingJob",
        frozenset({"ProcessingJobName", "AppSpecification"}),
        "`byoc process --request PATH` takes it",
    ),
    Known(
        "CreateTransformJob",
        frozenset({"TransformJobName", "TransformInput"}),
        "`byoc transform --request PATH` takes it",
    ),
    Known(
        "CreateEndpointConfig",
        frozenset({"ProductionVariants", "CreateEndpointConfig", "CreateModel", "EndpointName", "EndpointConfigName"}),
        "`byoc endpoint create NAME --request PATH` takes it",
    ),
    Known(
        "CreateModel",
        frozenset({"ModelName", "PrimaryContainer", "Containers"}),
        "put it under CreateModel in the document of `byoc endpoint create`",
    ),
)


def read_document(path: Path | None, operation: str) -> dict[str, Any] | None:
    """Read the document of ``--request``; None where none is given.

    Raises:
        UsageError: if it cannot be read, or is of another operation.
    """
    if path is None:
        return None
    document = read_request(path)
    found = next((one for one in KNOWN if one.marks & document.keys()), None)
    if found is not None and found.operation != operation:
        marks = ", ".join(sorted(found.marks & document.keys()))
        raise UsageError(
            f"{path} looks like a request of {found.operation}, by its {marks}",
            f"expected one of {operation}",
            found.advice.replace("PATH", str(path)),
        )
    return document
