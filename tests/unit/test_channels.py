"""Pipe channels: passes, RecordIO, and samples of several records, on real named pipes."""

import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sagemaker_byoc.channels import PipeChannel, group_records, read_records

MAGIC = 0xCED7230A
WORD = struct.pack("<I", MAGIC)


def part(content: bytes, kind: int = 0) -> bytes:
    """One part of a RecordIO stream."""
    return WORD + struct.pack("<I", kind << 29 | len(content)) + content + b"\0" * (-len(content) % 4)


def record_as_mxnet_writes(content: bytes) -> bytes:
    """Parted, without the four bytes, wherever these stand at a multiple of four."""
    cuts = [at for at in range(0, len(content) // 4 * 4, 4) if content[at : at + 4] == WORD]
    starts, ends = [0, *(at + 4 for at in cuts)], [*cuts, len(content)]
    pieces = [content[a:b] for a, b in zip(starts, ends, strict=True)]
    if len(pieces) == 1:
        return part(content)
    kinds = [1, *[2] * (len(pieces) - 2), 3]
    return b"".join(part(piece, kind) for piece, kind in zip(pieces, kinds, strict=True))


@pytest.fixture
def channel(tmp_path: Path) -> Callable[..., PipeChannel]:
    """A channel below a base directory of its own."""
    (tmp_path / "input" / "data").mkdir(parents=True)

    def make(name: str = "train", wait_seconds: float = 20.0) -> PipeChannel:
        return PipeChannel(name, wait_seconds, environ={"SAGEMAKER_BASE_DIR": str(tmp_path)})

    return make


@contextmanager
def platform(folder: Path, passes: list[bytes]) -> Iterator[list[str]]:
    """Makes and fills one pipe after the other, as the platform does; says how each pass ended."""
    ended: list[str] = []

    def fill() -> None:
        for number, data in enumerate(passes):
            path = folder.with_name(f"{folder.name}_{number}")
            os.mkfifo(path)
            try:
                with path.open("wb", buffering=0) as pipe:
                    view = memoryview(data)
                    while view:
                        view = view[pipe.write(view) or 0 :]
                ended.append("read")
            except BrokenPipeError:
                ended.append("closed early")

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    yield ended
    thread.join(20)
    assert not thread.is_alive(), "a pass was never opened"


def test_each_pass_is_the_next_pipe(channel) -> None:
    """3.6: read to the end, then open the next, which may not be there yet."""
    train = channel()
    data = [b"first" * 100_000, b"", b"third"]
    with platform(train.folder, data) as ended:
        for expected in data:
            with train.next_pass() as stream:
                assert stream.read() == expected
    assert ended == ["read"] * 3


def test_pass_may_be_closed_early(channel) -> None:
    """3.6: the reader decides how much of a pass it needs."""
    train = channel()
    with platform(train.folder, [b"x" * 1_000_000, b"second"]) as ended:
        with train.next_pass() as stream:
            assert stream.read(10) == b"x" * 10
        with train.next_pass() as stream:
            assert stream.read() == b"second"
    assert ended == ["closed early", "read"]


def test_passes_of_channels_are_independent(channel) -> None:
    """3.6: validation may be read once in two epochs of training."""
    train, validation = channel("train"), channel("validation")
    with platform(train.folder, [b"t0", b"t1"]), platform(validation.folder, [b"v0"]):
        with train.next_pass() as stream:
            assert stream.read() == b"t0"
        with validation.next_pass() as stream:
            assert stream.read() == b"v0"
        with train.next_pass() as stream:
            assert stream.read() == b"t1"


@pytest.mark.parametrize("name", ["train.2026", "my-channel", "a_b", "X"])
def test_any_name_of_a_channel_is_read(channel, name: str) -> None:
    """2.8: dots and dashes are part of a name."""
    one = channel(name)
    with platform(one.folder, [b"data"]), one.next_pass() as stream:
        assert stream.read() == b"data"


def test_data_is_there_as_soon_as_it_is_written(channel) -> None:
    """3.6: a pass need not be complete before training on it begins."""
    train = channel()
    path = train.folder.with_name("train_0")
    os.mkfifo(path)
    go_on = threading.Event()

    def fill() -> None:
        with path.open("wb", buffering=0) as pipe:
            pipe.write(b"early")
            go_on.wait(20)
            pipe.write(b"late")

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    with train.next_pass() as stream:
        assert stream.read(5) == b"early"
        go_on.set()
        assert stream.read() == b"late"


def test_pipe_that_never_comes_is_named_with_what_to_look_at(channel) -> None:
    """3.6: waiting has a limit."""
    with pytest.raises(TimeoutError, match=r"train_0 did not appear for 0\.2 seconds.*'train'"):
        channel(wait_seconds=0.2).next_pass()


def test_pipe_that_nobody_fills_is_named(channel) -> None:
    """3.6: waiting has a limit."""
    train = channel(wait_seconds=0.2)
    os.mkfifo(train.folder.with_name("train_0"))
    with pytest.raises(TimeoutError, match=r"nothing was written to .*train_0"):
        train.next_pass()


def test_pass_that_could_not_be_opened_is_not_counted(channel) -> None:
    """3.6: asking again asks for the same pass."""
    train = channel(wait_seconds=0.1)
    with pytest.raises(TimeoutError):
        train.next_pass()
    train.folder.with_name("train_0").write_bytes(b"now")
    with train.next_pass() as stream:
        assert stream.read() == b"now"


def test_channel_in_file_mode_is_told_so_at_once(channel) -> None:
    """3.1, 3.6: a folder is there and will not become a pipe."""
    train = channel(wait_seconds=600)
    train.folder.mkdir()
    with pytest.raises(NotADirectoryError, match="File or FastFile mode"):
        train.next_pass()


def test_failed_open_leaves_no_descriptor(channel) -> None:
    """3.6: a script may ask again and again."""
    train = channel(wait_seconds=0.01)
    pipe = train.folder.with_name("train_0")
    os.mkfifo(pipe)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            train.next_pass()
    # Others come and go meanwhile: what earlier tests have left to be collected.
    assert str(pipe) not in [os.path.realpath(descriptor) for descriptor in Path("/proc/self/fd").iterdir()]


@given(st.lists(st.lists(st.sampled_from([WORD, b"", b"a", b"bc", b"defg", b"\0" * 4])).map(b"".join)))
def test_records_come_back_as_they_were_written(records: list[bytes]) -> None:
    """3.7: records that hold the format's own first bytes among them."""
    stream = BytesIO(b"".join(map(record_as_mxnet_writes, records)))
    assert list(read_records(stream)) == records


def test_parts_can_be_joined_as_they_are() -> None:
    """3.7: AWS's reader for TensorFlow puts nothing between the parts; the format's own writer needs it."""
    stream = part(b"abcd", 1) + part(b"efgh", 2) + part(b"ij", 3) + part(b"next")
    assert list(read_records(BytesIO(stream), magic_between_parts=False)) == [b"abcdefghij", b"next"]
    assert list(read_records(BytesIO(stream))) == [b"abcd" + WORD + b"efgh" + WORD + b"ij", b"next"]


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b"1,2,3\n4,5,6\n", "expected 0a23d7ce at byte 0, found 312c322c"),
        (b"1", "expected 0a23d7ce at byte 0"),
        (part(b"good") + b"bad!", "expected 0a23d7ce at byte 12"),
        (part(b"good") + WORD, "ends at byte 16, within the start of a record"),
        (part(b"good")[:-1], "ends at byte 11, within a record"),
        (part(b"abcd", 1), "within a record of several parts"),
        (part(b"abcd", 2), "part at byte 0 does not follow"),
        (part(b"abcd", 1) + part(b"efgh"), "part at byte 12 does not follow"),
        (part(b"abcd", 5), "unknown kind, 5"),
    ],
)
def test_stream_that_is_not_recordio_says_where(stream: bytes, message: str) -> None:
    """3.7: never a silent end."""
    with pytest.raises(ValueError, match=message):
        list(read_records(BytesIO(stream)))


def test_samples_of_an_augmented_manifest() -> None:
    """3.11: each attribute is a record, in the listed order, sample after sample."""
    stream = BytesIO(b"".join(map(part, [b"image 1", b"cat", b"image 2", b"dog"])))
    assert list(group_records(read_records(stream), 2)) == [(b"image 1", b"cat"), (b"image 2", b"dog")]


def test_incomplete_sample_is_an_error() -> None:
    """3.11: a wrong number of attributes would mix images and labels."""
    samples = group_records([b"image 1", b"cat", b"image 2"], 2)
    assert next(samples) == (b"image 1", b"cat")
    with pytest.raises(ValueError, match="1 records are left over"):
        next(samples)
