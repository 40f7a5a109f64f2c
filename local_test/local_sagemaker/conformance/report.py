"""A report for people, for machines that read JUnit, and the table of the rules; JSON is the report's own document."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from local_sagemaker.conformance.rule import GROUPS, Group, Rule

if TYPE_CHECKING:
    from rich.console import Console

    from local_sagemaker.conformance.findings import Finding, Report

TITLES: dict[Group, str] = {"image": "The image", "train": "Training", "serve": "Serving"}
COLOURS = {"error": "bold red", "warning": "yellow", "advice": "cyan", "passed": "green", "skipped": "dim"}
NEEDS_LABEL = {"accept-bind-to-port", "multi-models", "bidirectional-streaming"}


def show(report: Report, console: Console) -> None:
    """Print the report: in each group what is broken first, with evidence, then what was not tested, then the rest."""
    for group in GROUPS:
        found = [finding for finding in report.findings if finding.rule.group == group]
        if not found:
            continue
        console.print(TITLES[group], style="bold", markup=False)
        reasons = {finding.evidence for finding in found if finding.outcome == "skipped"}
        if len(reasons) == 1 and len(found) > 1 and all(finding.outcome == "skipped" for finding in found):
            text = f"  {WORDS['skipped']:<10} none of {len(found)} rules: {found[0].evidence[0]}\n"
            console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)
            continue
        for outcome in ("violated", "skipped", "passed"):
            for finding in found:
                if finding.outcome == outcome:
                    _show_finding(finding, console)
        console.print()
    for note in report.notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    console.print(
        report.summary(), style="red" if report.failures else "green", markup=False, highlight=False, soft_wrap=True
    )


def _show_finding(finding: Finding, console: Console) -> None:
    word = str(finding.rule.severity) if finding.outcome == "violated" else WORDS[finding.outcome]
    style = COLOURS[str(finding.rule.severity) if finding.outcome == "violated" else finding.outcome]

    def line(text: str, style: str = "") -> None:
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    line(f"  {word:<10} {finding.rule.id}  {finding.rule.sentence}", style)
    if finding.outcome == "skipped":
        line(f"             {finding.evidence[0]}", "dim")
    if finding.outcome == "violated":
        for text in finding.evidence:
            line(f"             {text}")
        line(f"             do: {finding.rule.remedy}")
        line(f"             source: {finding.rule.source}", "dim")


WORDS = {"passed": "kept", "skipped": "not tested"}


def write_junit(report: Report, path: Path) -> None:
    """Write the report as JUnit does: a test suite for each group, a test case for each rule."""
    root = ET.Element("testsuites", name=f"byoc check {report.image}", time=f"{report.seconds:.1f}")
    for group in GROUPS:
        found = [finding for finding in report.findings if finding.rule.group == group]
        failures = sum(report.counts_as_failure(finding) for finding in found)
        skipped = sum(finding.outcome == "skipped" for finding in found)
        counts = {"tests": str(len(found)), "failures": str(failures), "errors": "0", "skipped": str(skipped)}
        suite = ET.SubElement(root, "testsuite", {"name": group, **counts})
        for finding in found:
            _junit_case(suite, report, finding)
    path.parent.mkdir(parents=True, exist_ok=True)
    ET.indent(root)
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _junit_case(suite: ET.Element, report: Report, finding: Finding) -> None:
    rule = finding.rule
    case = ET.SubElement(suite, "testcase", classname=f"byoc.{rule.group}", name=f"{rule.id} {rule.sentence}")
    text = _printable("\n".join(finding.evidence))
    if report.counts_as_failure(finding):
        failure = ET.SubElement(case, "failure", type=str(rule.severity), message=rule.remedy)
        failure.text = text
    elif finding.outcome == "violated":  # told, and not counted
        ET.SubElement(case, "system-out").text = f"{rule.severity}: {text}\n{rule.remedy}"
    elif finding.outcome == "skipped":
        ET.SubElement(case, "skipped", message=text)


def _printable(text: str) -> str:
    """XML has no place for most control characters, and logs have them."""
    return "".join(one if one >= " " or one in "\n\t" else "\N{REPLACEMENT CHARACTER}" for one in text)


def list_rules(rules: Iterable[Rule], console: Console) -> None:
    """One line for each rule."""
    for rule in rules:
        text = f"{rule.id}  {rule.severity:<8} {rule.sentence}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def reference(rules: Iterable[Rule]) -> str:
    """The tables of the rules in Markdown, a table for each group, as docs/reference/check-rules.md has them."""
    chosen = list(rules)
    parts = []
    for group in GROUPS:
        rows = [_row(rule) for rule in chosen if rule.group == group]
        if rows:
            head = [
                "| rule | severity | what holds | needs | what to do | source | clause |",
                "|---|---|---|---|---|---|---|",
            ]
            parts.append("\n".join([f"## {TITLES[group]}", "", *head, *rows]))
    return "\n\n".join(parts) + "\n"


def _row(rule: Rule) -> str:
    needs = ", ".join(f"the label {need}" if need in NEEDS_LABEL else need for need in rule.needs)
    cells = (rule.id, str(rule.severity), rule.sentence, needs, rule.remedy, rule.source, rule.clause)
    return "| " + " | ".join(cells) + " |"
