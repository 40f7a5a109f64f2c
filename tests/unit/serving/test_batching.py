"""Batching: those who wait go together, everyone gets their own answer, and one request's mistake is nobody else's."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sagemaker_byoc.errors import ClientGone, DeadlineExceeded, HandlerError, MalformedBody, Overloaded
from sagemaker_byoc.serving.batcher import Batcher
from sagemaker_byoc.serving.batching import BatchPolicy, BatchRecord, batched, find_policy

from tests.support.waiting import wait_until

POISON = -1.0


class Model:
    """Doubles its rows; holds each run until let go; notes what it was given, and in which thread."""

    def __init__(self, error: Callable[[], BaseException] = lambda: ValueError("poisoned")) -> None:
        self.calls: list[Any] = []
        self.threads: list[str] = []
        self.held = threading.Event()
        self.go = threading.Event()
        self.go.set()
        self.error = error

    def __call__(self, data: Any) -> Any:
        self.calls.append(data)
        self.threads.append(threading.current_thread().name)
        self.held.set()
        assert self.go.wait(120), "nobody let the model go"
        if isinstance(data, np.ndarray):
            if (data == POISON).any():
                raise self.error()
            return data * 2
        return data

    def rows_of_calls(self) -> list[int]:
        return [len(call) for call in self.calls]


def rows(value: float, count: int = 1) -> np.ndarray:
    return np.full((count, 2), float(value))


def later(seconds: float = 60) -> float:
    return time.monotonic() + seconds


@contextmanager
def serving(
    model: Callable[[Any], Any], **policy: Any
) -> Iterator[tuple[Batcher, list[BatchRecord], ThreadPoolExecutor]]:
    """A batcher, its records and threads that send requests."""
    records: list[BatchRecord] = []
    with ThreadPoolExecutor(80) as pool:
        yield Batcher(model, BatchPolicy(**policy), records.append), records, pool


def wait_in_line(batcher: Batcher, pool: ThreadPoolExecutor, values: list[Any], **more: Any) -> list[Future[Any]]:
    """Send one after the other, each when the one before is in the queue."""
    futures = []
    for value in values:
        before = len(batcher._queue)
        futures.append(pool.submit(batcher.submit, value, later(), **more))
        wait_until(lambda before=before: len(batcher._queue) > before, "the request is queued", interval=0.001)
    return futures


@contextmanager
def busy(model: Model, batcher: Batcher, pool: ThreadPoolExecutor) -> Iterator[Future[Any]]:
    """The model is in a run until the block ends."""
    wait_until(lambda: not batcher._busy, "the model is idle", interval=0.001)
    model.go.clear()
    model.held.clear()
    first = pool.submit(batcher.submit, rows(0), later())
    assert model.held.wait(120)
    try:
        yield first
    finally:
        model.go.set()


def test_a_request_that_finds_the_model_idle_runs_at_once_in_its_own_thread() -> None:
    """A single client pays for no hand-over and no waiting."""
    model = Model()
    with serving(model) as (batcher, records, _):
        for value in range(5):
            assert batcher.submit(rows(value), later()).tolist() == [[2 * value] * 2]
        assert model.threads == ["MainThread"] * 5
        assert [(record.rows, record.requests, record.reason) for record in records] == [(1, 1, "idle")] * 5


def test_what_comes_while_the_model_runs_goes_together() -> None:
    """And nobody waits for more to come."""
    model = Model()
    with serving(model) as (batcher, records, pool):
        with busy(model, batcher, pool):
            waiting = wait_in_line(batcher, pool, [rows(1), rows(2, 3), rows(3)])
            assert batcher.queued_rows == 5
        assert [one.result().tolist() for one in waiting] == [[[2, 2]], [[4, 4]] * 3, [[6, 6]]]
        assert model.rows_of_calls() == [1, 5]
        wait_until(lambda: len(records) == 2, "both runs are recorded")
        assert [(record.rows, record.requests, record.reason) for record in records] == [
            (1, 1, "idle"),
            (5, 3, "drained"),
        ]
        assert batcher.queued_rows == 0


def test_a_batch_is_full_by_rows_and_the_rest_follows() -> None:
    """Rows, not requests: three of two rows are more than four."""
    model = Model()
    with serving(model, max_rows=4) as (batcher, records, pool):
        with busy(model, batcher, pool):
            waiting = wait_in_line(batcher, pool, [rows(1, 2), rows(2, 2), rows(3, 2)])
        assert [len(one.result()) for one in waiting] == [2, 2, 2]
        assert model.rows_of_calls() == [1, 4, 2]
        wait_until(lambda: len(records) == 3, "all runs are recorded")
        assert [record.reason for record in records] == ["idle", "full", "drained"]


def test_a_request_of_more_rows_than_a_batch_takes_runs_alone() -> None:
    """Clients that send batches of their own are served as without batching."""
    model = Model()
    with serving(model, max_rows=4, queue_rows=8) as (batcher, _, pool):
        with busy(model, batcher, pool):
            waiting = wait_in_line(batcher, pool, [rows(1, 6), rows(2), rows(3)])
        assert [len(one.result()) for one in waiting] == [6, 1, 1]
        assert model.rows_of_calls() == [1, 6, 2]


def test_requests_that_cannot_be_joined_run_apart_and_the_oldest_first() -> None:
    """Two shapes in turn make two batches, not six."""
    model = Model()
    with serving(model) as (batcher, records, pool):
        with busy(model, batcher, pool):
            values = [rows(1), np.ones((1, 3)), rows(2), np.ones((2, 3)), rows(3)]
            waiting = wait_in_line(batcher, pool, values)
        for value, one in zip(values, waiting, strict=True):
            assert one.result().tolist() == (value * 2).tolist()
        assert [call.shape for call in model.calls] == [(1, 2), (3, 2), (3, 3)]
        wait_until(lambda: len(records) == 3, "all runs are recorded")
        assert [record.reason for record in records] == ["idle", "unlike", "drained"]


def test_those_who_are_left_out_of_a_batch_keep_their_place() -> None:
    """First come, first served, also among the unlike."""
    model = Model()
    with serving(model) as (batcher, _, pool):
        with busy(model, batcher, pool):
            values = [rows(1), np.ones((1, 3)), np.ones((1, 4)), np.ones((1, 5)), rows(2)]
            waiting = wait_in_line(batcher, pool, values)
        assert [one.result().shape for one in waiting] == [value.shape for value in values]
        assert [call.shape for call in model.calls] == [(1, 2), (2, 2), (1, 3), (1, 4), (1, 5)]


def test_values_without_rows_run_one_by_one_as_they_are() -> None:
    """The function is never given a list where it expects a text."""
    model = Model()
    with serving(model) as (batcher, _, pool):
        with busy(model, batcher, pool):
            waiting = wait_in_line(batcher, pool, ["a", "b"])
        assert [one.result() for one in waiting] == ["a", "b"]
        assert model.calls[1:] == ["a", "b"]


def test_own_join_and_split_batch_whatever_the_user_knows_how_to() -> None:
    """Texts, say; also where only one waits, so that the function always sees the same form."""
    model = Model()
    with serving(model, join=list, split=lambda answers, counts: answers) as (batcher, _, pool):
        assert batcher.submit("alone", later()) == "alone"
        model.calls.clear()
        with busy(model, batcher, pool):
            waiting = wait_in_line(batcher, pool, ["a", "b", "c"])
        assert [one.result() for one in waiting] == ["a", "b", "c"]
        assert model.calls[1:] == [["a", "b", "c"]]


@pytest.mark.parametrize("at", range(32))
def test_one_poisoned_request_of_thirty_two_fails_alone(at: int) -> None:
    """Wherever it is; in at most twice the logarithm of runs more, and the error is its own."""
    model = Model()
    with serving(model) as (batcher, records, pool):
        with busy(model, batcher, pool):
            waiting = wait_in_line(batcher, pool, [rows(POISON if one == at else one) for one in range(32)])
        for number, one in enumerate(waiting):
            if number == at:
                with pytest.raises(ValueError, match="poisoned"):
                    one.result()
            else:
                assert one.result().tolist() == [[2 * number] * 2]
        assert model.rows_of_calls()[:2] == [1, 32]
        assert len(model.calls) - 2 <= 2 * 5
        wait_until(lambda: len(records) == len(model.calls), "all runs are recorded")
        assert {record.reason for record in records[2:]} == {"retry"}


def test_the_good_ones_have_their_answers_before_the_search_is_over() -> None:
    """The first half need not wait until the guilty one of the second is found."""
    answered_before: list[bool] = []
    first: list[Future[Any]] = []

    def predict(data: np.ndarray) -> np.ndarray:
        if len(data) == 1 and data[0, 0] == POISON:
            answered_before.append(_done(first[0]))
        return model(data)

    model = Model()
    with serving(predict) as (batcher, _, pool):
        with busy(model, batcher, pool):
            first += wait_in_line(batcher, pool, [rows(1), rows(2), rows(3), rows(POISON)])
        assert isinstance(first[3].exception(), ValueError)
    assert answered_before == [True]


def _done(future: Future[Any]) -> bool:
    wait_until(future.done, "the answer of the first half")
    return True


@pytest.mark.parametrize("error", [HandlerError("mine"), MalformedBody("mine"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_is_raised_reaches_its_own_request_and_no_other(error: BaseException) -> None:
    """The very exception, be it no Exception at all."""
    model = Model(lambda: error)
    with serving(model) as (batcher, _, pool):
        with busy(model, batcher, pool):
            waiting = wait_in_line(batcher, pool, [rows(1), rows(POISON), rows(2)])
        assert waiting[1].exception() is error
        assert [waiting[0].result()[0, 0], waiting[2].result()[0, 0]] == [2, 4]
        with pytest.raises(type(error)):
            batcher.submit(rows(POISON), later())
        assert batcher.submit(rows(4), later())[0, 0] == 8


def test_where_all_fail_the_search_ends_soon() -> None:
    """At worst each request runs once more, alone, as it would without batching."""
    model = Model()
    with serving(model) as (batcher, _, pool):
        with busy(model, batcher, pool):
            waiting = wait_in_line(batcher, pool, [rows(POISON)] * 32)
        assert {type(one.exception()) for one in waiting} == {ValueError}
        wait_until(lambda: not batcher._busy, "the model is idle")
        calls = model.rows_of_calls()[1:]
        assert calls.count(1) == 32
        assert len(calls) <= 1 + 2 * 6 + 32


def test_after_a_batch_that_failed_as_a_whole_requests_run_apart_until_one_succeeds() -> None:
    """A broken model costs one run a request; the record says why."""
    model = Model()
    with serving(model) as (batcher, records, pool):
        with busy(model, batcher, pool):
            failing = wait_in_line(batcher, pool, [rows(POISON)] * 4)
        assert all(one.exception() for one in failing)
        wait_until(lambda: not batcher._busy, "the model is idle")
        model.go.clear()
        model.held.clear()
        records.clear()
        first = pool.submit(batcher.submit, rows(POISON), later())
        assert model.held.wait(120)
        waiting = wait_in_line(batcher, pool, [rows(POISON), rows(POISON), rows(1), rows(2), rows(3)])
        model.go.set()
        assert [one.exception() is None for one in [first, *waiting]] == [False, False, False, True, True, True]
        wait_until(lambda: len(records) == 5, "all runs are recorded")
        assert [(one.requests, one.reason) for one in records] == [
            (1, "idle"),
            (1, "apart"),
            (1, "apart"),
            (1, "apart"),
            (2, "drained"),
        ]


def test_an_answer_of_the_wrong_length_is_never_handed_out(caplog: pytest.LogCaptureFixture) -> None:
    """The requests run alone, each as without batching, and the log says once what was expected."""
    model = Model()
    with serving(lambda data: model(data)[:1]) as (batcher, _, pool):
        for _ in range(2):
            with busy(model, batcher, pool):
                waiting = wait_in_line(batcher, pool, [rows(value) for value in range(5)])
            assert [one.result()[0, 0] for one in waiting] == [2 * value for value in range(5)]
    told = [record.message for record in caplog.records if "expected 5" in record.message]
    assert len(told) == 1
    assert "5 requests with 5 rows" in told[0]
    assert "1 rows in a ndarray" in told[0]


def test_a_function_that_cannot_go_together_is_soon_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Three batches in vain, then one run a request."""
    model = Model()
    with serving(lambda data: model(data)[:1]) as (batcher, records, pool):
        for _ in range(3):
            with busy(model, batcher, pool):
                waiting = wait_in_line(batcher, pool, [rows(value) for value in range(4)])
            assert all(len(one.result()) == 1 for one in waiting)
        model.calls.clear()
        with busy(model, batcher, pool):
            waiting = wait_in_line(batcher, pool, [rows(value) for value in range(4)])
        assert all(len(one.result()) == 1 for one in waiting)
        assert model.rows_of_calls() == [1] * 5
        wait_until(lambda: [record.reason for record in records[-4:]] == ["apart"] * 4, "all runs are recorded")
    assert sum("run one by one" in record.message for record in caplog.records) == 1


