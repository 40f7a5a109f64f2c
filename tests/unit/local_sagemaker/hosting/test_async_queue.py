"""The queue of asynchronous invocations on its own: what it refuses, and what it does when it cannot go on."""

import errno
import json
import threading
import time

import pytest
from local_sagemaker.hosting.async_invocations import INPUT_BYTES, LOOK_SECONDS, AsyncQueue
from local_sagemaker.hosting.hooks import AsyncInvocation
from local_sagemaker.hosting.invocation_errors import InvocationError, unavailable
from local_sagemaker.hosting.router import Forwarded
from local_sagemaker.state.workspace import Workspace

from tests.support.waiting import wait_until

CONFIG = {"OutputConfig": {"S3OutputPath": "s3://bucket/out", "S3FailurePath": "s3://bucket/failed"}}
PREFIX = "x-amzn-sagemaker-"


class Queue:
    """A queue, what it noted, and how often it forwarded."""

    def __init__(self, root):
        self.buckets = Workspace.of(root).buckets
        self.directory = root / "queue"
        self.notes = []
        self.asked = 0
        self.queue = AsyncQueue(self.directory, self.buckets, CONFIG, "s3://bucket/default", self.notes.append)

    def accept(self, body=b"x", **headers):
        named = {PREFIX + name.lower(): value for name, value in headers.items()}
        return self.queue.accept(AsyncInvocation(named, body))

    def start(self, answer):
        def forward(request, file):
            self.asked += 1
            return answer(request, file)

        self.queue.start(forward, lambda: 1)

    def failure(self, accepted):
        wait_until(lambda: self.buckets.exists(accepted.failure_location), "the reason")
        return self.buckets.read_bytes(accepted.failure_location).decode()

    @property
    def waiting(self):
        return [path.name for path in self.directory.iterdir()]


@pytest.fixture
def queue(tmp_path):
    made = Queue(tmp_path)
    yield made
    made.queue.stop()


def echo(request, file):
    file.write(request.body.read_bytes())
    return Forwarded(200, "text/csv", "", "blue")


@pytest.mark.parametrize(
    ("member", "value", "words"),
    [
        ("InvocationTimeoutSeconds", "soon", "Member must be an integer"),
        ("InvocationTimeoutSeconds", "0", "Member must have value greater than or equal to 1"),
        ("InvocationTimeoutSeconds", "3601", "Member must have value less than or equal to 3600"),
        ("RequestTTLSeconds", "59", "Member must have value greater than or equal to 60"),
        ("RequestTTLSeconds", "21601", "Member must have value less than or equal to 21600"),
        ("Filename", "a.b.c", "Member must satisfy regular expression pattern"),
        ("Filename", "a" * 33, "Member must have length less than or equal to 32"),
        ("S3OutputPathExtension", "s3:x", "Member must satisfy regular expression pattern"),
        ("InputLocation", "s3://" + "b" * 1024, "Member must have length less than or equal to 1024"),
    ],
)
def test_a_header_of_an_asynchronous_invocation_that_breaks_its_rule_is_refused(queue, member, value, words):
    """19.1, 19.2, 19.4."""
    with pytest.raises(InvocationError, match="1 validation error detected") as raised:
        queue.accept(b"" if member == "InputLocation" else b"x", **{member: value})
    assert raised.value.status == 400
    assert f"'{member[0].lower()}" in raised.value.message
    assert words in raised.value.message
    assert not queue.waiting


def test_headers_at_their_bounds_are_taken(queue):
    """19.2."""
    queue.accept(
        InvocationTimeoutSeconds="3600", RequestTTLSeconds="60", Filename="a" * 32, S3OutputPathExtension="d/e"
    )
    (name,) = [name for name in queue.waiting if name.endswith(".json")]
    document = json.loads((queue.directory / name).read_text())
    assert document["Seconds"] == 3600
    assert document["OutputLocation"] == f"s3://bucket/out/d/e/{'a' * 32}"


