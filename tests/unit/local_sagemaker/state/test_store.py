"""Records: what is kept, who runs it, and what a killed process cannot lose."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from local_sagemaker.errors import (
    ResourceInUseError,
    ResourceNotFoundError,
    TimedOutError,
    UsageError,
    ValidationError,
)
from local_sagemaker.state.records import Kind, Runner, end
from local_sagemaker.state.store import MetricPoint, Store

JOB = Kind.TRAINING_JOB


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / ".byoc" / "state.sqlite")


def test_a_record_is_read_back_as_it_was_written_by_any_process(store, tmp_path):
    store.create(JOB, "one", {"TrainingJobName": "one"}, {"TrainingJobStatus": "InProgress"})
    record = Store(tmp_path / ".byoc" / "state.sqlite").get(JOB, "one")
    assert (record.request, record.status) == ({"TrainingJobName": "one"}, "InProgress")
    assert record.description["CreationTime"] == record.created_at


def test_looking_for_records_where_none_were_kept_makes_no_file(store, tmp_path):
    assert store.find() == store.metrics(JOB, "one") == []
    with pytest.raises(ResourceNotFoundError):
        store.get(JOB, "one")
    assert list(tmp_path.iterdir()) == []
    store.create(JOB, "one", {}, {"TrainingJobStatus": "InProgress"})
    assert store.get(JOB, "one").status == "InProgress"


@pytest.mark.parametrize("has_writer", [False, True])
def test_records_that_may_not_be_written_are_read(store, tmp_path, monkeypatch, has_writer):
    store.create(JOB, "one", {}, {"TrainingJobStatus": "InProgress"})
    if not has_writer:  # its last changes are then no longer beside the file
        store._threads.connection.close()
    monkeypatch.setattr(os, "access", lambda *_: False)
    before = sorted(tmp_path.rglob("*"))
    looking = Store(store._database)
    assert [record.name for record in looking.find()] == ["one"]
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(UsageError, match="cannot be written"):
        looking.request_stop(JOB, "one")
    assert looking.get(JOB, "one").status == "InProgress"


def test_a_jobs_name_is_used_once(store):
    """1.20."""
    store.create(JOB, "one", {}, {})
    with pytest.raises(ResourceInUseError, match=r"ResourceInUse.*already exists \(one\)") as raised:
        store.create(JOB, "one", {}, {})
    assert "`byoc rm one`" in raised.value.next_step


@pytest.mark.parametrize("kind", [Kind.MODEL, Kind.ENDPOINT_CONFIG, Kind.ENDPOINT])
def test_a_second_model_configuration_or_endpoint_is_a_validation_error(store, kind):
    """23.3."""
    store.create(kind, "one", {}, {})
    with pytest.raises(ValidationError, match="Cannot create already existing"):
        store.create(kind, "one", {}, {})


def test_what_is_absent_is_named_in_the_services_words(store):
    with pytest.raises(ResourceNotFoundError, match="Requested resource not found"):
        store.get(JOB, "absent")
    with pytest.raises(ValidationError, match='Could not find endpoint configuration "absent"'):
        store.get(Kind.ENDPOINT_CONFIG, "absent")


def test_changes_of_many_threads_all_arrive(store):
    store.create(JOB, "one", {}, {"n": 0})

    def count():
        for _ in range(25):
            store.change(JOB, "one", lambda description: description.update(n=description["n"] + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get(JOB, "one").description["n"] == 100


def test_a_change_that_raises_changes_nothing(store):
    store.create(JOB, "one", {}, {"n": 0})

    def spoil(description):
        description["n"] = 1
        raise KeyError("spoilt")

    with pytest.raises(KeyError):
        store.change(JOB, "one", spoil)
    assert store.get(JOB, "one").description["n"] == 0


def test_another_processs_change_is_seen_by_the_version_and_the_own_is_not(store, tmp_path):
    store.create(JOB, "one", {}, {})
    seen = store.data_version()
    store.change(JOB, "one", lambda description: description.update(mine=True))
    assert store.data_version() == seen
    Store(tmp_path / ".byoc" / "state.sqlite").change(JOB, "one", lambda description: description.update(theirs=True))
    assert store.data_version() != seen


def test_metrics_come_back_in_the_order_in_which_they_came_although_the_clock_was_set_back(store):
    store.create(JOB, "one", {}, {})
    store.put_metrics(JOB, "one", [MetricPoint("loss", 0.9, 20.0, "algo-1"), MetricPoint("loss", 0.2, 10.0, "algo-2")])
    store.put_metrics(JOB, "one", [MetricPoint("accuracy", 0.5, 15.0)])
    assert [point.value for point in store.metrics(JOB, "one")] == [0.9, 0.2, 0.5]
    assert [point.host for point in store.metrics(JOB, "one", "loss")] == ["algo-1", "algo-2"]


def test_no_time_goes_back_with_the_clock(store, monkeypatch):
    """1.10."""
    made = store.create(JOB, "one", {}, {"TrainingJobStatus": "InProgress"})
    monkeypatch.setattr("local_sagemaker.state.store.time.time", lambda: made.created_at - 3600)
    changed = store.change(JOB, "one", lambda description: description.update(TrainingStartTime=made.created_at + 5))
    assert changed.modified_at == changed.description["LastModifiedTime"] == made.created_at
    ended = store.change(JOB, "one", lambda description: end(JOB, description, "Completed", made.created_at - 3600))
    assert ended.description["TrainingEndTime"] == made.created_at + 5


def test_a_record_is_abandoned_when_its_process_is_gone_although_the_number_lives_on(store):
    record = store.create(JOB, "one", {}, {"TrainingJobStatus": "InProgress"})
    assert not record.is_abandoned
    assert store.assign(JOB, "one", Runner(os.getpid(), "12")).is_abandoned
    assert not store.claim(JOB, "one").is_abandoned


def test_a_process_that_waits_to_be_reaped_runs_nothing(store):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    store.create(JOB, "one", {}, {"TrainingJobStatus": "InProgress"})
    assert not store.assign(JOB, "one", Runner.of(child.pid)).is_abandoned
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert store.get(JOB, "one").is_abandoned
    child.wait()


def test_a_committed_change_outlives_kill_9_at_any_moment(store, tmp_path):
    """What the process said it had written is there, each of ten times."""
    program = (
        "import sys; from pathlib import Path; from local_sagemaker.state.store import Store\n"
        "from local_sagemaker.state.records import Kind\n"
        "store = Store(Path(sys.argv[1])); n = store.get(Kind.TRAINING_JOB, 'one').description['n']\n"
        "while True:\n"
        "    n += 1; store.change(Kind.TRAINING_JOB, 'one', lambda d: d.update(n=n)); print(n, flush=True)\n"
    )
    store.create(JOB, "one", {}, {"n": 0})
    for turn in range(10):
        child = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / ".byoc" / "state.sqlite")], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3 + 7 * turn):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        said = [int(line) for line in child.communicate()[0].split()]
        assert store.get(JOB, "one").description["n"] >= max(said, default=3 + 7 * turn)


def test_a_file_that_is_no_database_is_told_and_left_alone(tmp_path):
    (tmp_path / "state.sqlite").write_text("no database, but long enough to be taken for a header of one" * 4)
    with pytest.raises(UsageError, match="cannot be read"):
        Store(tmp_path / "state.sqlite").find()
    assert (tmp_path / "state.sqlite").read_text().startswith("no database")


def test_a_layout_of_the_future_is_refused(store):
    store.find()
    store._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(UsageError, match="has layout 99"):
        Store(store._database).find()


def test_a_stop_does_not_change_what_has_ended(store):
    store.create(JOB, "one", {}, {"TrainingJobStatus": "Completed"})
    assert store.request_stop(JOB, "one").status == "Completed"
    store.create(JOB, "two", {}, {"TrainingJobStatus": "InProgress"})
    assert store.request_stop(JOB, "two").status == "Stopping"


def test_the_newest_come_first(store):
    for name in ("one", "two"):
        store.create(JOB, name, {}, {})
        time.sleep(0.002)  # two records of one instant have no order
    assert [record.name for record in store.find(JOB)] == ["two", "one"]


def test_a_file_that_another_program_locks_is_told_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr("local_sagemaker.state.store.BUSY_SECONDS", 0.1)
    store = Store(tmp_path / "state.sqlite")
    store.create(Kind.TRAINING_JOB, "one", {}, {"TrainingJobStatus": "InProgress"})
    other = sqlite3.connect(tmp_path / "state.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        fresh = Store(tmp_path / "state.sqlite")
        with pytest.raises(TimedOutError, match="has been locked by another program"):
            fresh.claim(Kind.TRAINING_JOB, "one")
    finally:
        other.close()


def test_a_change_that_does_not_fit_on_the_disk_is_told_and_nothing_of_it_stays(tmp_path):
    store = Store(tmp_path / "state.sqlite")
    store.create(Kind.TRAINING_JOB, "one", {}, {"TrainingJobStatus": "InProgress"})
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(UsageError, match="cannot be written: database or disk is full"):
        store.change(Kind.TRAINING_JOB, "one", lambda description: description.update(FailureReason="x" * 100_000))
    assert store.get(Kind.TRAINING_JOB, "one").description["TrainingJobStatus"] == "InProgress"
    assert "FailureReason" not in store.get(Kind.TRAINING_JOB, "one").description


def test_a_file_that_is_damaged_within_is_told_in_words(tmp_path):
    store = Store(tmp_path / "state.sqlite")
    for number in range(200):
        store.create(Kind.MODEL, f"model-{number}", {"text": "x" * 200}, {})
    store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store._connection.close()
    file = tmp_path / "state.sqlite"
    file.write_bytes(file.read_bytes()[:4096] + b"\xa5" * (file.stat().st_size - 4096))
    with pytest.raises(UsageError, match="cannot be read"):
        Store(file).find()


def test_a_file_that_is_removed_while_it_is_in_use_is_missed_and_not_made_again(store):
    store.create(JOB, "one", {}, {"TrainingJobStatus": "InProgress"})
    shutil.rmtree(store._database.parent)
    told = []

    def look():
        with pytest.raises(UsageError, match="was removed or replaced while it was in use") as raised:
            store.data_version()
        told.append(raised)

    look()
    other = threading.Thread(target=look)  # which has no connection yet
    other.start()
    other.join()
    assert len(told) == 2
    assert not store._database.parent.exists()


def test_a_file_in_whose_place_another_one_is_gets_no_change(store):
    store.create(JOB, "one", {}, {"TrainingJobStatus": "InProgress"})
    for file in store._database.parent.iterdir():
        file.unlink()
    Store(store._database).create(JOB, "one", {}, {"TrainingJobStatus": "Completed"})
    with pytest.raises(UsageError, match="was removed or replaced"):
        store.request_stop(JOB, "one")
    assert Store(store._database).get(JOB, "one").status == "Completed"


def test_a_file_that_is_emptied_while_it_is_in_use_is_not_taken_for_a_new_one(store):
    store.create(JOB, "one", {}, {"TrainingJobStatus": "InProgress"})
    os.truncate(store._database, 0)
    with pytest.raises(UsageError, match="is empty, and changes of it are kept in state"):
        Store(store._database).find()
    assert store.get(JOB, "one").status == "InProgress"


def test_a_process_that_is_suspended_is_alive_and_halted():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        runner = Runner.of(child.pid)
        assert (runner.is_alive, runner.is_halted) == (True, False)
        child.send_signal(signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        assert (runner.is_alive, runner.is_halted) == (True, True)
        assert not Runner(child.pid, "another").is_halted
    finally:
        child.kill()
        child.wait()
    assert not runner.is_halted


def test_of_two_that_take_over_a_resource_one_does(tmp_path):
    store = Store(tmp_path / "state.sqlite")
    store.create(Kind.TRAINING_JOB, "one", {}, {"TrainingJobStatus": "InProgress"})
    read = store.assign(Kind.TRAINING_JOB, "one", Runner(1, "ended"))
    assert [store.take_over(read), store.take_over(read)] == [True, False]
    assert store.get(Kind.TRAINING_JOB, "one").runner == Runner.here()
    released = store.release(Kind.TRAINING_JOB, "one")
    assert [store.take_over(released), store.take_over(released)] == [True, False]
