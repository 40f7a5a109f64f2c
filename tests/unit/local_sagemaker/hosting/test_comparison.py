"""Two variants side by side: intervals that hold the truth, and decisions that follow from them."""

import json
from random import Random

import pytest
from local_sagemaker.hosting.alarms import Alarm
from local_sagemaker.hosting.comparison import Outcomes, compare, latency_intervals, rate
from local_sagemaker.hosting.deployment import plan_deployment
from local_sagemaker.hosting.ground_truth import Captures, judge, predicted, read_truth


def around(middle: float, count: int = 2000, seed: int = 1) -> list[float]:
    random = Random(seed)  # noqa: S311 - a sample
    return [random.gauss(middle, 3.0) for _ in range(count)]


def test_an_error_rate_has_wilsons_interval():
    """20.8. The limits are those of the textbook's example, 10 of 100."""
    found = rate(10, 100)
    assert (round(found.low, 4), round(found.high, 4)) == (0.0552, 0.1744)
    assert rate(0, 0) is None


def test_intervals_of_latencies_hold_the_truth_as_often_as_they_say():
    """20.8."""
    held = sum(
        found["mean"].low <= 50 <= found["mean"].high and found["p50"].low <= 50 <= found["p50"].high
        for found in (latency_intervals(around(50, 200, seed)) for seed in range(100))
    )
    assert held >= 85


def test_a_faster_variant_without_more_errors_is_shifted_to():
    """20.3."""
    found = compare(Outcomes("blue", 2000, 3, around(50)), Outcomes("green", 2000, 4, around(46.9, seed=2)))
    assert found.decision == "shift"
    assert "errors do not differ" in found.words
    assert "green is 3" in found.words
    assert "ms faster" in found.words
    assert found.latency_ms_difference["p50"].high < 0


def test_errors_weigh_more_than_latency():
    """20.3."""
    found = compare(Outcomes("blue", 2000, 3, around(50)), Outcomes("green", 2000, 200, around(40, seed=2)))
    assert found.decision == "keep"
    assert found.words.endswith("keep blue")


def test_being_right_weighs_most():
    """20.3."""
    first = Outcomes("blue", 2000, 0, around(50), judged=1000, right=800)
    second = Outcomes("green", 2000, 0, around(55, seed=2), judged=1000, right=900)
    found = compare(first, second)
    assert found.decision == "shift"
    assert found.accuracy_difference.low > 0


def test_equal_variants_and_few_requests_are_undecided():
    """20.3."""
    assert (
        compare(Outcomes("a", 500, 5, around(50, 500)), Outcomes("b", 500, 6, around(50, 500))).decision == "undecided"
    )
    few = compare(Outcomes("a", 500, 5, around(50, 500)), Outcomes("b", 10, 6, around(50, 10)))
    assert few.decision == "undecided"
    assert "b has 10" in few.words
    assert compare(Outcomes("a", 0, 0), Outcomes("b", 0, 0)).document()["decision"] == "undecided"


def test_answers_are_joined_with_the_truth_by_their_ids(tmp_path):
    """21.1."""
    captured = tmp_path / "captured" / "2026"
    captured.mkdir(parents=True)
    lines = []
    for identity, answer in (("a", '{"label": 3}'), ("b", "[7.0]"), ("c", "4\n"), ("unknown", "1"), (None, "2")):
        event = {"eventId": answer} | ({"inferenceId": identity} if identity else {})
        output = {"data": answer, "encoding": "JSON", "mode": "OUTPUT"}
        lines.append(json.dumps({"captureData": {"endpointOutput": output}, "eventMetadata": event}))
    (captured / "x.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "truth.csv").write_text("inferenceId,label\na,3\nb,7\nc,5\n")
    (tmp_path / "truth.jsonl").write_text('{"inferenceId": "a", "label": 3}\n')
    # A part that is no object yet has an event of an object too, and a line that has not ended.
    (tmp_path / "parts").mkdir()
    part = tmp_path / "parts" / "digits%2Fblue%2F2026.jsonl"
    part.write_text(f"{lines[0]}\n{lines[1][:20]}")
    captures = Captures(tmp_path / "captured", (tmp_path / "parts", "digits%2Fblue%2F"))
    found = judge(captures, read_truth(tmp_path / "truth.csv"))
    assert (found.judged, found.right) == (3, 2)
    only_parts = Captures(tmp_path / "absent", captures.staging)
    assert judge(only_parts, {"a": "3"}).judged == 1
    part.rename(tmp_path / "parts" / "digits%2Fgreen%2F2026.jsonl")
    assert judge(only_parts, {"a": "3"}).judged == 0
    assert read_truth(tmp_path / "truth.jsonl") == {"a": "3"}


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("3", "3"),
        ("[3.0]", "3"),
        ('{"label": "cat", "score": 1}', "cat"),
        ('{"predictions": [[2]]}', "2"),
        ("cat", "cat"),
    ],
)
def test_a_label_is_found_in_the_usual_answers(answer, label):
    """21.1."""
    assert predicted(answer) == label


@pytest.mark.parametrize(
    ("alarm", "fires"),
    [
        (Alarm("a", "error-rate", 0.1), True),
        (Alarm("a", "error-rate", 0.2), False),
        (Alarm("a", "error-rate", 0.1, requests=21), False),
        (Alarm("a", "latency", 90, "p99"), True),
        (Alarm("a", "latency", 90, "p50"), False),
        (Alarm("a", "latency", 14, "mean"), True),
    ],
)
def test_an_alarm_fires_above_its_limit_and_on_enough_requests(alarm, fires):
    """20.5."""
    latencies = [10.0] * 18 + [100.0] * 2
    assert (alarm.fires(20, 4 if alarm.above == 0.1 else 2, latencies) is not None) is fires


@pytest.mark.parametrize(
    ("config", "instances", "shares"),
    [
        (None, 4, [1.0]),
        ({"RollingUpdatePolicy": {"MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 50}}}, 5, [0.4, 0.8, 1.0]),
        ({"RollingUpdatePolicy": {"MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 5}}}, 2, [0.5, 1.0]),
    ],
)
def test_a_deployment_reaches_all_of_it_in_its_steps(config, instances, shares):
    """20.5."""
    if config:
        config["RollingUpdatePolicy"]["WaitIntervalInSeconds"] = 7
    assert [round(step.share, 6) for step in plan_deployment(config, instances).steps] == shares


def test_a_linear_deployment_adds_its_step_each_time_and_bakes():
    """20.5."""
    routing = {
        "Type": "LINEAR",
        "LinearStepSize": {"Type": "CAPACITY_PERCENT", "Value": 30},
        "WaitIntervalInSeconds": 9,
    }
    policy = {"TrafficRoutingConfiguration": routing, "TerminationWaitInSeconds": 3}
    found = plan_deployment({"BlueGreenUpdatePolicy": policy}, 1)
    assert [round(step.share, 6) for step in found.steps] == [0.3, 0.6, 0.9, 1.0]
    assert {step.bake_seconds for step in found.steps} == {9.0}
    assert found.termination_wait_seconds == 3.0
