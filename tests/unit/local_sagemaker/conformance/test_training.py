"""What the ends of training containers say, without a container: buffers, failures, and conditions told apart."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from local_sagemaker.conformance import training
from local_sagemaker.conformance.conditions import Condition, Trial, attribute
from local_sagemaker.conformance.container import LACKED_MEMORY, Container
from local_sagemaker.conformance.setup import Setup
from local_sagemaker.conformance.subject import Subject
from local_sagemaker.conformance.training import (
    TrainingEnd,
    judge_buffers,
    judge_failures,
    judge_want,
    training_conditions,
    without_effect,
)

GOOD = TrainingEnd(0, 10.0, None, ("model/model.json",), (9.0, 7.0, 5.0, 3.0, 1.0), "log: trained")
FAILED = replace(GOOD, exit_code=1, failure="ValueError: no file", saved=())


def outcomes(findings):
    return {one.rule.id: one.outcome for one in findings}


def test_failure_with_exit_code_and_reason_keeps_the_rules():
    """1.7, 1.9."""
    found = outcomes(judge_failures({"empty": FAILED}, GOOD))
    assert found == dict.fromkeys(("BYOC-T012", "BYOC-T013", "BYOC-T014"), "passed")


def test_swallowed_exit_code_is_seen_by_the_model_that_is_missing():
    """1.7."""
    swallowed = replace(FAILED, exit_code=0)
    assert outcomes(judge_failures({"empty": swallowed}, GOOD))["BYOC-T012"] == "violated"


def test_failure_file_of_a_job_that_ended_well_is_a_swallowed_exit_code():
    """1.7: also where a model was saved before."""
    swallowed = replace(GOOD, failure="ValueError: no file")
    assert outcomes(judge_failures({"empty": swallowed}, GOOD))["BYOC-T012"] == "violated"


def test_failure_file_elsewhere_is_none():
    """1.9."""
    assert outcomes(judge_failures({"empty": replace(FAILED, failure=None)}, GOOD))["BYOC-T013"] == "violated"


def test_reason_behind_the_first_1024_characters_is_found():
    """1.9."""
    text = "Traceback (most recent call last):\n" + "  File\n" * 300 + "ValueError: no file"
    assert outcomes(judge_failures({"empty": replace(FAILED, failure=text)}, GOOD))["BYOC-T014"] == "violated"


def test_training_that_nothing_makes_fail_is_not_said_to_fail_well():
    """1.7: not tested is not kept."""
    assert set(outcomes(judge_failures({"empty": GOOD}, GOOD)).values()) == {"skipped"}


@pytest.mark.parametrize(
    ("times", "outcome"),
    [
        ((0.1,) * 8, "violated"),
        ((9.0, 8.0, 5.0, 2.0, 1.0, 0.1), "passed"),
        ((0.3, 0.25, 0.2, 0.15, 0.1), "passed"),
        ((0.1, 0.1), "skipped"),
    ],
)
def test_log_that_comes_at_once_at_the_end_was_held_back(times, outcome):
    """4.7: a short training after long imports is no such case."""
    assert judge_buffers(replace(GOOD, line_times=times)).outcome == outcome


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        (FAILED, "passed"),
        (GOOD, "passed"),
        (replace(FAILED, failure=None, last_lines="log: (empty)"), "violated"),
        (replace(GOOD, saved=()), "violated"),
        (replace(GOOD, exit_code=None), "violated"),
    ],
)
def test_want_of_data_is_survived_or_told(end, outcome):
    """2.8, 3.9."""
    assert judge_want("BYOC-T017", end, GOOD).outcome == outcome


ISOLATED = Condition("BYOC-T003", lambda setup: replace(setup, network="none"))
READ_ONLY = Condition("BYOC-T010", lambda setup: replace(setup, read_only_root=True))


def tried(works):
    starts = []

    def start(setup):
        starts.append(setup)
        return Trial(works(setup), ("log: what went wrong",))

    found = attribute("BYOC-T001", [ISOLATED, READ_ONLY], Setup(("train",)), start)
    return outcomes(found), len(starts)


def test_good_image_is_started_once_for_all_conditions():
    """4.11, 4.9: time is the user's."""
    assert tried(lambda setup: True) == (dict.fromkeys(("BYOC-T001", "BYOC-T003", "BYOC-T010"), "passed"), 1)


