"""The hosts of a job meet and end together: real connections on this machine."""

import contextlib
import socket
from collections.abc import Callable, Iterator

import pytest
from sagemaker_byoc.errors import HostLostError
from sagemaker_byoc.training.cluster import Introduction, Leader, Member, Verdict, Welcome, connect
from sagemaker_byoc.training.rank_report import RankFailure

from tests.support.ports import free_port
from tests.support.waiting import wait_until

HOSTS = ("algo-1", "algo-2", "algo-3")
SILENCE = 10.0
Join = Callable[[str], Member]


@contextlib.contextmanager
def cluster(
    *, leader_ends: bool = False, deciding: tuple[str, ...] = HOSTS, restarts: bool = False
) -> Iterator[tuple[Leader, Join]]:
    """A leader that listens, and what makes a host join it."""
    port = free_port()
    leader = Leader(
        "algo-1",
        HOSTS,
        silence_seconds=SILENCE,
        rank_failure_ends=not restarts,
        leader_ends=leader_ends,
        deciding=deciding,
    )
    leader.listen("127.0.0.1", port, Welcome("run", "public key of the leader"))
    members: list[Member] = []

    def join(host: str) -> Member:
        connection = connect("127.0.0.1", port, SILENCE)
        assert connection is not None
        member = Member(connection, host, "algo-1", SILENCE)
        members.append(member)
        assert member.greet() == Welcome("run", "public key of the leader")
        member.join(Introduction(host, 2, f"key of {host}"))
        return member

    try:
        yield leader, join
    finally:
        for member in members:
            member.close()
        leader.close()


@pytest.mark.parametrize("said", [b"5", b"null", b"GET / HTTP/1.1", b'{"kind": "join", "host": 1}', b"5" * (1 << 20)])
def test_stranger_on_the_leaders_port_is_sent_away(said: bytes) -> None:
    """5.4: a port scan, or another program that took the address for its own."""
    with cluster() as (leader, _):
        assert leader._listener is not None
        with socket.create_connection(leader._listener.getsockname(), timeout=60) as stranger:
            stranger.sendall(said + b"\n")
            received = stranger.makefile("rb")
            assert b"welcome" in received.readline()
            with contextlib.suppress(ConnectionResetError):
                assert received.read() == b""
        assert leader.missing == ["algo-2", "algo-3"]


def test_leader_that_cannot_be_understood_is_lost() -> None:
    """1.9, 5.4: its host would wait for a verdict for ever."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = connect("127.0.0.1", listener.getsockname()[1], SILENCE)
        assert connection is not None
        leader, _ = listener.accept()
        with leader, contextlib.closing(Member(connection, "algo-2", "algo-1", SILENCE)) as member:
            leader.sendall(b'{"kind": "welcome", "run": "run", "leader_key": ""}\n')
            member.greet()
            member.join(Introduction("algo-2", 1))
            leader.sendall(b'{"kind": "verd{"kind": "beat"}\n')
            wait_until(member.verdict, "the leader to be given up")
            verdict = member.verdict()
    assert verdict is not None
    assert verdict.reason == "HostLostError: the leader algo-1 said what cannot be understood"


def test_host_that_cannot_be_understood_is_lost() -> None:
    """1.9, 5.4."""
    with cluster(deciding=("algo-1",)) as (leader, join):
        member = join("algo-2")
        wait_until(lambda: "algo-2" not in leader.missing, "algo-2 to be counted")
        member._link._connection.sendall(b'{"kind": "att{"kind": "beat"}\n')
        wait_until(lambda: leader.verdict() is not None, "the host to be given up")
        verdict = leader.verdict()
        assert verdict is not None
        assert "host algo-2 said what cannot be understood" in verdict.reason


def test_leader_waits_for_every_worker_and_workers_for_its_start() -> None:
    """5.4: nothing is started before the last host is there, whose ssh server then has its keys."""
    with cluster() as (leader, join):
        second = join("algo-2")
        wait_until(lambda: leader.missing == ["algo-3"], "algo-2 to be counted")
        assert second.slots is None
        third = join("algo-3")
        wait_until(lambda: leader.missing == [], "algo-3 to be counted")
        assert leader.introductions()["algo-3"] == Introduction("algo-3", 2, "key of algo-3")
        leader.start({"algo-1": 1, "algo-2": 2, "algo-3": 2})
        for member in (second, third):
            wait_until(lambda member=member: member.slots == {"algo-1": 1, "algo-2": 2, "algo-3": 2}, "the start")


def test_whoever_answers_with_the_name_of_a_path_is_not_the_leader() -> None:
    """5.1: what comes over the network becomes no path."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = connect("127.0.0.1", listener.getsockname()[1], SILENCE)
        assert connection is not None
        member = Member(connection, "algo-2", "algo-1", SILENCE)
        other, _ = listener.accept()
        other.sendall(b'{"kind": "welcome", "run": "../../etc", "leader_key": ""}\n')
        with pytest.raises(HostLostError, match="another program than the leader"):
            member.greet()
        member.close()
        other.close()


