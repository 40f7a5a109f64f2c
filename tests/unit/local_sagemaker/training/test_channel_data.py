"""Which objects a host gets of a channel, and under which names."""

import json

import pytest
from local_sagemaker.state.buckets import Buckets
from local_sagemaker.training.channel_data import (
    ChannelDataError,
    Share,
    find_items,
    find_samples,
    in_pass,
    share_of,
)
from local_sagemaker.training.channels import Channel
from local_sagemaker.training.downloads import gather


@pytest.fixture
def buckets(tmp_path):
    buckets = Buckets(tmp_path / "s3")
    for key in ("train/a.csv", "train/b/c.csv", "training/d.csv", "train.txt"):
        buckets.put_bytes(f"s3://bucket/{key}", key.encode())
    return buckets


@pytest.mark.parametrize(
    ("uri", "names"),
    [
        ("s3://bucket/train/", ["a.csv", "b/c.csv"]),
        ("s3://bucket/train/b", ["c.csv"]),
        ("s3://bucket/train/a.csv", ["a.csv"]),
        ("s3://bucket/", ["train.txt", "train/a.csv", "train/b/c.csv", "training/d.csv"]),
        ("s3://bucket/train", ["train.txt", "a.csv", "b/c.csv", "training/d.csv"]),
    ],
)
def test_what_is_below_the_prefix_becomes_the_path(buckets, uri, names):
    """3.3; a prefix need not be a whole name."""
    assert [item.name for item in find_items(Channel("train", uri), buckets)] == names


def test_a_manifest_lists_its_objects(buckets):
    """3.10."""
    buckets.put_bytes("s3://bucket/m.json", json.dumps([{"prefix": "s3://bucket/"}, "train/b/c.csv"]).encode())
    (item,) = find_items(Channel("train", "s3://bucket/m.json", data_type="ManifestFile"), buckets)
    assert (item.name, item.path.read_text()) == ("train/b/c.csv", "train/b/c.csv")


def test_the_names_of_a_manifest_lie_below_the_channel_also_where_they_begin_with_a_slash(buckets, tmp_path):
    """3.10: a prefix need not end with one."""
    buckets.put_bytes(
        "s3://bucket/m.json", json.dumps([{"prefix": "s3://bucket/train"}, "/a.csv", "/b/c.csv"]).encode()
    )
    items = find_items(Channel("train", "s3://bucket/m.json", data_type="ManifestFile"), buckets)
    gather(items, tmp_path / "channel", may_link=True)
    assert (tmp_path / "channel/a.csv").read_text() == "train/a.csv"
    assert (tmp_path / "channel/b/c.csv").read_text() == "train/b/c.csv"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('["a"]', "is not a JSON array that begins with"),
        ('[{"prefix": "s3://bucket/"}, "absent"]', 's3://bucket/absent" of channel train does not exist'),
        ("{", "is not a JSON array"),
    ],
)
def test_a_broken_manifest_fails_the_job_in_the_platforms_words(buckets, text, words):
    """1.10: the caller's fault is a ClientError."""
    buckets.put_bytes("s3://bucket/m.json", text.encode())
    with pytest.raises(ChannelDataError, match=words) as caught:
        find_items(Channel("train", "s3://bucket/m.json", data_type="ManifestFile"), buckets)
    assert caught.value.happened.startswith("ClientError: ")


def test_a_prefix_without_objects_fails_the_job(buckets):
    with pytest.raises(ChannelDataError, match='no S3 objects found under S3 URL "s3://bucket/absent/"'):
        find_items(Channel("train", "s3://bucket/absent/"), buckets)


def test_a_sample_has_the_wanted_attributes_in_the_wanted_order_and_references_become_objects(buckets):
    """3.11."""
    lines = [{"label": 3, "image-ref": "s3://bucket/train/a.csv", "other": 1, "text": "five"}]
    buckets.put_bytes("s3://bucket/m.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    attributes = ("image-ref", "label", "text")
    channel = Channel("train", "s3://bucket/m.jsonl", data_type="AugmentedManifestFile", attributes=attributes)
    assert find_samples(channel, buckets) == [(buckets.path("s3://bucket/train/a.csv"), b"3", b"five")]


def test_hosts_share_the_objects_and_one_without_any_has_an_empty_channel():
    """3.9."""
    channel, hosts = Channel("train", distribution="ShardedByS3Key"), ("algo-1", "algo-2", "algo-3")
    parts = [in_pass(channel, ["a", "b"], share_of(channel, host, hosts)) for host in hosts]
    assert parts == [["a"], ["b"], []]


def test_without_sharding_each_host_has_all():
    assert share_of(Channel("train"), "algo-2", ("algo-1", "algo-2")) == Share()


def test_with_a_seed_each_pass_has_another_order_and_hosts_still_share_all_objects():
    """3.8: objects move between hosts."""
    channel = Channel("train", distribution="ShardedByS3Key", seed=7)
    items = list(range(20))
    passes = [[in_pass(channel, items, Share(host, 2), number) for host in range(2)] for number in range(2)]
    for first, second in passes:
        assert sorted(first + second) == items
    assert set(passes[0][0]) != set(passes[1][0])
    assert passes[0] == [in_pass(channel, items, Share(host, 2), 0) for host in range(2)]


def test_a_sample_may_hold_what_unicode_calls_the_end_of_a_line(buckets):
    """3.10."""
    text = "one\u2028two\x85three\x0bfour"
    line = json.dumps({"text": text}, ensure_ascii=False)
    buckets.put_bytes("s3://bucket/manifest", f"{line}\r\n{line}\n".encode())
    channel = Channel("train", "s3://bucket/manifest", data_type="AugmentedManifestFile", attributes=("text",))
    assert find_samples(channel, buckets) == [(text.encode(),)] * 2
