"""Objects become records and mini-batches, and are the same bytes when put together again."""

import io
import itertools
import json
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_sagemaker.transform.failure import ObjectFailed
from local_sagemaker.transform.splitting import (
    RECORDIO_MAGIC,
    batches,
    masked_crc32c,
    recordio_frames,
    tfrecord_frames,
)

LIMIT = 64
lines = st.lists(st.binary(max_size=30).filter(lambda line: b"\n" not in line), max_size=30)
records = st.lists(st.binary(max_size=30), max_size=20)


def cut(data, split, single=False, limit=LIMIT):
    return list(batches(io.BytesIO(data), split, single, limit))


def recordio(record):
    """As Apache MXNet writes one: at each magic number on a multiple of four a new part begins."""
    parts, start = [], 0
    for place in range(0, len(record) - 3, 4):
        if record[place : place + 4] == RECORDIO_MAGIC and place >= start:
            parts.append(record[start:place])
            start = place + 4
    parts.append(record[start:])
    kinds = [0] if len(parts) == 1 else [1, *[2] * (len(parts) - 2), 3]
    return b"".join(
        RECORDIO_MAGIC + struct.pack("<I", kind << 29 | len(part)) + part + bytes(-len(part) % 4)
        for kind, part in zip(kinds, parts, strict=True)
    )


def tfrecord(record):
    head = struct.pack("<Q", len(record))
    return head + struct.pack("<I", masked_crc32c(head)) + record + struct.pack("<I", masked_crc32c(record))


WRITERS = {"RecordIO": recordio, "TFRecord": tfrecord}
READERS = {"RecordIO": recordio_frames, "TFRecord": tfrecord_frames}


@given(lines, st.booleans())
def test_lines_in_batches_are_the_objects_bytes(parts, ends):
    """15.37."""
    data = b"\n".join(parts) + (b"\n" if ends and parts else b"")
    cuts = cut(data, "Line")
    assert b"".join(batch.body for batch in cuts) == data
    assert all(batch.size == len(batch.body) <= LIMIT for batch in cuts)


@given(lines)
def test_a_batch_has_as_many_lines_as_fit(parts):
    """15.37: MultiRecord."""
    cuts = cut(b"".join(part + b"\n" for part in parts), "Line")
    for batch, after in itertools.pairwise(cuts):
        assert len(batch.body) + after.body.index(b"\n") + 1 > LIMIT
        assert after.first == batch.first + batch.records
        assert batch.records == batch.body.count(b"\n")


@given(lines)
def test_single_lines_travel_alone_and_in_order(parts):
    """15.37: SingleRecord."""
    cuts = cut(b"".join(part + b"\n" for part in parts), "Line", single=True)
    assert [batch.body for batch in cuts] == [part + b"\n" for part in parts]
    assert [(batch.number, batch.first, batch.records) for batch in cuts] == [
        (place, place + 1, 1) for place in range(len(parts))
    ]


@pytest.mark.parametrize("single", [True, False])
def test_a_line_that_just_fits_is_fine_and_a_longer_one_is_not(single):
    """15.36."""
    assert [batch.body for batch in cut(b"x" * LIMIT, "Line", single)] == [b"x" * LIMIT]
    with pytest.raises(ObjectFailed, match="record 2 is larger than MaxPayloadInMB allows"):
        cut(b"short\n" + b"x" * (LIMIT + 1), "Line", single)
    with pytest.raises(ObjectFailed, match="record 2 is larger"):
        cut(b"short\n" + b"x" * LIMIT + b"\nshort\n", "Line", single)


def test_an_undivided_object_is_one_record():
    """15.37: SplitType None."""
    [batch] = cut(b"a\nb\n", "None")
    assert (batch.body, batch.records) == (b"a\nb\n", 1)
    with pytest.raises(ObjectFailed, match="SplitType is None"):
        cut(b"x" * (LIMIT + 1), "None")


@pytest.mark.parametrize("split", WRITERS)
@given(parts=records)
def test_framed_records_in_batches_keep_their_frames(split, parts):
    """15.37: padding stays with MultiRecord."""
    data = b"".join(map(WRITERS[split], parts))
    cuts = cut(data, split, limit=256)
    assert b"".join(batch.body for batch in cuts) == data
    assert sum(batch.records for batch in cuts) == len(parts)
    assert all(len(batch.body) <= 256 for batch in cuts)


@pytest.mark.parametrize("split", WRITERS)
@given(parts=records)
def test_a_framed_record_that_travels_alone_loses_its_frame(split, parts):
    """15.37: padding goes with SingleRecord."""
    cuts = cut(b"".join(map(WRITERS[split], parts)), split, single=True)
    assert [batch.body for batch in cuts] == parts


@given(parts=st.lists(st.lists(st.sampled_from([RECORDIO_MAGIC, b"data", b"x"])).map(b"".join), max_size=6))
def test_a_record_that_holds_the_magic_number_is_put_together(parts):
    """15.37: such a RecordIO record lies in several parts."""
    assert [frame.record for frame in recordio_frames(io.BytesIO(b"".join(map(recordio, parts))))] == parts


@pytest.mark.parametrize("split", WRITERS)
@given(st.data())
def test_a_torn_file_fails_and_names_the_record(split, data):
    """15.38."""
    parts = data.draw(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=5))
    written = [WRITERS[split](part) for part in parts]
    whole = b"".join(written)
    ends = set(itertools.accumulate(map(len, written), initial=0))
    torn = data.draw(st.integers(1, len(whole) - 1).filter(lambda size: size not in ends))
    record = sum(end <= torn for end in ends)
    with pytest.raises(ObjectFailed, match=f"record {record} is torn"):
        list(READERS[split](io.BytesIO(whole[:torn])))


@pytest.mark.parametrize("split", WRITERS)
@given(junk=st.binary(min_size=12, max_size=40).filter(lambda junk: not junk.startswith(RECORDIO_MAGIC)))
def test_a_file_of_another_kind_fails_at_its_first_record(split, junk):
    """15.38."""
    with pytest.raises(ObjectFailed, match="record 1"):
        list(READERS[split](io.BytesIO(junk)))


def test_a_framed_record_that_is_too_large_is_not_read():
    """15.36: its length says so."""
    head = struct.pack("<Q", 1 << 40)
    with pytest.raises(ObjectFailed, match="record 1 is larger"):
        cut(head + struct.pack("<I", masked_crc32c(head)), "TFRecord")


def test_the_checksum_is_castagnolis():
    """15.37: the check value of CRC-32C, masked as TFRecord files have it."""
    crc = 0xE3069283
    assert masked_crc32c(b"123456789") == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def test_a_large_object_is_cut_within_little_memory(tmp_path):
    """15.38: a file of 600 MB, in a process that may have 300 MB more than it begins with."""
    with (tmp_path / "rows").open("wb") as file:
        file.truncate(600 << 20)
        for place in range(0, 600, 3):
            file.seek((place << 20) + 777)
            file.write(b"\n")
    program = """
        import json, resource, sys
        from local_sagemaker.transform.splitting import batches
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (300 << 20),) * 2)
        with open(sys.argv[1], "rb") as file:
            cuts = [(batch.records, batch.size) for batch in batches(file, "Line", False, 6 << 20)]
        print(json.dumps(cuts))
    """
    run = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "rows")]
    harness = Path(__file__).parents[4] / "local_test"
    ran = subprocess.run(run, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(harness)})
    cuts = json.loads(ran.stdout)
    assert sum(size for _, size in cuts) == 600 << 20
    assert max(size for _, size in cuts) <= 6 << 20
