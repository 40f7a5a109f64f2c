"""How a job waits for its hosts and stops them, with containers that end when a test says so."""

import threading

import pytest
from local_sagemaker.engines.base import ContainerPlan, Mount
from local_sagemaker.errors import EngineMissingError, UsageError
from local_sagemaker.progress import silent
from local_sagemaker.training.hosts import HostsWatch, Order, Patience, started, started_with_changes


class FakeContainer:
    """Ends with the code that ``end`` is told, or when it is stopped."""

    def __init__(self):
        self.ended, self.stopped_with, self.removed = threading.Event(), [], False
        self.code = None

    def end(self, code):
        if not self.ended.is_set():
            self.code = code
            self.ended.set()
        return self

    def wait(self, timeout=None):
        if not self.ended.wait(timeout):
            raise TimeoutError
        return self.code

    def stop(self, grace_seconds):
        self.stopped_with.append(grace_seconds)
        return self.end(143).code

    def kill(self, number):
        self.end(128 + number)

    def remove(self):
        self.removed = True


@pytest.fixture
def three():
    return {f"algo-{number}": FakeContainer() for number in (1, 2, 3)}


def watch(containers, max_runtime=60, after_failure=0.0):
    return HostsWatch(containers, Patience(max_runtime, after_failure, stop_grace=120), silent)


def codes(watched):
    return {end.host: (end.exit_code, end.was_stopped) for end in watched.ends}


def test_a_job_is_over_when_every_host_is(three):
    """1.8: the leader's end is not the job's."""
    watched = watch(three)
    waiting = threading.Thread(target=watched.wait, daemon=True)
    waiting.start()
    three["algo-1"].end(0)
    three["algo-2"].end(0)
    waiting.join(0.3)
    assert waiting.is_alive()
    three["algo-3"].end(0)
    waiting.join(30)
    assert not waiting.is_alive()
    assert watched.first_failure is None
    assert sorted(codes(watched)) == ["algo-1", "algo-2", "algo-3"]


def test_after_a_failure_the_others_are_stopped_and_did_not_fail(three):
    """1.8."""
    three["algo-2"].end(3)
    watched = watch(three)
    assert watched.wait() is None
    assert codes(watched) == {"algo-2": (3, False), "algo-1": (143, True), "algo-3": (143, True)}
    assert watched.first_failure.host == "algo-2"
    assert three["algo-1"].stopped_with == [120]


def test_after_a_failure_the_others_may_end_by_themselves(three):
    lines = []

    def report(line):
        lines.append(line)
        three["algo-1"].end(1)
        three["algo-3"].end(0)

    three["algo-2"].end(3)
    watched = HostsWatch(three, Patience(60, 60, 120), report)
    assert watched.wait() is None
    assert codes(watched) == {"algo-2": (3, False), "algo-1": (1, False), "algo-3": (0, False)}
    assert three["algo-1"].stopped_with == []
    assert lines == ["algo-2 failed with exit code 3; algo-1, algo-3: 60 s to end as well"]


def test_over_the_limit_all_hosts_are_stopped(three):
    """1.12, 1.18."""
    three["algo-3"].end(0)
    watched = watch(three, max_runtime=0.1)
    assert watched.wait() == "MaxRuntimeExceeded"
    assert codes(watched) == {"algo-3": (0, False), "algo-1": (143, True), "algo-2": (143, True)}
    assert watched.first_failure is None


def test_all_hosts_get_their_signal_before_any_has_ended():
    """1.12: the grace is one for all of them, not one after the other."""
    meeting = threading.Barrier(3, timeout=300)

    class Waiting(FakeContainer):
        def stop(self, grace_seconds):
            meeting.wait()
            return super().stop(grace_seconds)

    containers = {f"algo-{number}": Waiting() for number in (1, 2, 3)}
    watched = watch(containers)
    watched.stop()
    assert not meeting.broken
    assert watched.pending == []


def test_hosts_that_started_are_removed_when_another_does_not_start():
    first = FakeContainer()

    class Engine:
        def start(self, plan):
            if plan == "second":
                raise RuntimeError("no room")
            return first

    with pytest.raises(RuntimeError, match="no room"), started(Engine(), {"algo-1": "first", "algo-2": "second"}):
        pass
    assert first.removed


def test_a_container_that_cannot_be_removed_is_reported_and_does_not_change_the_jobs_end():
    """1.7."""

    class Stuck(FakeContainer):
        def remove(self):
            raise EngineMissingError("the Docker engine does not remove the container one")

    class Engine:
        def start(self, plan):
            return plan

    said, other = [], FakeContainer()
    with started(Engine(), {"algo-1": other, "algo-2": Stuck()}, said.append) as running:
        assert list(running) == ["algo-1", "algo-2"]
    assert "does not remove the container one" in said[0]
    assert other.removed


@pytest.mark.parametrize(("kill", "code"), [(False, 143), (True, 137)])
def test_an_order_stops_every_host_and_is_the_reason(three, kill, code):
    """7.5, 7.6: with the grace of a stop, or without any."""
    watch = HostsWatch(three, Patience(60, 60, 120), silent)
    three["algo-1"].end(0)
    watch.order(Order("Interrupted", kill))
    assert watch.wait() == "Interrupted"
    assert sorted((end.host, end.exit_code) for end in watch.ends) == [
        ("algo-1", 0),
        ("algo-2", code),
        ("algo-3", code),
    ]


def test_an_order_during_the_wait_after_a_failure_ends_the_wait_and_the_job_has_failed(three):
    """1.14."""
    # It is reported once the wait begins.
    watch = HostsWatch(three, Patience(600, 600, 120), lambda _: watch.order(Order("Stopped")))
    three["algo-2"].end(3)
    watch.wait()
    assert watch.first_failure is not None
    assert watch.first_failure.host == "algo-2"


def test_where_changes_cannot_be_laid_over_a_channel_it_is_read_only_and_that_is_said(tmp_path):
    """3.3: a kernel or an engine without the overlay."""
    mounts = (Mount(tmp_path / "data", "/opt/ml/input/data/train", changes=tmp_path / "changes"),)
    plan = ContainerPlan("name", "train", "image", tmp_path, {}, mounts)

    class Engine:
        def start(self, plan):
            if any(mount.changes for mount in plan.mounts):
                raise UsageError("Docker refuses to start image: failed to mount local volume: mount overlay: invalid")
            started_with.append(plan.mounts)
            return FakeContainer()

    started_with, said = [], []
    with started_with_changes(Engine(), {"algo-1": plan}, said.append):
        pass
    assert started_with == [(Mount(tmp_path / "data", "/opt/ml/input/data/train", read_only=True),)]
    assert "channels are read-only" in said[0]
