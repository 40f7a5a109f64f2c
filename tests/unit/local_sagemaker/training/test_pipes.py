"""Channels in Pipe mode, read by the code that is in the container."""

import gzip
import json
import os

import pytest
from local_sagemaker.state.buckets import Buckets
from local_sagemaker.training.channel_data import ChannelDataError, Share
from local_sagemaker.training.channels import Channel
from local_sagemaker.training.pipes import filled_pipes, record_head
from sagemaker_byoc.channels import PipeChannel, group_records, read_records

from tests.support.waiting import wait_until


@pytest.fixture
def buckets(tmp_path):
    buckets = Buckets(tmp_path / "s3")
    for name in ("a", "b", "c"):
        buckets.put_bytes(f"s3://bucket/{name}", name.encode() * 3)
    return buckets


@pytest.fixture
def read(tmp_path, buckets):
    """Fill the pipes of one channel and let a function read it."""
    folder = tmp_path / "input" / "data"
    folder.mkdir(parents=True)

    def read(channel, function, share=Share()):  # noqa: B008 - a constant
        with filled_pipes([(channel, share)], folder, buckets):
            result = function(PipeChannel(channel.name, 60.0, environ={"SAGEMAKER_BASE_DIR": str(tmp_path)}))
        assert list(folder.iterdir()) == []
        return result

    return read


def all_of(passes):
    def function(channel):
        seen = []
        for _ in range(passes):
            with channel.next_pass() as stream:
                seen.append(stream.read())
        return seen

    return function


def records(channel):
    with channel.next_pass() as stream:
        return list(read_records(stream))


def test_each_pass_is_all_objects_one_after_the_other(read):
    """3.6, 3.7."""
    assert read(Channel("train", "s3://bucket/"), all_of(3)) == [b"aaabbbccc"] * 3


def test_a_pipe_that_cannot_be_made_ends_the_pass_and_is_told(buckets, tmp_path):
    """1.10, 3.6: a full disk, say; here a file is in the way."""
    folder = tmp_path / "input" / "data"
    folder.mkdir(parents=True)
    (folder / "train_1").touch()
    with filled_pipes([(Channel("train", "s3://bucket/"), Share())], folder, buckets) as (writer,):
        channel = PipeChannel("train", 60.0, environ={"SAGEMAKER_BASE_DIR": str(tmp_path)})
        with channel.next_pass() as stream:
            assert stream.read() == b""
        wait_until(lambda: writer.error is not None, "the writer has told")
    assert "channel train" in str(writer.error)


def test_a_pass_may_be_left_before_its_end(read, buckets):
    """3.6."""
    buckets.put_bytes("s3://big/data", os.urandom(1 << 22))

    def function(channel):
        with channel.next_pass() as stream:
            stream.read(5)
        with channel.next_pass() as stream:
            return stream.read()

    assert read(Channel("train", "s3://big/"), function) == buckets.read_bytes("s3://big/data")


def test_a_channel_that_nobody_reads_keeps_no_one_waiting(read):
    read(Channel("train", "s3://bucket/"), lambda _: None)


def test_with_record_io_each_object_is_a_record(read):
    """3.7."""
    assert read(Channel("train", "s3://bucket/", record_wrapper="RecordIO"), records) == [b"aaa", b"bbb", b"ccc"]


@pytest.mark.parametrize("wrapper", ["None", "RecordIO"])
def test_compressed_objects_come_unpacked(read, buckets, wrapper):
    """3.7."""
    buckets.put_bytes("s3://zipped/a", gzip.compress(b"plain" * 1000))
    channel = Channel("train", "s3://zipped/", compression="Gzip", record_wrapper=wrapper)
    function = records if wrapper == "RecordIO" else all_of(1)
    assert read(channel, function) == [b"plain" * 1000]


def test_a_host_gets_its_share(read):
    """3.9."""
    channel = Channel("train", "s3://bucket/", distribution="ShardedByS3Key")
    assert read(channel, all_of(1), Share(1, 2)) == [b"bbb"]
    assert read(channel, all_of(2), Share(3, 4)) == [b"", b""]


def test_an_augmented_manifest_is_a_record_for_each_attribute(read, buckets):
    """3.11."""
    lines = [{"x-ref": f"s3://bucket/{name}", "y": number} for number, name in enumerate("cab")]
    buckets.put_bytes("s3://manifests/lines", "\n".join(map(json.dumps, lines)).encode())
    channel = Channel(
        "train",
        "s3://manifests/lines",
        "Pipe",
        "AugmentedManifestFile",
        record_wrapper="RecordIO",
        attributes=("x-ref", "y"),
    )
    samples = list(group_records(read(channel, records), 2))
    assert samples == [(b"ccc", b"0"), (b"aaa", b"1"), (b"bbb", b"2")]


def test_with_a_seed_passes_differ(read, buckets):
    """3.8."""
    for number in range(20):
        buckets.put_bytes(f"s3://many/{number:02}", b"%02d" % number)
    first, second = read(Channel("train", "s3://many/", seed=1), all_of(2))
    assert first != second
    assert sorted(first[i : i + 2] for i in range(0, 40, 2)) == sorted(second[i : i + 2] for i in range(0, 40, 2))


def test_what_is_too_long_for_a_record_is_refused():
    with pytest.raises(ChannelDataError, match="too long for a RecordIO record"):
        record_head(1 << 29)
