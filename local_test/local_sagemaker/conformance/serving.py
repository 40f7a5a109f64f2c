"""Serving containers as the platform starts and stops them: what each start, signal and death says about the rules."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from local_sagemaker.conformance.conditions import Condition, Trial, attribute, impose_all
from local_sagemaker.conformance.container import LACKED_MEMORY, Container, Process, main_processes
from local_sagemaker.conformance.containers import Containers, RefusedError
from local_sagemaker.conformance.exchange import Answer, HalfSent, ask, ping
from local_sagemaker.conformance.findings import Finding, decided, passed, skipped, violated
from local_sagemaker.conformance.invocations import Server, examine_requests
from local_sagemaker.conformance.setup import Setup
from local_sagemaker.conformance.signals import await_stop
from local_sagemaker.conformance.subject import Payload, Subject
from local_sagemaker.engines.base import BASE_DIR

MODEL = f"{BASE_DIR}/model"
PLENTY_OF_SHM = 2 * 1024**3
SMALL_MEMORY = 1024**3
STOP_SECONDS = 30.0
POLL_SECONDS = 0.1
# How long a server may listen elsewhere, and do nothing, before it is believed to stay there.
ELSEWHERE_SECONDS = 30.0
IDLE_SECONDS = 0.3
# A payload that takes longer is a request under way; a faster one is held back half-way.
SLOW_SECONDS = 0.5
# What a start without a model gets: more than one with a model takes.
LEAST_SECONDS = 3.0
MORE_THAN_USUAL = 1.5
BEFORE_SIGNAL_SECONDS = 0.3
# What a busy machine may need until a server takes a connection; one that waits is lost with the server's socket.
TAKING_SECONDS = 20.0
UNDER_WAY_SECONDS = 1.0
# From a process's death until the container has ended, or answers again.
SETTLING_SECONDS = 2.0
RECOVERY_SECONDS = 20.0
MOST_KILLED = 3
# Some are reaped a moment later, or when the next is started.
REAPING_SECONDS = 3.0
FEW_DEAD = 4
OTHER_PORT = 23456
NOT_READY = "the server does not become ready: BYOC-S001"
ENDED = "the container ended with exit code"
BATCH = {
    "SAGEMAKER_BATCH": "true",
    "SAGEMAKER_MAX_PAYLOAD_IN_MB": "6",
    "SAGEMAKER_BATCH_STRATEGY": "MULTI_RECORD",
    "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "4",
}
# What is decided by requests and by the stop that follows them.
OF_A_READY_SERVER = tuple(f"BYOC-S{number:03d}" for number in (*range(2, 8), *range(15, 25), *range(26, 32), 34, 36))
ANY_PAYLOAD = Payload(b"1," * 32, "text/csv")


@dataclass(frozen=True)
class Readiness:
    """How a start went; ``evidence`` says what came instead of a status 200."""

    ready: bool
    seconds: float
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Serving:
    """What the serving probes share.

    Attributes:
        containers: of the image.
        subject: the image and what was given for it.
        model: the model's folder, or None where there is none.
        capabilities: what the labels promise.
        starts: seconds of the starts that were ready, as they come.
        unready: why the server cannot be started at all, once that is known.
        broken: the rules whose condition it does not stand, once that is known.
    """

    containers: Containers
    subject: Subject
    model: Path | None
    capabilities: frozenset[str] = field(default_factory=frozenset)
    starts: list[float] = field(default_factory=list)
    unready: list[str] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)

    @property
    def setup(self) -> Setup:
        """The least that an endpoint has: a writable copy of the model, and no want of anything."""
        return Setup(
            ("serve",),
            environment=self.subject.environment,
            folders={f"{BASE_DIR}/code": self.subject.code} if self.subject.code else {},
            copies={MODEL: self.model} if self.model else {},
            writable=(f"{BASE_DIR}/model",),
            hostname="model",
            shm_bytes=PLENTY_OF_SHM,
            gpus=self.subject.gpus,
        )

    @property
    def conditions(self) -> list[Condition]:
        """What the platform does to an endpoint's container."""
        model = {MODEL: self.model} if self.model else {}
        conditions = [
            Condition(
                "BYOC-S008",
                lambda setup: replace(
                    setup,
                    copies={},
                    writable=(),
                    folders={**setup.folders, **model},
                    read_only=() if model else (MODEL,),
                ),
            ),
            Condition("BYOC-S009", lambda setup: replace(setup, network="isolated")),
            Condition("BYOC-S010", lambda setup: replace(setup, read_only_root=True)),
            Condition("BYOC-S011", lambda setup: replace(setup, shm_bytes=Setup(()).shm_bytes)),
            Condition("BYOC-S013", lambda setup: replace(setup, environment={**setup.environment, **BATCH})),
        ]
        if self.subject.strict:
            conditions.append(Condition("BYOC-S012", lambda setup: replace(setup, memory_bytes=SMALL_MEMORY)))
        return conditions

    @property
    def as_deployed(self) -> Setup:
        """As endpoints without network isolation run, but for what this server was seen not to stand."""
        usual = {"BYOC-S008", "BYOC-S011"} - self.broken
        return impose_all([one for one in self.conditions if one.rule in usual], self.setup)


