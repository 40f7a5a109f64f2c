"""Training containers as the platform starts them, and as it seldom does: what each end says about the rules."""

from __future__ import annotations

import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from local_sagemaker.conformance.conditions import Condition, Trial, attribute
from local_sagemaker.conformance.containers import WRITABLE, Container, Containers, RefusedError, Setup
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
from local_sagemaker.conformance.subject import Subject
from local_sagemaker.engines.base import BASE_DIR
from local_sagemaker.training.cluster import plan_cluster

DATA = f"{BASE_DIR}/input/data"
MODEL = f"{BASE_DIR}/model"
FAILURE = f"{BASE_DIR}/output/failure"
FAILURE_CHARACTERS = 1024
STOP_SECONDS = 120.0
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
    """

    exit_code: int | None
    seconds: float
    failure: str | None
    saved: tuple[str, ...]
    line_times: tuple[float, ...]
    last_lines: str

    @property
    def failed(self) -> bool:
        """Whether it ended by itself, with a failure."""
        return self.exit_code not in {0, None}

    @property
    def evidence(self) -> tuple[str, ...]:
        """What happened."""
        how = f"exit code {self.exit_code} after {self.seconds:.1f} s" if self.exit_code is not None else ""
        reason = f"failure file: {self.failure.strip()[:300]}" if self.failure else ""
        return tuple(line for line in (how, reason, self.last_lines) if line)


def training_setup(subject: Subject) -> Setup:
    """The least that a job has: the documented keys, writable copies of the channels, and no want of anything."""
    return Setup(
        ("train",),
        environment={**_job_variables(), **subject.environment},
        files=documents(subject.hyperparameters, told_resources(), described(subject.channels)),
        folders={f"{BASE_DIR}/code": subject.code} if subject.code else {},
        copies={f"{DATA}/{name}": folder for name, folder in subject.channels.items()},
        shm_bytes=PLENTY_OF_SHM,
    )


def training_conditions(subject: Subject) -> list[Condition]:
    """What the platform, tuning and the SDKs do to a job."""
    channels = {f"{DATA}/{name}": folder for name, folder in subject.channels.items()}
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
    return conditions


@dataclass(frozen=True)
class Trained:
    """What the first training came to: its findings, how it ended, and where its model was put, if it has one."""

    findings: tuple[Finding, ...]
    end: TrainingEnd | None
    model: Path | None


def examine_training(containers: Containers, subject: Subject, model: Path) -> Trained:
    """Train under all conditions; keep the model in the folder ``model``."""
    ends: list[TrainingEnd] = []
    kept: list[Path] = []

    def try_out(setup: Setup) -> Trial:
        try:
            end = train(containers, setup, subject.training_seconds, None if kept else model)
        except RefusedError as error:
            return Trial(works=False, evidence=(f"Docker does not start it: {error}",))
        works = end.exit_code == 0
        if works:
            ends.append(end)
            kept.extend([model] if model.is_dir() and any(model.iterdir()) else [])
        return Trial(works, end.evidence, hopeless=end.exit_code is None)

    found = list(attribute("BYOC-T001", training_conditions(subject), training_setup(subject), try_out))
    if not ends:
        rest = [skipped(rule, "training does not work: BYOC-T001") for rule in ("BYOC-T002", "BYOC-T019")]
        return Trained((*found, *rest), None, None)
    end = ends[0]
    found.append(decided("BYOC-T002", bool(end.saved), "exit code 0, and nothing is below /opt/ml/model"))
    found.append(judge_buffers(end))
    return Trained(tuple(found), end, kept[0] if kept else None)


def train(containers: Containers, setup: Setup, limit: float, model: Path | None = None) -> TrainingEnd:
    """Run one training container to its end, or for ``limit`` seconds; its model is unpacked in the folder ``model``.

    Raises:
        RefusedError: if Docker does not start it.
    """
    with containers.started(setup) as container:
        ended = container.ended_within(limit)
        if not ended:
            container.signal("SIGKILL")
            container.ended_within(STOP_SECONDS)
        return _ended(container, ended, limit, model)


def _ended(container: Container, by_itself: bool, limit: float, model: Path | None) -> TrainingEnd:
    saved: tuple[str, ...] = ()
    with container.archive(MODEL) as tree:
        if tree is not None:
            saved = tuple(member.name for member in tree if member.isfile())
            if model is not None and saved:
                _unpack(tree, model)
    lines = container.last_lines()
    return TrainingEnd(
        container.exit_code if by_itself else None,
        container.seconds(),
        container.text(FAILURE),
        saved,
        tuple(container.line_times()),
        lines if by_itself else f"it did not end within {limit:g} s\n{lines}",
    )


def _unpack(tree: tarfile.TarFile, model: Path) -> None:
    with tempfile.TemporaryDirectory(dir=model.parent) as beside:
        tree.extractall(beside, filter="data")
        Path(beside, "model").rename(model)


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


def examine_lean_configuration(containers: Containers, subject: Subject, _end: TrainingEnd) -> Iterator[Finding]:
    """Documents with as little in them as there may be."""
    setup = training_setup(subject)
    files = documents(
        subject.hyperparameters,
        {"current_host": "algo-1", "hosts": ["algo-1"]},
        {name: {} for name in subject.channels},
    )
    end = train(containers, replace(setup, files=files), subject.training_seconds)
    yield decided("BYOC-T011", end.exit_code == 0, *end.evidence)


def examine_two_hosts(containers: Containers, subject: Subject, _end: TrainingEnd) -> Iterator[Finding]:
    """Two containers that find each other by name."""
    cluster = plan_cluster(2)
    limit = time.monotonic() + subject.training_seconds
    base = training_setup(subject)
    data = described(subject.channels)
    with ExitStack() as stack:
        running: dict[str, Container] = {}
        for host in cluster.hosts:
            resources = {**told_resources(), "current_host": host, "hosts": list(cluster.hosts)}
            files = documents(subject.hyperparameters, resources, data)
            setup = replace(base, files=files, hostname=host, peers="hosts")
            running[host] = stack.enter_context(containers.started(setup))
        wrong = []
        for host, container in running.items():
            if not container.ended_within(max(0.0, limit - time.monotonic())):
                wrong += [f"{host} has not ended within {subject.training_seconds:g} s", container.last_lines()]
            elif container.exit_code:
                wrong += [f"{host} ended with exit code {container.exit_code}", container.last_lines()]
    yield decided("BYOC-T016", not wrong, *wrong)


def examine_stop(containers: Containers, subject: Subject, end: TrainingEnd) -> Iterator[Finding]:
    """SIGTERM in the middle."""
    with containers.started(training_setup(subject)) as container:
        if container.ended_within(end.seconds / 2):
            yield skipped("BYOC-T015", f"training ended within {end.seconds / 2:.1f} s, before a signal could come")
            return
        container.signal("SIGTERM")
        ended = container.ended_within(STOP_SECONDS)
        yield decided("BYOC-T015", ended, f"it still ran {STOP_SECONDS:g} s after SIGTERM", container.last_lines())


def examine_failures(containers: Containers, subject: Subject, end: TrainingEnd) -> Iterator[Finding]:
    """Jobs that cannot succeed, or hardly: what they say, and with which exit code they end."""
    setup = training_setup(subject)
    empty = {f"{DATA}/{name}" for name in subject.channels}
    without_files = replace(setup, copies={}, writable=(*WRITABLE, *empty))
    nothing = replace(setup, copies={}, files=documents({}, told_resources(), {}))
    no_place = tuple(path for path in WRITABLE if path != MODEL)
    unsaveable = replace(setup, writable=no_place, read_only=(MODEL,))
    ends: dict[str, TrainingEnd] = {}
    if end.saved:
        ends["its model cannot be saved"] = train(containers, unsaveable, subject.training_seconds)
    if subject.channels:
        ends["every channel is empty"] = train(containers, without_files, subject.training_seconds)
        yield judge_want("BYOC-T017", ends["every channel is empty"], end)
    else:
        yield skipped("BYOC-T017", "there is no channel; give --channel NAME=DIR")
    ends["there are no channels and no hyperparameters"] = train(containers, nothing, subject.training_seconds)
    yield judge_want("BYOC-T018", ends["there are no channels and no hyperparameters"], end)
    yield from judge_failures(ends, end)


def judge_want(rule: str, end: TrainingEnd, normal: TrainingEnd) -> Finding:
    """Whether a job that lacks something worked, or said why not."""
    if end.exit_code is None:
        return violated(rule, *end.evidence)
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
    failed = {wrong: end for wrong, end in ends.items() if end.failed}
    why = "nothing that was tried made training fail"
    if hidden:
        logs = [end.last_lines for end in ends.values() if end.exit_code == 0 and not end.saved]
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


def _reason(text: str) -> str:
    """The last line of a traceback is its exception."""
    return text.splitlines()[-1].strip()[:200] if "Traceback (most recent call last)" in text else text[:1]


def _job_variables() -> dict[str, str]:
    arn = "arn:aws:sagemaker:us-east-1:000000000000:training-job/check"
    return {"TRAINING_JOB_NAME": "check", "TRAINING_JOB_ARN": arn, "AWS_REGION": "us-east-1"}
