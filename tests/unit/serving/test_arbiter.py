"""What the master does about a worker that is silent, and when."""

import signal
from types import SimpleNamespace

import pytest
from sagemaker_byoc.serving import arbiter
from sagemaker_byoc.serving.deadlines import Limits

Master = tuple[arbiter.SlotArbiter, list[signal.Signals], list[float]]


@pytest.fixture
def master(monkeypatch: pytest.MonkeyPatch) -> Master:
    """A master of one worker that was last heard of at time 0, what it sends, and its clock."""
    clock, sent = [0.0], []
    monkeypatch.setattr(arbiter, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    seat = SimpleNamespace(slot=SimpleNamespace(number=0), started=0.0, loaded=True, aborted=None)
    made = object.__new__(arbiter.SlotArbiter)
    made._server = SimpleNamespace(limits=Limits(serving=30, loading=600))  # type: ignore[assignment]
    made._looked = made._resumed = 0.0
    made.WORKERS = {7: SimpleNamespace(seat=seat, tmp=SimpleNamespace(last_update=lambda: 0.0), aborted=False)}
    made.kill_worker = lambda _pid, number: sent.append(number)
    return made, sent, clock


def look(master: Master, *times: float) -> list[signal.Signals]:
    made, sent, clock = master
    for clock[0] in times:
        made.murder_workers()
    return sent


def test_silent_worker_has_time_to_write_where_it_is_before_it_is_killed(master: Master) -> None:
    """14.7: on a busy machine it does not get to it at once."""
    seconds = [float(second) for second in range(1, 38)]
    assert look(master, *seconds[:30]) == []
    assert look(master, *seconds[30:33]) == [signal.SIGABRT]
    assert look(master, *seconds[33:]) == [signal.SIGABRT, signal.SIGKILL, signal.SIGKILL, signal.SIGKILL]


def test_worker_that_stood_still_with_its_master_is_not_silent(master: Master) -> None:
    """14.7: the whole container was paused."""
    assert look(master, 1, 2, 600, 601, 602) == []


def test_pauses_between_workers_that_cannot_load_grow_to_ten_seconds_and_never_end_the_master() -> None:
    """14.7: a model that cannot be loaded for days."""
    assert [arbiter.pause_after(ends) for ends in (1, 2, 6, 7, 100_000)] == [0.25, 0.5, 8.0, 10.0, 10.0]
