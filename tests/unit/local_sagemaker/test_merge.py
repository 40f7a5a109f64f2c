"""The folders of several hosts as one archive."""

import os
import tarfile

from local_sagemaker.archive import pack_entries
from local_sagemaker.merge import merge


def host(tmp_path, name, **files):
    folder = tmp_path / name
    folder.mkdir()
    for file, text in files.items():
        place = folder / file.replace("__", "/")
        place.parent.mkdir(exist_ok=True)
        place.write_text(text)
    return folder


def contents(merged, tmp_path):
    with tarfile.open(pack_entries(merged.entries, tmp_path / "m.tar.gz")) as tar:
        return {member.name: tar.extractfile(member).read() if member.isfile() else None for member in tar}


def test_what_each_host_left_is_in_one_archive(tmp_path):
    """6.2."""
    folders = {"algo-1": host(tmp_path, "a", x__w="1"), "algo-2": host(tmp_path, "b", x__v="2", y="3")}
    merged = merge(folders)
    assert contents(merged, tmp_path) == {"x": None, "x/w": b"1", "x/v": b"2", "y": b"3"}
    assert merged.clashes == ()


def test_of_different_files_with_one_name_the_last_hosts_is_kept_and_the_name_is_told(tmp_path):
    """6.2."""
    hosts = {name: host(tmp_path, name, w=text, same="s") for name, text in (("algo-1", "1"), ("algo-2", "2"))}
    merged = merge(hosts)
    assert contents(merged, tmp_path) == {"w": b"2", "same": b"s"}
    (clash,) = merged.clashes
    assert clash.startswith("algo-1, algo-2 left different files named 'w', and that of algo-2 is kept")


def test_equal_size_and_time_do_not_make_files_equal(tmp_path):
    hosts = {name: host(tmp_path, name, w=text) for name, text in (("algo-1", "aa"), ("algo-2", "bb"))}
    for folder in hosts.values():
        os.utime(folder / "w", (1, 1))
    assert len(merge(hosts).clashes) == 1


def test_a_file_that_takes_a_folders_name_takes_what_is_below_it(tmp_path):
    merged = merge({"algo-1": host(tmp_path, "a", x__w="1"), "algo-2": host(tmp_path, "b", x="2")})
    assert contents(merged, tmp_path) == {"x": b"2"}
    assert len(merged.clashes) == 1


def test_a_name_that_is_no_text_can_still_be_told(tmp_path):
    hosts = {name: tmp_path / name for name in ("algo-1", "algo-2")}
    for name, folder in hosts.items():
        folder.mkdir()
        (folder / os.fsdecode(b"\xff")).write_text(name)
    (clash,) = merge(hosts).clashes
    assert r"named '\udcff'" in clash
    assert clash.encode("utf-8")


def test_links_stay_links_and_pipes_are_left_out(tmp_path):
    folder = host(tmp_path, "a", w="1")
    (folder / "latest").symlink_to("w")
    os.mkfifo(folder / "pipe")
    assert sorted(merge({"algo-1": folder}).entries) == ["latest", "w"]
    assert contents(merge({"algo-1": folder}), tmp_path)["latest"] is None


def test_a_host_that_left_nothing_adds_nothing(tmp_path):
    assert merge({"algo-1": tmp_path / "absent"}).entries == {}
