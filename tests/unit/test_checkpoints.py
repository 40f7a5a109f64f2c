"""Checkpoints: what is whole is found, what is not is passed over, and a script hears of a stop."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sagemaker_byoc import atomic
from sagemaker_byoc.checkpoints import CheckpointError, Checkpoints, Every, listen_for_stop, open_checkpoints
from sagemaker_byoc.errors import PlatformInputError

from tests.support.training import clean_environment
from tests.support.waiting import wait_until


def writes(content: bytes):
    """A function that `save` takes."""
    return lambda path: path.write_bytes(content)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    """Of host algo-1, two of them kept."""
    return open_checkpoints(tmp_path / "ml" / "checkpoints", keep=2, host="algo-1")


def content(checkpoints: Checkpoints) -> bytes | None:
    """What a resume would read."""
    found = checkpoints.newest()
    return found.path.read_bytes() if found else None


def test_newest_is_what_was_saved_last(checkpoints: Checkpoints) -> None:
    """7.2: with the step that it was saved under."""
    for step in (9, 10, 100):
        checkpoints.save(step, writes(b"state of %d" % step))
    found = checkpoints.newest()
    assert found is not None
    assert (found.step, found.host, found.path.read_bytes()) == (100, "algo-1", b"state of 100")


def test_no_folder_is_no_checkpoint(checkpoints: Checkpoints) -> None:
    """A.7: most jobs have no checkpoint configuration; looking makes no folder either."""
    assert checkpoints.newest() is None
    assert not checkpoints.folder.exists()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda state: state[:-1], id="shorter"),
        pytest.param(lambda state: b"", id="empty"),
        pytest.param(lambda state: state + b"\0", id="longer"),
        pytest.param(lambda state: state[:500] + bytes([state[500] ^ 1]) + state[501:], id="one bit"),
    ],
)
def test_damaged_checkpoint_is_passed_over_by_name(checkpoints: Checkpoints, damage, capfd) -> None:
    """7.2, 7.3: what S3 gave back may be torn; the one before it is taken."""
    checkpoints.save(1, writes(b"a" * 1000))
    saved = checkpoints.save(2, writes(b"b" * 1000))
    saved.path.write_bytes(damage(b"b" * 1000))
    assert content(checkpoints) == b"a" * 1000
    assert str(saved.path) in capfd.readouterr().err


def test_all_damaged_is_none(checkpoints: Checkpoints) -> None:
    """7.2: then training starts afresh."""
    checkpoints.save(1, writes(b"a")).path.write_bytes(b"")
    assert checkpoints.newest() is None


def test_saving_again_after_a_fall_back_replaces_the_damaged_one(checkpoints: Checkpoints) -> None:
    """7.3: the run that went back gets to the same step again."""
    checkpoints.save(1, writes(b"a"))
    checkpoints.save(2, writes(b"b")).path.write_bytes(b"torn")
    checkpoints.save(2, writes(b"b"))
    assert [one.step for one in checkpoints.all()] == [1, 2]
    assert all(one.is_valid for one in checkpoints.all())


def test_foreign_files_are_left_alone(checkpoints: Checkpoints) -> None:
    """7.2: the folder may hold what other programs saved."""
    checkpoints.folder.mkdir(parents=True)
    (checkpoints.folder / "model-best.pt").write_bytes(b"theirs")
    for step in range(5):
        checkpoints.save(step, writes(b"ours"))
    assert (checkpoints.folder / "model-best.pt").read_bytes() == b"theirs"
    assert len(list(checkpoints.folder.iterdir())) == 3


def test_only_the_newest_of_this_host_are_kept(checkpoints: Checkpoints) -> None:
    """7.3, 7.4: what is deleted here is deleted in S3; another host's is not ours to delete."""
    other = open_checkpoints(checkpoints.folder, keep=2, host="algo-2")
    other.save(1, writes(b"other"))
    for step in range(1, 6):
        checkpoints.save(step, writes(b"own"))
    assert [(one.step, one.host) for one in checkpoints.all()] == [(1, "algo-2"), (4, "algo-1"), (5, "algo-1")]


