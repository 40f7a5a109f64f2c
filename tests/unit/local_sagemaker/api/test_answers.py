"""Answers have the service's shapes."""

import pytest
from local_sagemaker.api.answers import list_page, prune
from local_sagemaker.errors import ValidationError
from local_sagemaker.state.records import Kind, Record


def records(count):
    return [
        Record(
            Kind.TRAINING_JOB,
            f"job-{n}",
            {},
            {
                "TrainingJobName": f"job-{n}",
                "TrainingJobStatus": "Failed" if n % 2 else "Completed",
                "Engine": "docker",
            },
            created_at=float(n),
            modified_at=float(n),
        )
        for n in range(count)
    ]


def page(count=25, **request):
    return list_page("ListTrainingJobs", Kind.TRAINING_JOB, records(count), request)


def names(answer):
    return [summary["TrainingJobName"] for summary in answer["TrainingJobSummaries"]]


def test_an_answer_has_no_member_that_the_api_does_not_have():
    document = {
        "TrainingJobName": "a",
        "Engine": "docker",
        "ModelArtifacts": {"S3ModelArtifacts": "s3://b/m", "Path": "/m"},
    }
    assert prune("DescribeTrainingJob", document) == {
        "TrainingJobName": "a",
        "ModelArtifacts": {"S3ModelArtifacts": "s3://b/m"},
    }


def test_pages_hold_every_job_once_the_newest_first():
    found, token = [], None
    while True:
        answer = page(**({"NextToken": token} if token else {}))
        found += names(answer)
        token = answer.get("NextToken")
        if token is None:
            break
    assert found == [f"job-{n}" for n in reversed(range(25))]


def test_a_list_is_filtered_and_sorted_as_asked():
    """23.1."""
    assert names(page(5, StatusEquals="Failed", SortOrder="Ascending")) == ["job-1", "job-3"]
    assert names(page(5, NameContains="B-4")) == ["job-4"]
    assert names(page(5, CreationTimeAfter=2, CreationTimeBefore=4.0)) == ["job-3"]
    assert names(page(5, SortBy="Name", SortOrder="Ascending", MaxResults=2)) == ["job-0", "job-1"]


def test_a_token_of_elsewhere_is_refused():
    with pytest.raises(ValidationError, match="pagination token"):
        page(NextToken="bm9uc2Vuc2U=")
