"""Which of many failures began it."""

from pathlib import Path

import pytest
from sagemaker_byoc.training.rank import attempt_of
from sagemaker_byoc.training.rank_report import (
    Attempts,
    RankFailure,
    RankProcess,
    announce,
    first_failure,
    read_failures,
    read_processes,
    report_failure,
)
from sagemaker_byoc.training.report import ends_in_traceback


def failed(rank: int | None, time: float, reason: str, **more: object) -> RankFailure:
    return RankFailure("algo-1", rank, time, 1, reason, **more)  # type: ignore[arg-type]


def test_earliest_failure_is_the_first() -> None:
    """1.9."""
    assert first_failure([failed(1, 20.0, "ValueError: b"), failed(0, 10.0, "ValueError: a")]) == failed(
        0, 10.0, "ValueError: a"
    )


@pytest.mark.parametrize(
    "consequence",
    [
        "RuntimeError: [enforce fail] Connection closed by peer [172.18.0.3]:1234",
        "torch.distributed.DistBackendError: NCCL error: remote process exited",
        "horovod.common.exceptions.HorovodInternalError: Horovod has been shut down.",
        "RuntimeError: Socket Timeout",
        "ConnectionResetError: [Errno 104] Connection reset by peer",
    ],
)
def test_complaint_about_a_peer_is_never_the_reason_while_there_is_another(consequence: str) -> None:
    """1.9: clocks of hosts differ, so time alone does not tell."""
    root = failed(3, 12.0, "ValueError: label 11")
    assert first_failure([failed(0, 10.0, consequence), root]) == root
    assert first_failure([failed(0, 10.0, consequence)]) == failed(0, 10.0, consequence)


def test_rank_that_was_told_to_stop_is_not_the_reason() -> None:
    """1.9."""
    root = failed(3, 12.0, "train.py ended with exit code 9")
    assert first_failure([failed(0, 10.0, "train.py was ended by SIGTERM", stopped=True), root]) == root


def test_host_that_was_lost_is_the_reason_for_what_its_peers_say() -> None:
    """1.8, 1.9."""
    lost = failed(None, 8.0, "HostLostError: host algo-2 closed its connection")
    assert first_failure([failed(0, 9.0, "RuntimeError: something else"), lost]) == lost


def test_rank_that_fails_before_another_one_is_started_is_the_reason() -> None:
    """1.9: on a busy machine the last rank may come seconds after the first."""
    first = failed(1, 10.0, "ValueError: label 11", started=9.0)
    late = failed(0, 14.0, "train.py was ended by SIGTERM", started=13.0, stopped=True)
    assert first_failure(Attempts().counted([late, first])) == first


def test_failures_of_an_attempt_that_another_one_followed_are_forgotten() -> None:
    """5.9: torchrun starts all ranks again, if it may."""
    attempts = seen(("algo-1", "a"), ("algo-1", "b"))
    last = failed(0, 30.0, "ValueError: again", attempt="b")
    assert attempts.counted([failed(1, 10.0, "ValueError: first", attempt="a"), last]) == [last]


def test_failure_that_no_attempt_followed_counts_however_many_ranks_started_after_it() -> None:
    """1.9, 5.9: it is told twice at most, and ranks of the same attempt are no new one."""
    attempts = seen(("algo-1", "a"), ("algo-2", "a"), ("algo-1", "a"))
    first = failed(1, 10.0, "ValueError: first", started=1.0, attempt="a")
    late = failed(0, 30.0, "train.py was ended by SIGTERM", started=20.0, stopped=True, attempt="a")
    assert first_failure(attempts.counted([late, first])) == first


def test_attempt_is_over_on_every_host_as_soon_as_one_has_seen_the_next() -> None:
    """5.9: a host whose ranks ended well, or have yet to start, reports nothing of it."""
    attempts = seen(("algo-2", "a"), ("algo-1", "a"), ("algo-1", "b"))
    assert attempts.counted([failed(1, 10.0, "ValueError: first", attempt="a")]) == []


def test_attempts_are_told_apart_whichever_hosts_news_come_first() -> None:
    """5.9: one host never got to start the first attempt, and the news of the other are late."""
    attempts = seen(("algo-1", "b"), ("algo-2", "a"), ("algo-2", "b"))
    last = failed(0, 5.0, "ValueError: again", attempt="b")
    assert attempts.counted([failed(1, 10.0, "ValueError: first", attempt="a"), last]) == [last]


def test_host_that_failed_stays_failed_whatever_was_started_after_it() -> None:
    """1.8."""
    lost = failed(None, 8.0, "HostLostError: host algo-2 closed its connection")
    assert seen(("algo-1", "a"), ("algo-1", "b")).counted([lost]) == [lost]


def seen(*news: tuple[str, str]) -> Attempts:
    """What hosts told, in this order."""
    attempts = Attempts()
    for host, attempt in news:
        attempts.note(host, attempt)
    return attempts


def test_attempt_is_known_by_the_address_at_which_its_ranks_meet() -> None:
    """5.9: torchrun's count of restarts differs between hosts; without restarts there is one attempt."""
    meeting = {"MASTER_ADDR": "algo-1", "MASTER_PORT": "40001", "TORCHELASTIC_RESTART_COUNT": "1"}
    assert attempt_of({**meeting, "TORCHELASTIC_MAX_RESTARTS": "3"}) == "algo-1:40001"
    assert attempt_of({**meeting, "TORCHELASTIC_MAX_RESTARTS": "0"}) == ""
    assert attempt_of({}) == ""


def test_no_failure_is_none() -> None:
    """1.7."""
    assert first_failure([]) is None


def test_rank_and_host_follow_the_exceptions_line() -> None:
    """1.9: the exception's own line stays first."""
    assert failed(2, 1.0, "ValueError: x\n  File").described == "ValueError: x (rank 2 on algo-1)\n  File"


def test_what_ranks_write_down_is_read_whole(tmp_path: Path) -> None:
    """1.9: whoever reads sees all of a report or nothing of it."""
    announce(tmp_path, RankProcess(1, 100, 101, "a", 8.0))
    announce(tmp_path, RankProcess(0, 200, 201, "a", 7.0))
    report_failure(tmp_path, failed(1, 10.0, "Fehler: „ä“\n"))
    assert read_processes(tmp_path) == [RankProcess(0, 200, 201, "a", 7.0), RankProcess(1, 100, 101, "a", 8.0)]
    assert read_failures(tmp_path) == [failed(1, 10.0, "Fehler: „ä“\n")]


def test_uncaught_exception_is_told_from_one_that_was_logged_long_ago() -> None:
    """1.9: a rank that had failed and was still leaving when it was told to stop has failed."""
    trace = b'Traceback (most recent call last):\n  File "t.py", line 1, in <module>\n    f()\nValueError: x\n'
    assert ends_in_traceback(trace)
    assert ends_in_traceback(b"[rank1]: " + trace.replace(b"\n", b"\n[rank1]: ", 3) + b"[W] shutting down\n")
    assert not ends_in_traceback(trace + b"\n".join(b"step %d" % n for n in range(20)))
    assert not ends_in_traceback(b"step 1\n")
