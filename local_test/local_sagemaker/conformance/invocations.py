"""The requests that a ready server is sent, those of the platform and those of the world, and what it makes of them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from local_sagemaker.conformance.exchange import (
    CONNECT_SECONDS,
    INVOCATION_SECONDS,
    PING_SECONDS,
    Address,
    Answer,
    ask,
    ask_at_once,
    half_sent,
    opens_websocket,
    ping,
    serves_twice,
)
from local_sagemaker.conformance.findings import Finding, decided, skipped, violated
from local_sagemaker.conformance.subject import Payload

NO_PAYLOAD = "there is no payload; give --payload FILE"
MB = 1024**2
# A time that one machine's other work spoils is taken again.
ATTEMPTS = 3
AT_ONCE = 16
LOAD_SECONDS = 2.0
LONGEST_LOAD_SECONDS = 6.0
SLOW_CLIENTS = 20
PING_EVERY_SECONDS = 0.2
# A first answer may be this much slower than the later ones, where the model was loaded before.
COLD_SECONDS = 1.5
COLD_TIMES = 3.0
GARBAGE = b'\x00\xff{"garbage": [1, \x80\xfe'
UNKNOWN_TYPE = "application/x-nobody-knows-this"
PLATFORM_HEADERS = {
    "X-Amzn-SageMaker-Custom-Attributes": "c" * 1024,
    "X-Amzn-SageMaker-Inference-Id": "check-1",
    "X-Amzn-SageMaker-Something-New": "1",
}
LONGEST_PAYLOAD_MB = 100


@dataclass(frozen=True)
class Server:
    """A ready server.

    Attributes:
        address: where it is reached.
        payload: a body that it understands, or None.
        is_alive: whether its container still runs.
        last_lines: the end of its log.
    """

    address: Address
    payload: Payload | None
    is_alive: Callable[[], bool]
    last_lines: Callable[[], str]

    def invoke(self, body: bytes, headers: Mapping[str, str], *, chunked: bool = False) -> Answer:
        """One invocation."""
        return ask(self.address, "POST", "/invocations", body, headers, chunked=chunked)


def examine_requests(server: Server, capabilities: frozenset[str]) -> Iterator[Finding]:
    """Every rule about requests, the gentle ones first."""
    yield from _pings(server)
    yield from _with_payload(server)
    yield _slow_clients(server)
    yield from _routes(server)
    if "bidirectional-streaming" in capabilities:
        yield _streams(server)
    yield _large_body(server)
    yield from _odd_bodies(server)
    yield _survival(server)


def _pings(server: Server) -> Iterator[Finding]:
    answer = _best(lambda: ping(server.address), lambda one: _prompt(one) and one.connect_seconds <= CONNECT_SECONDS)
    kept = _prompt(answer) and answer.connect_seconds <= CONNECT_SECONDS
    times = f"connected after {answer.connect_seconds * 1000:.0f} ms; GET /ping: {answer}"
    yield decided("BYOC-S002", kept, times)
    posted = _best(lambda: ping(server.address, "POST"), _prompt)
    yield decided("BYOC-S003", posted.status == 200, f"POST /ping: {posted}")
    yield decided("BYOC-S027", serves_twice(server.address), "the connection was closed after one request")


def _prompt(answer: Answer) -> bool:
    return answer.status == 200 and answer.seconds <= PING_SECONDS


def _best(attempt: Callable[[], Answer], is_good: Callable[[Answer], bool]) -> Answer:
    """The first good answer of some attempts, else the last."""
    for _ in range(ATTEMPTS - 1):
        answer = attempt()
        if is_good(answer):
            return answer
    return attempt()


WITH_PAYLOAD = tuple(f"BYOC-S{number:03d}" for number in (4, 5, 6, 16, 17, 18, 30, 31))


def _with_payload(server: Server) -> Iterator[Finding]:
    if server.payload is None:
        yield from (skipped(rule, NO_PAYLOAD) for rule in WITH_PAYLOAD)
        return
    body, headers = server.payload.body, {"Content-Type": server.payload.content_type}
    cold = ask_at_once(server.address, AT_ONCE, body, headers)
    plain = server.invoke(body, headers)
    with_any = server.invoke(body, {**headers, "Accept": "*/*"})
    usual = plain if plain.ok else with_any
    if not usual.ok:  # a server may insist on an Accept of its own
        headers = {**headers, "Accept": server.payload.content_type}
        usual = server.invoke(body, headers)
    kept = usual.status == 200 and "content-type" in usual.headers and usual.seconds <= INVOCATION_SECONDS
    sent = f"POST /invocations, {server.payload.content_type}, {len(body)} bytes"
    typed = [] if "content-type" in usual.headers else ["the answer has no Content-Type"]
    yield decided("BYOC-S004", kept, f"{sent}: {usual}", *typed, server.last_lines())
    if not usual.ok:
        yield from (skipped(rule, "the payload is refused: BYOC-S004") for rule in WITH_PAYLOAD[1:])
        return
    told = [f"{name}: {one}" for name, one in (("no Accept", plain), ("Accept: */*", with_any)) if not one.ok]
    yield decided("BYOC-S018", not told, *told)
    warm, worst = _under_load(server, body, headers)
    yield _coldness(cold, warm)
    lost = [one for one in warm if not one.ok]
    yield decided("BYOC-S031", not lost, *(f"{len(lost)} of {len(warm)}: {one}" for one in lost[:1]))
    yield decided("BYOC-S006", _prompt(worst), f"{AT_ONCE} clients; GET /ping meanwhile: {worst}")
    chunked = server.invoke(body, headers, chunked=True)
    repeats = len({one.body for one in warm}) == 1  # only such answers can be compared
    same = chunked.status == usual.status and (chunked.body == warm[0].body or not repeats)
    yield decided("BYOC-S016", same, f"Transfer-Encoding: chunked: {chunked}", f"with a length: {usual}")
    parameter = "; charset=utf-8" if "charset" not in server.payload.content_type else "; version=1"
    content_type = server.payload.content_type + parameter
    typed_answer = server.invoke(body, {**headers, "Content-Type": content_type})
    yield decided("BYOC-S017", typed_answer.status == usual.status, f"Content-Type: {content_type}: {typed_answer}")
    tagged = server.invoke(body, {**headers, **PLATFORM_HEADERS})
    yield decided("BYOC-S030", tagged.status == usual.status, f"custom attributes of 1,024 characters: {tagged}")


def _coldness(cold: Sequence[Answer], warm: Sequence[Answer]) -> Finding:
    """Whether the first requests after the first 200 paid for loading the model."""
    failed = [one for one in cold if one.is_servers_error]
    if failed and all(one.ok for one in warm):
        return violated("BYOC-S005", f"right after the first 200 of /ping: {failed[0]}; later: {warm[0]}")
    slowest, later = max(one.seconds for one in cold), max(one.seconds for one in warm)
    kept = slowest <= COLD_SECONDS + COLD_TIMES * later
    times = f"{AT_ONCE} requests took {slowest:.1f} s right after the first 200 of /ping, and {later:.1f} s later"
    return decided("BYOC-S005", kept, times)


def _under_load(server: Server, body: bytes, headers: Mapping[str, str]) -> tuple[list[Answer], Answer]:
    """The answers to some busy clients, and the worst of the health checks meanwhile; again if that was a bad one."""
    limit = time.monotonic() + LONGEST_LOAD_SECONDS
    while True:
        answers, worst = _load(server, body, headers)
        if _prompt(worst) or time.monotonic() > limit:
            return answers, worst


def _load(server: Server, body: bytes, headers: Mapping[str, str]) -> tuple[list[Answer], Answer]:
    until = time.monotonic() + LOAD_SECONDS
    answers: list[Answer] = []

    def client() -> None:
        while time.monotonic() < until:
            answers.append(ask(server.address, "POST", "/invocations", body, headers))

    clients = [threading.Thread(target=client, daemon=True) for _ in range(AT_ONCE)]
    for thread in clients:
        thread.start()
    pings = []
    while any(thread.is_alive() for thread in clients):
        pings.append(ping(server.address))
        time.sleep(PING_EVERY_SECONDS)
    for thread in clients:
        thread.join()
    return answers, max(pings, key=lambda one: (one.status != 200, one.seconds), default=Answer(200))


def _slow_clients(server: Server) -> Finding:
    payload = server.payload or Payload(b"1," * 32, "text/csv")
    for _ in range(ATTEMPTS):
        with half_sent(server.address, SLOW_CLIENTS, payload.body, {"Content-Type": payload.content_type}):
            answer = ping(server.address)
        if _prompt(answer):
            break
    return decided("BYOC-S007", _prompt(answer), f"{SLOW_CLIENTS} clients have sent half a body; GET /ping: {answer}")


def _routes(server: Server) -> Iterator[Finding]:
    parameters = ask(server.address, "GET", "/execution-parameters", timeout=PING_SECONDS * ATTEMPTS)
    kept = parameters.status == 404 or (parameters.ok and are_parameters(parameters.body))
    yield decided("BYOC-S028", kept, f"GET /execution-parameters: {parameters}")
    metrics = _best(
        lambda: ask(server.address, "GET", "/metrics", timeout=PING_SECONDS), lambda one: one.status in {200, 404}
    )
    yield decided("BYOC-S029", metrics.status in {200, 404}, f"GET /metrics: {metrics}")


def are_parameters(body: bytes) -> bool:
    """Whether the answer to ``GET /execution-parameters`` is one that batch transform understands."""
    try:
        document = json.loads(body)
    except ValueError:
        return False
    return isinstance(document, dict) and all(
        name not in document or is_one(document[name]) for name, is_one in BATCH_PARAMETERS.items()
    )


def _is_count(value: object, most: float = float("inf")) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


BATCH_PARAMETERS: Mapping[str, Callable[[object], bool]] = {
    "MaxConcurrentTransforms": _is_count,
    "BatchStrategy": lambda value: value in {"MULTI_RECORD", "SINGLE_RECORD"},
    "MaxPayloadInMB": lambda value: _is_count(value, LONGEST_PAYLOAD_MB),
}


def _streams(server: Server) -> Finding:
    answer = opens_websocket(server.address, "/invocations-bidirectional-stream")
    if answer.status == 501:
        return skipped("BYOC-S034", f"the image's code has no handler for streams: {answer}")
    return decided("BYOC-S034", answer.status == 101, f"Upgrade: websocket: {answer}")


def _odd_bodies(server: Server) -> Iterator[Finding]:
    body = server.payload.body if server.payload else b"1,2,3"
    content_type = server.payload.content_type if server.payload else "application/json"
    unknown = server.invoke(body, {"Content-Type": UNKNOWN_TYPE})
    yield decided("BYOC-S019", not unknown.is_servers_error, f"Content-Type: {UNKNOWN_TYPE}: {unknown}")
    garbage = server.invoke(GARBAGE, {"Content-Type": content_type})
    shown = f"{GARBAGE!r} as {content_type}: {garbage}"
    yield decided("BYOC-S020", not garbage.is_servers_error, shown, server.last_lines())


def _large_body(server: Server) -> Finding:
    content_type = server.payload.content_type if server.payload else "application/json"
    fill = b" " if server.payload is None else _filling(server.payload)
    start = server.payload.body if server.payload else b""

    def send(size: int) -> Answer:
        return server.invoke((start + fill * (size // len(fill)))[:size], {"Content-Type": content_type})

    answer = send(25 * MB)
    taken = answer.status not in {413, None}
    smaller = [] if taken else [f"6 MB: {send(6 * MB)}"]
    return decided("BYOC-S015", taken, f"25 MB: {answer}", *smaller)


def _filling(payload: Payload) -> bytes:
    """What makes a payload long: blanks, which JSON ignores and everything else may refuse."""
    return b" " if payload.content_type.partition(";")[0] == "application/json" else b"\n"


def _survival(server: Server) -> Finding:
    answer = _best(lambda: ping(server.address), _prompt)
    if not server.is_alive() or answer.status != 200:
        return violated("BYOC-S021", f"GET /ping at the end: {answer}", server.last_lines())
    if server.payload is None:
        return decided("BYOC-S021", kept=True)
    last = server.invoke(server.payload.body, {"Content-Type": server.payload.content_type, "Accept": "*/*"})
    return decided("BYOC-S021", not last.is_servers_error, f"the payload, sent last: {last}", server.last_lines())
