"""Training containers as the platform starts them, and as it seldom does: what each end says about the rules."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from local_sagemaker.conformance.conditions import Condition, Trial, attribute
from local_sagemaker.conformance.container import LACKED_MEMORY, Container
from local_sagemaker.conformance.containers import Containers, RefusedError
from local_sagemaker.conformance.documents import (
    described,
    documents,
    encoded,
    told_resources,
    tuned,
    with_hyperparameters,
    with_odd_host,
    with_untold_configuration,
)
from local_sagemaker.conformance.findings import Finding, decided, passed, skipped, violated
from local_sagemaker.conformance.setup import WRITABLE, Setup
from local_sagemaker.conformance.signals import Stop, await_stop, hears_sigterm, shell_that_waits
from local_sagemaker.conformance.subject import Subject
from local_sagemaker.engines.base import BASE_DIR
from local_sagemaker.tar import tarfile
from local_sagemaker.training.cluster import plan_cluster

DATA = f"{BASE_DIR}/input/data"
MODEL = f"{BASE_DIR}/model"
FAILURE = f"{BASE_DIR}/output/failure"
FAILURE_CHARACTERS = 1024
STOP_SECONDS = 120.0
POLL_SECONDS = 0.2
# So much sooner than by itself is no coincidence.
CLEARLY_SECONDS = 0.5
SHOWN = 5
# What a training without data gets where the one with data came to no end.
SHORT_SECONDS = 30.0
# Two hosts share one machine, and that with other probes.
BESIDE_EACH_OTHER = 2
NO_END = "training comes to no end by itself within --training-timeout; give hyperparameters that make it short"
NO_CHANNEL = "there is no channel; give --channel NAME=DIR"
PLENTY_OF_SHM = 2 * 1024**3
SMALL_MEMORY = 1024**3
# Fewer lines, or a shorter run, say nothing about buffers.
TELLING_LINES = 5
TELLING_SECONDS = 3.0
AT_ONCE_SECONDS = 0.05
AT_THE_END_SECONDS = 0.5


@dataclass(frozen=True)
class TrainingEnd:
    """How one training container ended.

    Attributes:
        exit_code: None where it did not start, or had to be killed.
        seconds: how long it ran.
        failure: the text of the failure file, or None without one.
        saved: the files below /opt/ml/model.
        line_times: when each line of the log came, in seconds before the end.
        last_lines: of the log, as evidence.
        links: the symbolic links below /opt/ml/model, each with what it points to.
        stopped: whether it had to be asked to stop, as it came to no end.
        lacked_memory: whether the kernel killed a process of it at the container's limit.
    """

    exit_code: int | None
    seconds: float
    failure: str | None
    saved: tuple[str, ...]
    line_times: tuple[float, ...]
    last_lines: str
    links: tuple[str, ...] = ()
    stopped: bool = False
    lacked_memory: bool = False

    @property
    def failed(self) -> bool:
        """Whether it ended by itself, with a failure."""
        return self.exit_code not in {0, None}

    @property
    def evidence(self) -> tuple[str, ...]:
        """What happened."""
        how = f"exit code {self.exit_code} after {self.seconds:.1f} s" if self.exit_code is not None else ""
        reason = f"failure file: {self.failure.strip()[:300]}" if self.failure else ""
        memory = LACKED_MEMORY if self.lacked_memory else ""
        return tuple(line for line in (how, memory, reason, self.last_lines) if line)


def training_setup(subject: Subject, cores: str | None = None) -> Setup:
    """The least that a job has: the documented keys, writable copies of the channels, and no want of anything."""
    return Setup(
        ("train",),
        environment={**_job_variables(), **subject.environment},
        files=documents(subject.hyperparameters, told_resources(), described(subject.channels)),
        folders={f"{BASE_DIR}/code": subject.code} if subject.code else {},
        copies={f"{DATA}/{name}": folder for name, folder in subject.channels.items()},
        made=(DATA, f"{BASE_DIR}/output/data"),
        shm_bytes=PLENTY_OF_SHM,
        cores=cores,
        gpus=subject.gpus,
    )


def training_conditions(subject: Subject) -> list[Condition]:
    """What the platform, tuning and the SDKs do to a job."""
    channels = {f"{DATA}/{name}": folder for name, folder in subject.channels.items()}
    untold = {finding.rule.id for finding in without_effect(subject)}
    conditions = [
        Condition("BYOC-T003", lambda setup: replace(setup, network="none")),
        Condition("BYOC-T004", lambda setup: replace(setup, copies={}, folders={**setup.folders, **channels})),
        Condition("BYOC-T005", with_untold_configuration),
        Condition("BYOC-T006", with_odd_host),
        Condition("BYOC-T007", lambda setup: with_hyperparameters(setup, tuned)),
        Condition("BYOC-T008", lambda setup: with_hyperparameters(setup, encoded)),
        Condition("BYOC-T009", lambda setup: replace(setup, shm_bytes=Setup(()).shm_bytes)),
        Condition("BYOC-T010", lambda setup: replace(setup, read_only_root=True)),
    ]
    if subject.strict:
        conditions.append(Condition("BYOC-T020", lambda setup: replace(setup, memory_bytes=SMALL_MEMORY)))
    return [condition for condition in conditions if condition.rule not in untold]


def without_effect(subject: Subject) -> Iterator[Finding]:
    """The conditions that would change nothing for this job: to stand them says nothing."""
    if not subject.channels:
        yield skipped("BYOC-T004", NO_CHANNEL)
    if encoded(dict(subject.hyperparameters)) == subject.hyperparameters:
        yield skipped("BYOC-T008", "no hyperparameter is a text; give one: --hyperparameter NAME=TEXT")


@dataclass(frozen=True)
class Trained:
    """What the first training came to: its findings, how it ended, and where its model was put, if it has one."""

    findings: tuple[Finding, ...]
    end: TrainingEnd | None
    model: Path | None


def examine_training(containers: Containers, subject: Subject, model: Path, asked: Collection[str]) -> Trained:
    """Train under the conditions of the rules ``asked``; keep the model in the folder ``model``."""
    ends: list[TrainingEnd] = []
    kept: list[Path] = []

    def try_out(setup: Setup) -> Trial:
        try:
            end = train(containers, setup, subject.training_seconds, None if kept else model, may_stop=True)
        except RefusedError as error:
            return Trial(works=False, evidence=(f"Docker does not start it: {error}",))
        works = end.exit_code == 0
        if works:
            ends.append(end)
            kept.extend([model] if model.is_dir() and any(model.iterdir()) else [])
        return Trial(works, end.evidence, hopeless=end.exit_code is None)

    # A thread for each core of a busy machine makes numerical libraries wait for each other, longer than they work.
    setup = training_setup(subject, containers.halves()[0])
    found = [
        *without_effect(subject),
        *attribute("BYOC-T001", [one for one in training_conditions(subject) if one.rule in asked], setup, try_out),
    ]
    if not ends:
        rest = [skipped(rule, "training does not work: BYOC-T001") for rule in ("BYOC-T002", "BYOC-T019", "BYOC-T022")]
        return Trained((*found, *rest), None, None)
    end = ends[0]
    found.append(decided("BYOC-T002", bool(end.saved), "exit code 0, and nothing is below /opt/ml/model"))
    found.append(judge_buffers(end))
    found.append(decided("BYOC-T022", not end.links, *end.links[:SHOWN]))
    return Trained(tuple(found), end, kept[0] if kept else None)


def train(
    containers: Containers, setup: Setup, limit: float, model: Path | None = None, *, may_stop: bool = False
) -> TrainingEnd:
    """Run one training container to its end, or for ``limit`` seconds; its model is unpacked in the folder ``model``.

    Args:
        containers: of the image.
        setup: of this one.
        limit: in seconds.
        model: a folder that is made, or None.
        may_stop: whether a training that outlasts the limit is asked to stop, and ends well where it then does.

    Raises:
        RefusedError: if Docker does not start it.
    """
    with containers.started(setup) as container:
        ended = container.ended_within(limit)
        stopped = False
        if not ended and may_stop:
            container.signal("SIGTERM")
            stopped = await_stop(container, STOP_SECONDS).ended and container.exit_code == 0
        if not ended and not stopped:
            container.signal("SIGKILL")
            container.ended_within(STOP_SECONDS)
        return _ended(container, ended, stopped, limit, model)


def _ended(container: Container, by_itself: bool, stopped: bool, limit: float, model: Path | None) -> TrainingEnd:
    saved: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    with container.archive(MODEL) as tree:
        if tree is not None:
            saved = tuple(member.name for member in tree if member.isfile())
            links = tuple(f"/opt/ml/{one.name} -> {one.linkname}" for one in tree if one.issym())
            if model is not None and saved:
                _unpack(tree, model)
    lines = container.last_lines()
    return TrainingEnd(
        container.exit_code if by_itself or stopped else None,
        container.seconds(),
        container.text(FAILURE),
        saved,
        tuple(container.line_times()),
        lines if by_itself else f"it did not end within {limit:g} s; give hyperparameters that make it short\n{lines}",
        links,
        stopped,
        container.lacked_memory,
    )


def _unpack(tree: tarfile.TarFile, model: Path) -> None:
    with tempfile.TemporaryDirectory(dir=model.parent) as beside:
        # What hosting cannot have, links out of the folder and the like, is left out as it would be missing there.
        tree.extractall(beside, filter=_hostable)
        Path(beside, "model").rename(model)


def _hostable(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    with suppress(tarfile.FilterError):
        return tarfile.data_filter(member, folder)
    return None


def judge_buffers(end: TrainingEnd) -> Finding:
    """Whether the log came while training ran, or all at once at its end."""
    times = end.line_times
    if len(times) < TELLING_LINES or end.seconds < TELLING_SECONDS:
        return skipped("BYOC-T019", f"training prints {len(times)} lines in {end.seconds:.1f} s, which tells nothing")
    at_once = max(times) - min(times) < AT_ONCE_SECONDS and max(times) < AT_THE_END_SECONDS
    return decided(
        "BYOC-T019",
        not at_once,
        f"all {len(times)} lines came at once, {max(times):.2f} s before the end of {end.seconds:.1f} s",
    )


def examine_hosts(containers: Containers, subject: Subject, end: TrainingEnd) -> Iterator[Finding]:
    """Two hosts with as little in their documents as there may be; each alone only where that does not work."""
    if end.stopped:
        yield from (skipped(rule, NO_END) for rule in ("BYOC-T011", "BYOC-T016"))
        return
    data: dict[str, dict[str, str]] = {name: {} for name in subject.channels}
    if not _train_together(containers, subject, {}, data):
        yield passed("BYOC-T011")
        yield passed("BYOC-T016")
        return
    wrong = _train_together(containers, subject, told_resources(), described(subject.channels))
    yield decided("BYOC-T016", not wrong, *wrong)
    lean = documents(subject.hyperparameters, {"current_host": "algo-1", "hosts": ["algo-1"]}, data)
    alone = train(
        containers, replace(training_setup(subject, containers.halves()[0]), files=lean), subject.training_seconds
    )
    yield decided("BYOC-T011", alone.exit_code == 0, *alone.evidence)


def _train_together(
    containers: Containers, subject: Subject, resources: Mapping[str, Any], data: Mapping[str, Any]
) -> list[str]:
    """Train on two hosts that find each other by name; what went wrong."""
    cluster = plan_cluster(2)
    allowed = BESIDE_EACH_OTHER * subject.training_seconds
    limit = time.monotonic() + allowed
    wrong = []
    with ExitStack() as stack:
        running: dict[str, Container] = {}
        for host, cores in zip(cluster.hosts, containers.halves(), strict=True):
            told = {**resources, "current_host": host, "hosts": list(cluster.hosts)}
            files = documents(subject.hyperparameters, told, data)
            setup = replace(training_setup(subject, cores), files=files, hostname=host, peers="hosts")
            running[host] = stack.enter_context(containers.started(setup))
        for host, container in running.items():
            if not container.ended_within(max(0.0, limit - time.monotonic())):
                wrong += [f"{host} has not ended within {allowed:g} s", container.last_lines()]
            elif container.exit_code:
                wrong += [f"{host} ended with exit code {container.exit_code}", container.last_lines()]
    return wrong


def examine_stop(containers: Containers, subject: Subject, end: TrainingEnd) -> Iterator[Finding]:
    """SIGTERM as soon as training listens, and early enough to be told from its own end."""
    with containers.started(training_setup(subject, containers.halves()[1])) as container:
        elapsed, readings = _await_hearing(container, end.seconds / 2)
        if container.has_ended:
            reason = f"training ended within {elapsed:.1f} s, before a signal could come"
            yield from (skipped(rule, reason) for rule in ("BYOC-T015", "BYOC-T021"))
            return
        shell = shell_that_waits(container)
        yield decided("BYOC-T021", not shell, *(shell or ()))
        container.signal("SIGTERM")
        stop = await_stop(container, STOP_SECONDS, readings)
        yield judge_stop(stop, end.seconds - elapsed, container.last_lines())


def _await_hearing(container: Container, limit: float) -> tuple[float, int]:
    """Wait until process 1 hears SIGTERM, at most ``limit`` seconds; how long it took, and how often it was deaf."""
    start = time.monotonic()
    readings = 0
    while (elapsed := time.monotonic() - start) < limit and not container.has_ended:
        heard = hears_sigterm(container.threads())
        if heard:
            return time.monotonic() - start, 0
        readings += heard is False
        time.sleep(POLL_SECONDS)
    return elapsed, readings


def judge_stop(stop: Stop, remaining: float, last_lines: str) -> Finding:
    """Whether SIGTERM ended a training that would have run for ``remaining`` seconds more."""
    if stop.deaf and (not stop.ended or stop.seconds >= remaining / 2):
        went_on = f"training went on for {stop.seconds:.1f} s{', to its own end' if stop.ended else ''}"
        return violated("BYOC-T015", f"process 1 neither handles SIGTERM nor waits for it: {went_on}", last_lines)
    if not stop.ended:
        return violated("BYOC-T015", f"it still ran {stop.seconds:.0f} s after SIGTERM", last_lines)
    if not stop.deaf and stop.seconds <= remaining / 2 and remaining - stop.seconds >= CLEARLY_SECONDS:
        return passed("BYOC-T015", f"it ended {stop.seconds:.1f} s after SIGTERM")
    return skipped(
        "BYOC-T015",
        f"training is too short to tell: it ended {stop.seconds:.1f} s after SIGTERM, "
        f"and would have ended by itself after {max(remaining, 0):.1f} s",
    )


def examine_failures(containers: Containers, subject: Subject, end: TrainingEnd) -> Iterator[Finding]:
    """Jobs that cannot succeed, or hardly: what they say, and with which exit code they end."""
    setup = training_setup(subject, containers.halves()[1])
    limit = min(subject.training_seconds, SHORT_SECONDS) if end.stopped else subject.training_seconds
    empty = {f"{DATA}/{name}" for name in subject.channels}
    without_files = replace(setup, copies={}, writable=(*WRITABLE, *empty))
    nothing = replace(setup, copies={}, files=documents({}, told_resources(), {}))
    ends: dict[str, TrainingEnd] = {}
    if subject.channels:
        ends["every channel is empty"] = train(containers, without_files, limit)
        yield judge_want("BYOC-T017", ends["every channel is empty"], end)
    else:
        yield skipped("BYOC-T017", NO_CHANNEL)
    ends["there are no channels and no hyperparameters"] = train(containers, nothing, limit)
    yield judge_want("BYOC-T018", ends["there are no channels and no hyperparameters"], end)
    went_well = all(one.exit_code in {0, None} and bool(one.saved) >= bool(end.saved) for one in ends.values())
    if went_well and end.saved and not end.stopped:  # a whole training, where nothing less makes it fail
        no_place = tuple(path for path in WRITABLE if path != MODEL)
        unsaveable = replace(setup, writable=no_place, read_only=(MODEL,))
        ends["its model cannot be saved"] = train(containers, unsaveable, limit)
    yield from judge_failures(ends, end)


def judge_want(rule: str, end: TrainingEnd, normal: TrainingEnd) -> Finding:
    """Whether a job that lacks something worked, or said why not."""
    if end.exit_code is None:
        return skipped(rule, NO_END) if normal.stopped else violated(rule, *end.evidence)
    if end.failed:
        return decided(rule, bool(end.failure or not end.last_lines.endswith("(empty)")), *end.evidence)
    silent = bool(normal.saved) and not end.saved and not end.failure
    return decided(rule, not silent, "it left no model, and said nothing", *end.evidence)


def judge_failures(ends: Mapping[str, TrainingEnd], normal: TrainingEnd) -> Iterator[Finding]:
    """Exit code and failure file of jobs that failed; ``ends`` are by what was wrong with them."""
    hidden = [
        f"{wrong}: exit code 0 and no model"
        for wrong, end in ends.items()
        if end.exit_code == 0 and normal.saved and not end.saved
    ]
    hidden += [f"{wrong}: exit code 0 and a failure file" for wrong, end in ends.items() if _says_failed(end)]
    failed = {wrong: end for wrong, end in ends.items() if end.failed}
    why = "nothing that was tried made training fail"
    if hidden:
        logs = [end.last_lines for end in ends.values() if end.exit_code == 0 and (not end.saved or end.failure)]
        yield violated("BYOC-T012", *hidden, logs[0])
    else:
        yield passed("BYOC-T012") if failed else skipped("BYOC-T012", why)
    silent = {wrong: end for wrong, end in failed.items() if not (end.failure or "").strip()}
    lines = [f"{wrong}: exit code {end.exit_code} and no failure file" for wrong, end in silent.items()]
    lines += [end.last_lines for end in silent.values()][:1]
    yield decided("BYOC-T013", not silent, *lines) if failed else skipped("BYOC-T013", why)
    told = [end.failure.strip() for end in failed.values() if end.failure and end.failure.strip()]
    late = [text for text in told if len(text) > FAILURE_CHARACTERS and _reason(text) not in text[:FAILURE_CHARACTERS]]
    size = f"it has {len(late[0]):,} characters, the reason stands at the end: {_reason(late[0])}" if late else ""
    yield decided("BYOC-T014", not late, size) if told else skipped("BYOC-T014", "no failure file was written")


def _says_failed(end: TrainingEnd) -> bool:
    return end.exit_code == 0 and bool((end.failure or "").strip())


def _reason(text: str) -> str:
    """The last line of a traceback is its exception."""
    return text.splitlines()[-1].strip()[:200] if "Traceback (most recent call last)" in text else text[:1]


def _job_variables() -> dict[str, str]:
    arn = "arn:aws:sagemaker:us-east-1:000000000000:training-job/check"
    return {"TRAINING_JOB_NAME": "check", "TRAINING_JOB_ARN": arn, "AWS_REGION": "us-east-1"}
