"""The operations of the API on training jobs, without running any."""

import pytest
from local_sagemaker.api.operations import call
from local_sagemaker.errors import ResourceInUseError, ResourceNotFoundError, ValidationError
from local_sagemaker.state.records import Kind, Runner


@pytest.fixture
def make(workspace, make_request):
    """Make a job that nobody runs."""

    def make(**over):
        answer = call(workspace, "CreateTrainingJob", make_request(**over))
        workspace.store.release(Kind.TRAINING_JOB, over.get("name", "job"))
        return answer

    return make


def test_a_job_that_was_made_is_in_progress_and_starting(make, describe):
    """1.22; what an SDK reads without asking whether it is there."""
    assert make() == {"TrainingJobArn": "arn:aws:sagemaker:us-east-1:000000000000:training-job/job"}
    described = describe()
    assert (described["TrainingJobStatus"], described["SecondaryStatus"]) == ("InProgress", "Starting")
    assert [one["Status"] for one in described["SecondaryStatusTransitions"]] == ["Starting"]
    bucket = "s3://sagemaker-us-east-1-000000000000"
    assert described["ModelArtifacts"] == {"S3ModelArtifacts": f"{bucket}/job/output/model.tar.gz"}
    assert described["OutputDataConfig"] == {"KmsKeyId": "", "S3OutputPath": bucket, "CompressionType": "GZIP"}
    for name in ("NetworkIsolation", "InterContainerTrafficEncryption", "ManagedSpotTraining"):
        assert described[f"Enable{name}"] is False


def test_a_job_without_a_limit_has_that_of_the_platform(make_request, workspace, describe):
    """1.18."""
    request = make_request()
    del request["StoppingCondition"]
    call(workspace, "CreateTrainingJob", request)
    assert describe()["StoppingCondition"] == {"MaxRuntimeInSeconds": 86400}


def test_a_name_is_used_once(make):
    """23.1."""
    make()
    with pytest.raises(ResourceInUseError, match="job with this name already exists"):
        make()


def test_a_job_that_is_not_there_is_not_found(describe):
    with pytest.raises(ResourceNotFoundError, match="Requested resource not found"):
        describe("absent")


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"TrainingJobName": "a job"}, "trainingJobName"),
        ({"EnableManagedSpotTraining": True}, "MaxWaitTimeInSeconds must be specified"),
        (
            {"EnableManagedSpotTraining": True, "StoppingCondition": {"MaxWaitTimeInSeconds": 5}},
            "Invalid MaxWaitTimeInSeconds 5",
        ),
        ({"StoppingCondition": {"MaxWaitTimeInSeconds": 90000}}, "only allowed when EnableManagedSpotTraining"),
        (
            {"AlgorithmSpecification": {"MetricDefinitions": [{"Name": "loss", "Regex": "("}]}},
            "regular expression '\\(' is invalid",
        ),
        (
            {"ResourceConfig": {"KeepAlivePeriodInSeconds": 60}, "EnableManagedSpotTraining": True}
            | {"StoppingCondition": {"MaxWaitTimeInSeconds": 86400}},
            "KeepAlivePeriodInSeconds is not supported with managed spot",
        ),
    ],
)
def test_what_the_service_would_refuse_is_refused_before_there_is_a_record(make, workspace, over, words):
    """1.18, 1.20, 7.5, 8.1, 9.2."""
    with pytest.raises(ValidationError, match=words):
        make(**over)
    assert workspace.store.find() == []


@pytest.mark.parametrize("key", ["AlgorithmSpecification", "ResourceConfig"])
def test_your_own_container_needs_an_image_and_instances_though_the_model_lets_them_be_left_out(
    make_request, workspace, key
):
    """1.21."""
    request = make_request()
    del request[key]
    with pytest.raises(ValidationError, match=key):
        call(workspace, "CreateTrainingJob", request)


def test_jobs_are_listed_oldest_first_and_by_status(make, workspace):
    """23.1."""
    for name in ("one", "two"):
        make(name=name)
    call(workspace, "StopTrainingJob", {"TrainingJobName": "one"})
    listed = call(workspace, "ListTrainingJobs", {})["TrainingJobSummaries"]
    assert [one["TrainingJobName"] for one in listed] == ["one", "two"]
    (stopped,) = call(workspace, "ListTrainingJobs", {"StatusEquals": "Stopped"})["TrainingJobSummaries"]
    assert stopped["TrainingJobName"] == "one"


def test_a_job_that_nobody_runs_yet_is_stopped_at_once_and_one_that_has_ended_cannot_be(make, workspace, describe):
    """1.17."""
    make()
    assert call(workspace, "StopTrainingJob", {"TrainingJobName": "job"}) == {}
    assert (describe()["TrainingJobStatus"], describe()["SecondaryStatus"]) == ("Stopped", "Stopped")
    with pytest.raises(ValidationError, match="is in status Stopped"):
        call(workspace, "StopTrainingJob", {"TrainingJobName": "job"})


def test_a_job_that_runs_is_asked_to_stop(make, workspace, describe):
    make()
    workspace.store.assign(Kind.TRAINING_JOB, "job", Runner.here())
    call(workspace, "StopTrainingJob", {"TrainingJobName": "job"})
    assert describe()["TrainingJobStatus"] == "Stopping"


def test_only_a_job_that_has_ended_can_be_deleted(make, workspace):
    """23.1: and with it go its files."""
    make()
    with pytest.raises(ValidationError, match="cannot be deleted"):
        call(workspace, "DeleteTrainingJob", {"TrainingJobName": "job"})
    call(workspace, "StopTrainingJob", {"TrainingJobName": "job"})
    assert call(workspace, "DeleteTrainingJob", {"TrainingJobName": "job"}) == {}
    assert workspace.store.find() == []
    assert not workspace.directory_of(Kind.TRAINING_JOB, "job").exists()


def test_a_member_that_is_null_is_not_given(workspace, make_request, describe):
    """As a document from an SDK has it: the service takes null for absence."""
    call(workspace, "CreateTrainingJob", make_request() | {"StoppingCondition": None, "InputDataConfig": None})
    assert describe()["StoppingCondition"] == {"MaxRuntimeInSeconds": 86400}
