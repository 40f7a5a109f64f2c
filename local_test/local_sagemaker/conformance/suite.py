"""The whole check: which probes decide the rules that are wanted, and their order. The plan is made first."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from local_sagemaker.archive import unpack
from local_sagemaker.conformance import serving, training
from local_sagemaker.conformance.containers import Containers, RefusedError
from local_sagemaker.conformance.findings import Finding, Report, one_each, skipped
from local_sagemaker.conformance.image import capabilities, examine_image, find_roles
from local_sagemaker.conformance.rule import LABEL_PREFIX, ROLES, Need, Role, Rule
from local_sagemaker.conformance.subject import Subject

# Beside each other: servers mostly wait, while trainings would slow each other down.
AT_ONCE = 2
LONG_SECONDS = 30.0
MEANT_FOR: dict[Role, str] = {"train": "trains", "serve": "serves"}
NEEDS: dict[Need, str] = {
    "payload": "there is no payload; give --payload FILE",
    "model data": "there is no model; give --model-data, or let the check train one",
    "strict": "memory is limited with --strict only",
}
Tell = Callable[[str], None]


def _ids(letter: str, *numbers: int) -> frozenset[str]:
    return frozenset(f"BYOC-{letter}{number:03d}" for number in numbers)


@dataclass(frozen=True)
class Probe:
    """One visit to the image: some containers, and the rules that they decide.

    Attributes:
        name: what is done, in words.
        rules: the ids of what it decides.
        alone: whether other work would spoil its times.
        run: does it.
    """

    name: str
    rules: frozenset[str]
    run: Callable[..., Iterator[Finding]]
    alone: bool = False


Work = tuple[Probe, Callable[[], Iterator[Finding]]]
IMAGE = _ids("I", *range(1, 17))
FIRST_TRAINING = _ids("T", *range(1, 11), 19, 20, 22)
# The longest first: what follows fits beside it.
TRAINING_PROBES: tuple[Probe, ...] = (
    Probe("train on two hosts with the least configuration", _ids("T", 11, 16), training.examine_hosts),
    Probe("let training fail", _ids("T", 12, 13, 14, 17, 18), training.examine_failures),
    Probe("stop training with SIGTERM", _ids("T", 15, 21), training.examine_stop),
)
SERVING_PROBES: tuple[Probe, ...] = (
    Probe(
        "serve, send requests, and stop with SIGTERM",
        _ids("S", *range(1, 14), *range(15, 25), *range(26, 32), 34, 36),
        serving.examine_start,
        alone=True,
    ),
    Probe("kill each of the server's processes", _ids("S", 25), serving.examine_deaths),
    Probe("serve on another port", _ids("S", 14, 35), serving.examine_other_port),
    Probe("serve an empty model", _ids("S", 32), serving.examine_empty_model),
    Probe("serve many models", _ids("S", 33), serving.examine_many_models),
)


@dataclass(frozen=True)
class Plan:
    """What will be done.

    Attributes:
        rules: what is asked.
        findings: what is known before anything is started: rules that cannot be decided, with the reason.
        looks: whether the image itself is looked at.
        trains: whether training is tried; also where only its model is wanted.
        training: the probes after it.
        serving: the probes of the server.
        notes: what was left out of it because of what the image has.
    """

    rules: tuple[Rule, ...]
    findings: tuple[Finding, ...]
    looks: bool
    trains: bool
    training: tuple[Probe, ...]
    serving: tuple[Probe, ...]
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The plan in words."""
        first = ["look at the image"] if self.looks else []
        first += ["train under all conditions, or find the one that training does not stand"] if self.trains else []
        return [*first, *(probe.name for probe in (*self.training, *self.serving))]


def plan_check(
    rules: Sequence[Rule], subject: Subject, promised: frozenset[str], found: frozenset[Role] = frozenset(ROLES)
) -> Plan:
    """Choose the probes for some rules.

    Args:
        rules: what is asked.
        subject: the image and what is given for it.
        promised: the capabilities of the image's labels.
        found: what the image has executables for; what the subject says wins over it.
    """
    roles = found if subject.roles is None else subject.roles
    asked = [rule for rule in rules if rule.group == "train" and "train" in roles]
    trains_for_model = subject.model_data is None and any(rule.group == "serve" for rule in rules if rule.role in roles)
    can_have_model = subject.model_data is not None or bool(asked)
    known = [
        finding
        for rule in rules
        if (finding := _of_another_role(rule, subject, roles) or _undecidable(rule, subject, promised, can_have_model))
    ]
    open_ids = {rule.id for rule in rules} - {finding.rule.id for finding in known}
    return Plan(
        tuple(rules),
        tuple(known),
        looks=bool(open_ids & IMAGE),
        trains=bool(asked) and (bool(open_ids - IMAGE) or trains_for_model),
        training=tuple(probe for probe in TRAINING_PROBES if probe.rules & open_ids),
        serving=tuple(probe for probe in SERVING_PROBES if probe.rules & open_ids),
        notes=() if subject.roles is not None or len(roles) == len(ROLES) else (_for_one(roles),),
    )


def _of_another_role(rule: Rule, subject: Subject, roles: frozenset[Role]) -> Finding | None:
    if rule.role is None or rule.role in roles:
        return None
    if subject.roles is not None:
        return skipped(rule.id, f"--only leaves out {rule.role}")
    return skipped(rule.id, f"{_for_one(roles)}; --only image,train,serve asks for both")


