"""What is seen of a server's container, without one: where it listens while it loads, and what its requests leave."""

import itertools
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from local_sagemaker.conformance import serving
from local_sagemaker.conformance.container import Container, Process
from local_sagemaker.conformance.serving import FEW_DEAD, Elsewhere, await_taken, judge_dead, under_way
from local_sagemaker.conformance.setup import Setup
from local_sagemaker.conformance.subject import Payload

from tests.support.waiting import wait_until

SERVER = Process(1, 0, "python3")


class Listening:
    """A container that listens on another port, and works as much from one look to the next as a test says."""

    def __init__(self, *, seconds_a_look):
        self.used = itertools.count(step=seconds_a_look)

    def listeners(self):
        return {("all", 8082)}

    def processor_seconds(self):
        return next(self.used)


@pytest.mark.parametrize(("seconds_a_look", "stays"), [(0.0, True), (0.5, False)])
def test_server_that_loads_before_it_listens_is_waited_for(seconds_a_look, stays):
    """14.1, 14.5: a port for metrics is open at once, 8080 when the model is there."""
    container, elsewhere = Listening(seconds_a_look=seconds_a_look), Elsewhere()
    assert any(elsewhere.stays(container, float(elapsed)) for elapsed in range(60)) is stays


def test_server_that_listens_nowhere_is_waited_for():
    """14.5."""
    container, elsewhere = Listening(seconds_a_look=0.0), Elsewhere()
    container.listeners = set
    assert not any(elsewhere.stays(container, float(elapsed)) for elapsed in range(60))


def dead(count):
    return [Process(100 + place, 1, "convert", is_dead=True) for place in range(count)]


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        ([SERVER], [SERVER, *dead(40)], "violated"),
        ([SERVER], [SERVER, *dead(FEW_DEAD)], "passed"),
        ([SERVER, *dead(40)], [SERVER, *dead(40)], "passed"),
        ([], [], "skipped"),
    ],
)
def test_dead_processes_that_requests_leave_are_found(before, after, outcome):
    """0.4: each takes a process number for ever; one that the start left is no leak."""
    assert judge_dead(before, after).outcome == outcome


class Here(Container):
    """A container whose name space is this process's."""

    def execute(self, *command):
        return Path(command[-1]).read_text()


def test_connection_that_waits_to_be_taken_is_seen():
    """13.2: a server that stops may lose it; only a request that the server has is under way."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        container = Here(None, Setup(("serve",), port=server.getsockname()[1]))
        assert container.unaccepted() == 0
        with socket.create_connection(server.getsockname()):
            wait_until(lambda: container.unaccepted() == 1, "the connection to wait")
            taken, _ = server.accept()
            with taken:
                assert container.unaccepted() == 0


@pytest.mark.parametrize(("waiting", "limit", "looks"), [([1, 1, 0], 60, 3), ([0], 60, 1), ([1, 1, 1], 0, 1)])
def test_signal_comes_when_the_server_has_the_request(waiting, limit, looks):
    """13.2: and not after a fixed time, in which a busy machine gets to nothing."""
    asked = iter(waiting)
    await_taken(lambda: next(asked), limit)
    assert len(list(asked)) == len(waiting) - looks


def test_request_that_is_answered_while_the_kernel_is_asked_is_sent_again(monkeypatch):
    """13.2: asking takes seconds on a busy machine, and what is answered is not under way."""
    monkeypatch.setattr(serving, "SLOW_SECONDS", 0.0)
    asked, go_on = itertools.count(1), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            if next(asked) > 3:
                go_on.wait(300)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    def unaccepted():
        for thread in threading.enumerate():
            if thread.name == "request under way":
                thread.join()
        return 0

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            with under_way(server.server_address, Payload(b"1", "text/csv"), unaccepted) as answers:
                assert len(answers) == 1
                go_on.set()
            assert [answer.status for answer in answers] == [200, 200]
        finally:
            server.shutdown()