def test_hosts_never_write_the_same_name(checkpoints: Checkpoints) -> None:
    """7.4: one place in S3 for all hosts; same step, same content."""
    saved = {open_checkpoints(checkpoints.folder, host=f"algo-{n}").save(7, writes(b"same")).path for n in range(1, 12)}
    assert len(saved) == 11


def test_resume_reads_any_hosts_or_only_its_own(checkpoints: Checkpoints) -> None:
    """7.2, 7.4: every host finds the files of all hosts."""
    checkpoints.save(3, writes(b"own"))
    open_checkpoints(checkpoints.folder, host="algo-2").save(4, writes(b"other"))
    assert content(checkpoints) == b"other"
    own = checkpoints.newest(own=True)
    assert own is not None
    assert own.path.read_bytes() == b"own"


def test_own_comes_first_among_equals(checkpoints: Checkpoints) -> None:
    """7.4: shards of one step are told apart."""
    for host in ("algo-0", "algo-2"):
        open_checkpoints(checkpoints.folder, host=host).save(3, writes(host.encode()))
    checkpoints.save(3, writes(b"own"))
    assert content(checkpoints) == b"own"


@pytest.mark.parametrize("host", ["algo-1", "algo-1-abcde", "algo-12-rank-3", "a.b_c"])
def test_any_host_name_is_read_back(checkpoints: Checkpoints, host: str) -> None:
    """2.12: names are not to be guessed."""
    open_checkpoints(checkpoints.folder, host=host).save(3, writes(b"state"))
    assert [one.host for one in checkpoints.all()] == [host]


def test_nothing_unfinished_is_ever_in_the_synced_folder(checkpoints: Checkpoints) -> None:
    """7.3: the file grows elsewhere, and is renamed in."""
    seen: list[list[Path]] = []

    def write(path: Path) -> None:
        path.write_bytes(b"state")
        seen.append(list(checkpoints.folder.iterdir()))

    checkpoints.save(1, write)
    assert seen == [[]]
    assert [path.name for path in checkpoints.folder.parent.iterdir()] == ["checkpoints"]


