"""Records of an object, and the mini-batches of them that one request each carries.

Objects are read front to back in large pieces, so one that is larger than memory is fine, and newlines are sought in
whole pieces, so that a record costs nothing where several travel together.

RecordIO and TFRecord wrap each record. A record that travels alone goes without its wrapping, several keep theirs.
Source: API reference, TransformInput; Apache MXNet, "RecordIO"; TensorFlow guide, "TFRecord and tf.train.Example".
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO, Literal, NamedTuple, cast

from local_sagemaker.transform.failure import ObjectFailed

SplitType = Literal["None", "Line", "RecordIO", "TFRecord"]
Body = bytes | Callable[[], Iterator[bytes]]

PIECE_BYTES = 1 << 20
RECORDIO_MAGIC = struct.pack("<I", 0xCED7230A)
RECORDIO_HEAD = struct.Struct("<4sI")
RECORDIO_LENGTH_BITS = 29
RECORDIO_WHOLE, RECORDIO_FIRST, RECORDIO_MIDDLE, RECORDIO_LAST = range(4)
TFRECORD_HEAD = struct.Struct("<QI")
TFRECORD_CRC_BYTES = 4
CASTAGNOLI = 0x82F63B78


class Batch(NamedTuple):
    """What one request carries.

    Attributes:
        number: among the object's, from 0.
        first: the first record's number in its object, from 1.
        records: how many; 0 where nobody counted them, because the object travels whole.
        body: the bytes, or for an object of any size what reads it piece by piece, anew at each call.
        size: of the body in bytes.
    """

    number: int
    first: int
    records: int
    body: Body
    size: int


class Frame(NamedTuple):
    """One wrapped record: with its wrapping, and the record alone."""

    wrapped: bytes
    record: bytes


def batches(stream: BinaryIO, split: SplitType, single: bool, limit: int | None) -> Iterator[Batch]:
    """Cut an object into mini-batches.

    Args:
        stream: the object's bytes.
        split: what divides records.
        single: whether each request carries one record, else as many as fit.
        limit: of a request's body in bytes; None for none, when several records are all records.

    Raises:
        ObjectFailed: if a record is larger than the limit, or the object is not framed as ``split`` says.
    """
    if split == "None" or (limit is None and not single):
        yield from _whole(stream, limit, by_line=split == "Line")
    elif split == "Line":
        yield from _single_lines(stream, limit) if single or limit is None else _several_lines(stream, limit)
    else:
        frames = recordio_frames if split == "RecordIO" else tfrecord_frames
        yield from _framed(frames(stream, limit), single, limit)


def _whole(stream: BinaryIO, limit: int | None, *, by_line: bool) -> Iterator[Batch]:
    body = stream.read() if limit is None else stream.read(limit + 1)
    if limit is not None and len(body) > limit:
        raise ObjectFailed(f"it is larger than MaxPayloadInMB allows, {limit >> 20} MB, and SplitType is None")
    if body:
        records = body.count(b"\n") + (not body.endswith(b"\n")) if by_line else 1
        yield Batch(0, 1, records, body, len(body))


def _several_lines(stream: BinaryIO, limit: int) -> Iterator[Batch]:
    # One buffer for all: fresh memory of this size costs more than what is done with it.
    buffer = memoryview(bytearray(limit))
    number, first, held = 0, 1, 0  # bytes of a record that is not all there, at the beginning
    while read := cast("io.BufferedReader", stream).readinto(buffer[held:]):
        end = held + read
        cut = cast("bytearray", buffer.obj).rfind(b"\n", held, end) + 1
        if cut == 0:
            if end == limit and stream.read(1):
                raise too_large(first, limit)
            held = end
            continue
        body = bytes(buffer[:cut])
        held = end - cut
        buffer[:held] = bytes(buffer[cut:end])
        count = body.count(b"\n")
        yield Batch(number, first, count, body, len(body))
        number, first = number + 1, first + count
    if held:
        yield Batch(number, first, 1, bytes(buffer[:held]), held)


def _single_lines(stream: BinaryIO, limit: int | None) -> Iterator[Batch]:
    number, rest = 0, b""
    while piece := stream.read(max(PIECE_BYTES, len(rest))):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            body = line + b"\n"
            if limit is not None and len(body) > limit:
                raise too_large(number + 1, limit)
            yield Batch(number, number + 1, 1, body, len(body))
            number += 1
        if limit is not None and len(rest) > limit:
            raise too_large(number + 1, limit)
    if rest:
        yield Batch(number, number + 1, 1, rest, len(rest))


def _framed(frames: Iterator[Frame], single: bool, limit: int | None) -> Iterator[Batch]:
    number, first, size = 0, 1, 0
    held: list[bytes] = []
    for count, frame in enumerate(frames, 1):
        bytes_of_one = frame.record if single else frame.wrapped
        if limit is not None and len(bytes_of_one) > limit:
            raise too_large(count, limit)
        if single:
            yield Batch(count - 1, count, 1, bytes_of_one, len(bytes_of_one))
            continue
        if held and limit is not None and size + len(bytes_of_one) > limit:
            yield Batch(number, first, len(held), b"".join(held), size)
            number, first, held, size = number + 1, count, [], 0
        held.append(bytes_of_one)
        size += len(bytes_of_one)
    if held:
        yield Batch(number, first, len(held), b"".join(held), size)


def recordio_frames(stream: BinaryIO, limit: int | None = None) -> Iterator[Frame]:
    """The records of a RecordIO file; one that lies in several parts is put together.

    Raises:
        ObjectFailed: if the file is no RecordIO file, or ends within a record.
    """
    number, parts, wrapped = 1, list[bytes](), list[bytes]()
    while head := stream.read(RECORDIO_HEAD.size):
        if len(head) < RECORDIO_HEAD.size:
            raise _torn(number, "RecordIO")
        magic, word = RECORDIO_HEAD.unpack(head)
        part, length = word >> RECORDIO_LENGTH_BITS, word & ((1 << RECORDIO_LENGTH_BITS) - 1)
        expected = {RECORDIO_MIDDLE, RECORDIO_LAST} if parts else {RECORDIO_WHOLE, RECORDIO_FIRST}
        if magic != RECORDIO_MAGIC or part not in expected:
            raise ObjectFailed(f"record {number} does not begin as a RecordIO record does")
        _refuse_large(number, length + sum(map(len, parts)), limit)
        padded = stream.read(length + -length % 4)
        if len(padded) < length + -length % 4:
            raise _torn(number, "RecordIO")
        parts.append(padded[:length])
        wrapped += (head, padded)
        if part in {RECORDIO_WHOLE, RECORDIO_LAST}:
            # Where a record holds the magic number itself, its writer has cut it out and begun a new part.
            yield Frame(b"".join(wrapped), RECORDIO_MAGIC.join(parts))
            number, parts, wrapped = number + 1, [], []
    if parts:
        raise _torn(number, "RecordIO")


def tfrecord_frames(stream: BinaryIO, limit: int | None = None) -> Iterator[Frame]:
    """The records of a TFRecord file. The checksum of each length is compared, that of the data is the container's.

    Raises:
        ObjectFailed: if the file is no TFRecord file, or ends within a record.
    """
    number = 1
    while head := stream.read(TFRECORD_HEAD.size):
        if len(head) < TFRECORD_HEAD.size:
            raise _torn(number, "TFRecord")
        length, checksum = TFRECORD_HEAD.unpack(head)
        if masked_crc32c(head[:8]) != checksum:
            raise ObjectFailed(f"record {number} does not begin as a TFRecord record does")
        _refuse_large(number, length, limit)
        rest = stream.read(length + TFRECORD_CRC_BYTES)
        if len(rest) < length + TFRECORD_CRC_BYTES:
            raise _torn(number, "TFRecord")
        yield Frame(head + rest, rest[:length])
        number += 1


def too_large(record: int, limit: int) -> ObjectFailed:
    """The failure of an object one of whose records cannot travel."""
    return ObjectFailed(f"record {record} is larger than MaxPayloadInMB allows, {limit >> 20} MB")


def _refuse_large(number: int, length: int, limit: int | None) -> None:
    if limit is not None and length > limit:
        raise too_large(number, limit)


def _torn(number: int, split: SplitType) -> ObjectFailed:
    return ObjectFailed(f"record {number} is torn: the {split} file ends within it")


def masked_crc32c(data: bytes) -> int:
    """The checksum of a few bytes as TFRecord files have it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (CASTAGNOLI if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
