"""What can go wrong on the user's machine, each with the exit code that ``byoc`` ends with.

A message has three parts: what happened (with the path, key or value), what was expected, and what to do next.
"""

from __future__ import annotations


class LocalSageMakerError(Exception):
    """A failure that the user can act on; ``byoc`` prints it without a traceback.

    Args:
        happened: what went wrong, naming the path, key or value.
        expected: what would have been right.
        next_step: what to do about it.
    """

    exit_code = 1

    def __init__(self, happened: str, expected: str = "", next_step: str = "") -> None:
        self.happened = happened
        self.expected = expected
        self.next_step = next_step
        super().__init__("\n  ".join(part for part in (happened, expected, next_step) if part))


class JobFailedError(LocalSageMakerError):
    """The container ran and failed: a training job with status Failed, or an endpoint that died."""

    exit_code = 1


class UsageError(LocalSageMakerError):
    """The command, a project directory or one of its files is not what it should be."""

    exit_code = 2


class ServiceError(UsageError):
    """What SageMaker itself would have answered, with the service's own error code and words.

    Attributes:
        code: as a client of the API finds it in the answer.
    """

    code = "ValidationException"

    def __init__(self, message: str, next_step: str = "") -> None:
        self.message = message
        super().__init__(f"{self.code}: {message}", "", next_step)


class ValidationError(ServiceError):
    """The request breaks a rule of the service, or names a model, configuration or endpoint that is not there."""


class ResourceNotFoundError(ServiceError):
    """There is no such job."""

    code = "ResourceNotFound"


class ResourceInUseError(ServiceError):
    """There is a job of this name already; a job's name is used once."""

    code = "ResourceInUse"


class ResourceLimitExceededError(ServiceError):
    """The request asks for more than this machine or the service allows."""

    code = "ResourceLimitExceeded"


class UnknownOperationError(ServiceError):
    """The operation is one of SageMaker's that is not played here, or none at all."""

    code = "UnknownOperationException"


class NoSuchObjectError(UsageError):
    """There is no object of this name in the local buckets."""


class EngineMissingError(LocalSageMakerError):
    """Something that the machine must have is absent: the Docker engine, an image, a Debian tool."""

    exit_code = 3


class BuildFailedError(LocalSageMakerError):
    """The image or its base could not be built."""

    exit_code = 4


class ContractViolationError(LocalSageMakerError):
    """An image breaks the contract that the platform has with containers."""

    exit_code = 4


class TimedOutError(LocalSageMakerError):
    """A limit in seconds passed before the awaited thing happened."""

    exit_code = 5
