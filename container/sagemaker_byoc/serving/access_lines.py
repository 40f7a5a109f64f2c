"""The lines that nginx would write, printed by each worker where there is no nginx."""

import json
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from sagemaker_byoc.serving.streams import Watched


class LoggedApplication:
    """A WSGI application whose requests are told of on standard output, for a server without nginx in front."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/ping":
            return self._application(environ, start_response)
        started = time.monotonic()
        statuses = ["500"]

        def note(status: str, headers: list[tuple[str, str]], *rest: Any) -> Callable[[bytes], object]:
            statuses[0] = status
            return start_response(status, headers, *rest)

        body = self._application(environ, note)
        return Watched(
            body,
            lambda sent: print_line(
                environ["REQUEST_METHOD"],
                environ["PATH_INFO"],
                int(statuses[0][:3]),
                started,
                int(environ.get("CONTENT_LENGTH") or 0),
                sent,
                environ.get("HTTP_X_AMZN_SAGEMAKER_INFERENCE_ID", ""),
            ),
        )


def print_line(
    method: str, path: str, status: int, started: float, received: int, sent: int, inference_id: str
) -> None:
    """One request that has been answered; `started` by the monotonic clock, sizes in bytes."""
    line = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "method": method,
        "path": path,
        "status": status,
        "milliseconds": round((time.monotonic() - started) * 1000),
        "request_bytes": received,
        "response_bytes": sent,
        "slot": None,
        "inference_id": inference_id,
    }
    print(json.dumps(line) + "\n", end="", flush=True)  # one write, so that lines of two threads stay whole