def test_an_answer_that_does_not_fit_on_the_disk_is_asked_for_once(queue):
    """19.4."""

    def full(request, file):
        raise OSError(errno.ENOSPC, "No space left on device")

    accepted = queue.accept()
    queue.start(full)
    assert "No space left on device" in queue.failure(accepted)
    wait_until(lambda: not queue.waiting, "the queue is empty")
    assert queue.asked == 1


def test_a_reason_that_cannot_be_kept_is_noted_and_the_queue_goes_on(queue):
    """19.4."""
    queue.buckets.put_bytes("s3://bucket/failed", b"an object where a folder would have to be")
    queue.accept()
    queue.start(lambda request, file: Forwarded(500, "", "", "blue"))
    wait_until(lambda: not queue.waiting, "the queue is empty")
    assert queue.asked == 1
    assert "(500)" in queue.notes[0]
    assert "would lie below an object" in queue.notes[1]


def test_a_body_that_is_gone_is_a_failure_and_not_a_loop(queue):
    """19.4."""
    accepted = queue.accept()
    for path in queue.directory.glob("*.body"):
        path.unlink()
    queue.start(echo)
    assert "cannot be read" in queue.failure(accepted)
    wait_until(lambda: not queue.waiting, "the queue is empty")
    assert queue.asked == 0


@pytest.mark.parametrize(
    ("headers", "stored", "key", "seen"),
    [
        ({}, "text/csv; header=present", "in", "text/csv; header=present"),
        ({}, "text/csv", "in.json", "text/csv"),
        ({}, None, "in.json", "application/json"),
        ({}, None, "in", None),
        ({"Content-Type": "application/x-npy"}, "text/csv", "in.json", "application/x-npy"),
    ],
)
def test_an_input_is_of_the_type_that_the_caller_says_else_of_its_objects(
    queue, extended_attributes, headers, stored, key, seen
):
    """19.1, 19.2."""
    queue.buckets.put_bytes(f"s3://bucket/{key}", b"1,2", stored)
    asked = []

    def note(request, file):
        asked.append(request.headers.get("content-type"))
        return echo(request, file)

    accepted = queue.accept(b"", InputLocation=f"s3://bucket/{key}", **headers)
    queue.start(note)
    wait_until(lambda: queue.buckets.exists(accepted.output_location), "the answer")
    assert asked == [seen]
    assert queue.buckets.content_type(accepted.output_location) == "text/csv"


def test_an_input_over_a_gigabyte_is_a_failure(queue):
    """19.1."""
    queue.buckets.put_bytes("s3://bucket/in", b"")
    with queue.buckets.path("s3://bucket/in").open("r+b") as file:
        file.truncate(INPUT_BYTES + 1)
    accepted = queue.accept(b"", InputLocation="s3://bucket/in")
    queue.start(echo)
    assert f"at most {INPUT_BYTES}" in queue.failure(accepted)
    assert queue.asked == 0


def test_a_request_that_no_instance_takes_keeps_its_place_and_is_not_hurried(queue):
    """19.2, 19.5."""
    times = []

    def later(request, file):
        times.append(time.monotonic())
        if len(times) < 5:
            raise unavailable("No instance of variant blue can be reached.")
        return echo(request, file)

    accepted = queue.accept()
    queue.start(later)
    wait_until(lambda: queue.buckets.exists(accepted.output_location), "the answer")
    assert len(times) == 5
    assert times[-1] - times[0] > 2 * LOOK_SECONDS


def test_a_machine_without_threads_for_a_moment_does_not_end_the_queue(queue, monkeypatch):
    """19.1."""
    start = threading.Thread.start

    def refused(thread):
        if thread.name == "async-invocations":
            start(thread)
        else:
            raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refused)
        accepted = queue.accept()
        queue.start(echo)
        wait_until(lambda: queue.notes, "the trouble is noted")
    wait_until(lambda: queue.buckets.exists(accepted.output_location), "the answer")
    assert queue.notes == ["asynchronous invocations have to wait: can't start new thread"]


def test_an_invocation_that_cannot_be_kept_leaves_no_body(queue, monkeypatch):
    """19.1: the disk is full."""

    def no_room(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("local_sagemaker.hosting.async_invocations.write_whole", no_room)
    with pytest.raises(OSError, match="No space left"):
        queue.accept()
    assert queue.waiting == []