def test_a_split_of_too_few_answers_fails_nobody_else() -> None:
    """A user's split is a user's code: what it does wrong is an error, not somebody's answer."""
    model = Model()
    with serving(model, split=lambda result, counts: [result[:1]]) as (batcher, _, pool):
        with busy(model, batcher, pool):
            waiting = wait_in_line(batcher, pool, [rows(1), rows(2), rows(3)])
        assert [one.result()[0, 0] for one in waiting] == [2, 4, 6]


def test_a_full_queue_turns_away_at_once_and_has_room_again() -> None:
    """503 now is kinder than 504 later."""
    model = Model()
    with serving(model, max_rows=2, queue_rows=3) as (batcher, _, pool):
        with busy(model, batcher, pool):
            waiting = wait_in_line(batcher, pool, [rows(1), rows(2, 2)])
            with pytest.raises(Overloaded, match="3 rows wait"):
                batcher.submit(rows(3), later())
        assert [len(one.result()) for one in waiting] == [1, 2]
        assert len(batcher.submit(rows(3), later())) == 1


def test_a_request_larger_than_the_queue_is_taken_when_the_queue_is_empty() -> None:
    """Else it never would be."""
    model = Model()
    with serving(model, max_rows=2, queue_rows=3) as (batcher, _, pool):
        with busy(model, batcher, pool):
            waiting = wait_in_line(batcher, pool, [rows(1, 7)])
        assert len(waiting[0].result()) == 7


