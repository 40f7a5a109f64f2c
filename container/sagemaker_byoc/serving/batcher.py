"""The queue before a model: requests that wait while it runs go through it together, first come first served.

A request that finds the model idle runs at once, in its own thread. What comes meanwhile waits in a bounded queue.
When a run ends and something waits, the batcher's thread starts the next run at once, and goes on until nothing waits.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from sagemaker_byoc.errors import DeadlineExceeded, Overloaded
from sagemaker_byoc.serving import rows
from sagemaker_byoc.serving.batch_runs import BatchRuns, Item
from sagemaker_byoc.serving.batching import BatchPolicy, BatchRecord
from sagemaker_byoc.serving.gathering import Gathering

# So many of those who were answered together go on at once: with fewer a model that keeps Python to itself holds each
# of them up in turn, with more they hold up a model that waits for a device.
_AT_ONCE = 4
log = logging.getLogger(__name__)


class Batcher:
    """Batches of requests for one model, which runs in one thread at a time.

    observe is told of each run. Make the batcher in the process that serves, after every fork: it has a thread.
    """

    def __init__(
        self, predict: Callable[[Any], Any], policy: BatchPolicy, observe: Callable[[BatchRecord], None]
    ) -> None:
        self._policy = policy
        self._runs = BatchRuns(predict, policy, self._observe, self._deliver)
        self._tell = observe
        self._gathering = Gathering()
        self._lock = threading.Lock()
        self._queue: deque[Item] = deque()
        self._queued_rows = 0
        self._busy = False
        self._found_idle = False
        self._wanted = 0
        self._gathered = _taken_lock()
        self._turn = _taken_lock()
        self._thread: threading.Thread | None = None
        self._is_over = False

    @property
    def queued_rows(self) -> int:
        """The rows that wait now."""
        return self._queued_rows

    def submit(self, data: Any, deadline: float, is_alive: Callable[[], bool] | None = None) -> Any:
        """The answer to one request, for a thread that can wait for it.

        deadline is a time of `time.monotonic`. is_alive is asked before the model runs, by the thread that runs it: a
        request whose client has gone is dropped. Raises Overloaded when the queue is full, DeadlineExceeded,
        ClientGone, or what predict raised for this request.
        """
        item = self._item(data, deadline, is_alive)
        with self._lock:
            leads, self._busy = not self._busy, True
            alone = leads and not self._gathering.knows
            if not alone:
                self._enqueue(item)
            self._gathering.arrived(item.since)
            if not leads:
                item.wake = _taken_lock()
        if alone:
            self._run([item], "idle")
            self._pass_on()
        elif leads:
            self._lead()
        else:
            self._wait(item)
        return item.outcome()

    async def submit_async(self, data: Any, deadline: float, is_alive: Callable[[], bool] | None = None) -> Any:
        """The same for an event loop, which goes on while the batcher's thread runs the model. A task that is cancelled
        takes its request out of the queue.
        """
        import asyncio  # noqa: PLC0415 - request threads need none of it

        item = self._item(data, deadline, is_alive)
        loop = asyncio.get_running_loop()
        item.future = loop.create_future()
        with self._lock:
            self._enqueue(item)
            self._gathering.arrived(item.since)
            starts, self._busy = not self._busy, True
        if starts:
            self._found_idle = True
            self._start_thread()
        timer = loop.call_later(min(deadline - item.since, threading.TIMEOUT_MAX), _resolve, [item])
        try:
            await item.future
            if not item.done:
                self._give_up(item)
        except asyncio.CancelledError:
            self._leave(item)
            raise
        finally:
            timer.cancel()
        return item.outcome()

    def close(self) -> None:
        """Let go of the model and the thread. To be called when nothing waits and nothing will come any more."""
        self._is_over = True
        self._turn.release()
        if self._thread is not None:
            self._thread.join(1)

    def _item(self, data: Any, deadline: float, is_alive: Callable[[], bool] | None) -> Item:
        item = Item(data, deadline, is_alive)
        if item.since >= deadline:
            raise DeadlineExceeded("no time was left to wait for the model")
        item.kind, item.rows = rows.measure(data)
        if self._policy.join is not None:
            item.kind = BatchPolicy  # the user's function joins whatever comes
        return item

    def _enqueue(self, item: Item) -> None:
        """With the lock held."""
        if self._queue and self._queued_rows + item.rows > self._policy.queue_rows:
            raise Overloaded(
                f"{self._queued_rows} rows wait for the model and the queue takes {self._policy.queue_rows}; "
                "try again later"
            )
        self._queue.append(item)
        self._queued_rows += item.rows
        if self._wanted:
            self._wanted -= 1
            if not self._wanted or self._queued_rows >= self._policy.max_rows:
                self._wanted = 0
                self._gathered.release()

    def _wait(self, item: Item) -> None:
        """Until the answer has come. Then another of those who were answered together is woken: all at once they would
        only stand in each other's way, and in the model's, as one thread at a time has Python.
        """
        if not item.wake.acquire(timeout=min(max(item.deadline - time.monotonic(), 0.0), threading.TIMEOUT_MAX)):
            self._give_up(item)
            item.wake.acquire()  # its turn to wake the next comes at once
        if item.follower is not None:
            item.follower.release()

    def _lead(self) -> None:
        """Run what has just come in this thread, and leave the rest to the batcher's."""
        batch, reason = self._next(found_idle=True)
        if batch:
            self._run(batch, reason)
            self._pass_on()

    def _pass_on(self) -> None:
        """A run in a request's thread has ended: what waits goes on in the batcher's."""
        with self._lock:
            self._busy = waits = bool(self._queue)
        if waits:
            self._start_thread()

    def _start_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="model", daemon=True)
            self._thread.start()
        self._turn.release()

    def _serve(self) -> None:
        while True:
            self._turn.acquire()
            if self._is_over:
                return
            found_idle, self._found_idle = self._found_idle, False
            batch, reason = self._next(found_idle=found_idle)
            while batch:
                self._run(batch, reason)
                batch, reason = self._next()

    def _next(self, *, found_idle: bool = False) -> tuple[list[Item], str]:
        """The next batch and why it holds these requests; an empty one when nothing waits, and the model is idle."""
        while True:
            gathered = self._gather()
            with self._lock:
                if not self._queue:
                    self._busy = False
                    return [], ""
                batch, reason = self._take()
                if gathered and reason == "drained":
                    reason = "gathered"
            batch = self._runs.drop_the_late(batch)
            if batch:
                return batch, "idle" if found_idle and len(batch) == 1 else reason

    def _gather(self) -> bool:
        """Let those who have just been answered come back, where that has proved to be worth it. False if nobody is."""
        if not self._policy.gather or not self._gathering.knows or self._runs.suspended:
            return False
        with self._lock:
            if not self._queue or self._queued_rows >= self._policy.max_rows:
                return False
            self._wanted, seconds = self._gathering.worth_waiting(time.monotonic(), len(self._queue))
            if not self._wanted:
                return False
        came = self._gathered.acquire(timeout=seconds)
        with self._lock:
            if not came and not self._wanted:
                came = self._gathered.acquire(blocking=False)
            self._wanted = 0
        self._gathering.waited(came)
        return True

    def _take(self) -> tuple[list[Item], str]:
        """With the lock held. The oldest request is in it; those that cannot be joined with it keep their place."""
        queue, left = self._queue, []
        batch = [queue.popleft()]
        kind, room, reason = batch[0].kind, self._policy.max_rows - batch[0].rows, "drained"
        if self._runs.suspended:
            self._queued_rows -= batch[0].rows
            return batch, "apart"
        while queue:
            if kind is None or queue[0].kind != kind:
                left.append(queue.popleft())
                reason = "unlike"
            elif queue[0].rows > room:
                reason = "full"
                break
            else:
                room -= queue[0].rows
                batch.append(queue.popleft())
        queue.extendleft(reversed(left))
        self._queued_rows -= sum(item.rows for item in batch)
        return batch, reason

    def _run(self, batch: list[Item], reason: str) -> None:
        try:
            self._runs.run(batch, reason)
        except BaseException as error:  # a bug of ours, and still nobody may wait for ever
            log.exception("a batch of %d requests could not be run", len(batch))
            late = [item for item in batch if not item.done]
            for item in late:
                item.error = error
            self._deliver(late)

    def _observe(self, record: BatchRecord) -> None:
        self._gathering.ran(record.rows, record.ran_seconds)
        self._tell(record)

    def _deliver(self, items: list[Item]) -> None:
        loops: dict[Any, list[Item]] = {}
        waiting: list[Item] = []
        with self._lock:
            for item in items:
                if item.wake is not None and not item.done:
                    waiting.append(item)
                elif item.future is not None:
                    loops.setdefault(item.future.get_loop(), []).append(item)
                item.done = True
        for item, follower in zip(waiting, waiting[_AT_ONCE:], strict=False):
            item.follower = follower.wake
        for item in waiting[:_AT_ONCE]:
            item.wake.release()
        for loop, its in loops.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, its)
        self._gathering.answered(len(items), time.monotonic())

    def _give_up(self, item: Item) -> None:
        """The deadline has passed. Raises DeadlineExceeded unless the answer has come in the last moment."""
        if self._leave(item):
            waited = time.monotonic() - item.since
            raise DeadlineExceeded(f"the model gave no answer within the {waited:.1f} s that the request had")

    def _leave(self, item: Item) -> bool:
        with self._lock:
            if item.done:
                return False
            item.done = True
            if item in self._queue:
                self._queue.remove(item)
                self._queued_rows -= item.rows
            return True


def _taken_lock() -> Any:
    """A lock to wait at: much cheaper than an Event."""
    lock = threading.Lock()
    lock.acquire()
    return lock


def _resolve(items: list[Item]) -> None:
    for item in items:
        if not item.future.done():
            item.future.set_result(None)