def test_condition_that_is_not_stood_is_told_from_the_others():
    """4.11."""
    found, _ = tried(lambda setup: setup.network != "none")
    assert found == {"BYOC-T001": "passed", "BYOC-T003": "violated", "BYOC-T010": "passed"}


def test_image_that_never_works_is_blamed_once():
    """1.1."""
    found, starts = tried(lambda setup: False)
    assert (found, starts) == ({"BYOC-T001": "violated", "BYOC-T003": "skipped", "BYOC-T010": "skipped"}, 2)


@pytest.mark.parametrize(("state", "told"), [({"OOMKilled": True}, True), ({"OOMKilled": False}, False), ({}, False)])
def test_want_of_memory_is_what_the_engine_has_seen_and_not_an_exit_code(state, told):
    """1.11, 22.3: 137 is also the end of what was killed for another reason."""
    engines = SimpleNamespace(reload=lambda: None, attrs={"State": {"ExitCode": 137, **state}})
    container = Container(engines, Setup(("train",)))
    assert container.lacked_memory == told
    evidence = replace(FAILED, exit_code=137, lacked_memory=container.lacked_memory).evidence
    assert (LACKED_MEMORY in evidence) == told


def test_image_that_does_not_work_without_conditions_is_started_once():
    """1.1: a second start would be the same."""
    starts = []

    def start(setup):
        starts.append(setup)
        return Trial(False, ("log: what went wrong",))

    assert outcomes(attribute("BYOC-T001", [], Setup(("train",)), start)) == {"BYOC-T001": "violated"}
    assert len(starts) == 1


@pytest.fixture
def examined(monkeypatch, tmp_path):
    """What comes of a training that ends as told, and the setups that it was started in."""

    def examine(end, asked):
        setups = []

        def train(_containers, setup, *_, **__):
            setups.append(setup)
            return end

        monkeypatch.setattr(training, "train", train)
        containers = SimpleNamespace(halves=lambda: (None, None))
        found = training.examine_training(containers, Subject("an-image"), tmp_path / "model", asked)
        return outcomes(found.findings), setups

    return examine


def test_training_that_leaves_no_model_is_told(examined):
    """6.1."""
    found, _ = examined(replace(GOOD, saved=()), {"BYOC-T002"})
    assert (found["BYOC-T001"], found["BYOC-T002"]) == ("passed", "violated")
    assert examined(GOOD, {"BYOC-T002"})[0]["BYOC-T002"] == "passed"


def test_one_rule_is_tried_under_its_own_condition_alone(examined):
    """22.3: what another rule is about neither takes time nor hides this one."""
    found, (setup,) = examined(GOOD, {"BYOC-T003"})
    assert (setup.network, setup.read_only_root) == ("none", False)
    assert found["BYOC-T003"] == "passed"
    assert "BYOC-T010" not in found


def test_condition_that_changes_nothing_is_not_said_to_be_stood(tmp_path):
    """2.3, 3.4: without a channel nothing is written to one, without a text nothing is quoted."""
    nothing = Subject("an-image", hyperparameters={"epochs": "2"})
    assert {one.rule.id for one in without_effect(nothing)} == {"BYOC-T004", "BYOC-T008"}
    assert {"BYOC-T004", "BYOC-T008"}.isdisjoint(one.rule for one in training_conditions(nothing))
    both = Subject("an-image", hyperparameters={"name": "two words"}, channels={"training": tmp_path})
    assert list(without_effect(both)) == []
    assert {"BYOC-T004", "BYOC-T008"} <= {one.rule for one in training_conditions(both)}
