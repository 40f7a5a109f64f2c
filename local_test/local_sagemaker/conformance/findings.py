"""What a rule came to for one image: kept, broken with the evidence, or not tested with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from local_sagemaker.conformance.rule import Rule, Severity
from local_sagemaker.conformance.rules import BY_ID

Outcome = Literal["passed", "violated", "skipped"]


@dataclass(frozen=True)
class Finding:
    """One rule's outcome; ``evidence`` are lines: what was sent, what came, what the log says."""

    rule: Rule
    outcome: Outcome
    evidence: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """The finding as a JSON object."""
        return {
            "rule": self.rule.id,
            "severity": str(self.rule.severity),
            "outcome": self.outcome,
            "sentence": self.rule.sentence,
            "evidence": list(self.evidence),
            "remedy": self.rule.remedy if self.outcome == "violated" else None,
            "source": self.rule.source,
        }


def passed(rule: str, *evidence: str) -> Finding:
    """The rule is kept."""
    return Finding(BY_ID[rule], "passed", evidence)


def violated(rule: str, *evidence: str) -> Finding:
    """The rule is broken; the evidence says how."""
    return Finding(BY_ID[rule], "violated", tuple(line for text in evidence for line in text.splitlines()))


def skipped(rule: str, reason: str) -> Finding:
    """The rule could not be decided; the reason says what to give."""
    return Finding(BY_ID[rule], "skipped", (reason,))


def decided(rule: str, kept: bool, *evidence: str) -> Finding:
    """Kept or broken, by what was seen."""
    return passed(rule, *evidence) if kept else violated(rule, *evidence)


@dataclass(frozen=True)
class Report:
    """All findings about one image, in the order of the rules.

    Attributes:
        image: its reference.
        strict: whether warnings count.
        findings: one for each rule that was asked for.
        seconds: what it took.
        notes: what would make the next check quicker, or tell more.
    """

    image: str
    strict: bool
    findings: tuple[Finding, ...]
    seconds: float
    notes: tuple[str, ...] = ()

    def of(self, outcome: Outcome) -> tuple[Finding, ...]:
        """The findings with an outcome."""
        return tuple(finding for finding in self.findings if finding.outcome == outcome)

    def counts_as_failure(self, finding: Finding) -> bool:
        """Whether the finding makes ``byoc check`` fail."""
        counted = {Severity.ERROR, Severity.WARNING} if self.strict else {Severity.ERROR}
        return finding.outcome == "violated" and finding.rule.severity in counted

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that make ``byoc check`` fail."""
        return tuple(finding for finding in self.findings if self.counts_as_failure(finding))

    def summary(self) -> str:
        """One line."""
        broken = self.of("violated")
        counts = ", ".join(
            f"{number} {severity}{'s' if number != 1 and severity is not Severity.ADVICE else ''}"
            for severity in Severity
            if (number := sum(finding.rule.severity is severity for finding in broken))
        )
        kept, untested = len(self.of("passed")), len(self.of("skipped"))
        breaches = f"{len(broken)} broken{f' ({counts})' if counts else ''}"
        return f"{self.image}: {kept} rules kept, {breaches}, {untested} not tested, in {self.seconds:.0f} s"

    def document(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {
            "image": self.image,
            "strict": self.strict,
            "ok": not self.failures,
            "seconds": round(self.seconds, 1),
            "passed": len(self.of("passed")),
            "violated": len(self.of("violated")),
            "skipped": len(self.of("skipped")),
            "notes": list(self.notes),
            "findings": [finding.document() for finding in self.findings],
        }


def one_each(rules: Iterable[Rule], found: Iterable[Finding]) -> tuple[Finding, ...]:
    """One finding for each rule, in the order of the rules.

    What was found last about a rule holds, but a breach is never taken back; a rule that nobody decided was not tested.
    """
    last: dict[str, Finding] = {}
    for finding in found:
        earlier = last.get(finding.rule.id)
        if earlier is None or _weight(finding) >= _weight(earlier):
            last[finding.rule.id] = finding
    return tuple(last.get(rule.id) or skipped(rule.id, "no probe has decided it") for rule in rules)


def _weight(finding: Finding) -> int:
    weights: Mapping[Outcome, int] = {"skipped": 0, "passed": 1, "violated": 2}
    return weights[finding.outcome]
