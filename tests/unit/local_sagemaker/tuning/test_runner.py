"""Whole tuning jobs, with training jobs that are only played."""

import csv
import json
import math
import threading

import pytest
from local_sagemaker.errors import ValidationError
from local_sagemaker.state.records import Kind
from local_sagemaker.tuning.definitions import read_definitions
from local_sagemaker.tuning.operations import create_tuning_job, described
from local_sagemaker.tuning.runner import TuningRun
from local_sagemaker.tuning.standing import summarize, training_jobs

from tests.support.waiting import wait_until
from tests.unit.local_sagemaker.tuning.conftest import PlayedJobs

GRID = {"CategoricalParameterRanges": [{"Name": "size", "Values": ["1", "2", "3", "4", "5", "6"]}]}


def loss_of(hyperparameters):
    yield abs(math.log10(float(hyperparameters["lr"])) + 2)


def size_of(hyperparameters):
    yield float(hyperparameters["size"])


def fails(_hyperparameters):
    raise RuntimeError("AlgorithmError: no")
    yield


def summaries(workspace, record):
    definitions = read_definitions(record.request)
    return [summarize(one, definitions) for one in training_jobs(workspace, record.name)]


def test_a_tuning_job_runs_its_training_jobs_and_names_the_best(tune, make_request, workspace):
    """24.1, 24.5, 24.7."""
    record, played = tune(make_request(jobs=6, static={"epochs": "3"}), loss_of)
    assert record.status == "Completed"
    found = summaries(workspace, record)
    assert [one["TrainingJobName"][:8] for one in found] == [f"tune-00{place}" for place in range(1, 7)]
    assert all(len(one["TrainingJobName"]) == len("tune-001-") + 8 for one in found)
    values = [one["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for one in found]
    assert record.description["BestTrainingJob"] == found[values.index(min(values))]
    assert record.description["TrainingJobStatusCounters"]["Completed"] == 6
    assert record.description["ObjectiveStatusCounters"] == {"Succeeded": 6, "Pending": 0, "Failed": 0}
    for request, summary in zip(played.requests, found, strict=True):
        tuned = summary["TunedHyperParameters"]
        assert request["HyperParameters"] == {"epochs": "3", "_tuning_objective_metric": "loss", **tuned}
        assert list(tuned) == ["lr"]


def test_never_more_than_the_parallel_limit_run_at_once_and_as_many_do(tune, make_request):
    """24.2."""
    together = threading.Barrier(3)

    def curve(hyperparameters):
        together.wait(60)  # no job ends before three run
        return size_of(hyperparameters)

    record, played = tune(make_request(strategy="Grid", ranges=GRID, jobs=None, parallel=3), curve)
    assert record.description["TrainingJobStatusCounters"]["Completed"] == 6
    assert played.most_running == 3


def test_a_grid_runs_each_combination_once(tune, make_request):
    """24.4."""
    record, played = tune(make_request(strategy="Grid", ranges=GRID, jobs=None, parallel=2), size_of)
    assert sorted(one["HyperParameters"]["size"] for one in played.requests) == list("123456")
    assert record.description["BestTrainingJob"]["TunedHyperParameters"] == {"size": "1"}


def test_early_stopping_stops_a_job_that_is_behind_the_median_of_the_earlier(tune, make_request, workspace):
    """24.6, 8.4."""

    def curve(hyperparameters):
        return [float(hyperparameters["size"])] * 3

    behind = {"4", "5", "6"}
    request = make_request(strategy="Grid", ranges=GRID, jobs=None, TrainingJobEarlyStoppingType="Auto")
    record, _ = tune(request, curve, hold_until_asked=lambda given: given["size"] in behind)
    statuses = {one["TunedHyperParameters"]["size"]: one["TrainingJobStatus"] for one in summaries(workspace, record)}
    assert {size for size, status in statuses.items() if status == "Stopped"} == behind
    assert record.description["TrainingJobStatusCounters"]["Stopped"] == 3
    assert record.description["ObjectiveStatusCounters"]["Succeeded"] == 6


def test_hyperband_stops_a_job_that_goes_on_after_its_largest_resource(tune, make_request):
    """24.6."""

    def curve(_hyperparameters):
        return [1.0 / epoch for epoch in range(1, 11)]

    request = make_request(
        strategy="Hyperband", jobs=2, StrategyConfig={"HyperbandStrategyConfig": {"MinResource": 8, "MaxResource": 9}}
    )
    record, _ = tune(request, curve, hold_until_asked=lambda _given: True)
    assert record.status == "Completed"
    assert record.description["TrainingJobStatusCounters"]["Stopped"] == 2
    assert record.description["ObjectiveStatusCounters"]["Succeeded"] == 2


def test_a_job_that_prints_no_objective_has_none_though_it_completed(tune, make_request, workspace):
    """8.5, 24.7."""

    def curve(hyperparameters):
        return [] if hyperparameters["size"] == "1" else size_of(hyperparameters)

    record, _ = tune(make_request(strategy="Grid", ranges=GRID, jobs=None), curve)
    first = next(one for one in summaries(workspace, record) if one["TunedHyperParameters"]["size"] == "1")
    assert (first["TrainingJobStatus"], first["ObjectiveStatus"]) == ("Completed", "Failed")
    assert record.description["ObjectiveStatusCounters"] == {"Succeeded": 5, "Pending": 0, "Failed": 1}
    assert record.description["BestTrainingJob"]["TunedHyperParameters"] == {"size": "2"}


@pytest.mark.parametrize(
    ("curve", "jobs", "made", "reason"),
    [
        (fails, 12, 5, "No training job succeeded after 5 attempts"),
        (fails, 2, 2, "All training jobs failed"),
        (lambda _: [], 12, 5, "No objective metrics found after running 5 training jobs"),
    ],
)
def test_a_tuning_job_without_hope_fails_and_says_why(tune, make_request, curve, jobs, made, reason):
    """8.5, 24.7."""
    record, played = tune(make_request(jobs=jobs), curve)
    assert record.status == "Failed"
    assert record.description["FailureReason"].startswith(reason)
    assert len(played.requests) == made


def test_one_failed_job_does_not_end_the_search(tune, make_request):
    """24.7."""

    def curve(hyperparameters):
        return fails({}) if hyperparameters["size"] == "3" else size_of(hyperparameters)

    record, _ = tune(make_request(strategy="Grid", ranges=GRID, jobs=None), curve)
    assert record.status == "Completed"
    counters = record.description["TrainingJobStatusCounters"]
    assert (counters["Completed"], counters["NonRetryableError"]) == (5, 1)


def test_what_failed_by_no_fault_of_its_own_is_tried_again(tune, make_request):
    """24.7."""
    left = ["InternalServerError: lost"] * 2

    def curve(hyperparameters):
        if left:
            raise RuntimeError(left.pop())
        return size_of(hyperparameters)

    request = make_request(strategy="Grid", ranges=GRID, jobs=None)
    request["TrainingJobDefinition"]["RetryStrategy"] = {"MaximumRetryAttempts": 2}
    record, played = tune(request, curve)
    assert [one["HyperParameters"]["size"] for one in played.requests][:3] == ["1", "1", "1"]
    counters = record.description["TrainingJobStatusCounters"]
    assert (counters["Completed"], counters["RetryableError"]) == (6, 2)


@pytest.mark.parametrize(
    ("criteria", "made"),
    [
        ({"TargetObjectiveMetricValue": 3.0}, 3),
        ({"BestObjectiveNotImproving": {"MaxNumberOfTrainingJobsNotImproving": 3}}, 6),
    ],
)
def test_completion_criteria_end_the_search(tune, make_request, criteria, made):
    """24.7."""
    objectives = iter([5.0, 4.0, 3.0, 3.0, 3.0, 3.0, 3.0])
    request = make_request(jobs=20, TuningJobCompletionCriteria=criteria)
    record, played = tune(request, lambda _: [next(objectives)])
    assert (record.status, len(played.requests)) == ("Completed", made)


def test_a_target_that_is_reached_stops_what_still_runs(tune, make_request):
    """24.7."""
    request = make_request(
        strategy="Grid",
        ranges=GRID,
        jobs=None,
        parallel=6,
        TuningJobCompletionCriteria={"TargetObjectiveMetricValue": 1},
    )
    record, _ = tune(request, size_of, hold_until_asked=lambda given: given["size"] != "1")
    assert record.status == "Completed"
    counters = record.description["TrainingJobStatusCounters"]
    assert (counters["Completed"], counters["Stopped"]) == (1, 5)


def test_a_stop_stops_the_training_jobs_too(make_request, workspace):
    """24.7."""
    request = make_request(strategy="Grid", ranges=GRID, jobs=None, parallel=2)
    create_tuning_job(workspace, request)
    record = workspace.store.claim(Kind.TUNING_JOB, "tune")
    played = PlayedJobs(size_of)
    played.hold_until_asked = lambda _given: True
    run = threading.Thread(target=TuningRun(workspace, None, record, lambda _line: None, played).run)
    run.start()
    wait_until(lambda: played.running == 2, "two training jobs run")
    workspace.store.request_stop(Kind.TUNING_JOB, "tune")
    run.join(60)
    assert workspace.store.get(Kind.TUNING_JOB, "tune").status == "Stopped"
    assert [one.status for one in training_jobs(workspace, "tune")] == ["Stopped", "Stopped"]


def test_a_grid_that_died_goes_on_where_it_was(tune, make_request, workspace):
    """24.7."""
    first = make_request(
        strategy="Grid",
        ranges=GRID,
        jobs=None,
        TuningJobCompletionCriteria={"TargetObjectiveMetricValue": 3},
    )
    first["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]["Type"] = "Maximize"
    tune(first, size_of)
    again = make_request("again", strategy="Grid", ranges=GRID, jobs=None, members=warm("tune"))
    again["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]["Type"] = "Maximize"
    record, played = tune(again, size_of)
    assert [one["HyperParameters"]["size"] for one in played.requests] == ["4", "5", "6"]
    assert record.status == "Completed"


def test_the_best_of_all_counts_the_parents_where_data_and_algorithm_are_the_same(tune, make_request, workspace):
    """24.7."""
    tune(make_request(), lambda _: [0.5])
    record, _ = tune(make_request("child", members=warm("tune"), jobs=2), lambda _: [0.7])
    assert record.description["BestTrainingJob"]["TrainingJobName"].startswith("child-")
    overall = record.description["OverallBestTrainingJob"]
    assert (overall["TuningJobName"], overall["TrainingJobName"][:5]) == ("tune", "tune-")
    assert described(workspace, record)["OverallBestTrainingJob"] == overall


def test_transfer_learning_tries_the_parents_best_first(tune, make_request, workspace):
    """24.7."""
    parent, _ = tune(make_request(), loss_of)
    request = make_request("child", members=warm("tune", "TransferLearning"), jobs=2)
    request["TrainingJobDefinition"]["AlgorithmSpecification"]["TrainingImage"] = "another"
    record, played = tune(request, loss_of)
    assert played.requests[0]["HyperParameters"] == played_best(parent)
    assert "OverallBestTrainingJob" not in record.description


def played_best(record):
    return {"_tuning_objective_metric": "loss", **record.description["BestTrainingJob"]["TunedHyperParameters"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda request: request["WarmStartConfig"]["ParentHyperParameterTuningJobs"][0].update(warm_name("x")),
            "exist",
        ),
        (lambda request: algorithm(request).update(TrainingImage="another"), "training image of the parent"),
        (lambda request: objective(request).update(Type="Maximize"), "must have the same objective"),
    ],
)
def test_a_parent_that_cannot_be_taken_over_from_is_refused(tune, make_request, workspace, change, message):
    """24.7."""
    tune(make_request(jobs=1), loss_of)
    request = make_request("child", members=warm("tune"))
    change(request)
    with pytest.raises(ValidationError, match=message):
        create_tuning_job(workspace, request)


def test_definitions_take_turns(tune, make_request, workspace):
    """24.5."""
    request = make_request(jobs=4)
    config, single = request["HyperParameterTuningJobConfig"], request.pop("TrainingJobDefinition")
    own = {
        "TuningObjective": config.pop("HyperParameterTuningJobObjective"),
        "HyperParameterRanges": config.pop("ParameterRanges"),
    }
    request["TrainingJobDefinitions"] = [
        {**single, **own, "DefinitionName": name, "StaticHyperParameters": {"kind": name}} for name in ("one", "two")
    ]
    record, played = tune(request, loss_of)
    assert [one["HyperParameters"]["kind"] for one in played.requests] == ["one", "two", "one", "two"]
    names = [one["TrainingJobDefinitionName"] for one in summaries(workspace, record)]
    assert names == ["one", "two", "one", "two"]


def test_each_training_job_has_checkpoints_of_its_own(tune, make_request):
    """24.8."""
    request = make_request(jobs=2)
    request["TrainingJobDefinition"]["CheckpointConfig"] = {"S3Uri": "s3://bucket/kept"}
    _, played = tune(request, loss_of)
    places = [one["CheckpointConfig"]["S3Uri"] for one in played.requests]
    assert places == [f"s3://bucket/kept/{one['TrainingJobName']}" for one in played.requests]


def test_a_resource_config_of_the_tuning_job_becomes_the_training_jobs(tune, make_request):
    """24.5."""
    request = make_request(jobs=1)
    resources = request["TrainingJobDefinition"].pop("ResourceConfig")
    request["TrainingJobDefinition"]["HyperParameterTuningResourceConfig"] = {
        "AllocationStrategy": "Prioritized",
        "InstanceConfigs": [resources, {**resources, "InstanceType": "ml.m5.xlarge"}],
    }
    _, played = tune(request, loss_of)
    assert played.requests[0]["ResourceConfig"] == resources


def test_a_table_best_first_and_a_picture_are_left(tune, make_request, workspace):
    record, _ = tune(make_request(jobs=4, ranges={**GRID, "ContinuousParameterRanges": LR}), loss_of)
    directory = workspace.directory_of(Kind.TUNING_JOB, "tune")
    rows = list(csv.DictReader((directory / "results.csv").open()))
    losses = [float(row["loss"]) for row in rows]
    assert losses == sorted(losses)
    assert list(rows[0])[-2:] == ["lr", "size"]
    document = json.loads((directory / "results.json").read_text())
    assert document["TrainingJobSummaries"][0] == record.description["BestTrainingJob"]
    assert (directory / "objective.png").read_bytes().startswith(b"\x89PNG")


LR = [{"Name": "lr", "MinValue": "0.0001", "MaxValue": "1", "ScalingType": "Logarithmic"}]


def warm_name(name):
    return {"HyperParameterTuningJobName": name}


def warm(parent, kind="IdenticalDataAndAlgorithm"):
    return {"WarmStartConfig": {"ParentHyperParameterTuningJobs": [warm_name(parent)], "WarmStartType": kind}}


def algorithm(request):
    return request["TrainingJobDefinition"]["AlgorithmSpecification"]


def objective(request):
    return request["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]