def test_folder_that_is_a_mount_is_written_inside(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """7.3: renaming cannot cross the mount that the folder may be; /dev/shm is one on every Linux."""
    assert atomic.staging(Path("/dev/shm")) == Path("/dev/shm")
    assert atomic.staging(tmp_path) == tmp_path.parent


def test_place_beside_that_is_not_writable_is_not_used(tmp_path: Path, monkeypatch) -> None:
    """13.11: the scratch folder, when it is on the same mount, else inside."""
    monkeypatch.setattr(os, "access", lambda place, mode: place != tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    (tmp_path / "checkpoints").mkdir()
    assert atomic.staging(tmp_path / "checkpoints") == tmp_path / "scratch"


def test_leftovers_of_a_killed_writer_are_removed_and_a_living_one_is_not_disturbed(checkpoints: Checkpoints) -> None:
    """7.3, 7.5: the next save tidies up."""
    program = f"""
import pathlib, sys
from sagemaker_byoc.checkpoints import open_checkpoints
def write(path):
    path.write_bytes(b"half")
    print("writing", flush=True)
    sys.stdin.readline()
open_checkpoints({str(checkpoints.folder)!r}, host="algo-2").save(1, write)
"""
    place = checkpoints.folder.parent
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=clean_environment()
        )
        for _ in range(2)
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"writing\n"
        assert len([name for name in atomic.names(place) if name.startswith(atomic.UNFINISHED)]) == 2
        writers[0].kill()
        writers[0].wait()
        checkpoints.save(2, writes(b"whole"))
        assert len([name for name in atomic.names(place) if name.startswith(atomic.UNFINISHED)]) == 1
        writers[1].communicate(b"go on\n", timeout=300)
        assert writers[1].returncode == 0
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    assert [(one.step, one.host, one.is_valid) for one in checkpoints.all()] == [
        (1, "algo-2", True),
        (2, "algo-1", True),
    ]
    assert atomic.names(place) == ["checkpoints"]


def test_writer_that_fails_leaves_the_old_checkpoint_and_its_own_error(checkpoints: Checkpoints) -> None:
    """7.3: a mistake in the function is the function's."""
    checkpoints.save(1, writes(b"old"))

    def write(path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyError("optimizer")

    with pytest.raises(KeyError, match="optimizer"):
        checkpoints.save(2, write)
    assert content(checkpoints) == b"old"
    assert atomic.names(checkpoints.folder.parent) == ["checkpoints"]


def test_writer_that_writes_nothing_is_told_so(checkpoints: Checkpoints) -> None:
    """A.7: no empty checkpoint."""
    with pytest.raises(CheckpointError, match="wrote no file"):
        checkpoints.save(1, lambda path: None)


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """7.1: LocalPath may be any path."""
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(CheckpointError, match=f"step 1 could not be saved in {tmp_path}/file/checkpoints"):
        open_checkpoints(tmp_path / "file" / "checkpoints").save(1, writes(b"state"))


SMALL_DISK = """
import sys
from pathlib import Path
from sagemaker_byoc.checkpoints import CheckpointError, open_checkpoints

def torch_like(path):
    try:
        path.write_bytes(b"b" * 4_000_000)
    except OSError:
        raise RuntimeError("PytorchStreamWriter failed writing file data/0") from None

checkpoints = open_checkpoints(sys.argv[1], keep=2)
checkpoints.save(1, lambda path: path.write_bytes(b"a" * 1_000_000))
for write in (torch_like, lambda path: path.write_bytes(b"b" * 4_000_000)):
    try:
        checkpoints.save(2, write)
    except CheckpointError as error:
        print(error)
found = checkpoints.newest()
print(found.step, found.path.stat().st_size, len(list(Path(sys.argv[1]).iterdir())))
checkpoints.save(2, lambda path: path.write_bytes(b"c" * 500_000))
print(checkpoints.newest().step)
"""


def test_full_disk_is_named_and_the_old_checkpoint_is_kept(tmp_path: Path) -> None:
    """A.7: whatever words the framework has for it; a disk of 2 MB, in a mount namespace of its own."""
    disk = tmp_path / "checkpoints"
    disk.mkdir()
    mount = 'mount -t tmpfs -o size=2m none "$1" && exec "$0" -c "$2" "$1"'
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, sys.executable, str(disk), SMALL_DISK],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stderr
    assert all("the checkpoint of step 2 could not be saved" in line for line in lines[:2])
    assert all("No space left on device" in line for line in lines[:2])
    assert lines[2:] == ["1 1000000 1", "2"]


def test_folder_is_the_one_that_the_platform_configured(tmp_path: Path) -> None:
    """7.1, 2.14: LocalPath, when the job's files name it."""
    config = tmp_path / "input" / "config"
    config.mkdir(parents=True)
    environ = {"SAGEMAKER_BASE_DIR": str(tmp_path)}
    assert open_checkpoints(environ=environ).folder == tmp_path / "checkpoints"
    for document, expected in (
        ({"S3Uri": "s3://bucket/c", "LocalPath": "/scratch/kept"}, Path("/scratch/kept")),
        ({"S3Uri": "s3://bucket/c"}, tmp_path / "checkpoints"),
        ({"LocalPath": None}, tmp_path / "checkpoints"),
    ):
        (config / "checkpointconfig.json").write_text(json.dumps(document))
        assert open_checkpoints(environ=environ).folder == expected


def test_folder_of_the_platform_is_the_default() -> None:
    """7.1."""
    assert open_checkpoints(environ={}).folder == Path("/opt/ml/checkpoints")


@pytest.mark.parametrize("text", ["{", "[]", '"x"'])
def test_unreadable_checkpoint_configuration_is_named(tmp_path: Path, text: str) -> None:
    """2.14, 7.1: never a guess."""
    (tmp_path / "input" / "config").mkdir(parents=True)
    (tmp_path / "input" / "config" / "checkpointconfig.json").write_text(text)
    with pytest.raises(PlatformInputError, match=r"checkpointconfig\.json cannot be used"):
        open_checkpoints(environ={"SAGEMAKER_BASE_DIR": str(tmp_path)})


def test_host_is_the_current_one() -> None:
    """7.4, B.2."""
    assert open_checkpoints(environ={"SM_CURRENT_HOST": "algo-3"}).host == "algo-3"


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda: open_checkpoints(keep=0), id="keep none"),
        pytest.param(Every, id="every what"),
        pytest.param(lambda: Every(steps=0), id="every 0 steps"),
        pytest.param(lambda: Every(seconds=-1.0), id="every -1 seconds"),
        pytest.param(lambda: open_checkpoints("never").save(-1, writes(b"")), id="step -1"),
    ],
)
def test_number_that_makes_no_sense_is_refused(call) -> None:
    """A.7: at once, not after an hour of training."""
    with pytest.raises(ValueError, match="expected"):
        call()


