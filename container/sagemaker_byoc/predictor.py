"""The Flask app: every route of the container, and what Flask's own errors look like to the caller."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, NotFound

from sagemaker_byoc.serving.answers import error_answer, refusal
from sagemaker_byoc.serving.exchange import Answer
from sagemaker_byoc.serving.service import Service
from sagemaker_byoc.serving.shortcut import body_size, header_list, read_request, read_request_to

if TYPE_CHECKING:
    from sagemaker_byoc.serving.model_routes import ModelRoutes

LARGEST_DOCUMENT = 1 << 20  # bytes that a request for a model to be loaded may have; it names a model and a folder
OWN_PATHS = frozenset({"/ping", "/invocations", "/execution-parameters", "/metrics", "/openapi.json", "/models"})


def create_app(service: Service, models: "ModelRoutes | None" = None) -> Flask:
    """The app over one worker's service, and over all its models where there are many."""
    app = Flask("sagemaker_byoc", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_DOCUMENT

    @app.route("/ping", methods=["GET", "POST"])
    def ping() -> Response:
        return _respond(service.ping())

    @app.route("/invocations", methods=["POST"])
    def invocations() -> Response:
        read = partial(read_request, request.environ, service.settings.max_request_mb)
        return _respond(service.invoke(read, body_size(request.environ)))

    @app.route("/execution-parameters", methods=["GET"])
    def execution_parameters() -> Response:
        return _respond(service.execution_parameters())

    @app.route("/metrics", methods=["GET"])
    def metrics() -> Response:
        return _respond(service.scrape(request.headers.get("Accept", "")))

    @app.route("/invocations-bidirectional-stream", methods=["GET"])
    def stream() -> Response:
        return _respond(service.refuse_stream())

    @app.route("/openapi.json", methods=["GET"])
    def interface() -> Response:
        return _respond(service.interface())

    if models is not None:
        _add_models(app, service, models)
    app.register_error_handler(HTTPException, _answer_http_error)
    app.register_error_handler(Exception, _answer_bug(app))
    return app


def _add_models(app: Flask, service: Service, models: "ModelRoutes") -> None:
    app.url_map.merge_slashes = False  # a model's name may hold any character

    @app.route("/models", methods=["POST"])
    def load_model() -> Response:
        return _respond(models.load(request.get_data()))

    @app.route("/models", methods=["GET"])
    def list_models() -> Response:
        asked = request.args
        return _respond(models.list(asked.get("next_page_token") or asked.get("nextPageToken") or ""))

    @app.route("/models/<path:name>", methods=["GET"])
    def describe_model(name: str) -> Response:
        return _respond(models.describe(name))

    @app.route("/models/<path:name>", methods=["DELETE"])
    def unload_model(name: str) -> Response:
        return _respond(models.unload(name))

    @app.route("/models/<path:name>/invoke", methods=["POST"])
    def invoke_model(name: str) -> Response:
        read = partial(read_request_to, request.environ, name, service.settings.max_request_mb)
        return _respond(service.invoke(read, body_size(request.environ)))


def route_finder(application: Any) -> Callable[[str], bool]:
    """What tells whether an application of the user's answers a path. One that is not Flask's cannot be asked: it
    answers all but this container's own.
    """
    if not isinstance(application, Flask):
        return lambda path: path not in OWN_PATHS
    adapter = application.url_map.bind("localhost")

    def has_route(path: str) -> bool:
        try:
            adapter.match(path, method="GET")
        except NotFound:
            return False
        except HTTPException:
            return True  # another method, or a redirect to the path with a slash
        return True

    return has_route


def _respond(answer: Answer) -> Response:
    return Response(answer.body, answer.status, header_list(answer))


def _answer_http_error(error: HTTPException) -> Response:
    code = error.code or 500
    allowed = dict(error.get_headers()).get("Allow", "") if error.response is None and code == 405 else ""
    message = f"{request.method} {request.path}: {error.description}"
    return _respond(refusal(error.name.replace(" ", ""), message, code, (("Allow", allowed),) if allowed else ()))


def _answer_bug(app: Flask) -> Callable[[Exception], Response]:
    def answer(error: Exception) -> Response:
        app.logger.error("the runtime failed", exc_info=error)
        return _respond(error_answer(error))

    return answer
