"""Channels in Pipe mode: a writer for each channel and host that fills one named pipe after the other, one a pass.

Source: SageMaker developer guide, "How SageMaker AI Provides Training Information" and "Augmented Manifest Files".
Named pipes are of one kernel: containers in a virtual machine (Docker Desktop) do not see them.
"""

from __future__ import annotations

import errno
import gzip
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from local_sagemaker.state.buckets import Buckets
from local_sagemaker.training.channel_data import ChannelDataError, Item, Share, find_items, find_samples, in_pass
from local_sagemaker.training.channels import Channel

MAGIC = 0xCED7230A
LONGEST_RECORD = (1 << 29) - 1
CHUNK_BYTES = 1 << 20
LOOK_SECONDS = 0.02
READABLE = 0o666


class PipeWriter:
    """Fills ``FOLDER/NAME_0``, then ``NAME_1``, as often as the job opens them.

    Attributes:
        error: why a pass ended before its data did; the job that read it must not end well.
    """

    def __init__(self, channel: Channel, folder: Path, chunks: Callable[[int], Iterable[bytes]]) -> None:
        self._channel = channel
        self._folder = folder
        self._chunks = chunks
        self._ended = threading.Event()
        self.error: ChannelDataError | None = None
        self._make(0)
        self._thread = threading.Thread(target=self._run, name=f"pipe-{channel.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write no more; the pipes go away."""
        self._ended.set()
        self._thread.join()
        for path in self._folder.glob(f"{self._channel.name}_*"):
            if path.is_fifo():
                path.unlink()

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._channel.name}_{number}"

    def _make(self, number: int) -> None:
        os.mkfifo(self._path(number))
        self._path(number).chmod(READABLE)  # whoever the container runs as

    def _run(self) -> None:
        number = 0
        while (pipe := self._open(number)) is not None:
            try:
                self._make(number + 1)  # before this pass ends, so that whoever begins the next one finds it
                self._fill(pipe, number)
            except ChannelDataError as error:
                self.error = error
                return
            except (OSError, EOFError, zlib.error) as error:
                self.error = ChannelDataError(f"Data download failed: channel {self._channel.name}: {error}")
                return
            finally:
                os.close(pipe)
                with suppress(FileNotFoundError):
                    self._path(number).unlink()
            number += 1

    def _open(self, number: int) -> int | None:
        """Wait for a reader without being caught in the wait."""
        while not self._ended.is_set():
            try:
                return os.open(self._path(number), os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:  # the job has removed the pipe
                    return None
            self._ended.wait(LOOK_SECONDS)
        return None

    def _fill(self, pipe: int, number: int) -> None:
        for chunk in self._chunks(number):
            view = memoryview(chunk)
            while view:
                if self._ended.is_set():
                    return
                try:
                    view = view[os.write(pipe, view) :]
                except BlockingIOError:
                    self._ended.wait(LOOK_SECONDS / 10)
                except BrokenPipeError:
                    return  # a reader may leave a pass before its end


@contextmanager
def filled_pipes(
    channels: Iterable[tuple[Channel, Share]], folder: Path, buckets: Buckets
) -> Iterator[list[PipeWriter]]:
    """Fill the pipes of one host in ``folder`` for the length of a block.

    Raises:
        ChannelDataError: if a channel has no data.
    """
    contents = [(channel, plan_passes(channel, share, buckets)) for channel, share in channels]
    writers: list[PipeWriter] = []
    try:
        writers += [PipeWriter(channel, folder, chunks) for channel, chunks in contents]
        yield writers
    finally:
        for writer in writers:
            writer.stop()


def plan_passes(channel: Channel, share: Share, buckets: Buckets) -> Callable[[int], Iterator[bytes]]:
    """The bytes of each pass, by its number.

    Raises:
        ChannelDataError: if the channel has no data.
    """
    wrap = channel.record_wrapper == "RecordIO"
    if channel.data_type == "AugmentedManifestFile":
        samples = find_samples(channel, buckets)
        return lambda number: (
            chunk
            for sample in in_pass(channel, samples, share, number)
            for value in sample
            for chunk in (_of_file(value, channel, wrap) if isinstance(value, Path) else _of_bytes(value, wrap))
        )
    items = find_items(channel, buckets)
    return lambda number: (
        chunk for item in _items(channel, items, share, number) for chunk in _of_file(item.path, channel, wrap)
    )


def _items(channel: Channel, items: list[Item], share: Share, number: int) -> list[Item]:
    return in_pass(channel, items, share, number)


def _of_bytes(value: bytes, wrap: bool) -> Iterator[bytes]:
    if wrap:
        yield record_head(len(value))
    yield value
    if wrap:
        yield record_tail(len(value))


def _of_file(path: Path, channel: Channel, wrap: bool) -> Iterator[bytes]:
    if channel.compression == "Gzip":
        with gzip.open(path, "rb") as stream:
            if wrap:  # the length of a record comes before it
                yield from _of_bytes(stream.read(), wrap)
            else:
                yield from _chunks_of(stream)
        return
    size = path.stat().st_size
    with path.open("rb") as stream:
        if wrap:
            yield record_head(size)
        yield from _chunks_of(stream)
        if wrap:
            yield record_tail(size)


def _chunks_of(stream: BinaryIO | gzip.GzipFile) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk


def record_head(length: int) -> bytes:
    """What RecordIO puts before a whole record.

    Raises:
        ChannelDataError: if the record is longer than the format can say.
    """
    if length > LONGEST_RECORD:
        raise ChannelDataError(f"an object of {length} bytes is too long for a RecordIO record")
    return struct.pack("<II", MAGIC, length)


def record_tail(length: int) -> bytes:
    """What RecordIO puts behind it: up to three bytes, so that the next one begins at a multiple of four."""
    return bytes(-length % 4)
