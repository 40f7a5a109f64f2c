"""The rules, what is planned for them, and what a report makes of their findings."""

import json
from xml.etree import ElementTree as ET

import pytest
from local_sagemaker.conformance.findings import Report, one_each, passed, skipped, violated
from local_sagemaker.conformance.report import reference, show, write_junit
from local_sagemaker.conformance.rules import RULES, choose_rules
from local_sagemaker.conformance.subject import Payload, Subject
from local_sagemaker.conformance.suite import (
    FIRST_TRAINING,
    IMAGE,
    SERVING_PROBES,
    TRAINING_PROBES,
    plan_check,
)
from local_sagemaker.errors import UsageError
from rich.console import Console

from tests.support.places import REPOSITORY

PAGE = REPOSITORY / "docs" / "reference" / "check-rules.md"


def test_reference_has_the_tables_that_the_rules_make():
    """Nothing that is checked is missing from the page, and nothing else stands there."""
    page = PAGE.read_text(encoding="utf-8")
    assert page[page.index("## ") :] == reference(RULES)


def test_every_rule_is_decided_by_exactly_one_probe():
    """22.3: a rule without a probe would never be broken."""
    sets = [IMAGE, FIRST_TRAINING, *(probe.rules for probe in (*TRAINING_PROBES, *SERVING_PROBES))]
    decided = sorted(rule for rules in sets for rule in rules)
    assert decided == sorted(rule.id for rule in RULES)


def test_rules_are_chosen_by_group_and_by_id():
    """A short id is enough."""
    assert {rule.group for rule in choose_rules(["image", "serve"])} == {"image", "serve"}
    assert [rule.id for rule in choose_rules(ids=["S015", "BYOC-T001"])] == ["BYOC-T001", "BYOC-S015"]


@pytest.mark.parametrize("wrong", [{"groups": ["deploy"]}, {"ids": ["S999"]}])
def test_unknown_rule_or_group_is_named(wrong):
    """The user's mistake."""
    with pytest.raises(UsageError, match=r"deploy|S999"):
        choose_rules(**wrong)


def test_one_rule_of_serving_starts_its_probe_alone():
    """15.3: a look at one rule takes seconds."""
    subject = Subject("an-image", payload=Payload(b"1", "text/csv"))
    plan = plan_check(choose_rules(ids=["S015"]), subject, frozenset())
    assert (plan.looks, plan.trains, plan.training) == (False, False, ())
    assert [probe.name for probe in plan.serving] == ["serve, send requests, and stop with SIGTERM"]


def test_what_is_not_promised_or_not_given_is_not_tested_with_the_reason():
    """0.12, 15.1, 15.23, 18.1."""
    plan = plan_check(choose_rules(["serve"]), Subject("an-image"), frozenset({"multi-models"}))
    reasons = {one.rule.id: one.evidence[0] for one in plan.findings}
    assert "--payload" in reasons["BYOC-S004"]
    assert "--strict" in reasons["BYOC-S012"]
    assert "accept-bind-to-port" in reasons["BYOC-S014"]
    assert "--model-data" in reasons["BYOC-S033"]


def test_image_of_one_role_is_not_blamed_for_the_other():
    """0.1: by what it has, or by what was asked for; who asks for both gets both."""
    rules = choose_rules()
    found = plan_check(rules, Subject("an-image"), frozenset(), frozenset({"train"}))
    reasons = {one.rule.id: one.evidence[0] for one in found.findings}
    assert "no serve on PATH" in reasons["BYOC-I004"] == reasons["BYOC-S001"]
    assert "BYOC-I003" not in reasons
    assert (found.trains, bool(found.training), found.serving) == (True, True, ())
    assert found.notes == ("the image has train and no serve on PATH, and no ENTRYPOINT: it only trains",)
    asked = plan_check(rules, Subject("an-image", roles=frozenset({"serve"})), frozenset(), frozenset({"train"}))
    assert {one.rule.role for one in asked.findings if "--only" in one.evidence[0]} == {"train"}
    assert (asked.trains, asked.training, bool(asked.serving), asked.notes) == (False, (), True, ())


def test_rules_are_left_out_by_id():
    """A breach that a project has accepted."""
    assert {one.id for one in RULES} - {one.id for one in choose_rules(without=["s024"])} == {"BYOC-S024"}
    with pytest.raises(UsageError, match="no rule is left"):
        choose_rules(ids=["S024"], without=["S024"])


def test_breach_is_never_taken_back_and_an_undecided_rule_was_not_tested():
    """A rule can be looked at twice."""
    rules = choose_rules(ids=["S002", "S003"])
    found = one_each(rules, [violated("BYOC-S002", "slow"), passed("BYOC-S002")])
    assert [one.outcome for one in found] == ["violated", "skipped"]


@pytest.mark.parametrize(("strict", "failing"), [(False, ["BYOC-S015"]), (True, ["BYOC-S015", "BYOC-S003"])])
def test_errors_count_and_warnings_where_it_is_strict_and_advice_never(strict, failing):
    """15.3, 14.2."""
    found = (violated("BYOC-S015", "413"), violated("BYOC-S003", "405"), violated("BYOC-S024", "exit code 1"))
    report = Report("an-image", strict, found, 1.0)
    assert [one.rule.id for one in report.failures] == failing
    assert report.document()["ok"] is False


def test_junit_has_a_case_for_each_rule_with_its_evidence(tmp_path):
    """What CI systems show; control characters of a log do not spoil the file."""
    found = (violated("BYOC-T001", "log: \x1b[31mred\x00"), skipped("BYOC-T002", "why"), violated("BYOC-S003", "405"))
    file = tmp_path / "reports" / "junit.xml"
    write_junit(Report("an-image", False, found, 2.0), file)
    suites = {suite.get("name"): suite for suite in ET.parse(file).getroot()}  # noqa: S314 - written above
    assert {name: (suite.get("tests"), suite.get("failures")) for name, suite in suites.items()} == {
        "image": ("0", "0"),
        "train": ("2", "1"),
        "serve": ("1", "0"),
    }
    failed, not_tested = suites["train"]
    assert "red" in failed.find("failure").text
    assert not_tested.find("skipped").get("message") == "why"
    assert "405" in suites["serve"][0].find("system-out").text


def test_group_that_was_not_tested_for_one_reason_says_so_once(capsys):
    """Twenty lines that say the same hide the one that does not."""
    only_serves = [skipped(rule.id, "it only serves") for rule in choose_rules(["train"])]
    show(Report("an-image", False, (*only_serves, skipped("BYOC-S004", "no payload")), 1.0), Console(width=80))
    told = capsys.readouterr().out
    assert told.count("it only serves") == 1
    assert f"none of {len(only_serves)} rules" in told
    assert "BYOC-S004" in told


def test_summary_counts():
    """One line that a person reads first."""
    report = Report("an-image", False, (passed("BYOC-S001"), violated("BYOC-S003", "405")), 3.2)
    assert report.summary() == "an-image: 1 rules kept, 1 broken (1 warning), 0 not tested, in 3 s"
    assert json.loads(json.dumps(report.document()))["violated"] == 1
