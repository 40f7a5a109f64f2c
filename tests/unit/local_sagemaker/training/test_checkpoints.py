"""A folder in the place of S3: down to every host at the start, up from all of them during the run."""

import os

import pytest
from local_sagemaker.errors import UsageError
from local_sagemaker.training.checkpoints import CheckpointSync, check_store, list_files

from tests.support.waiting import wait_until


@pytest.fixture
def store(tmp_path):
    folder = tmp_path / "store"
    (folder / "old").mkdir(parents=True)
    (folder / "old" / "1.pt").write_text("first")
    return folder


@pytest.fixture
def hosts(tmp_path):
    folders = {name: tmp_path / name for name in ("algo-1", "algo-2")}
    for folder in folders.values():
        folder.mkdir()
    return folders


@pytest.fixture
def sync(store, hosts):
    begun = CheckpointSync(store, hosts)
    begun.download()
    return begun


def files(folder):
    return {name: (folder / name).read_text() for name in list_files(folder).files}


def test_every_host_gets_all_that_was_kept(sync, hosts):
    """7.2."""
    assert [files(folder) for folder in hosts.values()] == [{"old/1.pt": "first"}] * 2


def test_what_comes_into_the_store_later_is_not_brought_in(sync, store, hosts):
    """7.2."""
    (store / "later").write_text("x")
    sync.upload()
    assert "later" not in files(hosts["algo-1"])


def test_new_and_changed_files_of_every_host_are_kept(sync, store, hosts):
    """7.3, 7.4."""
    (hosts["algo-1"] / "algo-1.pt").write_text("a")
    (hosts["algo-2"] / "deep").mkdir()
    (hosts["algo-2"] / "deep" / "algo-2.pt").write_text("b")
    (hosts["algo-2"] / "old" / "1.pt").write_text("second")
    sync.upload()
    assert files(store) == {"old/1.pt": "second", "algo-1.pt": "a", "deep/algo-2.pt": "b"}


def test_a_file_that_a_host_deletes_is_deleted_in_the_store_with_its_folder(sync, store, hosts):
    """7.3: and another host, which still has it, does not bring it back."""
    (hosts["algo-1"] / "old" / "1.pt").unlink()
    sync.upload()
    sync.upload()
    assert list(store.iterdir()) == []


def test_a_temporary_name_is_kept_too_as_long_as_it_is_there(sync, store, hosts):
    """7.3."""
    (hosts["algo-1"] / "2.pt.tmp").write_text("torn")
    sync.upload()
    assert files(store)["2.pt.tmp"] == "torn"
    (hosts["algo-1"] / "2.pt.tmp").rename(hosts["algo-1"] / "2.pt")
    sync.upload()
    assert set(files(store)) == {"old/1.pt", "2.pt"}


def test_a_rewritten_file_of_equal_size_and_time_is_seen(sync, store, hosts):
    path = hosts["algo-1"] / "w"
    path.write_text("aa")
    os.utime(path, (1, 1))
    sync.upload()
    replacement = hosts["algo-1"] / "w.new"
    replacement.write_text("bb")
    os.utime(replacement, (1, 1))
    replacement.rename(path)
    sync.upload()
    assert files(store)["w"] == "bb"


def test_during_a_run_files_are_kept_without_being_asked_and_at_the_end_once_more(sync, store, hosts):
    """7.3."""
    with sync.in_background():
        (hosts["algo-1"] / "2.pt").write_text("b")
        wait_until((store / "2.pt").exists, "the upload", 30)
        (hosts["algo-1"] / "3.pt").write_text("c")
    assert files(store) == {"old/1.pt": "first", "2.pt": "b", "3.pt": "c"}
    assert sorted(path.name for path in store.iterdir()) == ["2.pt", "3.pt", "old"]
    assert sync.warnings == []


def test_a_folder_that_vanishes_as_a_whole_deletes_nothing(sync, store, hosts):
    (hosts["algo-1"] / "old" / "1.pt").unlink()
    (hosts["algo-1"] / "old").rmdir()
    hosts["algo-1"].rmdir()
    sync.upload()
    assert files(store) == {"old/1.pt": "first"}
    assert sync.warnings


def test_a_link_out_of_the_folder_brings_nothing_of_this_machine(sync, store, hosts, tmp_path):
    (tmp_path / "secret").write_text("s")
    (hosts["algo-1"] / "stolen").symlink_to(tmp_path / "secret")
    (hosts["algo-1"] / "latest").symlink_to("old/1.pt")
    sync.upload()
    assert files(store) == {"old/1.pt": "first", "latest": "first"}


def test_what_cannot_be_kept_is_told_and_tried_again(sync, store, hosts):
    (store / "name").mkdir()
    (store / "name" / "below").touch()
    (hosts["algo-1"] / "name").write_text("n")
    sync.upload()
    (warning,) = sync.warnings
    assert warning.startswith("checkpoint 'name' of algo-1 was not kept: ")
    (store / "name" / "below").unlink()
    (store / "name").rmdir()
    sync.upload()
    assert sync.warnings == []
    assert files(store)["name"] == "n"


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        check_store(tmp_path / "file")