def test_a_model_that_never_returns_holds_nobody_past_their_deadline() -> None:
    """They are told, and their room in the queue is free again."""
    model = Model()
    with serving(model, max_rows=2, queue_rows=4) as (batcher, _, pool):
        with busy(model, batcher, pool) as stuck:
            waiting = [pool.submit(lambda: batcher.submit(rows(1), later(0.2))) for _ in range(4)]
            for one in waiting:
                with pytest.raises(DeadlineExceeded, match="no answer within"):
                    one.result(30)
            assert batcher.queued_rows == 0
            assert not batcher._queue
            assert not stuck.done()
        assert stuck.result()[0, 0] == 0
        assert model.rows_of_calls() == [1]
        assert batcher.submit(rows(1), later())[0, 0] == 2


def test_one_whose_time_is_over_during_their_run_holds_up_nobody_who_is_answered_with_them() -> None:
    """Those who are answered together wake each other, whoever has left meanwhile."""
    first, together = threading.Event(), threading.Event()

    def predict(data: Any) -> Any:
        assert (first if len(data) == 1 else together).wait(120)
        return data * 2

    with serving(predict) as (batcher, _, pool):
        waiting = [pool.submit(batcher.submit, rows(0), later())]
        wait_until(lambda: batcher._busy, "the first is in the model", interval=0.001)
        waiting += wait_in_line(batcher, pool, [rows(1)])
        hurried = pool.submit(lambda: batcher.submit(rows(2), later(1.5)))
        wait_until(lambda: len(batcher._queue) != 1, "the hurried one is queued", interval=0.001)
        waiting += wait_in_line(batcher, pool, [rows(value) for value in range(3, 13)])
        first.set()
        assert isinstance(hurried.exception(60), DeadlineExceeded)
        together.set()
        assert [one.result(60)[0, 0] for one in waiting] == [0, 2, *range(6, 26, 2)]