@pytest.mark.parametrize("exit_code", [0, 3])
def test_workers_of_an_mpi_job_end_with_the_leader_and_as_it_did(exit_code: int) -> None:
    """1.8, 5.4: they run only an ssh server, and wait for the end of the leader's mpirun."""
    with cluster(deciding=("algo-1",)) as (leader, join):
        members = [join("algo-2"), join("algo-3")]
        wait_until(lambda: leader.missing == [], "everyone")
        assert leader.verdict() is None
        leader.tell_ended(exit_code, "mpirun ended with exit code 3")
        wait_until(leader.verdict, "the leader's verdict")
        for member in members:
            wait_until(member.verdict, "a worker's verdict")
            assert member.verdict() == leader.verdict()
        verdict = leader.verdict()
        assert verdict is not None
        assert (verdict.exit_code, "mpirun" in verdict.reason) == (exit_code, bool(exit_code))


def test_job_goes_on_until_the_last_host_has_ended() -> None:
    """1.8: a host that is done early must not end what its peers still do."""
    with cluster() as (leader, join):
        second, third = join("algo-2"), join("algo-3")
        wait_until(lambda: leader.missing == [], "everyone")
        leader.tell_ended(0, "")
        second.tell_ended(0, "")
        assert leader.verdict() is None
        third.tell_ended(0, "")
        wait_until(lambda: leader.verdict() == Verdict(0), "the verdict")


def test_host_that_disappears_ends_the_job_on_all_others_and_is_named() -> None:
    """1.8: nobody waits for a host that is gone."""
    with cluster() as (leader, join):
        second, third = join("algo-2"), join("algo-3")
        wait_until(lambda: leader.missing == [], "everyone")
        second.close()
        wait_until(leader.verdict, "the verdict")
        wait_until(third.verdict, "the other's verdict")
        verdict = third.verdict()
        assert verdict is not None
        assert verdict.exit_code != 0
        assert "host algo-2" in verdict.reason


def test_failed_rank_whose_host_never_ends_is_no_success() -> None:
    """1.8, 1.9: the leader's own rank only lost its peer."""
    with cluster() as (leader, join):
        second, _ = join("algo-2"), join("algo-3")
        wait_until(lambda: leader.missing == [], "everyone")
        leader.tell_failure(RankFailure("algo-1", 0, 100.0, 1, "RuntimeError: Connection closed by peer"))
        second.tell_failure(RankFailure("algo-2", 2, 100.5, 5, "ValueError: the data is wrong"))
        wait_until(leader.verdict, "the verdict")
        verdict = leader.verdict()
        assert verdict is not None
        assert verdict.exit_code == 5
        assert verdict.reason.startswith("ValueError: the data is wrong (rank 2 on algo-2)")


def test_failure_of_an_earlier_attempt_is_not_the_reason_although_its_host_reports_no_other() -> None:
    """1.9, 5.9: the ranks of algo-2 ended well the second time, and those of algo-3 had not started yet."""
    with cluster(restarts=True) as (leader, join):
        second, third = join("algo-2"), join("algo-3")
        wait_until(lambda: leader.missing == [], "everyone")
        for host in (leader, second, third):
            host.tell_attempt("algo-1:1")
        second.tell_failure(RankFailure("algo-2", 1, 100.0, 3, "ValueError: transient", attempt="algo-1:1"))
        third.tell_failure(RankFailure("algo-3", 2, 100.1, 1, "ValueError: as transient", attempt="algo-1:1"))
        for host in (leader, second):
            host.tell_attempt("algo-1:2")
        leader.tell_failure(RankFailure("algo-1", 0, 200.0, 5, "ValueError: for good", attempt="algo-1:2"))
        second.tell_ended(0, "")
        third.tell_ended(1, "torchrun ended with exit code 1")
        leader.tell_ended(1, "torchrun ended with exit code 1")
        wait_until(leader.verdict, "the verdict")
        verdict = leader.verdict()
        assert verdict is not None
        assert (verdict.exit_code, verdict.reason) == (5, "ValueError: for good (rank 0 on algo-1)")


def test_failure_that_no_other_attempt_followed_is_the_reason() -> None:
    """1.9, 5.9: torchrun was allowed more attempts, and came to none."""
    with cluster(restarts=True) as (leader, join):
        second, third = join("algo-2"), join("algo-3")
        wait_until(lambda: leader.missing == [], "everyone")
        second.tell_attempt("algo-1:1")
        second.tell_failure(RankFailure("algo-2", 1, 100.0, 3, "ValueError: label 11", attempt="algo-1:1"))
        leader.tell_attempt("algo-1:1")
        third.tell_attempt("algo-1:1")
        for host in (leader, second, third):
            host.tell_ended(1, "torchrun ended with exit code 1")
        wait_until(leader.verdict, "the verdict")
        verdict = leader.verdict()
        assert verdict is not None
        assert (verdict.exit_code, verdict.reason) == (3, "ValueError: label 11 (rank 1 on algo-2)")
