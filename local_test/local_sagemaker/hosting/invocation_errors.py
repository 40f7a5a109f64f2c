"""What the router answers instead of a container's answer, in the service's words."""

from __future__ import annotations

from collections.abc import Mapping


class InvocationError(Exception):
    """An error of the runtime API: its code, HTTP status and members."""

    def __init__(self, code: str, status: int, message: str, members: Mapping[str, object] | None = None) -> None:
        self.code = code
        self.status = status
        self.message = message
        self.members: Mapping[str, object] = members or {}
        super().__init__(f"{code}: {message}")

    @property
    def document(self) -> dict[str, object]:
        """The answer's JSON."""
        return {"Message": self.message, **self.members}


def invalid(message: str, status: int = 400) -> InvocationError:
    """The request is not one that this endpoint takes."""
    return InvocationError("ValidationError", status, message)


def unavailable(message: str) -> InvocationError:
    """No instance can take the request now."""
    return InvocationError("ServiceUnavailable", 503, message)


def not_ready(message: str) -> InvocationError:
    """The model is still being loaded."""
    return InvocationError("ModelNotReadyException", 429, message)


def throttled(message: str) -> InvocationError:
    """More requests at once than the variant may have."""
    return InvocationError("ThrottlingException", 429, message)


def internal(message: str) -> InvocationError:
    """The router itself failed."""
    return InvocationError("InternalFailure", 500, message)


def model_error(status: int, original: str, container: str, log_stream: str) -> InvocationError:
    """The container answered with an error, broke off, or did not answer in time (status 0)."""
    side = "client" if 400 <= status < 500 else "server"
    seen = f" See {log_stream} for more information." if log_stream else ""
    message = f'Received {side} error ({status}) from {container} with message "{original}".{seen}'
    members = {"OriginalStatusCode": status, "OriginalMessage": original, "LogStreamArn": log_stream}
    return InvocationError("ModelError", 424, message[:2048], members)


def timed_out(container: str, log_stream: str) -> InvocationError:
    """The container did not answer within the limit."""
    original = f"Your invocation timed out while waiting for a response from container {container}."
    return model_error(0, original, container, log_stream)