@dataclass
class Elsewhere:
    """A server that listens, and not where it is asked: since when, and what it has done since."""

    since: float | None = None
    worked: float | None = None

    def stays(self, container: Container, elapsed: float) -> bool:
        """Whether that has been so for long, and nothing is loaded meanwhile: then it stays so."""
        if not container.listeners():
            self.since = None
            return False
        worked = container.processor_seconds()
        busy = worked is None or self.worked is None or worked - self.worked > IDLE_SECONDS
        if self.since is None or busy:
            self.since, self.worked = elapsed, worked
        return elapsed - self.since > ELSEWHERE_SECONDS


def await_ready(container: Container, limit: float) -> Readiness:
    """Ask /ping until it answers 200; the end of the container, or a server that stays elsewhere, ends the waiting."""
    start = time.monotonic()
    last: Answer | None = None
    elsewhere = Elsewhere()
    while (elapsed := time.monotonic() - start) < limit:
        if container.has_ended:
            ended = f"{ENDED} {container.exit_code} after {elapsed:.1f} s"
            memory = (LACKED_MEMORY,) if container.lacked_memory else ()
            return Readiness(ready=False, seconds=elapsed, evidence=(ended, *memory, container.last_lines()))
        last = ping(container.address)
        if last.status == 200:
            return Readiness(ready=True, seconds=time.monotonic() - start)
        if last.status is None and int(elapsed / POLL_SECONDS) % 10 == 0 and elsewhere.stays(container, elapsed):
            break
        time.sleep(POLL_SECONDS)
    listening = sorted(f"{where} addresses, port {port}" for where, port in container.listeners())
    return Readiness(
        ready=False,
        seconds=time.monotonic() - start,
        evidence=(
            f"GET /ping on port {container.setup.port}: {last or 'never asked'}",
            f"it listens on: {'; '.join(listening) or 'no TCP port'}",
            container.last_lines(),
        ),
    )


@contextmanager
def serving(
    containers: Containers, setup: Setup, limit: float, starts: list[float] | None = None
) -> Iterator[tuple[Container, Readiness]]:
    """A server for the length of a block, once it is ready or known not to become so; ``starts`` gets its seconds."""
    with containers.started(setup) as container:
        readiness = await_ready(container, limit)
        if readiness.ready and starts is not None:
            starts.append(readiness.seconds)
        yield container, readiness


