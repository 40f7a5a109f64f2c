"""What an error looks like to the caller: a status and a JSON object with the error's type and message."""

import json

from sagemaker_byoc.errors import ByocError, HandlerError, RequestError
from sagemaker_byoc.serving.exchange import Answer

JSON = "application/json"


def error_answer(error: BaseException) -> Answer:
    """The answer to an error; one that is not ours says nothing of its cause, which is for the log."""
    if isinstance(error, RequestError | HandlerError):
        headers = (("Retry-After", "1"),) if error.status in (429, 503) else ()
        return refusal(type(error).__name__, str(error), error.status, headers)
    if isinstance(error, ByocError):
        return refusal(type(error).__name__, str(error), 500)
    return refusal("InternalError", "the runtime failed; the container's log says why", 500)


def refusal(kind: str, message: str, status: int, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """An answer that is an error."""
    body = json.dumps({"error": {"type": kind, "message": message}})
    return Answer(body.encode() + b"\n", JSON, status, headers)
