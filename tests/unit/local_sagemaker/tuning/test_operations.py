"""The operations of the API on tuning jobs, as a client would call them."""

import pytest
from local_sagemaker.api.operations import call
from local_sagemaker.errors import ResourceInUseError, ResourceNotFoundError, ValidationError
from local_sagemaker.state.records import Kind

NAME = {"HyperParameterTuningJobName": "tune"}
LIST = "ListTrainingJobsForHyperParameterTuningJob"


def loss_of(hyperparameters):
    yield 1 - float(hyperparameters["lr"])


def names(answer):
    return [one["TrainingJobName"][:8] for one in answer["TrainingJobSummaries"]]


def test_a_tuning_job_is_made_described_and_listed(workspace, make_request):
    """23.1, 24.7."""
    request = make_request(jobs=3)
    arn = call(workspace, "CreateHyperParameterTuningJob", request)["HyperParameterTuningJobArn"]
    assert arn.endswith(":hyper-parameter-tuning-job/tune")
    answer = call(workspace, "DescribeHyperParameterTuningJob", NAME)
    assert answer["HyperParameterTuningJobStatus"] == "InProgress"
    config = request["HyperParameterTuningJobConfig"]
    assert answer["HyperParameterTuningJobConfig"] == {"TrainingJobEarlyStoppingType": "Off", **config}
    assert set(answer["TrainingJobStatusCounters"].values()) == {0}
    (summary,) = call(workspace, "ListHyperParameterTuningJobs", {})["HyperParameterTuningJobSummaries"]
    assert (summary["HyperParameterTuningJobName"], summary["Strategy"]) == ("tune", "Random")
    assert summary["ResourceLimits"]["MaxNumberOfTrainingJobs"] == 3


def test_the_static_hyperparameters_that_are_described_name_the_objective(workspace, make_request):
    """24.5: a client that attaches to the tuning job takes it out again."""
    request = make_request()
    call(workspace, "CreateHyperParameterTuningJob", request)
    definition = call(workspace, "DescribeHyperParameterTuningJob", NAME)["TrainingJobDefinition"]
    static = request["TrainingJobDefinition"].get("StaticHyperParameters", {})
    assert definition["StaticHyperParameters"] == {**static, "_tuning_objective_metric": "loss"}


def test_resources_that_are_given_for_tuning_are_described_as_those_of_training_too(workspace, make_request):
    """24.5: a client that attaches to the tuning job reads them there, though it writes them here."""
    request = make_request()
    resources = request["TrainingJobDefinition"].pop("ResourceConfig")
    request["TrainingJobDefinition"]["HyperParameterTuningResourceConfig"] = resources
    call(workspace, "CreateHyperParameterTuningJob", request)
    definition = call(workspace, "DescribeHyperParameterTuningJob", NAME)["TrainingJobDefinition"]
    assert definition["ResourceConfig"] == definition["HyperParameterTuningResourceConfig"] == resources


def test_a_name_is_used_once(workspace, make_request):
    """23.1."""
    call(workspace, "CreateHyperParameterTuningJob", make_request())
    with pytest.raises(ResourceInUseError):
        call(workspace, "CreateHyperParameterTuningJob", make_request())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "x" * 33}, "hyperParameterTuningJobName"),
        ({"strategy": "Genetic"}, "strategy"),
        ({"parallel": 0}, "1"),
    ],
)
def test_a_request_is_held_to_the_services_model(workspace, make_request, change, message):
    """24.1, 24.2."""
    with pytest.raises(ValidationError, match=message):
        call(workspace, "CreateHyperParameterTuningJob", make_request(**change))
    assert workspace.store.find(Kind.TUNING_JOB) == []


def test_training_jobs_are_listed_by_name_or_by_objective(workspace, make_request, tune):
    """23.1."""
    tune(make_request(jobs=4), loss_of)
    assert names(call(workspace, LIST, NAME)) == ["tune-001", "tune-002", "tune-003", "tune-004"]
    ranked = call(workspace, LIST, {**NAME, "SortBy": "FinalObjectiveMetricValue"})["TrainingJobSummaries"]
    values = [one["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for one in ranked]
    assert values == sorted(values)
    page = call(workspace, LIST, {**NAME, "MaxResults": 3})
    rest = call(workspace, LIST, {**NAME, "MaxResults": 3, "NextToken": page["NextToken"]})
    assert names(page) + names(rest) == ["tune-001", "tune-002", "tune-003", "tune-004"]
    assert names(call(workspace, LIST, {**NAME, "StatusEquals": "Failed"})) == []


def test_jobs_without_an_objective_are_not_listed_by_it(workspace, make_request, tune):
    """8.5, 23.1."""
    left = [[], [1.0], [2.0]]
    tune(make_request(jobs=3), lambda _: left.pop())
    assert len(call(workspace, LIST, NAME)["TrainingJobSummaries"]) == 3
    assert len(call(workspace, LIST, {**NAME, "SortBy": "FinalObjectiveMetricValue"})["TrainingJobSummaries"]) == 2


def test_a_training_job_knows_its_tuning_job(workspace, make_request, tune):
    """24.5."""
    record, _ = tune(make_request(jobs=1), loss_of)
    name = record.description["BestTrainingJob"]["TrainingJobName"]
    answer = call(workspace, "DescribeTrainingJob", {"TrainingJobName": name})
    assert answer["TuningJobArn"] == record.description["HyperParameterTuningJobArn"]


def test_a_tuning_job_that_nobody_runs_is_stopped_at_once_and_only_once(workspace, make_request):
    """23.1."""
    call(workspace, "CreateHyperParameterTuningJob", make_request())
    workspace.store.release(Kind.TUNING_JOB, "tune")
    call(workspace, "StopHyperParameterTuningJob", NAME)
    assert workspace.store.get(Kind.TUNING_JOB, "tune").status == "Stopped"
    with pytest.raises(ValidationError, match="in status Stopped"):
        call(workspace, "StopHyperParameterTuningJob", NAME)


@pytest.mark.parametrize("operation", ["DescribeHyperParameterTuningJob", "StopHyperParameterTuningJob", LIST])
def test_a_tuning_job_that_is_not_there_is_not_found(workspace, operation):
    """23.1."""
    with pytest.raises(ResourceNotFoundError):
        call(workspace, operation, NAME)
