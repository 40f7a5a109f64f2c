"""What an endpoint tells those who watch it: /metrics for all workers, and a line for each request."""

import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.support.http import Reply, request
from tests.support.opt_ml import OptMl
from tests.support.serving import Endpoint
from tests.support.waiting import wait_until

Serve = Callable[..., AbstractContextManager[Endpoint]]
INVOCATIONS = {"route": "/invocations", "status": "200"}


def scrape(endpoint: Endpoint) -> Reply:
    """As the platform does: no header but the host."""
    return request(endpoint.port, "GET", "/metrics")


def number(endpoint: Endpoint, name: str, labels: dict[str, str] | None = None) -> float | None:
    """The sum of the samples with these labels; None when there is none."""
    reply = scrape(endpoint)
    assert reply.status == 200, reply.body
    samples = [sample for family in parse(reply.body.decode()) for sample in family.samples if sample.name == name]
    found = [sample.value for sample in samples if (labels or {}).items() <= sample.labels.items()]
    return sum(found) if found else None


def test_metrics_of_all_workers_are_on_the_port_of_the_endpoint(serve: Serve) -> None:
    """15.14: whichever worker is asked, and whoever has answered."""
    with serve("counts_its_words", {"SAGEMAKER_MODEL_SERVER_WORKERS": "2"}) as endpoint:
        endpoint.wait_until_ready()
        replies: list[Reply] = []

        def both_have_answered() -> bool:
            with ThreadPoolExecutor(8) as pool:
                replies.extend(pool.map(lambda _: endpoint.invoke(b'["a", "b"]'), range(40)))
            assert {reply.status for reply in replies} == {200}
            return len({reply.json for reply in replies}) == 2

        wait_until(both_have_answered, "an answer of each worker")  # one of them may stand still on a busy machine
        asked = len(replies)
        for _ in range(8):
            assert number(endpoint, "byoc_requests_total", INVOCATIONS) == asked
            assert number(endpoint, "words_total", {"kind": "any"}) == 2 * asked
        assert number(endpoint, "byoc_workers_ready") == 2
        assert number(endpoint, "byoc_in_flight_requests") == 0
        assert number(endpoint, "byoc_slot_requests_total") == asked
        assert number(endpoint, "byoc_stage_seconds_count", {"stage": "predict"}) == asked
        assert number(endpoint, "byoc_request_bytes_total", {"route": "/invocations"}) == asked * len(b'["a", "b"]')
        assert scrape(endpoint).content_type == "text/plain"


def test_a_killed_worker_takes_no_count_with_it(serve: Serve) -> None:
    """15.14: and its successor goes on."""
    with serve("counts_its_words") as endpoint:
        endpoint.wait_until_ready()
        killed = endpoint.invoke(b'["a"]').json
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: _answers_anew(endpoint, killed), "another worker to answer")
        answered = number(endpoint, "byoc_requests_total", INVOCATIONS)
        assert answered is not None
        assert answered >= 2
        assert number(endpoint, "words_total", {"kind": "any"}) == answered
        assert number(endpoint, "byoc_worker_starts_total", {"slot": "0"}) == 2
        assert number(endpoint, "byoc_workers_ready") == 1
        assert number(endpoint, "byoc_in_flight_requests") == 0


def _answers_anew(endpoint: Endpoint, killed: int) -> bool:
    try:
        reply = endpoint.invoke(b'["a"]')
    except OSError:
        return False
    return reply.status == 200 and reply.json != killed


def test_what_callers_do_wrong_is_counted_by_its_error(serve: Serve) -> None:
    """15.5, 15.14."""
    with serve("counts_its_words") as endpoint:
        endpoint.wait_until_ready()
        assert endpoint.invoke(b"[1").status == 400
        assert endpoint.invoke(b"1", content_type="image/nonesuch").status == 415
        assert number(endpoint, "byoc_rejected_total", {"reason": "MalformedBody"}) == 1
        assert number(endpoint, "byoc_rejected_total", {"reason": "UnsupportedContentType"}) == 1
        assert number(endpoint, "byoc_requests_total", {"status": "415"}) == 1


@pytest.mark.nginx
def test_each_request_has_one_line_of_json_with_its_inference_id(opt_ml: OptMl, tmp_path: Path) -> None:
    """15.7, 15.14: nginx writes it, and none for a ping."""
    awkward = 'a"b\\c'
    opt_ml.model_code("counts_its_words")
    with Endpoint(opt_ml, tmp_path / "serve.log", {"BYOC_NGINX": "on"}) as endpoint:
        endpoint.wait_until_ready()
        answer = endpoint.invoke(b'["a"]', headers={"X-Amzn-SageMaker-Inference-Id": awkward})
        request(endpoint.port, "GET", "/nowhere?secret=1")
        endpoint.wait_for_line('"/nowhere"')
        lines = [json.loads(line) for line in endpoint.log.splitlines() if line.startswith('{"time"')]
    first, second = lines
    assert first.pop("milliseconds") >= 0
    assert first.pop("time")
    assert first == {
        "method": "POST",
        "path": "/invocations",
        "status": 200,
        "request_bytes": 5,
        "response_bytes": len(answer.body),
        "slot": 0,
        "inference_id": awkward,
    }
    assert (second["method"], second["path"], second["status"]) == ("GET", "/nowhere", 404)
