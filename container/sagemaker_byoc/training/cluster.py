"""The hosts of a distributed job keep in touch: roll call, failures, a shared verdict.

The first host leads and listens; each other one connects to it and stays connected. What is said are JSON objects,
one a line. A connection that closes, or is silent for too long, is a lost host, and a lost host ends the job
everywhere. So no host waits for one that is gone, and the leader knows the first failure of all.
"""

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from sagemaker_byoc.errors import HostLostError
from sagemaker_byoc.training.rank_report import Attempts, RankFailure, first_failure

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,80}")
BEAT_SECONDS = 1.0
SETTLE_SECONDS = 0.5  # a failure's consequences are often heard of before the failure itself
ABORT_SECONDS = 5.0  # for all hosts to end what they run, after a failure
FAREWELL_SECONDS = 8.0
LEAVE_SECONDS = 20.0
LONGEST_MESSAGE = 1 << 20  # bytes; one that never ends is no message
NOT_UNDERSTOOD = "said what cannot be understood"


@dataclass(frozen=True)
class Verdict:
    """How the whole job ended: exit code 0, or another and the reason."""

    exit_code: int
    reason: str = ""


@dataclass(frozen=True)
class Introduction:
    """What a host says of itself at the roll call: its processes, and the key of its ssh server if it runs one."""

    host: str
    slots: int
    host_key: str = ""


@dataclass(frozen=True)
class Welcome:
    """What the leader says to a host that connects: the run's name, and the public key that may log in."""

    run: str
    leader_key: str = ""


class Cluster(Protocol):
    """One host's connection to the others."""

    def tell_attempt(self, attempt: str) -> None:
        """The ranks of this host are started, by torchrun for the first time or again."""

    def tell_failure(self, failure: RankFailure) -> None:
        """A rank of this host failed, and with it the job, or the attempt if it may be followed by another."""

    def tell_signal(self, number: int) -> None:
        """A stop reached this host; the others shall hear of it."""

    def tell_ended(self, exit_code: int, reason: str) -> None:
        """All that this host ran has ended."""

    def take_signals(self) -> list[int]:
        """Signals that other hosts passed on, once each."""

    def aborts(self) -> bool:
        """Whether the job has failed, and whatever still runs shall end."""

    def verdict(self) -> Verdict | None:
        """How the job ended, as soon as that is known."""

    def close(self) -> None:
        """Leave."""


class Alone:
    """A job on one host."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._attempts = Attempts()
        self._failures: list[RankFailure] = []
        self._verdict: Verdict | None = None

    def tell_attempt(self, attempt: str) -> None:
        self._attempts.note(self._host, attempt)

    def tell_failure(self, failure: RankFailure) -> None:
        self._failures.append(failure)

    def tell_signal(self, number: int) -> None:
        pass

    def tell_ended(self, exit_code: int, reason: str) -> None:
        self._verdict = judge(exit_code, reason, self._host, self._attempts.counted(self._failures))

    def take_signals(self) -> list[int]:
        return []

    def aborts(self) -> bool:
        return False

    def verdict(self) -> Verdict | None:
        return self._verdict

    def close(self) -> None:
        pass


def judge(exit_code: int, reason: str, host: str, failures: list[RankFailure]) -> Verdict:
    """What the end of one host's launcher means, given the failures of its ranks."""
    if exit_code == 0:
        return Verdict(0)
    first = first_failure(failures)
    if first is not None:
        return Verdict(first.exit_code, first.described)
    return Verdict(exit_code, reason or f"{host} ended with exit code {exit_code}")


class Link:
    """One connection: whole messages out, whole messages in, and how it was lost."""

    def __init__(self, connection: socket.socket, silence_seconds: float) -> None:
        connection.settimeout(silence_seconds)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = connection
        self._lines = connection.makefile("rb")
        self._sending = threading.Lock()
        self._silence = silence_seconds

    def send(self, kind: str, content: Mapping[str, Any] | None = None) -> None:
        """Send one message; a lost connection is noticed by whoever receives."""
        line = json.dumps({"kind": kind, **(content or {})}).encode() + b"\n"
        try:
            with self._sending:
                self._connection.sendall(line)
        except OSError:
            pass

    def receive(self) -> dict[str, Any]:
        """The next message. Raises HostLostError when there will be none, ValueError for what is none."""
        try:
            line = self._lines.readline(LONGEST_MESSAGE)
        except TimeoutError:
            raise HostLostError(f"was silent for {self._silence:g} s") from None
        except (OSError, ValueError) as error:
            raise HostLostError(f"closed its connection ({error})") from error
        if not line.endswith(b"\n"):
            raise HostLostError("closed its connection")
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ValueError("not an object")  # noqa: TRY004 - as for what is no JSON
        return message

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


