"""Batching for an event loop: it goes on while the model runs, and its requests are treated as any other's."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import uvloop
from sagemaker_byoc.errors import ClientGone, DeadlineExceeded, Overloaded
from sagemaker_byoc.serving.batcher import Batcher
from sagemaker_byoc.serving.batching import BatchPolicy, BatchRecord

from tests.unit.serving.test_batching import POISON, Accelerator, Model, later, rows

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Both loops that may carry the server."""
    return request.param


async def until(predicate: Callable[[], object]) -> None:
    """Let the loop turn until it is true."""
    async with asyncio.timeout(120):
        while not predicate():  # noqa: ASYNC110 - what is awaited happens in another thread
            await asyncio.sleep(0.001)


async def in_line(batcher: Batcher, values: list[Any], **more: Any) -> list[asyncio.Task[Any]]:
    """A run under way, and these behind it in this order."""
    await until(lambda: batcher._busy and not batcher._queue)
    tasks = []
    for number, value in enumerate(values, 1):
        tasks.append(asyncio.create_task(batcher.submit_async(value, later(), **more)))
        await until(lambda number=number: len(batcher._queue) == number)
    return tasks


def test_the_loop_goes_on_while_the_model_runs_and_those_who_wait_go_together(run: Run) -> None:
    """D21: decoding, encoding and other requests go on meanwhile."""
    model, records = Model(), list[BatchRecord]()

    async def scenario() -> None:
        batcher = Batcher(model, BatchPolicy(), records.append)
        model.go.clear()
        first = asyncio.create_task(batcher.submit_async(rows(0), later()))
        await until(model.held.is_set)
        waiting = await in_line(batcher, [rows(1), rows(POISON), rows(2, 3)])
        model.go.set()
        outcomes = await asyncio.gather(first, *waiting, return_exceptions=True)
        assert [one.tolist() for one in outcomes if isinstance(one, np.ndarray)] == [[[0, 0]], [[2, 2]], [[4, 4]] * 3]
        assert isinstance(outcomes[2], ValueError)
        assert model.rows_of_calls()[:2] == [1, 5]
        assert set(model.threads) == {"model"}
        await until(lambda: len(records) == len(model.calls))
        assert [record.reason for record in records][:3] == ["idle", "drained", "retry"]

    run(scenario())


def test_a_model_that_never_returns_holds_nobody_past_their_deadline(run: Run) -> None:
    """Neither those who wait nor the one whose run it is."""
    model = Model()

    async def scenario() -> None:
        batcher = Batcher(model, BatchPolicy(), lambda record: None)
        model.go.clear()
        first = asyncio.create_task(batcher.submit_async(rows(0), later(1.5)))
        await until(model.held.is_set)
        waiting = [asyncio.create_task(batcher.submit_async(rows(value), later(0.2))) for value in (1, 2)]
        for one in (first, *waiting):
            with pytest.raises(DeadlineExceeded, match="no answer within"):
                await one
        assert batcher.queued_rows == 0
        model.go.set()
        assert (await batcher.submit_async(rows(3), later()))[0, 0] == 6

    run(scenario())
    assert model.rows_of_calls() == [1, 1]


def test_a_request_without_a_deadline_is_answered(run: Run) -> None:
    """Infinity is a time too."""

    async def scenario() -> None:
        batcher = Batcher(Model(), BatchPolicy(), lambda record: None)
        assert (await batcher.submit_async(rows(1), math.inf))[0, 0] == 2
        assert batcher.submit(rows(1), math.inf)[0, 0] == 2

    run(scenario())


def test_a_task_that_is_cancelled_leaves_the_queue(run: Run) -> None:
    """A client that closed its connection is no work for the model; others are not touched."""
    model = Model()

    async def scenario() -> None:
        batcher = Batcher(model, BatchPolicy(), lambda record: None)
        model.go.clear()
        first = asyncio.create_task(batcher.submit_async(rows(0), later()))
        await until(model.held.is_set)
        gone, there = await in_line(batcher, [rows(1, 4), rows(2)])
        gone.cancel()
        await until(gone.cancelled)
        assert batcher.queued_rows == 1
        model.go.set()
        assert (await there)[0, 0] == 4
        assert (await first)[0, 0] == 0

    run(scenario())
    assert model.rows_of_calls() == [1, 1]


def test_a_full_queue_an_old_request_and_a_gone_client_are_told(run: Run) -> None:
    model = Model()

    async def scenario() -> None:
        batcher = Batcher(model, BatchPolicy(queue_rows=3), lambda record: None)
        with pytest.raises(DeadlineExceeded):
            await batcher.submit_async(rows(1), time.monotonic())
        model.go.clear()
        first = asyncio.create_task(batcher.submit_async(rows(0), later()))
        await until(model.held.is_set)
        gone = (await in_line(batcher, [rows(1, 3)], is_alive=lambda: False))[0]
        with pytest.raises(Overloaded):
            await batcher.submit_async(rows(1), later())
        model.go.set()
        with pytest.raises(ClientGone):
            await gone
        await first

    run(scenario())
    assert model.rows_of_calls() == [1]


def test_a_hundred_tasks_on_an_accelerator_get_their_own_rows(run: Run) -> None:
    """One run at a time, in large batches; the loop turns all the while."""
    model, records = Accelerator(), list[BatchRecord]()

    async def client(batcher: Batcher, number: int) -> None:
        for turn in range(20):
            poisoned = (number, turn) == (31, 7)
            value = POISON if poisoned else float(100 * turn + number)
            try:
                answer = await batcher.submit_async(rows(value), later())
            except ValueError:
                assert poisoned
            else:
                assert answer.tolist() == [[2 * value] * 2]

    async def scenario() -> None:
        batcher = Batcher(model, BatchPolicy(queue_rows=200), records.append)
        await asyncio.gather(*(client(batcher, number) for number in range(100)))

    run(scenario())
    assert model.overlaps == 0
    assert len(records) < 2000 / 10


def test_one_batcher_serves_threads_and_a_loop_at_once() -> None:
    """They share the queue and the batches."""
    model = Model()

    async def scenario(pool: ThreadPoolExecutor) -> None:
        batcher = Batcher(model, BatchPolicy(), lambda record: None)
        model.go.clear()
        first: Awaitable[Any] = asyncio.wrap_future(pool.submit(batcher.submit, rows(0), later()))
        await until(model.held.is_set)
        tasks = await in_line(batcher, [rows(1)])
        thread = asyncio.wrap_future(pool.submit(batcher.submit, rows(2), later()))
        await until(lambda: len(batcher._queue) == 2)
        model.go.set()
        assert [one[0, 0] for one in await asyncio.gather(first, *tasks, thread)] == [0, 2, 4]

    with ThreadPoolExecutor(4) as pool:
        asyncio.run(scenario(pool))
    assert model.rows_of_calls() == [1, 2]
