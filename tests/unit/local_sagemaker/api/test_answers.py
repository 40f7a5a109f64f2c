"""Answers have the service's shapes."""

import re

import pytest
from local_sagemaker.api.answers import ORDERS, USUAL_ORDER, list_page, prune
from local_sagemaker.api.operations import OPERATIONS
from local_sagemaker.api.service_model import input_shape
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


def documented_default(operation, member):
    """What botocore's own text of a member calls its default."""
    return re.search(r"default is (?:<code>)?(\w+)", input_shape(operation).members[member].documentation)[1]


@pytest.mark.parametrize("operation", sorted(name for name in OPERATIONS if name.startswith("List")))
def test_a_list_without_an_order_has_the_one_that_the_service_documents(operation):
    """23.1."""
    documented = documented_default(operation, "SortBy"), documented_default(operation, "SortOrder")
    assert ORDERS.get(operation, USUAL_ORDER) == documented


def test_tuning_jobs_are_listed_by_name_and_what_is_not_a_job_newest_first():
    """23.1."""
    by_name = [Record(Kind.TUNING_JOB, name, {}, {"HyperParameterTuningJobName": name}, 0.0, 0.0) for name in "bca"]
    listed = list_page("ListHyperParameterTuningJobs", Kind.TUNING_JOB, by_name, {})["HyperParameterTuningJobSummaries"]
    assert [one["HyperParameterTuningJobName"] for one in listed] == ["a", "b", "c"]
    models = [Record(Kind.MODEL, f"m-{n}", {}, {"ModelName": f"m-{n}"}, float(n), float(n)) for n in range(3)]
    assert [one["ModelName"] for one in list_page("ListModels", Kind.MODEL, models, {})["Models"]] == [
        "m-2",
        "m-1",
        "m-0",
    ]


def test_pages_hold_every_job_once_the_oldest_first():
    found, token = [], None
    while True:
        answer = page(**({"NextToken": token} if token else {}))
        found += names(answer)
        token = answer.get("NextToken")
        if token is None:
            break
    assert found == [f"job-{n}" for n in range(25)]


def test_a_list_is_filtered_and_sorted_as_asked():
    """23.1."""
    assert names(page(5, StatusEquals="Failed", SortOrder="Ascending")) == ["job-1", "job-3"]
    assert names(page(5, NameContains="B-4")) == ["job-4"]
    assert names(page(5, CreationTimeAfter=2, CreationTimeBefore=4.0)) == ["job-3"]
    assert names(page(5, SortBy="Name", SortOrder="Ascending", MaxResults=2)) == ["job-0", "job-1"]


def test_a_token_of_elsewhere_is_refused():
    with pytest.raises(ValidationError, match="pagination token"):
        page(NextToken="bm9uc2Vuc2U=")