def test_a_deadline_that_has_passed_is_told_before_anything_is_done() -> None:
    model = Model()
    with serving(model) as (batcher, _, _pool):
        with pytest.raises(DeadlineExceeded):
            batcher.submit(rows(1), time.monotonic())
        assert model.calls == []


def test_an_expired_request_never_reaches_the_model() -> None:
    """Also where its thread has not yet noticed."""
    model = Model()
    with serving(model) as (batcher, _, pool):
        with busy(model, batcher, pool):
            waiting = wait_in_line(batcher, pool, [rows(1), rows(2)])
            batcher._queue[0].deadline = time.monotonic() - 1
        with pytest.raises(DeadlineExceeded, match="its whole time"):
            waiting[0].result()
        assert waiting[1].result()[0, 0] == 4
        assert model.rows_of_calls() == [1, 1]


def test_a_request_whose_client_has_gone_never_reaches_the_model() -> None:
    """Nobody would read the answer."""
    model = Model()
    with serving(model) as (batcher, _, pool):
        with busy(model, batcher, pool):
            gone = wait_in_line(batcher, pool, [rows(1)], is_alive=lambda: False)
            there = wait_in_line(batcher, pool, [rows(2)], is_alive=lambda: True)
        with pytest.raises(ClientGone):
            gone[0].result()
        assert there[0].result()[0, 0] == 4
        assert model.rows_of_calls() == [1, 1]


