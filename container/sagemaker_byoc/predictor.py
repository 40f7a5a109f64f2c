"""The Flask app: /ping and /invocations, and what each error looks like to the caller."""

import json
import time
from typing import Any

from flask import Flask, Response, current_app, g, request
from werkzeug.exceptions import HTTPException

from sagemaker_byoc.errors import ByocError, HandlerError, RequestError
from sagemaker_byoc.serving.model import Gate, LoadingModel, Request
from sagemaker_byoc.serving.readiness import Readiness
from sagemaker_byoc.settings import ServeSettings

INFERENCE_ID = "X-Amzn-SageMaker-Inference-Id"


def create_app(model: LoadingModel, readiness: Readiness, settings: ServeSettings) -> Flask:
    """The app over a model that may still be loading."""
    app = Flask("sagemaker_byoc")
    gate = Gate(settings.threads, settings.queue)

    @app.route("/ping", methods=["GET", "POST"])
    def ping() -> Response:
        return Response(status=200 if readiness.is_ready() else 503)

    @app.route("/invocations", methods=["POST"])
    def invocations() -> Response:
        g.started = time.perf_counter()
        # While other workers answer, a new one's callers wait for its model; before that, they are told at once.
        loaded = model.get(settings.timeout if readiness.is_ready() else 0)
        with gate:
            answer = loaded.invoke(
                Request(
                    body=request.get_data(cache=False),
                    content_type=request.headers.get("Content-Type", ""),
                    accept=request.headers.get("Accept", ""),
                    headers=dict(request.headers.items()),
                )
            )
        return Response(answer.body, status=200, content_type=answer.content_type)

    app.register_error_handler(ByocError, _answer_error)
    app.register_error_handler(HTTPException, _answer_http_error)
    app.register_error_handler(Exception, _answer_bug)
    app.after_request(_log_request)
    return app


def _answer_error(error: ByocError) -> Response:
    status = error.status if isinstance(error, RequestError | HandlerError) else 500
    response = _error(type(error).__name__, str(error), status)
    if status == 503:
        response.headers["Retry-After"] = "1"
    return response


def _answer_http_error(error: HTTPException) -> Response:
    code = error.code or 500
    response = _error(error.name.replace(" ", ""), f"{request.method} {request.path}: {error.description}", code)
    if error.response is None and code == 405:
        response.headers["Allow"] = dict(error.get_headers()).get("Allow", "")
    return response


def _answer_bug(error: Exception) -> Response:
    current_app.logger.error("the runtime failed", exc_info=error)
    return _error("InternalError", "the runtime failed; the container's log says why", 500)


def _error(kind: str, message: str, status: int) -> Response:
    body = json.dumps({"error": {"type": kind, "message": message}})
    return Response(body + "\n", status=status, content_type="application/json")


def _log_request(response: Response) -> Response:
    """One JSON line for each invocation, on standard output."""
    started = g.pop("started", None)
    if started is not None:
        line: dict[str, Any] = {
            "path": request.path,
            "status": response.status_code,
            "milliseconds": round((time.perf_counter() - started) * 1000, 2),
            "request_bytes": request.content_length,
            "response_bytes": response.content_length,
        }
        if INFERENCE_ID in request.headers:
            line["inference_id"] = request.headers[INFERENCE_ID]
        print(json.dumps(line) + "\n", end="", flush=True)  # one write, so that lines of two threads stay whole
    return response
