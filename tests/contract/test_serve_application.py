"""A WSGI application of the user's in place of inference.py."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.http import request
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


def test_samples_predictor_runs_unchanged_and_its_own_ping_says_when_it_is_ready(serve: Serve, tmp_path: Path) -> None:
    """14.2, 14.8, 15.1: what was written for AWS's public sample, its lazy model included."""
    gate = tmp_path / "gate"
    with serve("sample_predictor", {"TEST_GATE": str(gate)}) as endpoint:
        endpoint.wait_for_line("/ping of the application answers 404")
        assert endpoint.ping().status != 200
        gate.touch()
        endpoint.wait_until_ready()
        reply = endpoint.invoke(b"1,2\n3,4,5\n", "text/csv")
        assert (reply.status, reply.content_type, reply.body) == (200, "text/csv", b"3\n5\n")
        assert endpoint.invoke(b"[1]").status == 415


def test_application_that_falls_ill_takes_the_container_out_of_service(serve: Serve, tmp_path: Path) -> None:
    """14.6: an application's own /ping is asked for as long as it serves."""
    gate = tmp_path / "gate"
    gate.touch()
    with serve("sample_predictor", {"TEST_GATE": str(gate), "TEST_ILL": str(tmp_path / "ill")}) as endpoint:
        endpoint.wait_until_ready()
        (tmp_path / "ill").touch()
        endpoint.wait_for_line("not ready: /ping of the application has answered 404")
        endpoint.wait_for_status(404 if endpoint.ping().status == 404 else 503)
        (tmp_path / "ill").unlink()
        endpoint.wait_until_ready()


def test_route_of_the_users_stands_beside_ours_and_finds_the_model(serve: Serve) -> None:
    """15.13: /v1/chat/completions, say; nothing is shadowed."""
    with serve("routes_beside") as endpoint:
        endpoint.wait_until_ready()
        chat = request(
            endpoint.port,
            "POST",
            "/v1/chat/completions",
            b'{"messages": [1, 2]}',
            {"Content-Type": "application/json"},
        )
        assert chat.json == {"model": "the model", "messages": 2}
        assert endpoint.invoke(b'{"a": 1}').json == {"model": "the model", "data": {"a": 1}}
        assert request(endpoint.port, "GET", "/nowhere").error["type"] == "NotFound"


@pytest.mark.parametrize(
    "env",
    [{}, {"SAGEMAKER_SERVING_MODULE": "predictor:app"}, {"SAGEMAKER_PROGRAM": "predictor.py", "BYOC_LANE": "asgi"}],
    ids=["predictor", "named", "the program"],
)
def test_application_for_an_event_loop_is_ready_after_its_start_up_and_its_own_ping(
    serve: Serve, tmp_path: Path, env: dict[str, str]
) -> None:
    """14.8, 15.13: FastAPI and the like, in the lane that has a loop, which it need not be told."""
    gate = tmp_path / "gate"
    with serve("event_loop_application", {"TEST_GATE": str(gate), **env}) as endpoint:
        endpoint.wait_for_line("/ping of the application answers 500")
        assert endpoint.ping().status != 200
        gate.touch()
        endpoint.wait_until_ready()
        answer = endpoint.invoke(b"12345").json
        assert answer == {"path": "/invocations", "model": "loaded", "bytes": 5}
        endpoint.terminate()
        assert endpoint.wait() == 0
        assert "shut down" in endpoint.log


@pytest.mark.parametrize("env", [{}, {"SAGEMAKER_SERVING_MODULE": "predictor:app"}], ids=["predictor", "named"])
def test_application_for_an_event_loop_is_told_where_there_is_none(
    serve: Serve, tmp_path: Path, env: dict[str, str]
) -> None:
    """15.13: with the setting that it needs."""
    with serve("event_loop_application", {"TEST_GATE": str(tmp_path), "BYOC_LANE": "wsgi", **env}) as endpoint:
        endpoint.wait_for_line("could not be loaded")
        assert "BYOC_LANE=asgi" in endpoint.invoke(b"1").error["message"]