def test_a_question_for_the_client_that_fails_is_no_reason_to_drop_it(caplog: pytest.LogCaptureFixture) -> None:
    """Nor to leave anybody waiting."""

    def is_alive() -> bool:
        raise OSError("bad file descriptor")

    model = Model()
    with serving(model) as (batcher, _, pool):
        with busy(model, batcher, pool):
            waiting = wait_in_line(batcher, pool, [rows(1)], is_alive=is_alive)
        assert waiting[0].result()[0, 0] == 2
    assert "bad file descriptor" in caplog.text


def test_requests_that_expire_during_the_search_for_a_guilty_one_are_dropped() -> None:
    """A retry is a run like any other."""
    model = Model()
    with serving(model) as (batcher, _, pool):
        with busy(model, batcher, pool):
            waiting = wait_in_line(batcher, pool, [rows(POISON), rows(2)])
            calls = iter([True, False])
            batcher._queue[1].is_alive = lambda: next(calls)
        assert isinstance(waiting[0].exception(), ValueError)
        assert isinstance(waiting[1].exception(), ClientGone)
        assert model.rows_of_calls() == [1, 2, 1]


def test_the_next_run_starts_while_the_last_answer_is_still_being_written() -> None:
    """The thread that ran the first batch is free to encode; the batcher's own goes on."""
    model = Model()
    with serving(model) as (batcher, _, pool):
        with busy(model, batcher, pool):
            waiting = wait_in_line(batcher, pool, [rows(1), rows(2)])
        assert [one.result()[0, 0] for one in waiting] == [2, 4]
        assert model.threads[1] == "model"
        assert model.threads[0] != "model"


def test_a_failure_of_the_records_leaves_nobody_waiting(caplog: pytest.LogCaptureFixture) -> None:
    """A bug of ours is in the log; requests are answered and the next ones too."""

    def observe(record: BatchRecord) -> None:
        raise RuntimeError("no room for metrics")

    model = Model()
    with ThreadPoolExecutor(8) as pool:
        batcher = Batcher(model, BatchPolicy(), observe)
        with busy(model, batcher, pool):
            waiting = wait_in_line(batcher, pool, [rows(1), rows(2)])
        assert [one.result(30)[0, 0] for one in waiting] == [2, 4]
        assert batcher.submit(rows(3), later())[0, 0] == 6
    assert "could not be run" in caplog.text


def test_a_record_tells_the_longest_wait_and_the_run() -> None:
    model = Model()
    with serving(model) as (batcher, records, pool):
        with busy(model, batcher, pool):
            waiting = wait_in_line(batcher, pool, [rows(1), rows(2)])
            since = batcher._queue[0].since
            wait_until(lambda: time.monotonic() - since > 0.5, "they have waited")
        assert all(one.result() is not None for one in waiting)
        wait_until(lambda: len(records) == 2, "both runs are recorded")
        assert records[0].waited_seconds < 0.5 < records[0].ran_seconds
        assert records[1].waited_seconds > 0.5


