"""What a command changes in its process while it runs, each a context that puts it back: signals and streams."""

from __future__ import annotations

import io
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from types import FrameType

STREAMS = {"stdin": "r", "stdout": "w", "stderr": "w"}
# A supervisor's stop, Ctrl-C (a shell's background job is started with it ignored), and a terminal that is closed.
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextmanager
def stops_as_interrupts() -> Iterator[None]:
    """Whatever asks the command to end raises KeyboardInterrupt, so that everything is cleaned up as after Ctrl-C.

    What ``nohup`` lets pass by is left alone. In a thread that is not the main one nothing is changed, as Python
    gives signals to the main one only.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in STOPS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextmanager
def usable_streams() -> Iterator[None]:
    """Streams that were closed lead nowhere, and a character that the locale lacks is shown by its number."""
    for name, mode in STREAMS.items():
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - for the process's life
    streams = sys.stdout, sys.stderr
    stream = sys.stdout
    errors = stream.errors
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams  # click puts others in their place once nobody reads
        if isinstance(stream, io.TextIOWrapper) and errors is not None and not stream.closed:
            with suppress(OSError):  # what is left over has no reader
                stream.reconfigure(errors=errors)


def reader_is_gone() -> bool:
    """Whether nobody reads standard output any more, as behind ``| head``."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):
        return False
    looked = select.poll()
    looked.register(number, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP | select.POLLNVAL) for _, event in looked.poll(0))


def flush_or_forget() -> bool:
    """Write what standard output still holds; if nobody reads it, drop it and return False.

    Raises:
        OSError: if it cannot be written for another reason, such as a full disk.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        forget_output()
        return False
    except OSError:
        forget_output()
        raise
    return True


def forget_output() -> None:
    """Lead standard output nowhere, or else Python complains of it at its very end."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