def examine_start(bench: Serving) -> Iterator[Finding]:
    """Start under all conditions; the first that works is sent requests, and then stopped with one under way."""
    further: list[Finding] = []

    def try_out(setup: Setup) -> Trial:
        try:
            with serving(bench.containers, setup, bench.subject.startup_seconds, bench.starts) as (
                container,
                readiness,
            ):
                if not readiness.ready:
                    return Trial(works=False, evidence=readiness.evidence)
                if not further:
                    further.extend(_examine_server(container, bench))
                return Trial(works=True)
        except RefusedError as error:
            return Trial(works=False, evidence=(f"Docker does not start it: {error}",))

    found = list(attribute("BYOC-S001", bench.conditions, bench.setup, try_out))
    if not bench.containers.are_reached_directly:
        reason = "this engine's containers are reached by published ports only, which isolated ones do not have"
        found = [skipped(one.rule.id, reason) if one.rule.id == "BYOC-S009" else one for one in found]
    ended = any(ENDED in line for finding in found for line in finding.evidence)
    if not further and bench.model is None and ended:
        why = "it does not start without a model; give --model-data, or let the check train one"
        found = [skipped(one.rule.id, why) for one in found]
    bench.broken.update(one.rule.id for one in found if one.outcome == "violated")
    bench.unready.extend(() if further else [NOT_READY])
    yield from found
    yield from further or (skipped(rule, NOT_READY) for rule in OF_A_READY_SERVER)


def _examine_server(container: Container, bench: Serving) -> Iterator[Finding]:
    payload = bench.subject.payload
    server = Server(container.address, payload, lambda: not container.has_ended, container.last_lines)
    before = container.processes()
    yield from examine_requests(server, bench.capabilities)
    yield judge_dead(before, _once_reaped(container, before))
    logged = container.log().strip()
    yield decided("BYOC-S026", bool(logged), "nothing came, after a start and dozens of requests")
    if ping(container.address).status == 200:
        yield from examine_stop(container, payload)
    else:
        yield from (skipped(f"BYOC-S0{number}", "the server no longer answers: BYOC-S021") for number in (22, 23, 24))


def _once_reaped(container: Container, before: Sequence[Process]) -> list[Process]:
    """The processes, some seconds later if there are dead ones among them."""
    limit = time.monotonic() + REAPING_SECONDS
    while True:
        found = container.processes()
        if judge_dead(before, found).outcome != "violated" or time.monotonic() > limit:
            return found
        time.sleep(POLL_SECONDS)


def judge_dead(before: Sequence[Process], after: Sequence[Process]) -> Finding:
    """Whether processes that have ended since are still kept, as nobody has asked how they ended."""
    if not before or not after:
        return skipped("BYOC-S036", "the image has no shell to look at its processes with")
    known = {one.pid for one in before if one.is_dead}
    dead = [one for one in after if one.is_dead and one.pid not in known]
    names = ", ".join(sorted({one.name for one in dead}))
    return decided("BYOC-S036", len(dead) <= FEW_DEAD, f"{len(dead)} dead processes after the requests: {names}")


def examine_stop(container: Container, payload: Payload | None) -> Iterator[Finding]:
    """SIGTERM with a request under way."""
    with under_way(container.address, payload or ANY_PAYLOAD, container.unaccepted) as answers:
        container.signal("SIGTERM")
        sent = time.monotonic()
    usual, answer = answers
    came = f"sent before SIGTERM, usually: {usual}; came: {answer}"
    yield decided("BYOC-S022", answer.status == usual.status, came, container.last_lines())
    stop = await_stop(container, STOP_SECONDS - (time.monotonic() - sent))
    ran_on = f"it still ran {time.monotonic() - sent:.0f} s after SIGTERM"
    why = ["process 1 neither handles SIGTERM nor waits for it"] if stop.deaf else []
    yield decided("BYOC-S023", stop.ended, ran_on, *why, container.last_lines())
    if stop.ended:
        yield decided("BYOC-S024", container.exit_code == 0, f"exit code {container.exit_code}")
    else:
        yield skipped("BYOC-S024", "it does not end: BYOC-S023")


