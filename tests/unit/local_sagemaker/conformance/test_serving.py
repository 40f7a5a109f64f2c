"""What is seen of a server's container, without one: where it listens while it loads, and what its requests leave."""

import itertools

import pytest
from local_sagemaker.conformance.container import Process
from local_sagemaker.conformance.serving import FEW_DEAD, Elsewhere, judge_dead

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
