"""Where functions run for an event loop, and pieces that a thread makes for it."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
from sagemaker_byoc.serving.exchange import Answer, AsyncAnswer, Request
from sagemaker_byoc.serving.placement import SLOW_SECONDS, Placement, from_thread

REQUEST = Request(b"", "", "")


def quick(_request: Request) -> Answer:
    return Answer(threading.current_thread().name.encode(), "text/plain")


def test_a_worker_begins_in_threads_and_moves_to_the_loop() -> None:
    """14.7: nobody knows yet whether the function is quick."""
    placement = Placement(2)
    assert not placement.is_quick
    for _ in range(20):
        placement.took(SLOW_SECONDS / 100)
    assert placement.is_quick


def test_a_single_slow_request_changes_nothing_and_several_do() -> None:
    """14.7: a pause of the machine is no slow function."""
    placement = Placement(2)
    for _ in range(100):
        placement.took(0.0001)
    placement.took(0.05)
    assert placement.is_quick
    for _ in range(5):
        placement.took(0.05)
    assert not placement.is_quick


def test_a_stream_is_made_in_threads_from_then_on() -> None:
    """15.11: whoever makes pieces may wait for each."""
    placement = Placement(2)
    for _ in range(100):
        placement.took(0.0001)
    placement.run_here(lambda _request: Answer(iter([b"a"]), "text/plain"), REQUEST)
    assert not placement.is_quick


def test_a_thread_answers_and_its_errors_are_raised() -> None:
    async def main() -> None:
        placement = Placement(1)
        answer = await placement.run_in_thread(quick, REQUEST)
        assert isinstance(answer.body, bytes)
        assert answer.body.startswith(b"model")
        with pytest.raises(ZeroDivisionError):
            await placement.run_in_thread(lambda _request: 1 / 0, REQUEST)  # type: ignore[arg-type,return-value]  # raises

    asyncio.run(main())


def test_all_pieces_of_a_stream_are_made_in_one_thread() -> None:
    """15.11: what a function sets for its thread, such as torch.inference_mode, holds for the whole stream."""

    def pieces() -> Iterator[bytes]:
        for _ in range(20):
            yield threading.current_thread().name.encode()

    async def main() -> set[bytes]:
        answer = await Placement(4).run_in_thread(lambda _request: Answer(pieces(), "text/plain"), REQUEST)
        assert isinstance(answer, AsyncAnswer)
        return {piece async for piece in answer.body}

    names = asyncio.run(main())
    assert len(names) == 1
    assert names != {threading.current_thread().name.encode()}


def test_a_thread_makes_a_few_pieces_ahead_and_closes_when_nobody_wants_more() -> None:
    """15.11."""
    made: list[int] = []
    closed = threading.Event()

    def pieces() -> Iterator[bytes]:
        try:
            for number in range(1000):
                made.append(number)
                yield b"piece"
        finally:
            closed.set()

    async def main() -> None:
        feed = from_thread(pieces())
        assert await anext(feed) == b"piece"
        await feed.aclose()
        assert await asyncio.to_thread(closed.wait, 10)

    asyncio.run(main())
    assert len(made) < 20


def test_an_error_among_the_pieces_is_raised_after_those_before_it() -> None:
    """15.11."""

    def pieces() -> Iterator[bytes]:
        yield b"one"
        raise RuntimeError("broken")

    async def main() -> None:
        feed = from_thread(pieces())
        assert await anext(feed) == b"one"
        with pytest.raises(RuntimeError, match="broken"):
            await anext(feed)

    asyncio.run(main())
