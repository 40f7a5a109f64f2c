"""A child's output on its way to the log."""

import fcntl
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sagemaker_byoc.stderr_tail import StderrTail
from sagemaker_byoc.training.streams import LinePump

from tests.support.waiting import wait_until

Pumped = Callable[[list[bytes]], tuple[bytes, StderrTail]]


@pytest.fixture(params=[StderrTail, LinePump])
def pumped(request: pytest.FixtureRequest, tmp_path: Path) -> Pumped:
    """Pass pieces through a pump, and return what came out."""

    def pump(pieces: list[bytes]) -> tuple[bytes, StderrTail]:
        source, end = os.pipe()
        out, sink = os.pipe()
        thread = LinePump(source, sink, tmp_path / "turns") if request.param is LinePump else StderrTail(source, sink)
        thread.start()
        received = bytearray()

        def drain() -> None:
            while chunk := os.read(out, 1 << 16):
                received.extend(chunk)

        reader = threading.Thread(target=drain)
        reader.start()
        for piece in pieces:
            os.write(end, piece)
        os.close(end)
        thread.join(10)
        os.close(sink)
        reader.join(10)
        return bytes(received), thread

    return pump


@pytest.mark.parametrize(
    "pieces",
    [
        [b"one\n", b"two\n"],
        [b"without an end"],
        [b"\xff\xfe not UTF-8 \n"],
        [b"a " * 50_000 + b"\n"],
        [b"\r 10 %", b"\r 20 %", b"\r done\n"],
        [b"x" * 4096, b"\n", b"y" * 5000 + b"\nz\n"],
        [b"\n\n\n"],
        [b"z" * 60_000] * 5 + [b"\n"],
    ],
)
def test_bytes_come_out_as_they_went_in(pumped: Pumped, pieces: list[bytes]) -> None:
    """4.7."""
    assert pumped(pieces)[0] == b"".join(pieces)


def test_end_is_remembered_and_memory_bounded(pumped: Pumped) -> None:
    """1.9."""
    lines = [b"line %06d\n" % n for n in range(40_000)]
    received, thread = pumped([b"".join(lines[n : n + 1000]) for n in range(0, 40_000, 1000)])
    assert received == b"".join(lines)
    assert thread.tail() == b"".join(lines)[-64 * 1024 :]


def test_time_of_a_traceback_is_noted_even_when_it_comes_in_pieces(pumped: Pumped) -> None:
    """1.9: which rank failed first is a matter of milliseconds."""
    before = time.time()
    at = pumped([b"x\nTraceback (most rec", b"ent call last):\n  File\nValueError\n"])[1].traceback_at
    assert at is not None
    assert before <= at <= time.time()
    assert pumped([b"nothing of the kind\n"])[1].traceback_at is None


@pytest.mark.parametrize("length", [1_000, 100_000])
def test_lines_of_two_ranks_in_one_pipe_are_whole(tmp_path: Path, length: int) -> None:
    """4.7, 8.3: a metric's regular expression finds nothing in a torn line."""
    count = 500_000 // length
    out, sink = os.pipe()
    writers = []
    for name in (b"a", b"b"):
        source, end = os.pipe()
        LinePump(source, sink, tmp_path / "turns").start()

        def write(name: bytes = name, end: int = end) -> None:
            for _ in range(count):
                for piece in (name * 10, b" ", name * length, b"\n"):
                    os.write(end, piece)
            os.close(end)

        writers.append(threading.Thread(target=write))
    received = bytearray()
    for writer in writers:
        writer.start()
    while received.count(b"\n") < 2 * count:
        received += os.read(out, 1 << 16)
    for writer in writers:
        writer.join()
    assert set(bytes(received).splitlines()) == {name * 10 + b" " + name * length for name in (b"a", b"b")}


def test_line_without_its_end_is_not_held_back_for_long(tmp_path: Path) -> None:
    """4.7: a progress bar, or a question."""
    source, end = os.pipe()
    out, sink = os.pipe()
    LinePump(source, sink, tmp_path / "turns").start()
    os.write(end, b"50 %")
    os.set_blocking(out, False)
    received = bytearray()

    def arrived() -> bool:
        try:
            received.extend(os.read(out, 100))
        except BlockingIOError:
            return False
        return received == b"50 %"

    wait_until(arrived, "the piece")
    os.close(end)


def test_rank_waits_for_its_turn_at_the_log(tmp_path: Path) -> None:
    """4.7, 8.3: a line that a pipe does not take whole is not torn by another rank's."""
    source, end = os.pipe()
    out, sink = os.pipe()
    os.set_blocking(out, False)
    with (tmp_path / "turns").open("w") as turns:
        fcntl.flock(turns, fcntl.LOCK_EX)
        pump = LinePump(source, sink, tmp_path / "turns")
        pump.start()
        os.write(end, b"a line\n")
        os.close(end)
        pump.join(0.5)
        assert pump.is_alive()
        with pytest.raises(BlockingIOError):
            os.read(out, 100)
    pump.join(10)
    assert os.read(out, 100) == b"a line\n"
