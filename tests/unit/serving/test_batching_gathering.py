"""Gathering: those who come back soon are waited for where a run costs much more than that; nobody else ever is."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sagemaker_byoc.serving.batcher import Batcher
from sagemaker_byoc.serving.batching import BatchPolicy, BatchRecord
from sagemaker_byoc.serving.gathering import Gathering

from tests.unit.serving.test_batching import Accelerator, later, rows


class Clients:
    """So many clients, who come back within so many seconds of their answers; time passes only here."""

    def __init__(self, fixed: float, per_row: float, turnaround: float) -> None:
        self.gathering = Gathering()
        self.now = 100.0
        self.fixed, self.per_row, self.turnaround = fixed, per_row, turnaround

    def run(self, clients: int, back: int | None = None) -> None:
        """One run of their requests, and so many of them come back."""
        took = self.fixed + self.per_row * clients
        self.now += took
        self.gathering.answered(clients, self.now)
        self.gathering.ran(clients, took)
        for number in range(clients if back is None else back):
            self.gathering.arrived(self.now + self.turnaround * (number + 1) / clients)

    def wanted(self) -> tuple[int, float]:
        """Who is waited for right after a run of sixteen of whom nobody is back yet."""
        self.run(16, back=0)
        return self.gathering.worth_waiting(self.now)


def learned(fixed: float, per_row: float, turnaround: float) -> Clients:
    """After some runs of two sizes."""
    clients = Clients(fixed, per_row, turnaround)
    for _ in range(5):
        clients.run(1)
        clients.run(24)
    return clients


def test_those_who_come_back_soon_are_waited_for_at_most_as_long_as_a_run_costs() -> None:
    """Nine of ten of them: the slowest hold nobody up."""
    wanted, seconds = learned(fixed=0.004, per_row=0.00015, turnaround=0.001).wanted()
    assert wanted == 15
    assert seconds == pytest.approx(0.004)


def test_the_wait_for_a_long_run_is_bounded_by_what_has_been_seen() -> None:
    """Clients that took 10 ms are not waited for 10 s."""
    _, seconds = learned(fixed=10.0, per_row=0.0, turnaround=0.01).wanted()
    assert seconds < 0.05


@pytest.mark.parametrize(
    ("fixed", "per_row", "turnaround"),
    [(0.004, 0.00015, 0.006), (0.0, 0.002, 0.0005), (0.0001, 0.002, 0.001)],
    ids=["they take too long", "a run costs by its rows alone", "and nearly so"],
)
def test_nobody_is_waited_for_where_it_would_not_pay(fixed: float, per_row: float, turnaround: float) -> None:
    """A model on a CPU is never held up: two small runs cost it what one large does."""
    assert learned(fixed, per_row, turnaround).wanted() == (0, 0.0)


def test_those_who_wait_already_will_have_to_come_back_too() -> None:
    """Sixteen are back within 2 ms, but thirty-two who are answered together would need longer than a run costs."""
    clients = learned(fixed=0.004, per_row=0.00015, turnaround=0.003)
    assert clients.wanted()[0]
    assert clients.gathering.worth_waiting(clients.now, queued=16) == (0, 0.0)


def test_a_single_client_is_never_waited_for() -> None:
    """It is the one who is waiting."""
    clients = learned(fixed=0.1, per_row=0.0, turnaround=0.001)
    clients.run(1, back=0)
    assert clients.gathering.worth_waiting(clients.now) == (0, 0.0)
    clients.run(1)
    assert clients.gathering.worth_waiting(clients.now) == (0, 0.0)


def test_nobody_is_waited_for_before_anything_is_known() -> None:
    """Neither what a run costs nor who comes back is assumed."""
    clients = Clients(fixed=0.1, per_row=0.0, turnaround=0.001)
    assert clients.wanted() == (0, 0.0)
    clients.run(1)
    assert clients.wanted() == (0, 0.0)


def test_when_enough_are_back_nobody_is_waited_for() -> None:
    """The run starts with those who are there."""
    clients = learned(fixed=0.004, per_row=0.00015, turnaround=0.001)
    clients.run(16, back=14)
    assert clients.gathering.worth_waiting(clients.now)[0] == 1
    for back in (15, 16):
        clients.run(16, back=back)
        assert clients.gathering.worth_waiting(clients.now) == (0, 0.0)


def test_when_the_time_to_come_back_has_passed_nobody_is_waited_for() -> None:
    """The next burst owes nothing to the last."""
    clients = learned(fixed=0.004, per_row=0.00015, turnaround=0.001)
    clients.run(16, back=0)
    assert clients.gathering.worth_waiting(clients.now + 0.0041) == (0, 0.0)


def test_those_who_stay_away_are_believed_less_each_time() -> None:
    """Waiting in vain costs once in three returns, then in six, then in twelve."""
    clients = learned(fixed=0.004, per_row=0.00015, turnaround=0.001)
    for needed in (6, 12, 24):
        assert clients.wanted()[0]
        clients.gathering.waited(came=False)
        for _ in range(needed):
            assert clients.wanted() == (0, 0.0)
            clients.run(24)
        assert clients.wanted()[0]
    clients.gathering.waited(came=True)
    clients.gathering.waited(came=False)
    for _ in range(6):
        assert clients.wanted() == (0, 0.0)
        clients.run(24)
    assert clients.wanted()[0]


def test_a_slow_first_run_is_forgotten() -> None:
    """Libraries warm up; what counts is what a run takes of late."""
    clients = Clients(fixed=3.0, per_row=0.002, turnaround=0.001)
    clients.run(1)
    clients.fixed = 0.0
    for _ in range(5):
        clients.run(1)
        clients.run(24)
    assert clients.wanted() == (0, 0.0)


def test_without_gathering_the_model_is_never_idle_while_a_request_waits() -> None:
    """Whoever wants that strictly can have it."""
    records: list[BatchRecord] = []
    batcher = Batcher(Accelerator(fixed=0.05, per_row=0.0), BatchPolicy(gather=False), records.append)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: batcher.submit(rows(number), later()), range(16 * 15)))
    assert {record.reason for record in records} <= {"idle", "drained", "full"}


def test_clients_in_a_loop_share_their_runs_and_a_lone_one_is_served_at_once() -> None:
    """Sixteen of them need hardly more than one run a turn, where taking turns would need two; then one is alone."""
    records: list[BatchRecord] = []
    batcher = Batcher(Accelerator(fixed=0.05, per_row=0.0), BatchPolicy(), records.append)
    start = threading.Barrier(16)

    def client(number: int) -> None:
        start.wait()
        for turn in range(25):
            assert batcher.submit(rows(number), later())[0, 0] == 2 * number, turn

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(client, range(16)))
    assert sum(record.requests for record in records) == 16 * 25
    assert Counter(record.reason for record in records)["gathered"] > 0
    assert len(records) < 1.6 * 25
    records.clear()
    for _ in range(11):
        batcher.submit(rows(1), later())
    assert {record.reason for record in records[1:]} == {"idle"}
    assert sorted(record.waited_seconds for record in records)[5] < 0.01
