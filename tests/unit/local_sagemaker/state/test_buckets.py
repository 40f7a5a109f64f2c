"""The tree of files that plays S3."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_sagemaker.errors import NoSuchObjectError, UsageError
from local_sagemaker.state.buckets import UNFINISHED, Buckets, split_uri


@pytest.fixture
def buckets(tmp_path):
    return Buckets(tmp_path / "s3")


def keys(buckets, prefix):
    return [item.key for item in buckets.objects(prefix)]


def test_an_object_is_a_file_that_people_can_look_into(buckets, tmp_path):
    buckets.put_bytes("s3://data/train/a.csv", b"1,2")
    assert (tmp_path / "s3/data/train/a.csv").read_bytes() == b"1,2"
    assert buckets.read_bytes("s3://data/train/a.csv") == b"1,2"


def test_a_prefix_need_not_end_at_a_slash(buckets):
    """3.4, as S3 lists."""
    for key in ("train/a", "training/b", "trace", "test/c"):
        buckets.put_bytes(f"s3://data/{key}", b"")
    assert keys(buckets, "s3://data/tra") == ["trace", "train/a", "training/b"]
    assert keys(buckets, "s3://data/train/") == ["train/a"]
    assert keys(buckets, "s3://data") == ["test/c", "trace", "train/a", "training/b"]


def test_keys_come_in_their_binary_order_as_s3_lists_them(buckets):
    for key in ("b/x", "b-x", "a/é", "a/z", "B"):
        buckets.put_bytes(f"s3://data/{key}", b"")
    assert keys(buckets, "s3://data/") == ["B", "a/z", "a/é", "b-x", "b/x"]


def test_a_linked_folder_appears_below_its_prefix_and_is_never_removed(buckets, tmp_path):
    (tmp_path / "mine/deep").mkdir(parents=True)
    (tmp_path / "mine/deep/a.csv").write_bytes(b"1")
    buckets.link("s3://data/train", tmp_path / "mine")
    buckets.link("s3://data/train/", tmp_path / "mine")  # once more is fine
    assert keys(buckets, "s3://data/train/") == ["train/deep/a.csv"]
    buckets.delete_prefix("s3://data/train/")
    assert keys(buckets, "s3://data/") == []
    assert (tmp_path / "mine/deep/a.csv").read_bytes() == b"1"


def test_jobs_that_begin_at_once_show_the_same_folder_at_the_same_address(buckets, tmp_path):
    """3.4, 24.2: the training jobs of a tuning job have their channels in common."""
    (tmp_path / "mine").mkdir()
    jobs = 8
    together = Barrier(jobs)

    def show(uri: str) -> None:
        together.wait()
        buckets.link(uri, tmp_path / "mine")

    with ThreadPoolExecutor(jobs) as threads:
        for number in range(50):
            list(threads.map(show, [f"s3://data/job-{number}/train"] * jobs))
    assert buckets.path("s3://data/job-49/train").readlink() == tmp_path / "mine"


def test_an_address_that_shows_another_folder_is_not_taken_over(buckets, tmp_path):
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
    buckets.link("s3://data/train", tmp_path / "mine")
    with pytest.raises(UsageError, match="exists already"):
        buckets.link("s3://data/train", tmp_path / "other")
    assert buckets.path("s3://data/train").readlink() == tmp_path / "mine"


def test_a_linked_folder_that_holds_itself_is_listed_once(buckets, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/a").touch()
    (tmp_path / "mine/again").symlink_to(tmp_path / "mine")
    buckets.link("s3://data/train", tmp_path / "mine")
    assert keys(buckets, "s3://data/train/") == ["train/a"]


def test_putting_a_file_does_not_copy_it_where_a_hard_link_will_do(buckets, tmp_path):
    (tmp_path / "model.tar.gz").write_bytes(b"weights")
    buckets.put("s3://models/m/model.tar.gz", tmp_path / "model.tar.gz")
    assert buckets.path("s3://models/m/model.tar.gz").stat().st_ino == (tmp_path / "model.tar.gz").stat().st_ino
    buckets.copy("s3://models/m/model.tar.gz", tmp_path / "model.tar.gz")
    assert buckets.path("s3://models/m/model.tar.gz").stat().st_ino != (tmp_path / "model.tar.gz").stat().st_ino


def test_an_object_is_of_the_type_that_it_was_put_with_else_of_its_suffix(buckets, extended_attributes):
    """19.1."""
    buckets.put_bytes("s3://b-1/a.csv", b"{}", "application/json")
    buckets.put_bytes("s3://b-1/a.csv", b"{}", "application/jsonlines")
    assert buckets.content_type("s3://b-1/a.csv") == "application/jsonlines"
    buckets.put_bytes("s3://b-1/a.csv", b"1,2")
    buckets.put_bytes("s3://b-1/a.png", b"")
    buckets.put_bytes("s3://b-1/a.tar.gz", b"")
    types = [buckets.content_type(f"s3://b-1/{key}") for key in ("a.csv", "a.png", "a.tar.gz", "nothing")]
    assert types == ["text/csv", "image/png", None, None]


@pytest.mark.parametrize("odd", ["text/csv\r\nX-Amzn-SageMaker-Target-Model: m", "größe", "a\0b"])
def test_a_type_that_is_no_header_is_passed_over(buckets, extended_attributes, odd):
    """15.7."""
    buckets.put_bytes("s3://b-1/a.csv", b"1,2", odd)
    assert buckets.content_type("s3://b-1/a.csv") == "text/csv"


def test_a_file_system_without_attributes_holds_objects_without_types(buckets, monkeypatch):
    """19.1."""

    def unsupported(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", unsupported)
    monkeypatch.setattr(os, "getxattr", unsupported)
    buckets.put_bytes("s3://b-1/a.json", b"{}", "text/csv")
    assert (buckets.read_bytes("s3://b-1/a.json"), buckets.content_type("s3://b-1/a.json")) == (
        b"{}",
        "application/json",
    )


def test_an_object_that_is_being_written_is_not_seen(buckets):
    buckets.put_bytes("s3://data/a", b"")
    (buckets.root / "data" / f"{UNFINISHED}1").touch()
    assert keys(buckets, "s3://data/") == ["a"]


@pytest.mark.parametrize(
    "uri",
    [
        "s3://data/../secret",
        "s3://data/a/./b",
        "s3://data//a",
        "s3://../a",
        "s3:///a",
        "file:///etc",
        "s3://D/a",
        "s3://data/a\0b",
    ],
)
def test_an_address_that_is_no_file_in_its_bucket_is_refused(buckets, uri):
    with pytest.raises(UsageError):
        buckets.put_bytes(uri, b"")
    assert not buckets.root.exists()


def test_an_absent_object_is_told_with_what_there_is_beside_it(buckets):
    with pytest.raises(NoSuchObjectError, match="there is no bucket data"):
        buckets.read_bytes("s3://data/train/a.csv")
    buckets.put_bytes("s3://data/train/b.csv", b"")
    with pytest.raises(NoSuchObjectError, match=r"train/b\.csv"):
        buckets.read_bytes("s3://data/train/a.csv")


def test_a_key_that_is_another_keys_folder_is_refused_in_words(buckets):
    buckets.put_bytes("s3://data/a/b", b"")
    with pytest.raises(UsageError, match="cannot share a name"):
        buckets.put_bytes("s3://data/a", b"")
    with pytest.raises(UsageError, match="cannot share a name"):
        buckets.put_bytes("s3://data/a/b/c", b"")
    assert keys(buckets, "s3://data/") == ["a/b"]


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20), min_size=1))
def test_any_key_that_a_file_can_have_comes_back(parts):
    key = "/".join(parts)
    if any(part in {".", ".."} for part in parts):
        with pytest.raises(UsageError):
            split_uri(f"s3://data/{key}")
    else:
        assert split_uri(f"s3://data/{key}") == ("data", key)
        assert str(Buckets(Path("/r")).path(f"s3://data/{key}")) == f"/r/data/{key}"
