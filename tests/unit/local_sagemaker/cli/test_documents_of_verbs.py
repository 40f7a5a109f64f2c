"""A document that is given to the wrong verb is told from one that breaks a rule, before anything is made."""

import json

import pytest
from click.testing import CliRunner
from local_sagemaker.cli import byoc
from local_sagemaker.cli.documents import KNOWN, read_document
from local_sagemaker.errors import UsageError

DOCUMENTS = {
    "CreateTrainingJob": {"TrainingJobName": "job", "AlgorithmSpecification": {}},
    "CreateHyperParameterTuningJob": {"HyperParameterTuningJobName": "job", "TrainingJobDefinition": {}},
    "CreateProcessingJob": {"ProcessingJobName": "job", "AppSpecification": {}},
    "CreateTransformJob": {"TransformJobName": "job", "ModelName": "model"},
    "CreateEndpointConfig": {"EndpointConfigName": "config", "ProductionVariants": []},
    "CreateModel": {"ModelName": "model", "PrimaryContainer": {}},
}
VERBS = {
    "CreateTrainingJob": ("train",),
    "CreateHyperParameterTuningJob": ("tune",),
    "CreateProcessingJob": ("process",),
    "CreateTransformJob": ("transform",),
    "CreateEndpointConfig": ("endpoint", "create", "name"),
}


@pytest.fixture
def written(tmp_path, monkeypatch):
    """The file that holds a document of an operation."""
    monkeypatch.chdir(tmp_path)

    def write(operation):
        path = tmp_path / f"{operation}.json"
        path.write_text(json.dumps(DOCUMENTS[operation]))
        return path

    return write


@pytest.mark.parametrize("wanted", VERBS)
def test_each_verb_names_the_operation_of_a_document_that_is_not_its_own(written, wanted):
    for operation in DOCUMENTS.keys() - {wanted}:
        with pytest.raises(UsageError, match=f"looks like a request of {operation}") as error:
            CliRunner().invoke(byoc, [*VERBS[wanted], "--request", str(written(operation))], catch_exceptions=False)
        assert error.value.expected == f"expected one of {wanted}"
        assert "byoc" in error.value.next_step


@pytest.mark.parametrize("operation", VERBS)
def test_a_verbs_own_document_is_read_whatever_else_it_names(written, operation):
    assert read_document(written(operation), operation) == DOCUMENTS[operation]


def test_a_document_that_says_little_is_for_the_service_to_judge(tmp_path):
    (tmp_path / "some.yaml").write_text("StoppingCondition: {MaxRuntimeInSeconds: 60}")
    assert read_document(tmp_path / "some.yaml", "CreateTrainingJob") == {
        "StoppingCondition": {"MaxRuntimeInSeconds": 60}
    }
    assert read_document(None, "CreateTrainingJob") is None


def test_every_mark_is_a_member_of_its_operation_or_of_the_verbs_own_document():
    from botocore.loaders import Loader
    from botocore.model import ServiceModel

    model = ServiceModel(Loader().load_service_model("sagemaker", "service-2"))
    ours = {"CreateEndpointConfig", "CreateModel", "EndpointName"}
    for known in KNOWN:
        assert known.marks - ours <= model.operation_model(known.operation).input_shape.members.keys()