class Leader:
    """The first host: takes the roll, gathers failures and ends, decides."""

    def __init__(
        self,
        host: str,
        hosts: tuple[str, ...],
        *,
        silence_seconds: float,
        rank_failure_ends: bool,
        leader_ends: bool,
        deciding: tuple[str, ...],
    ) -> None:
        """Prepare to lead.

        Args:
            host: this one.
            hosts: all of them.
            silence_seconds: after which a host is lost.
            rank_failure_ends: whether one failed rank is the job's end, as it is without restarts.
            leader_ends: whether the leader's end is the job's, once the others had time to end.
            deciding: the hosts whose end is waited for.
        """
        self._host = host
        self._silence = silence_seconds
        self._rank_failure_ends = rank_failure_ends
        self._leader_ends = leader_ends
        self._missing = set(hosts) - {host}
        self._introductions: dict[str, Introduction] = {}
        self._links: dict[str, Link] = {}
        self._attempts = Attempts()
        self._failures: list[RankFailure] = []
        self._ended: dict[str, int] = {}
        self._lost: set[str] = set()
        self._deciding = set(deciding)
        self._signals: list[int] = []
        self._stopping = False
        self._decisive_at: float | None = None
        self._aborted_at: float | None = None
        self._leader_ended_at: float | None = None
        self._verdict: Verdict | None = None
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._listener: socket.socket | None = None

    def listen(self, address: str, port: int, welcome: Welcome) -> None:
        """Begin to take the roll. Raises OSError when the port is taken."""
        self._listener = socket.create_server((address, port), backlog=512)
        threading.Thread(target=self._accept, args=(self._listener, welcome), daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()

    @property
    def missing(self) -> list[str]:
        """The hosts that have not joined yet."""
        with self._lock:
            return sorted(self._missing - set(self._introductions))

    def introductions(self) -> dict[str, Introduction]:
        with self._lock:
            return dict(self._introductions)

    def start(self, slots: Mapping[str, int]) -> None:
        """The roll is complete: everyone may begin."""
        self._tell_all("start", {"slots": dict(slots)})

    def tell_attempt(self, attempt: str) -> None:
        self._note_attempt(self._host, attempt)

    def tell_failure(self, failure: RankFailure) -> None:
        self._note_failure(failure)

    def tell_signal(self, number: int) -> None:
        self._note_signal(number, self._host)

    def tell_ended(self, exit_code: int, reason: str) -> None:
        self._note_end(self._host, exit_code, reason)
        self._leader_ended_at = time.monotonic()

    def take_signals(self) -> list[int]:
        with self._lock:
            taken, self._signals = self._signals, []
            return taken

    def aborts(self) -> bool:
        with self._lock:
            return self._aborted_at is not None

    def verdict(self) -> Verdict | None:
        with self._lock:
            self._abort_after_a_failure()
            if self._verdict is None:
                self._verdict = self._decide()
                if self._verdict is not None:
                    self._tell_all("verdict", asdict(self._verdict))
            return self._verdict

    def give_up(self, exit_code: int, reason: str) -> None:
        """Tell the others why the leader cannot do its part."""
        with self._lock:
            self._verdict = Verdict(exit_code, reason)
        self._tell_all("verdict", asdict(self._verdict))

    def close(self) -> None:
        """Leave last, once the others have gone or a few seconds are over."""
        deadline = time.monotonic() + FAREWELL_SECONDS
        while time.monotonic() < deadline and self._present():
            time.sleep(0.02)
        self._closed.set()
        if self._listener is not None:
            self._listener.close()
        for link in list(self._links.values()):
            link.close()

    def _decide(self) -> Verdict | None:
        now = time.monotonic()
        if self._decisive_at is not None and now - self._decisive_at < SETTLE_SECONDS:
            return None
        if self._deciding <= set(self._ended) | self._lost:
            return self._judge()
        if self._leader_ends and self._leader_ended_at is not None and not self._failures:
            return Verdict(0) if now - self._leader_ended_at > LEAVE_SECONDS else None
        return self._judge() if self._aborted_at is not None and now - self._aborted_at > ABORT_SECONDS else None

    def _abort_after_a_failure(self) -> None:
        """A job that was told to stop is left alone: its ranks save their work, each in its own time."""
        if self._decisive_at is not None and self._aborted_at is None and not self._stopping:
            self._aborted_at = time.monotonic()
            self._tell_all("abort", {})

    def _judge(self) -> Verdict:
        worst = next((code for code in self._ended.values() if code), 1 if self._lost or self._aborted_at else 0)
        return judge(worst, "", self._host, self._attempts.counted(self._failures))

    def _present(self) -> bool:
        with self._lock:
            return bool(set(self._links) - self._lost)

    def _accept(self, listener: socket.socket, welcome: Welcome) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            link = Link(connection, self._silence)
            threading.Thread(target=self._attend, args=(link, welcome), daemon=True).start()

    def _attend(self, link: Link, welcome: Welcome) -> None:
        """One host, from its connection to its leaving."""
        host = ""
        try:
            link.send("welcome", asdict(welcome))
            while True:
                message = link.receive()
                host = self._hear(host, message, link)
        except HostLostError as error:
            if host:
                self._note_loss(host, str(error))
        except (ValueError, TypeError, KeyError):
            if self._links.get(host) is link:  # else it is not one of ours
                self._note_loss(host, NOT_UNDERSTOOD)
        finally:
            link.close()

    def _hear(self, host: str, message: dict[str, Any], link: Link) -> str:
        kind = message.pop("kind")
        if kind == "hello" and message["host"] in self._missing:
            return str(message["host"])
        if kind == "join":
            introduction = Introduction(**message)
            with self._lock:
                if introduction.host not in self._missing or introduction.host in self._introductions:
                    raise ValueError(introduction.host)
                self._introductions[introduction.host] = introduction
                self._links[introduction.host] = link
                if self._verdict is not None:  # the leader has given up already
                    link.send("verdict", asdict(self._verdict))
            return introduction.host
        if kind == "refusal":
            self._note_end(str(message["host"]), int(message["exit_code"]), str(message["reason"]))
        elif host and kind == "attempt":
            self._note_attempt(host, str(message["attempt"]))
        elif host and kind == "failure":
            self._note_failure(RankFailure(**message))
        elif host and kind == "signal":
            self._note_signal(int(message["number"]), host)
        elif host and kind == "ended":
            self._note_end(host, int(message["exit_code"]), str(message["reason"]))
        return host

    def _note_attempt(self, host: str, attempt: str) -> None:
        with self._lock:
            self._attempts.note(host, attempt)

    def _note_failure(self, failure: RankFailure) -> None:
        with self._lock:
            self._failures.append(failure)
            if self._rank_failure_ends:
                self._decisive_at = self._decisive_at or time.monotonic()

    def _note_end(self, host: str, exit_code: int, reason: str) -> None:
        with self._lock:
            self._ended[host] = exit_code
            if exit_code != 0:
                if not any(failure.host == host for failure in self._attempts.counted(self._failures)):
                    text = reason or f"the launcher on {host} ended with exit code {exit_code}"
                    self._failures.append(RankFailure(host, None, time.time(), exit_code, text))
                self._decisive_at = self._decisive_at or time.monotonic()

    def _note_loss(self, host: str, how: str) -> None:
        with self._lock:
            self._lost.add(host)
            if self._verdict is None and host not in self._ended:
                text = (
                    f"HostLostError: host {host} {how}: its container was killed, ran out of memory or lost its network"
                )
                # It was gone before anyone could notice, so what others complain of meanwhile came later.
                gone_at = time.time() - self._silence
                self._failures.append(RankFailure(host, None, gone_at, HostLostError.exit_code, text))
                self._decisive_at = self._decisive_at or time.monotonic()

    def _note_signal(self, number: int, host: str) -> None:
        with self._lock:
            self._stopping = True
            if host != self._host:
                self._signals.append(number)
            others = [link for name, link in self._links.items() if name != host]
        for link in others:
            link.send("signal", {"number": number})

    def _tell_all(self, kind: str, content: Mapping[str, Any]) -> None:
        for link in list(self._links.values()):
            link.send(kind, content)

    def _beat(self) -> None:
        while not self._closed.wait(BEAT_SECONDS):
            self._tell_all("beat", {})


class Member:
    """Any other host: joins, reports, obeys the verdict."""

    def __init__(self, connection: socket.socket, host: str, leader: str, silence_seconds: float) -> None:
        self._link = Link(connection, silence_seconds)
        self._host = host
        self._leader = leader
        self._signals: list[int] = []
        self._slots: dict[str, int] | None = None
        self._aborts = False
        self._verdict: Verdict | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def greet(self) -> Welcome:
        """The leader's first message, and our name in return. Raises HostLostError."""
        try:
            message = self._link.receive()
        except HostLostError as error:
            raise HostLostError(f"the leader {self._leader} {error}, before it said anything") from error
        except ValueError:
            message = {}
        run = str(message.get("run"))
        if not RUN_NAME.fullmatch(run):  # it becomes the name of a folder
            raise HostLostError(
                f"another program than the leader of this job answers on its port of {self._leader}. "
                "Set BYOC_CONTROL_PORT to a free one."
            )
        self._link.send("hello", {"host": self._host})
        return Welcome(run=run, leader_key=str(message.get("leader_key", "")))

    def join(self, introduction: Introduction) -> None:
        """Answer the roll call: this host is ready."""
        self._link.send("join", asdict(introduction))
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()

    def refuse(self, exit_code: int, reason: str) -> None:
        """Tell the leader why this host cannot take part."""
        self._link.send("refusal", {"host": self._host, "exit_code": exit_code, "reason": reason})

    @property
    def slots(self) -> dict[str, int] | None:
        """Processes of each host, once the roll is complete."""
        with self._lock:
            return self._slots

    def tell_attempt(self, attempt: str) -> None:
        self._link.send("attempt", {"attempt": attempt})

    def tell_failure(self, failure: RankFailure) -> None:
        self._link.send("failure", failure.document())

    def tell_signal(self, number: int) -> None:
        self._link.send("signal", {"number": number})

    def tell_ended(self, exit_code: int, reason: str) -> None:
        self._link.send("ended", {"exit_code": exit_code, "reason": reason})

    def take_signals(self) -> list[int]:
        with self._lock:
            taken, self._signals = self._signals, []
            return taken

    def aborts(self) -> bool:
        with self._lock:
            return self._aborts

    def verdict(self) -> Verdict | None:
        with self._lock:
            return self._verdict

    def close(self) -> None:
        self._closed.set()
        self._link.close()

    def _listen(self) -> None:
        while True:
            try:
                self._obey(self._link.receive())
            except HostLostError as error:
                self._lose_leader(str(error))
                return
            except (ValueError, TypeError, KeyError):
                self._lose_leader(NOT_UNDERSTOOD)
                return

    def _lose_leader(self, how: str) -> None:
        with self._lock:
            lost = f"HostLostError: the leader {self._leader} {how}"
            self._verdict = self._verdict or Verdict(HostLostError.exit_code, lost)

    def _obey(self, message: dict[str, Any]) -> None:
        with self._lock:
            match message["kind"]:
                case "start":
                    self._slots = {str(host): int(count) for host, count in message["slots"].items()}
                case "abort":
                    self._aborts = True
                case "signal":
                    self._signals.append(int(message["number"]))
                case "verdict":
                    self._verdict = Verdict(int(message["exit_code"]), str(message["reason"]))

    def _beat(self) -> None:
        while not self._closed.wait(BEAT_SECONDS):
            self._link.send("beat")


def connect(address: str, port: int, seconds: float) -> socket.socket | None:
    """One try to reach the leader; None when it does not answer yet."""
    try:
        return socket.create_connection((address, port), timeout=seconds)
    except OSError:
        return None
