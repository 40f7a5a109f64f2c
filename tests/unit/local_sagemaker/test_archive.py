"""model.tar.gz: packing and unpacking."""

import errno
import io
import os
import stat

import pytest
from local_sagemaker.archive import make_read_only, make_readable, pack, remove_tree, unpack
from local_sagemaker.errors import UsageError
from local_sagemaker.tar import tarfile


def archive_with(path, member, **fields):
    with tarfile.open(path, "w:gz") as tar:
        entry = tarfile.TarInfo(member)
        for key, value in fields.items():
            setattr(entry, key, value)
        tar.addfile(entry, io.BytesIO(b""))
    return path


def test_paths_in_the_archive_are_relative_to_the_model_directory(tmp_path):
    """Contract 6.1."""
    (tmp_path / "model" / "code").mkdir(parents=True)
    (tmp_path / "model" / "weights").write_bytes(b"\x00\x01")
    (tmp_path / "model" / "code" / "inference.py").touch()
    with tarfile.open(pack(tmp_path / "model", tmp_path / "model.tar.gz")) as tar:
        assert sorted(tar.getnames()) == ["code", "code/inference.py", "weights"]


def test_what_was_packed_is_unpacked(tmp_path):
    """Contract 6.9."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(bytes(range(256)))
    unpack(pack(tmp_path / "model", tmp_path / "m.tar.gz"), tmp_path / "served")
    assert (tmp_path / "served" / "weights").read_bytes() == bytes(range(256))


@pytest.mark.parametrize("directory", ["empty", "absent"])
def test_no_model_gives_an_empty_archive(tmp_path, directory):
    (tmp_path / "empty").mkdir()
    with tarfile.open(pack(tmp_path / directory, tmp_path / "m.tar.gz")) as tar:
        assert tar.getnames() == []


@pytest.mark.parametrize(
    ("member", "fields"),
    [
        ("../outside", {}),
        ("a/../../outside", {}),
        ("link", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
        ("device", {"type": tarfile.CHRTYPE}),
    ],
)
def test_an_archive_that_would_escape_is_refused(tmp_path, member, fields):
    archive = archive_with(tmp_path / "m.tar.gz", member, **fields)
    with pytest.raises(UsageError, match="is refused"):
        unpack(archive, tmp_path / "served")
    assert not (tmp_path / "outside").exists()


def test_a_link_to_a_path_below_opt_ml_model_leads_there_wherever_the_model_is_unpacked(tmp_path):
    """6.9: training programs name the best of their checkpoints so."""
    (tmp_path / "model/best").mkdir(parents=True)
    (tmp_path / "model/epoch-2").write_text("weights")
    (tmp_path / "model/last").symlink_to("/opt/ml/model/epoch-2")
    (tmp_path / "model/best/weights").symlink_to("/opt/ml/model/epoch-2")
    unpacked = unpack(pack(tmp_path / "model", tmp_path / "model.tar.gz"), tmp_path / "there")
    assert (unpacked / "last").read_text() == "weights"
    assert (unpacked / "best/weights").read_text() == "weights"
    assert str((unpacked / "best/weights").readlink()) == "../epoch-2"


def test_a_link_that_only_begins_below_opt_ml_model_is_refused(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/out").symlink_to("/opt/ml/model/../../../etc/passwd")
    with pytest.raises(UsageError, match="is refused"):
        unpack(pack(tmp_path / "model", tmp_path / "model.tar.gz"), tmp_path / "there")


def test_a_file_that_is_no_archive_is_named(tmp_path):
    (tmp_path / "m.tar.gz").write_bytes(b"not an archive")
    with pytest.raises(UsageError, match=r"m\.tar\.gz cannot be unpacked"):
        unpack(tmp_path / "m.tar.gz", tmp_path / "served")


def test_a_cut_off_archive_is_reported(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(bytes(range(256)) * 400)
    whole = pack(tmp_path / "model", tmp_path / "m.tar.gz").read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match="cannot be unpacked"):
        unpack(tmp_path / "cut.tar.gz", tmp_path / "served")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_damaged_archive_is_reported_even_where_it_can_be_unpacked(tmp_path, share):
    """13.6."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"".join(b"%d," % number for number in range(60_000)))
    damaged = bytearray(pack(tmp_path / "model", tmp_path / "m.tar.gz").read_bytes())
    damaged[int(len(damaged) * share)] ^= 0x55
    (tmp_path / "damaged.tar.gz").write_bytes(damaged)
    with pytest.raises(UsageError, match="cannot be unpacked"):
        unpack(tmp_path / "damaged.tar.gz", tmp_path / "served")


def test_a_read_only_tree_can_be_removed(tmp_path):
    (tmp_path / "tree" / "below").mkdir(parents=True)
    (tmp_path / "tree" / "below" / "file").touch()
    make_read_only(tmp_path / "tree")
    assert not (tmp_path / "tree" / "below" / "file").stat().st_mode & 0o222
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


def test_what_its_owner_cannot_read_is_made_readable_and_links_lead_nowhere(tmp_path):
    """6.1: the platform packs a model whatever the modes of its files."""
    (tmp_path / "mine").write_bytes(b"")
    (tmp_path / "mine").chmod(0o000)
    folder = tmp_path / "model/deep"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"1")
    (folder / "weights").chmod(0o010)
    (folder / "link").symlink_to(tmp_path / "mine")
    folder.chmod(0o050)
    make_readable(tmp_path / "model")
    modes = [stat.S_IMODE(path.lstat().st_mode) for path in (folder, folder / "weights", tmp_path / "mine")]
    assert [oct(mode) for mode in modes] == ["0o750", "0o410", "0o0"]


def no_room(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_archive_that_finds_no_room_leaves_nothing(tmp_path, monkeypatch):
    """6.1: a full disk."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"weights")
    monkeypatch.setattr(tarfile, "copyfileobj", no_room)
    with pytest.raises(OSError, match=r"No space left on device: '.*m\.tar\.gz'"):
        pack(tmp_path / "model", tmp_path / "m.tar.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_full_disk_is_not_taken_for_a_damaged_archive(tmp_path, monkeypatch):
    """6.9, 13.6."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"weights")
    archive = pack(tmp_path / "model", tmp_path / "m.tar.gz")
    monkeypatch.setattr(tarfile, "copyfileobj", no_room)
    with pytest.raises(UsageError, match="No space left") as refused:
        unpack(archive, tmp_path / "served")
    assert refused.value.next_step == "make room on that disk, and run it again"
