"""Composition of a worker's lane with an event loop, over the WSGI application with all the routes."""

from functools import cached_property
from typing import Any
from wsgiref.types import WSGIApplication

from sagemaker_byoc.serving.access_lines import LoggedApplication
from sagemaker_byoc.serving.asgi_lane import Application, Lane, LoggedLane
from sagemaker_byoc.serving.async_service import AsyncService
from sagemaker_byoc.serving.service import Service


def application(
    routes: WSGIApplication, service: Service | None, answers_invocations: bool, behind_nginx: bool
) -> Application:
    """What gunicorn's event loop calls. Without a service an application of the user's answers every path.

    answers_invocations: whether POST /invocations goes straight to the service.
    """
    bridge = _Bridge(routes if behind_nginx else LoggedApplication(routes))
    if not isinstance(service, AsyncService):
        application: Application = bridge.app
        return application
    kind = Lane if behind_nginx else LoggedLane
    return kind(service, lambda: bridge.app, answers_invocations)


class _Bridge:
    """A WSGI application for an event loop, in threads of its own; made when it is asked for first."""

    def __init__(self, routes: Any) -> None:
        self._routes = routes

    @cached_property
    def app(self) -> Any:
        from a2wsgi import WSGIMiddleware  # noqa: PLC0415 - most workers are never asked for these routes

        return WSGIMiddleware(self._routes)
