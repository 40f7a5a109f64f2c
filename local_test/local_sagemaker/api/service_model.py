"""SageMaker's service model, as the installed botocore carries it: the shapes of every operation's input and output."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from local_sagemaker.errors import UnknownOperationError


@lru_cache(maxsize=4)
def service_model(service: str = "sagemaker") -> Any:
    """The ``ServiceModel`` of botocore; half a second the first time, so only who checks a document reads it."""
    from botocore.loaders import Loader  # noqa: PLC0415 - no verb pays for it that checks nothing
    from botocore.model import ServiceModel  # noqa: PLC0415

    return ServiceModel(Loader().load_service_model(service, "service-2"), service)


def input_shape(operation: str) -> Any:
    """The shape of an operation's request.

    Raises:
        UnknownOperationError: if SageMaker has no such operation.
    """
    from botocore.model import OperationNotFoundError  # noqa: PLC0415

    try:
        return service_model().operation_model(operation).input_shape
    except OperationNotFoundError:
        raise UnknownOperationError(
            f"SageMaker has no operation {operation}", "see the API reference, or upgrade botocore"
        ) from None


def output_shape(operation: str) -> Any:
    """The shape of an operation's answer, or None where it has none."""
    return service_model().operation_model(operation).output_shape
