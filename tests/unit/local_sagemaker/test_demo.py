"""The demo's training job is one like any other: it is seen, its log is read, and it is removed by its name."""

import pytest
from local_sagemaker.demo import train
from local_sagemaker.engines import ProcessEngine
from local_sagemaker.errors import JobFailedError
from local_sagemaker.progress import silent
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import Workspace


def test_the_demos_job_has_a_record_and_its_files(make_project):
    root = make_project(train="print('epochs are over')")
    result = train(root, ProcessEngine(), "an-image", None, silent)
    (record,) = Workspace.of(root).store.find(Kind.TRAINING_JOB)
    assert (record.name, record.status) == (result["job_name"], "Completed")
    assert (root / ".byoc/jobs" / record.name / "logs.txt").read_text() == "epochs are over\n"


def test_a_demo_whose_job_fails_says_why_and_the_record_does_too(make_project):
    root = make_project(train="raise ValueError('no digits')")
    with pytest.raises(JobFailedError, match="no digits"):
        train(root, ProcessEngine(), "an-image", None, silent)
    (record,) = Workspace.of(root).store.find(Kind.TRAINING_JOB)
    assert "no digits" in record.description["FailureReason"]