def _for_one(roles: frozenset[Role]) -> str:
    """Words for an image that has no executable for the other role."""
    (there,), (other,) = roles, frozenset(ROLES) - roles
    return f"the image has {there} and no {other} on PATH, and no ENTRYPOINT: it only {MEANT_FOR[there]}"


def _undecidable(rule: Rule, subject: Subject, promised: frozenset[str], can_have_model: bool) -> Finding | None:
    given = {
        "payload": subject.payload is not None,
        "model data": can_have_model,
        "strict": subject.strict,
    }
    for need in (one for one in rule.needs if not one.startswith("an image")):
        if need in NEEDS and not given[need]:
            return skipped(rule.id, NEEDS[need])
        if need not in NEEDS and need not in promised:
            return skipped(rule.id, f"the image has no label {LABEL_PREFIX}{need}=true")
    return None


def plan_for(containers: Containers, subject: Subject, rules: Sequence[Rule]) -> Plan:
    """Look into the image, and choose the probes for some rules; nothing is started.

    Raises:
        EngineMissingError: if the image is absent, or Docker cannot make a container of it.
    """
    inspected = containers.inspect()
    with containers.unstarted() as container:
        return plan_check(rules, subject, capabilities(inspected), find_roles(inspected, container))


def check_image(containers: Containers, subject: Subject, rules: Sequence[Rule], tell: Tell) -> Report:
    """Hold an image to some rules.

    Args:
        containers: of the image; closed by the caller.
        subject: the image and what is given for it.
        rules: which ones.
        tell: is told what is done, line by line.

    Raises:
        EngineMissingError: if the image is absent.
        UsageError: if the model data cannot be unpacked.
    """
    start = time.monotonic()
    inspected = containers.inspect()
    plan = plan_for(containers, subject, rules)
    with tempfile.TemporaryDirectory(prefix="byoc-check-") as folder:
        notes = list(plan.notes)
        found = list(_act(plan, containers, subject, inspected, Path(folder), tell, notes))
    known = {finding.rule.id for finding in plan.findings}
    findings = one_each(rules, (*plan.findings, *(finding for finding in found if finding.rule.id not in known)))
    return Report(subject.image, subject.strict, findings, time.monotonic() - start, tuple(notes))


def _act(
    plan: Plan,
    containers: Containers,
    subject: Subject,
    inspected: dict[str, Any],
    folder: Path,
    tell: Tell,
    notes: list[str],
) -> Iterator[Finding]:
    if plan.looks:
        tell("looking at the image")
        with containers.unstarted() as container:
            yield from examine_image(subject.image, inspected, container)
    model = _given_model(subject, folder)
    trained = None
    if plan.trains:
        tell("training under all conditions")
        asked = {rule.id for rule in plan.rules}
        trained = training.examine_training(containers, subject, folder / "model", asked)
        notes += [note_on_training(trained.end)] if trained.end else []
        yield from trained.findings
        model = model or trained.model
    bench = serving.Serving(containers, subject, model, capabilities(inspected))
    work: list[Work] = []
    for probe in plan.training:
        if trained is None or trained.end is None:
            yield from _all_skipped(probe, "training does not work: BYOC-T001")
        else:
            work.append((probe, partial(probe.run, containers, subject, trained.end)))
    work += [(probe, partial(_serve, bench, probe)) for probe in plan.serving]
    # What the server does not stand, and how long its start takes, is known before the others begin.
    yield from _flatten(_decide(probe, run, tell) for probe, run in work if probe.alone)
    yield from _beside_each_other(containers, [one for one in work if not one[0].alone], tell)


def _serve(bench: serving.Serving, probe: Probe) -> Iterator[Finding]:
    if bench.unready:
        return (skipped(rule, bench.unready[0]) for rule in sorted(probe.rules))
    return probe.run(bench)


def _beside_each_other(containers: Containers, work: Sequence[Work], tell: Tell) -> Iterator[Finding]:
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        yield from _flatten(pool.map(lambda one: _decide(one[0], one[1], tell), work))
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        containers.close()  # probes under way end with their containers
        raise
    finally:
        pool.shutdown()


def _decide(probe: Probe, run: Callable[[], Iterator[Finding]], tell: Tell) -> list[Finding]:
    """Run one probe; where it comes to no end, what it has found stands and the rest was not tested."""
    tell(probe.name)
    found: list[Finding] = []
    try:
        for finding in run():
            found.append(finding)  # noqa: PERF402 - what is found before an end without a result stands
    except RefusedError as error:
        decided = {finding.rule.id for finding in found}
        found += [skipped(rule, f"Docker does not start it: {error}") for rule in probe.rules - decided]
    return found


def _all_skipped(probe: Probe, reason: str) -> list[Finding]:
    return [skipped(rule, reason) for rule in sorted(probe.rules)]


def _flatten(parts: Iterable[list[Finding]]) -> Iterator[Finding]:
    for part in parts:
        yield from part


def note_on_training(end: training.TrainingEnd) -> str:
    """How long the first training took, and what to do where that is long."""
    if end.stopped:
        return f"training was asked to stop after {end.seconds:.0f} s; {training.NO_END}"
    hint = "; hyperparameters that make it short make the check short" if end.seconds > LONG_SECONDS else ""
    return f"training took {end.seconds:.0f} s, and ran several times{hint}"


def _given_model(subject: Subject, folder: Path) -> Path | None:
    if subject.model_data is None:
        return None
    return subject.model_data if subject.model_data.is_dir() else unpack(subject.model_data, folder / "given")
