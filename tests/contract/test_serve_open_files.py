"""Limits of open files: what a container may have is used, whatever it starts with."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

from tests.conftest import alarming_lines
from tests.support.serving import Endpoint
from tests.support.waiting import wait_until

SOFT_LIMIT = 128


def test_more_are_in_flight_than_the_limit_at_first_allows(
    serve: Callable[..., AbstractContextManager[Endpoint]], tmp_path: Path
) -> None:
    """19.3: engines start containers with 1,024, and 1,000 requests at once are twice as many files of nginx's."""
    gate, many = tmp_path / "gate", 100
    env = {"TEST_GATE": str(gate), "BYOC_THREADS": "2", "BYOC_QUEUE_LIMIT": str(many)}
    little_at_first = ("sh", "-c", f'ulimit -Sn {SOFT_LIMIT}; exec "$@"', "sh")
    server = serve("slow_predict", env, little_at_first)
    with server as endpoint, ThreadPoolExecutor(many) as pool:
        endpoint.wait_until_ready()
        answers = [pool.submit(endpoint.invoke, b"[1]") for _ in range(many)]
        try:
            wait_until(lambda: endpoint.log.count("predicting") >= 2, "both threads to be busy")
            assert endpoint.ping().status == 200
        finally:
            gate.touch()
        assert {answer.result().status for answer in answers} == {200}
        assert alarming_lines(endpoint.log) == []
