"""One instance's objects through its containers: read ahead, ask with bounded concurrency, write in order.

All of it is one event loop. What takes long beside it goes to threads: reading and unpacking of the next mini-batches,
and the filters and joins of large answers, so that the container is never waiting for them.
"""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from local_sagemaker.errors import UsageError
from local_sagemaker.transform.client import Caller, InvocationFailed, Wire
from local_sagemaker.transform.connection import Answer, Follow, Following
from local_sagemaker.transform.failure import ObjectFailed, records_in_words
from local_sagemaker.transform.output import Output
from local_sagemaker.transform.pace import Pace
from local_sagemaker.transform.plan import InputObject, TransformPlan
from local_sagemaker.transform.splitting import PIECE_BYTES, Batch, batches

# Answers that came before their turn; beyond it no more is asked until the one that is awaited has come.
EARLY_BYTES = 64 << 20
# From this size on filters and joins have a thread.
LARGE_BYTES = 64 << 10


@dataclass
class Tally:
    """What has been done so far, of all instances."""

    records: int = 0
    sent_bytes: int = 0
    objects: int = 0


class Work(NamedTuple):
    """A mini-batch and where its answer goes; without a mini-batch, the end of the object or why it has none."""

    output: Output
    item: InputObject
    batch: Batch | None
    total: int = 0
    failure: ObjectFailed | None = None


class InstanceTransform:
    """What one instance does.

    Args:
        plan: the job.
        objects: the instance's.
        callers: one for each container, in the order in which a request passes through them.
        pace: as agreed with the container.
        partial: a folder for outputs that are not complete.
        commit: called with an object and its complete output.
        tally: is kept up to date.
    """

    def __init__(
        self,
        plan: TransformPlan,
        objects: Sequence[InputObject],
        callers: Sequence[Caller],
        pace: Pace,
        partial: Path,
        commit: Callable[[InputObject, Path], None],
        tally: Tally,
    ) -> None:
        self._plan = plan
        self._objects = objects
        self._callers = callers
        self._pace = pace
        self._partial = partial
        self._commit = commit
        self._tally = tally
        self._outputs: list[tuple[InputObject, Output]] = []
        self._in_flight = 0
        self._finishing: set[asyncio.Task[None]] = set()
        self._answered = asyncio.Event()

    async def run(self) -> list[tuple[InputObject, ObjectFailed]]:
        """Transform every object; returns those that failed, in their order, each with its reason."""
        ahead = ReadAhead(self._read())
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._pace.max_concurrent):
                    group.create_task(self._ask_one_after_the_other(ahead))
            await asyncio.gather(*self._finishing)
        finally:
            await ahead.close()
            for _, output in self._outputs:
                output.abandon()
        return [(item, output.failure) for item, output in self._outputs if output.failure is not None]

    def _read(self) -> Iterator[Work]:
        """All mini-batches of all objects; runs in a thread."""
        for place, item in enumerate(self._objects):
            commit = self._committing(item)
            output = Output(self._partial / str(place), self._plan.by_line, commit)
            self._outputs.append((item, output))
            number = 0
            try:
                for batch in self._batches(item):
                    yield Work(output, item, batch)
                    number += 1
                    if output.failure is not None:
                        break
            except (OSError, EOFError, zlib.error) as error:
                failure = ObjectFailed(f"cannot be read: {error}")
                yield Work(output, item, None, failure=failure)
            except ObjectFailed as failure:
                yield Work(output, item, None, failure=failure)
            else:
                yield Work(output, item, None, number)

    def _committing(self, item: InputObject) -> Callable[[Path], None]:
        def commit(complete: Path) -> None:
            self._commit(item, complete)
            self._tally.objects += 1

        return commit

    def _batches(self, item: InputObject) -> Iterator[Batch]:
        if self._travels_whole:
            if item.size:
                yield Batch(0, 1, 0, lambda: _pieces(self._open(item)), item.size)
            return
        with self._open(item) as stream:
            yield from batches(stream, self._plan.split, self._pace.is_single, self._pace.limit_bytes)

    @property
    def _travels_whole(self) -> bool:
        """Whether an object of any size is one request, whose body and answer are on no account in memory."""
        processing = self._plan.data_processing
        return (
            self._pace.limit_bytes is None
            and len(self._callers) == 1
            and (self._plan.split == "None" or not self._pace.is_single)
            and not (processing.changes_input or processing.changes_output)
        )

    def _open(self, item: InputObject) -> BinaryIO:
        return cast("BinaryIO", gzip.open(item.path, "rb")) if self._plan.is_gzip else item.path.open("rb")

    async def _ask_one_after_the_other(self, ahead: ReadAhead) -> None:
        wires = [Wire(caller) for caller in self._callers]
        try:
            while (work := await ahead.take()) is not None:
                if work.batch is None:
                    self._end(work)
                elif work.output.failure is None:
                    await self._wait_for_room()
                    self._in_flight += 1
                    try:
                        await self._transform(wires, ahead, work, work.batch)
                    finally:
                        self._in_flight -= 1
                        self._answered.set()
        finally:
            for wire in wires:
                wire.close()

    def _end(self, work: Work) -> None:
        if work.failure is not None:
            work.output.fail(work.failure)
        else:
            self._commit_safely(work.output, lambda: work.output.end(work.total))

    async def _wait_for_room(self) -> None:
        """Wait while answers that are early take too much memory; the one they wait for is in flight.

        Of objects before the last two only what was read ahead can still be early.
        """
        while self._in_flight and self._early_bytes() > EARLY_BYTES:
            self._answered.clear()
            await self._answered.wait()

    def _early_bytes(self) -> int:
        return sum([output.early_bytes for _, output in self._outputs[-2:]])

    async def _transform(self, wires: Sequence[Wire], ahead: ReadAhead, work: Work, batch: Batch) -> None:
        """Ask about a mini-batch, and about those that follow it as long as nothing has to be awaited between them."""

        def follow(answer: Answer) -> Following | None:
            nonlocal work, batch
            if answer.size > LARGE_BYTES or self._early_bytes() > EARLY_BYTES:
                return None
            following = ahead.at_hand()
            if following is None or following.batch is None or following.output.failure is not None:
                return None
            body = following.batch.body
            if callable(body):
                return None
            ahead.take_at_hand()
            answered, output = batch, work.output
            work, batch = following, following.batch

            def keep() -> None:
                self._count(answered)
                self._put(output, answered.number, answer.pieces)
                self._answered.set()

            return Following(body, keep)

        processing = self._plan.data_processing
        may_follow = len(wires) == 1 and not processing.changes_input and not processing.changes_output
        try:
            answer = await self._ask(wires, work.output, batch, follow if may_follow else None)
        except InvocationFailed as error:
            where = records_in_words(batch.first, batch.records) if batch.records else "all records"
            work.output.fail(ObjectFailed(f"{where}: {error}", "ClientError" if error.is_clients else "AlgorithmError"))
        except ObjectFailed as failure:
            work.output.fail(failure)
        except OSError as error:
            work.output.fail(_unwritable(error))
        else:
            self._count(batch)
            await self._keep(wires[-1], work.output, batch, answer)

    def _count(self, batch: Batch) -> None:
        self._tally.records += batch.records
        self._tally.sent_bytes += batch.size

    async def _ask(self, wires: Sequence[Wire], output: Output, batch: Batch, follow: Follow | None) -> Answer:
        """Send a mini-batch through the containers; the last one's answer, as far as it is not written."""
        processing, body = self._plan.data_processing, batch.body
        if callable(body):
            file = output.open()
            await wires[0].ask(body, take=file.write, anew=lambda: _empty(file))
            output.end_line()
            return Answer(200, [])
        if processing.changes_input:
            body = await self._aside(processing.filter_input, batch.size, body, batch.first)
        for wire in wires[:-1]:
            body = (await wire.ask(body)).body
        return await wires[-1].ask(body, follow=follow)

    async def _keep(self, wire: Wire, output: Output, batch: Batch, answer: Answer) -> None:
        if self._plan.data_processing.changes_output and isinstance(batch.body, bytes):
            work = self._process(output, batch.number, batch.first, batch.body, answer.body)
        elif answer.size > LARGE_BYTES:
            work = self._put_once_sent(wire, output, batch.number, answer)
        else:
            self._put(output, batch.number, answer.pieces)
            return
        # The next request does not wait for it.
        task = asyncio.create_task(work)
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)
        if len(self._finishing) > self._pace.max_concurrent:
            await asyncio.wait(self._finishing, return_when=asyncio.FIRST_COMPLETED)

    async def _put_once_sent(self, wire: Wire, output: Output, number: int, answer: Answer) -> None:
        """Write a large answer while the container is at work on the next request; before, that would wait for it."""
        await wire.sent()
        self._put(output, number, answer.pieces)

    async def _process(self, output: Output, number: int, first: int, records: bytes, answer: bytes) -> None:
        size = len(records) + len(answer)
        try:
            kept = await self._aside(self._plan.data_processing.output, size, records, answer, first)
        except ObjectFailed as failure:
            output.fail(failure)
        else:
            self._put(output, number, [kept])

    def _put(self, output: Output, number: int, pieces: Sequence[bytes]) -> None:
        self._commit_safely(output, lambda: output.put(number, pieces))

    @staticmethod
    async def _aside(function: Callable[..., bytes], size: int, *arguments: object) -> bytes:
        return await asyncio.to_thread(function, *arguments) if size > LARGE_BYTES else function(*arguments)

    @staticmethod
    def _commit_safely(output: Output, write: Callable[[], None]) -> None:
        try:
            write()
        except (OSError, UsageError) as error:
            output.fail(_unwritable(error))