REQUESTS = st.lists(
    st.tuples(st.integers(1, 5), st.sampled_from([2, 3]), st.sampled_from(["float64", "float32"]), st.booleans()),
    min_size=1,
    max_size=14,
)


@settings(max_examples=60, deadline=None)
@given(REQUESTS, st.integers(1, 12))
def test_everyone_gets_exactly_their_own_rows(requests: list[tuple[int, int, str, bool]], max_rows: int) -> None:
    """Whatever the sizes, shapes, types and poison; and no run of several has more rows than it may."""
    model = Model()
    with serving(model, max_rows=max_rows, queue_rows=1000) as (batcher, records, pool):
        values = []
        for number, (count, width, dtype, poisoned) in enumerate(requests):
            value = np.full((count, width), float(number + 1), dtype)
            if poisoned:
                value[-1, -1] = POISON
            values.append(value)
        with busy(model, batcher, pool):
            waiting = wait_in_line(batcher, pool, values)
        for value, one in zip(values, waiting, strict=True):
            if (value == POISON).any():
                assert isinstance(one.exception(), ValueError)
            else:
                assert one.result().dtype == value.dtype
                assert one.result().tolist() == (value * 2).tolist()
        wait_until(lambda: len(records) == len(model.calls), "all runs are recorded")
        assert all(record.rows <= max_rows or record.requests == 1 for record in records)


class Accelerator:
    """A device: one run at a time, a fixed cost and a cost per row."""

    def __init__(self, fixed: float = 0.004, per_row: float = 0.00015) -> None:
        self.fixed, self.per_row = fixed, per_row
        self.free = threading.Lock()
        self.overlaps = 0

    def __call__(self, data: np.ndarray) -> np.ndarray:
        if not self.free.acquire(blocking=False):
            self.overlaps += 1
            self.free.acquire()
        try:
            time.sleep(self.fixed + self.per_row * len(data))
        finally:
            self.free.release()
        if (data == POISON).any():
            raise ValueError("poisoned")
        return data * 2


def test_sixty_four_threads_on_an_accelerator() -> None:
    """Each of 1,920 requests its own answer or its own error, one run at a time, most of them in large batches."""
    model = Accelerator()
    with serving(model, queue_rows=256) as (batcher, records, pool):

        def client(number: int) -> Counter[str]:
            seen: Counter[str] = Counter()
            for turn in range(30):
                poisoned = (number, turn) in {(7, 11), (40, 20)}
                value = POISON if poisoned else float(64 * turn + number)
                try:
                    answer = batcher.submit(rows(value, 1 + number % 3), later())
                except ValueError:
                    assert poisoned
                    seen["failed"] += 1
                else:
                    assert answer.tolist() == [[2 * value] * 2] * (1 + number % 3)
                    seen["answered"] += 1
            return seen

        total = sum(pool.map(client, range(64)), Counter())
        assert total == {"answered": 1918, "failed": 2}
        assert model.overlaps == 0
        wait_until(lambda: batcher._busy is False, "the model is idle")
        assert sum(record.requests for record in records if record.reason != "retry") == 1920
        assert max(record.rows for record in records) <= 32
        assert len(records) < 1920 / 5


def test_the_decorator_only_says_how() -> None:
    """The user's own tests call the function as before."""

    @batched
    def predict_fn(data: int, model: int) -> int:
        return data + model

    class Net:
        @batched(max_rows=8)
        def predict_fn(self, data: int) -> int:
            return data

    assert predict_fn(1, 2) == 3
    assert predict_fn.__name__ == "predict_fn"
    assert find_policy(predict_fn) == BatchPolicy(max_rows=32, queue_rows=128)
    assert find_policy(Net().predict_fn) == BatchPolicy(max_rows=8, queue_rows=32)
    assert Net().predict_fn(3) == 3
    assert find_policy(test_the_decorator_only_says_how) is None


@pytest.mark.parametrize("policy", [{"max_rows": 0}, {"queue_rows": -1}, {"max_rows": -3}])
def test_a_number_that_makes_no_sense_is_told_by_name(policy: dict[str, int]) -> None:
    name, value = next(iter(policy.items()))
    with pytest.raises(ValueError, match=rf"{name} is {value}; expected at least 1"):
        batched(**policy)