def test_every_so_many_steps() -> None:
    """7.6: counted from where the run begins, resumed or not."""
    due = Every(steps=3)
    assert [step for step in range(8, 20) if due(step)] == [10, 13, 16, 19]


def test_every_so_many_seconds() -> None:
    """7.6: time is counted from the last time it was due."""
    times = iter([100.0, 105.0, 111.0, 115.0, 121.0, 140.0, 141.0])
    due = Every(seconds=10, clock=lambda: next(times))
    seen = [due(0) for _ in range(6)]
    assert seen == [False, True, False, True, True, False]


def test_should_stop_turns_true_on_sigterm_and_the_handler_is_given_back() -> None:
    """1.12, 7.5."""
    before = signal.getsignal(signal.SIGTERM)
    with listen_for_stop() as should_stop:
        assert not should_stop()
        signal.raise_signal(signal.SIGTERM)
        assert should_stop()
    assert signal.getsignal(signal.SIGTERM) is before


def test_handler_that_was_there_is_called_too() -> None:
    """1.12: a framework's own handler goes on working; blocks may be nested."""
    heard = []
    before = signal.signal(signal.SIGUSR1, lambda *_: heard.append("theirs"))
    try:
        with listen_for_stop(signal.SIGUSR1) as outer, listen_for_stop(signal.SIGUSR1) as inner:
            signal.raise_signal(signal.SIGUSR1)
            assert (outer(), inner()) == (True, True)
        assert heard == ["theirs"]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_handler_is_given_back_when_the_block_raises() -> None:
    """1.12."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyError), listen_for_stop():
        raise KeyError
    assert signal.getsignal(signal.SIGTERM) is before


def test_listening_outside_the_main_thread_is_refused() -> None:
    """1.12: Python runs handlers in the main thread only; silence would be worse."""
    errors: list[BaseException] = []

    def enter() -> None:
        try:
            with listen_for_stop():
                pass
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    wait_until(lambda: not thread.is_alive(), "the thread's end")
    assert "main thread" in str(errors[0])


def test_importing_needs_no_framework_and_changes_nothing() -> None:
    """A.7: standard library only, no handler set by an import."""
    program = """
import signal, sys
before = signal.getsignal(signal.SIGTERM)
import sagemaker_byoc.checkpoints, sagemaker_byoc.channels
assert signal.getsignal(signal.SIGTERM) is before
assert not {"torch", "numpy", "flask"} & set(sys.modules), sorted(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], env=clean_environment(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
