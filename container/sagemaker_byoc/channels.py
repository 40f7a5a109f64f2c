"""Channels in Pipe mode: each pass over the data is a named pipe, read once from its start towards its end.

    channel = PipeChannel("train")
    for epoch in range(epochs):
        with channel.next_pass() as stream:
            for image, label in group_records(read_records(stream), 2):
                ...

Channels in File and FastFile mode are folders and need nothing from here: see the variables `SM_CHANNEL_<NAME>`.
Source: SageMaker developer guide, "How SageMaker AI Provides Training Information" and "Augmented Manifest Files".
"""

import contextlib
import itertools
import os
import select
import stat
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from sagemaker_byoc.settings import read_paths

_MAGIC = struct.pack("<I", 0xCED7230A)
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)


class PipeChannel:
    """A channel in Pipe mode: the named pipes `<name>_0`, `<name>_1` … of the input folder, one for each pass.

    Passes count from 0 in every container: a job that was interrupted and goes on in epoch 5 reads `<name>_0` again.
    Only one process can read a channel.
    """

    def __init__(
        self, name: str, wait_seconds: float = 600.0, first_pass: int = 0, environ: Mapping[str, str] = os.environ
    ) -> None:
        """Nothing is opened yet.

        Args:
            name: the channel's name, as the job has it.
            wait_seconds: how long `next_pass` waits for the platform to make the pipe and to fill it.
            first_pass: the number of the first pass that is read here.
            environ: where `SAGEMAKER_BASE_DIR` is looked up.
        """
        self.folder = read_paths(environ).data / name
        self.passes = first_pass
        self._wait_seconds = wait_seconds

    def next_pass(self) -> BinaryIO:
        """The next pass as a stream of bytes; it ends where the data ends, and may be closed before.

        Raises:
            TimeoutError: there was no pipe, or nothing in it, for `wait_seconds`.
            NotADirectoryError: the channel is in File or FastFile mode.
        """
        path = self.folder.with_name(f"{self.folder.name}_{self.passes}")
        deadline = time.monotonic() + self._wait_seconds
        while not path.exists():
            if self.folder.is_dir():
                raise NotADirectoryError(
                    f"{self.folder} is a folder: the channel is in File or FastFile mode. Read its files, "
                    "or give the channel the input mode Pipe."
                )
            if time.monotonic() > deadline:
                raise TimeoutError(self._late(f"{path} did not appear"))
            time.sleep(0.05)
        stream = self._open(path, deadline)
        self.passes += 1
        return stream

    def _open(self, path: Path, deadline: float) -> BinaryIO:
        """Open without waiting, wait for data or for the end of it, then read as one reads a file."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, descriptor)
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):  # a plain file in its place does as well, to try things
                poll = select.poll()
                poll.register(descriptor, select.POLLIN)
                if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                    raise TimeoutError(self._late(f"nothing was written to {path}"))
            os.set_blocking(descriptor, True)
            stack.pop_all()
        return os.fdopen(descriptor, "rb", buffering=1024 * 1024)

    def _late(self, what: str) -> str:
        return (
            f"{what} for {self._wait_seconds:g} seconds. Is {self.folder.name!r} a channel of this job, in Pipe mode, "
            "and does nothing else read it?"
        )


def read_records(stream: BinaryIO, magic_between_parts: bool = True) -> Iterator[bytes]:
    """The records of a stream in RecordIO format.

    Args:
        stream: such as `PipeChannel.next_pass` gives.
        magic_between_parts: a record may come in parts. The format's own writer, in MXNet, parts a record where it
            holds the four bytes that begin a record, and leaves these out: True puts them back. False joins the parts
            as they are, for writers that part records for their length.

    Raises:
        ValueError: the stream is not RecordIO, or it ends within a record. The message says where.
    """
    position = 0
    parts: list[bytes] = []
    while header := stream.read(8):
        kind, content, size = _read_part(stream, header, position)
        if (kind in {_WHOLE, _FIRST}) == bool(parts):
            raise ValueError(f"RecordIO: the part at byte {position} does not follow from the one before it")
        position += size
        parts.append(content)
        if kind in {_WHOLE, _LAST}:
            yield content if len(parts) == 1 else (_MAGIC if magic_between_parts else b"").join(parts)
            parts = []
    if parts:
        raise ValueError(f"RecordIO: the stream ends at byte {position}, within a record of several parts")


def group_records(records: Iterable[bytes], size: int) -> Iterator[tuple[bytes, ...]]:
    """Records in groups of `size`: the attributes of one sample of an augmented manifest, in the listed order.

    Raises ValueError when the last group is incomplete.
    """
    iterator = iter(records)
    while group := tuple(itertools.islice(iterator, size)):
        if len(group) != size:
            raise ValueError(f"{len(group)} records are left over; expected groups of {size}, one for each attribute")
        yield group


def _read_part(stream: BinaryIO, header: bytes, position: int) -> tuple[int, bytes, int]:
    """One part of a record: its kind, its content, and its length in the stream."""
    if header[:4] != _MAGIC[: len(header)]:
        raise ValueError(
            f"RecordIO: expected {_MAGIC.hex()} at byte {position}, found {header[:4].hex()}. "
            "Is the channel's RecordWrapperType RecordIO, or its data in that format?"
        )
    if len(header) < 8:
        raise ValueError(f"RecordIO: the stream ends at byte {position + len(header)}, within the start of a record")
    (word,) = struct.unpack_from("<I", header, 4)
    kind, length = word >> 29, word & 0x1FFFFFFF
    padded = (length + 3) // 4 * 4
    content = stream.read(padded)
    if kind > _LAST:
        raise ValueError(f"RecordIO: the record at byte {position} is of an unknown kind, {kind}")
    if len(content) < length:
        raise ValueError(f"RecordIO: the stream ends at byte {position + 8 + len(content)}, within a record")
    return kind, content[:length], 8 + padded