@contextmanager
def under_way(address: tuple[str, int], payload: Payload, unaccepted: Callable[[], int]) -> Iterator[list[Answer]]:
    """A request that is under way within the block: after it the list has the usual answer, and the one to this.

    Args:
        address: the server's.
        payload: of the request.
        unaccepted: how many connections the server has not taken yet.
    """
    headers = {"Content-Type": payload.content_type}
    usual = ask(address, "POST", "/invocations", payload.body, headers)
    answers = [usual]
    if usual.seconds >= SLOW_SECONDS:
        # Looking may take longer than the request; then it is sent again, and at last nobody looks.
        for look in (unaccepted, unaccepted, _nobody):
            del answers[1:]
            sender = threading.Thread(
                target=lambda: answers.append(ask(address, "POST", "/invocations", payload.body, headers)),
                name="request under way",
                daemon=True,
            )
            sender.start()
            await_taken(look)
            if len(answers) == 1:
                break
        yield answers
        sender.join()
        return
    half = HalfSent(address, payload.body, headers)
    await_taken(unaccepted)
    yield answers
    time.sleep(UNDER_WAY_SECONDS)
    answers.append(half.finish())


def _nobody() -> int:
    return 0


def await_taken(unaccepted: Callable[[], int], limit: float = TAKING_SECONDS) -> None:
    """Wait a moment, and until no connection waits to be taken, but ``limit`` seconds at most."""
    start = time.monotonic()
    time.sleep(BEFORE_SIGNAL_SECONDS)
    while unaccepted() and time.monotonic() - start < limit:
        time.sleep(POLL_SECONDS)


def examine_deaths(bench: Serving) -> Iterator[Finding]:
    """Kill each of process 1's children, one after the other, and see what becomes of the server."""
    killed: set[str] = set()
    spared: set[str] = set()
    wrong: list[str] = []
    first = True
    while not wrong and (first or (spared and len(killed) < MOST_KILLED)):
        with serving(bench.containers, bench.as_deployed, bench.subject.startup_seconds, bench.starts) as (
            container,
            readiness,
        ):
            if not readiness.ready:
                yield skipped("BYOC-S025", NOT_READY)
                return
            there = {one.name for one in main_processes(container.processes())}
            known = set(killed)
            for name, evidence in _deaths(container, bench.subject.payload, known):
                killed.add(name)
                wrong += evidence
        spared = there - killed
        if killed == known:
            break
        first = False
    if not killed:
        yield skipped("BYOC-S025", "process 1 has no children, or the image no shell to kill them with")
        return
    told = f"killed in turn: {', '.join(sorted(killed))}"
    yield decided("BYOC-S025", not wrong, *(wrong or [told]))


def _deaths(container: Container, payload: Payload | None, known: set[str]) -> Iterator[tuple[str, list[str]]]:
    """Kill what has not been killed yet, until the container ends; each name with what went wrong."""
    done = set(known)
    while len(done) < MOST_KILLED:
        victim = next((one for one in main_processes(container.processes()) if one.name not in done), None)
        if victim is None or not container.kill(victim):
            return
        done.add(victim.name)
        verdict = _after_death(container, payload)
        yield victim.name, [f"{victim.name} was killed: {verdict}", container.last_lines()] if verdict else []
        if container.has_ended or verdict:
            return


def _after_death(container: Container, payload: Payload | None) -> str:
    """What went wrong after a process was killed; nothing if the container failed or recovered."""
    limit = time.monotonic() + RECOVERY_SECONDS
    if not container.ended_within(SETTLING_SECONDS):
        while not container.has_ended and time.monotonic() < limit:
            if _is_well(container.address, payload):
                return ""
            time.sleep(POLL_SECONDS)
    if container.has_ended:
        return "" if container.exit_code else "the container ended with exit code 0, as after a clean stop"
    answer = ping(container.address)
    return f"the container runs on, and after {RECOVERY_SECONDS:g} s it is not well: GET /ping: {answer}"


def _is_well(address: tuple[str, int], payload: Payload | None) -> bool:
    if ping(address).status != 200:
        return False
    if payload is None:
        return True
    return ask(address, "POST", "/invocations", payload.body, {"Content-Type": payload.content_type}, 10).ok