class ReadAhead:
    """Takes work from an iterator in a thread, a page at a time, so that there is always some at hand."""

    def __init__(self, works: Iterable[Work]) -> None:
        self._works = iter(works)
        self._page: deque[Work] = deque()
        self._lock = asyncio.Lock()
        self._next = asyncio.create_task(asyncio.to_thread(self._read))

    async def take(self) -> Work | None:
        """The next one, None after the last."""
        while not self._page:
            async with self._lock:
                if not self._page:
                    page = await asyncio.shield(self._next)
                    if not page:
                        return None
                    self._page = page
                    self._next = asyncio.create_task(asyncio.to_thread(self._read))
        return self._page.popleft()

    def at_hand(self) -> Work | None:
        """The next one if it is read already; it stays the next one."""
        return self._page[0] if self._page else None

    def take_at_hand(self) -> None:
        """Let the one that ``at_hand`` gave be taken."""
        self._page.popleft()

    async def close(self) -> None:
        """Wait until the thread has ended, which a page in progress may take."""
        await asyncio.wait([self._next])
        if not self._next.cancelled():
            self._next.exception()

    def _read(self) -> deque[Work]:
        page: deque[Work] = deque()
        size = 0
        for work in self._works:
            page.append(work)
            size += work.batch.size if work.batch is not None else 1
            if size >= PIECE_BYTES:
                break
        return page


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    with stream:
        while piece := stream.read(PIECE_BYTES):
            yield piece


def _empty(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()


def _unwritable(error: Exception) -> ObjectFailed:
    return ObjectFailed(f"its output cannot be written: {error}")
