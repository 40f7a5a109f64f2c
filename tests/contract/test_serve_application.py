"""A WSGI application of the user's in place of inference.py."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from tests.support.serving import Endpoint

Serve = Callable[..., AbstractContextManager[Endpoint]]


@pytest.mark.parametrize("name", ["SAGEMAKER_SERVING_MODULE", "SAGEMAKER_SERVICE_MODULE"])
def test_application_answers_every_path(serve: Serve, name: str) -> None:
    """12.3, 14.1: behind nginx and without; ready once it is imported."""
    with serve("wsgi_application", {name: "endpoint:app"}) as endpoint:
        endpoint.wait_until_ready()
        assert endpoint.invoke(b"[1]").body == b"POST /invocations"


@pytest.mark.parametrize(
    ("spec", "told"),
    [("endpoint:ap", "app"), ("endpoint:LIMIT", "int"), ("endpoint", "'main'"), ("nowhere:app", "nowhere")],
)
def test_application_that_cannot_be_loaded_is_told(serve: Serve, spec: str, told: str) -> None:
    """12.3: /ping stays 503, and the caller and the log learn why."""
    with serve("wsgi_application", {"SAGEMAKER_SERVING_MODULE": spec}) as endpoint:
        endpoint.wait_for_line("could not be loaded")
        assert endpoint.ping().status == 503
        reply = endpoint.invoke(b"[1]")
        assert reply.status == 503
        assert told in reply.error["message"]
        assert "application.py" not in endpoint.log


def test_name_that_is_none_stops_the_start(serve: Serve) -> None:
    """12.3: exit 64."""
    with serve("wsgi_application", {"SAGEMAKER_SERVING_MODULE": "endpoint.py app"}) as endpoint:
        assert endpoint.wait() == 64
        assert "SAGEMAKER_SERVING_MODULE" in endpoint.log