def examine_empty_model(bench: Serving) -> Iterator[Finding]:
    """No model at all: to fail is fine, to say that all is well is not."""
    payload = bench.subject.payload
    if payload is None:
        return
    setup = replace(bench.as_deployed, folders={}, read_only=(MODEL,))
    longest = bench.subject.startup_seconds
    limit = min(longest, max(LEAST_SECONDS, MORE_THAN_USUAL * max(bench.starts, default=longest)))
    with serving(bench.containers, setup, limit) as (container, readiness):
        if not readiness.ready:
            yield passed("BYOC-S032", "it does not become ready")
            return
        answer = ask(container.address, "POST", "/invocations", payload.body, {"Content-Type": payload.content_type})
        came = f"/ping: 200, then the payload: {answer}"
        yield decided("BYOC-S032", not answer.is_servers_error, came, container.last_lines())


def examine_other_port(bench: Serving) -> Iterator[Finding]:
    """One of several containers that share a host."""
    told = {"SAGEMAKER_BIND_TO_PORT": str(OTHER_PORT), "SAGEMAKER_SAFE_PORT_RANGE": f"{OTHER_PORT}-{OTHER_PORT + 9}"}
    deployed = bench.as_deployed
    setup = replace(deployed, environment={**deployed.environment, **told}, port=OTHER_PORT)
    with serving(bench.containers, setup, bench.subject.startup_seconds, bench.starts) as (container, readiness):
        yield decided("BYOC-S014", readiness.ready, f"SAGEMAKER_BIND_TO_PORT={OTHER_PORT}", *readiness.evidence)
        if not readiness.ready:
            yield skipped("BYOC-S035", "it does not listen there, see BYOC-S014")
            return
        others = sorted(port for _, port in container.listeners() if not OTHER_PORT <= port < OTHER_PORT + 10)
        yield decided("BYOC-S035", not others, f"it also listens on {', '.join(map(str, others))}")


def examine_many_models(bench: Serving) -> Iterator[Finding]:
    """The life of a model on a multi-model endpoint."""
    if bench.model is None:
        yield skipped("BYOC-S033", "there is no model; give --model-data")
        return
    folder = f"{BASE_DIR}/models/a1b2c3/model"
    setup = replace(
        bench.setup,
        copies={},
        writable=(),
        folders={**{path: one for path, one in bench.setup.folders.items() if path != MODEL}, folder: bench.model},
        environment={**bench.subject.environment, "SAGEMAKER_MULTI_MODEL": "true"},
    )
    with serving(bench.containers, setup, bench.subject.startup_seconds) as (container, readiness):
        if not readiness.ready:
            yield violated("BYOC-S033", "without a model /ping has to answer 200", *readiness.evidence)
            return
        wrong = list(_life_of_a_model(container.address, folder, bench.subject.payload))
        yield decided("BYOC-S033", not wrong, *wrong, *([container.last_lines()] if wrong else []))


def _life_of_a_model(address: tuple[str, int], folder: str, payload: Payload | None) -> Iterator[str]:
    sent = payload or ANY_PAYLOAD
    load = json.dumps({"model_name": "a1b2c3", "url": folder}).encode()
    json_type = {"Content-Type": "application/json"}
    payload_type = {"Content-Type": sent.content_type, "X-Amzn-SageMaker-Target-Model": "a.tar.gz"}
    invoke = "/models/a1b2c3/invoke"
    steps: list[tuple[str, str, bytes | None, Mapping[str, str], int | None]] = [
        ("GET", "/models", None, {}, 200),
        ("POST", invoke, sent.body, payload_type, 404),
        ("POST", "/models", load, json_type, 200),
        ("POST", "/models", load, json_type, 409),
        ("GET", "/models/a1b2c3", None, {}, 200),
        ("POST", invoke, sent.body, payload_type, 200 if payload else None),
        ("DELETE", "/models/a1b2c3", None, {}, 200),
        ("DELETE", "/models/a1b2c3", None, {}, 404),
        ("GET", "/models/a1b2c3", None, {}, 404),
    ]
    for method, path, body, headers, expected in steps:
        answer = ask(address, method, path, body, headers)
        if expected is not None and answer.status != expected:
            yield f"{method} {path}: expected {expected}; came: {answer}"
