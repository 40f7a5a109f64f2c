"""What requests find out about a server: nothing on one that keeps the contract, and each fault on one that has it."""

import pytest
from local_sagemaker.conformance import invocations
from local_sagemaker.conformance.exchange import serves_twice
from local_sagemaker.conformance.invocations import NO_PAYLOAD, examine_requests

NOTHING = frozenset()
FAULTS = {
    "get_only": "S003",
    "no_type": "S004",
    "lazy": "S005",
    "small_bodies": "S015",
    "no_chunks": "S016",
    "exact_type": "S017",
    "closes_connections": "S027",
    "odd_parameters": "S028",
    "no_metrics": "S029",
    "known_headers": "S030",
}


@pytest.fixture(autouse=True)
def short_load(monkeypatch):
    """What a load shows, it shows at once on a server that has nothing else to do."""
    monkeypatch.setattr(invocations, "LOAD_SECONDS", 0.3)
    monkeypatch.setattr(invocations, "LONGEST_LOAD_SECONDS", 1.0)


@pytest.fixture
def one_attempt(monkeypatch):
    """A time that is bad is bad each time."""
    monkeypatch.setattr(invocations, "ATTEMPTS", 1)


def outcomes(server):
    return {one.rule.id[5:]: one.outcome for one in examine_requests(server, NOTHING)}


def outcome(server, rule):
    """Of one rule; what comes after it is not tried."""
    return next(one.outcome for one in examine_requests(server, NOTHING) if one.rule.id == f"BYOC-{rule}")


def test_server_that_keeps_the_contract_breaks_no_rule(stranger):
    """14.2 to 14.8, 15.1 to 15.9, 15.14, 15.35, 15.36."""
    with stranger() as server:
        assert set(outcomes(server).values()) == {"passed"}


def test_each_fault_breaks_its_rule_and_no_other(stranger):
    """14.2, 14.8, 15.1, 15.3, 15.6, 15.7, 15.14, 15.35, 15.36: all at once, as images come."""
    with stranger(*FAULTS) as server:
        found = outcomes(server)
    assert {rule for rule, outcome in found.items() if outcome == "violated"} == set(FAULTS.values())


def test_answer_that_needs_an_accept_is_found_and_nothing_else_is_blamed(stranger):
    """15.9."""
    with stranger("picky_accept") as server:
        found = outcomes(server)
    assert {rule for rule, outcome in found.items() if outcome == "violated"} == {"S018"}


def test_servers_errors_for_callers_mistakes_are_found(stranger):
    """15.5."""
    with stranger("raises") as server:
        found = outcomes(server)
    assert {rule for rule, outcome in found.items() if outcome == "violated"} == {"S019", "S020"}


def test_server_that_garbage_ends_is_found_dead(stranger):
    """14.6, 15.5."""
    with stranger("dies") as server:
        found = outcomes(server)
    assert (found["S020"], found["S021"]) == ("violated", "violated")


def test_health_check_that_waits_for_invocations_is_found(stranger, monkeypatch):
    """14.7: sixteen clients, one at a time."""
    monkeypatch.setenv("SECONDS", "0.25")
    with stranger("ping_waits") as server:
        assert outcome(server, "S006") == "violated"


def test_server_that_refuses_more_than_a_few_at_once_is_found(stranger, monkeypatch):
    """15.1: sixteen clients, and room for four."""
    monkeypatch.setenv("SECONDS", "0.05")
    with stranger("few_at_once") as server:
        assert outcome(server, "S031") == "violated"


def test_parameters_of_transforms_are_counts_and_one_of_two_strategies():
    """15.35."""
    good = b'{"MaxConcurrentTransforms": 4, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 6}'
    assert invocations.are_parameters(good)
    for wrong in (
        b"OK",
        b"[]",
        good.replace(b"4", b"true"),
        good.replace(b"MULTI", b"MANY"),
        good.replace(b"6", b"600"),
    ):
        assert not invocations.are_parameters(wrong)


def test_slow_clients_that_block_the_health_check_are_found(stranger, one_attempt):
    """14.7: the server takes one connection at a time."""
    with stranger("single", "closes_connections", payload=None) as server:
        assert outcome(server, "S007") == "violated"


def test_slow_health_check_is_found(stranger, one_attempt):
    """14.3."""
    with stranger("slow_ping") as server:
        assert outcome(server, "S002") == "violated"


def test_slow_health_check_is_not_taken_for_a_closed_connection(stranger):
    """14.4: a busy machine is slow as well."""
    with stranger("slow_ping") as server:
        assert serves_twice(server.address)


def test_without_a_payload_rules_about_answers_are_not_tested_and_say_so(stranger):
    """15.1: never silently kept."""
    with stranger(payload=None) as server:
        skipped = [one for one in examine_requests(server, NOTHING) if one.outcome == "skipped"]
    assert [one.rule.id for one in skipped] == [f"BYOC-S{n:03d}" for n in (4, 5, 6, 16, 17, 18, 30, 31)]
    assert {one.evidence for one in skipped} == {(NO_PAYLOAD,)}


def test_promised_streams_that_nobody_serves_are_found(stranger):
    """15.19."""
    with stranger(payload=None) as server:
        promised = frozenset({"bidirectional-streaming"})
        found = {one.rule.id: one.outcome for one in examine_requests(server, promised)}
    assert found["BYOC-S034"] == "violated"


@pytest.mark.parametrize("fault", ["get_only"])
def test_evidence_says_what_was_sent_and_what_came(stranger, fault):
    """14.2: a finding that cannot be acted upon is none."""
    with stranger(fault) as server:
        evidence = next(one.evidence for one in examine_requests(server, NOTHING) if one.rule.id == "BYOC-S003")
    assert evidence[0].startswith("POST /ping: status 405")
