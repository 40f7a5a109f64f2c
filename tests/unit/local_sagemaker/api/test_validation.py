"""Requests are held to the service model of the installed botocore, in the service's words."""

import pytest
from botocore.exceptions import ParamValidationError
from botocore.validate import ParamValidator
from hypothesis import given, settings
from hypothesis import strategies as st
from local_sagemaker.api.service_model import input_shape, service_model
from local_sagemaker.api.validation import _compile, validate
from local_sagemaker.errors import UnknownOperationError, ValidationError

JOB = {
    "TrainingJobName": "digits",
    "AlgorithmSpecification": {"TrainingImage": "sagemaker-byoc:latest", "TrainingInputMode": "File"},
    "RoleArn": "arn:aws:iam::000000000000:role/sagemaker-byoc",
    "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
    "StoppingCondition": {"MaxRuntimeInSeconds": 60},
}


def problem(**changes):
    with pytest.raises(ValidationError) as raised:
        validate("CreateTrainingJob", {**JOB, **changes})
    assert raised.value.exit_code == 2
    return raised.value.message


def test_a_request_that_the_service_takes_is_taken():
    validate("CreateTrainingJob", JOB)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"TrainingJobName": "a b"},
            (
                "1 validation error detected: Value 'a b' at 'trainingJobName' failed to satisfy constraint: Member"
                " must satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
            ),
        ),
        ({"RoleArn": None}, "Value null at 'roleArn' failed to satisfy constraint: Member must not be null"),
        (
            {"StoppingCondition": {"MaxRuntimeInSeconds": 0}},
            (
                "Value '0' at 'stoppingCondition.maxRuntimeInSeconds' failed to satisfy constraint: Member must have"
                " value greater than or equal to 1"
            ),
        ),
        (
            {"AlgorithmSpecification": {"TrainingInputMode": "Tape"}},
            "Member must satisfy enum value set: [Pipe, File, FastFile]",
        ),
        ({"HyperParameters": {"lr": "x" * 2501}}, "Member must have length less than or equal to 2500"),
        ({"HyperParameters": {"k" * 257: "1"}}, "Map keys must satisfy constraint: [Member must have length less"),
        ({"HyperParameters": {"epochs": 10}}, "10 is a number, expected a string: write it in quotes"),
        ({"InputDataConfig": [{"ChannelName": "x"}]}, "Value null at 'inputDataConfig.1.member.dataSource'"),
        ({"EnableNetworkIsolation": "yes"}, "yes is a string, expected true or false"),
        ({"InputDataConfig": {}}, "expected a list"),
        (
            {"ResourceConfig": {**JOB["ResourceConfig"], "VolumeSizeInGB": 1 << 31}},
            "2147483648 is a number, expected a whole number of 32 bits",
        ),
        ({"Colour": "blue"}, 'Unknown parameter in input: "Colour", must be one of: AlgorithmSpecification'),
        ({"OutputDataConfig": {"S3OutputPath": "s3://b/", "Speed": 1}}, 'in input at "outputDataConfig": "Speed"'),
    ],
)
def test_what_the_service_would_refuse_is_refused_in_its_words(changes, words):
    """1.20, 1.21, 2.2, 3.10; harness_peers 7.3."""
    assert words in problem(**changes)


@pytest.mark.parametrize("member", ["ContainerEntrypoint", "ContainerArguments"])
@pytest.mark.parametrize(("items", "limit"), [(["x"] * 101, 100), (["x" * 257], 256)])
def test_an_entry_point_and_arguments_have_limits(member, items, limit):
    """1.5."""
    message = problem(AlgorithmSpecification={**JOB["AlgorithmSpecification"], member: items})
    assert f"Member must have length less than or equal to {limit}" in message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Environment": {f"K{number}": "" for number in range(101)}}, "length less than or equal to 100"),
        ({"Environment": {"K" * 257: ""}}, "length less than or equal to 256"),
        ({"Environment": {"K": "v" * 257}}, "length less than or equal to 256"),
        ({"StoppingCondition": {"MaxRuntimeInSeconds": 777601}}, "value less than or equal to 777600"),
    ],
)
def test_environment_and_run_time_of_a_processing_job_have_limits(changes, words):
    """10.6."""
    resources = {"ClusterConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}}
    job = {
        "ProcessingJobName": "clean",
        "AppSpecification": {"ImageUri": "sagemaker-byoc:latest"},
        "RoleArn": JOB["RoleArn"],
        "ProcessingResources": resources,
    }
    validate("CreateProcessingJob", job)
    with pytest.raises(ValidationError) as raised:
        validate("CreateProcessingJob", {**job, **changes})
    assert words in raised.value.message


def test_unknown_members_are_told_together():
    """One list of what may stand there is read; a dozen hide what is wrong (1.21)."""
    message = problem(Colour="blue", Taste="sour")
    assert 'Unknown parameter in input: "Colour", "Taste", must be one of: AlgorithmSpecification' in message
    assert message.count("must be one of") == 1


@pytest.mark.parametrize("name", ["hyper_parameters", "hyperParameters", "Hyperparameter"])
def test_a_name_that_is_spelled_another_way_is_told_the_right_one(name):
    """As boto3's and Terraform's readers write it (1.21)."""
    assert f'"{name}" (is HyperParameters meant?)' in problem(**{name: {}})


def test_a_description_is_told_from_a_request():
    """What `aws sagemaker describe-training-job` prints is no request: the service refuses it too (1.21)."""
    with pytest.raises(ValidationError) as raised:
        validate("CreateTrainingJob", {**JOB, "TrainingJobArn": "arn", "TrainingJobStatus": "Completed"})
    assert "what DescribeTrainingJob answers" in raised.value.next_step


def test_all_that_is_wrong_is_told_at_once():
    message = problem(TrainingJobName="a b", RoleArn=None)
    assert message.startswith("2 validation errors detected: ")
    assert "; " in message


def test_an_unknown_instance_type_is_answered_with_those_that_look_like_it():
    message = problem(ResourceConfig={"InstanceType": "ml.m5.big", "InstanceCount": 1, "VolumeSizeInGB": 1})
    assert "ml.m5.large" in message
    assert len(message) < 500


def test_an_unknown_operation_is_told():
    with pytest.raises(UnknownOperationError, match="no operation CreateTrainingJobs"):
        validate("CreateTrainingJobs", {})


def test_nearly_every_pattern_of_the_model_is_checked():
    """The rest use classes of Java that Python's re does not know; none is a member of the operations played here."""
    model = service_model()
    patterns = {model.shape_for(name).metadata.get("pattern") for name in model.shape_names} - {None}
    assert len(patterns) > 200
    assert len([pattern for pattern in patterns if _compile(pattern) is None]) <= 10


def values(shape, depth=0):
    """Documents of a shape, some of them wrong."""
    kind = shape.type_name
    if kind == "structure":
        if depth > 3:
            return st.just({})
        members = {name: values(member, depth + 1) for name, member in shape.members.items()}
        required = {name: members[name] for name in shape.required_members}
        some = {name: members[name] for name in list(members)[:4] if name not in required}
        return st.fixed_dictionaries(required, optional=some)
    if kind == "list":
        return st.lists(values(shape.member, depth + 1), max_size=1)
    if kind == "map":
        return st.dictionaries(values(shape.key, depth + 1), values(shape.value, depth + 1), max_size=1)
    scalars = {"string": st.text(max_size=3), "integer": st.integers(0, 9), "boolean": st.booleans()}
    return st.one_of(scalars.get(kind, st.floats(0, 9)), st.sampled_from([1, "x", True]))


@settings(max_examples=100, deadline=None)
@given(values(input_shape("CreateTrainingJob")))
def test_nothing_passes_that_botocores_own_client_would_refuse(document):
    report = ParamValidator().validate(document, input_shape("CreateTrainingJob"))
    if report.has_errors():
        assert ParamValidationError(report=report.generate_report())
        with pytest.raises(ValidationError):
            validate("CreateTrainingJob", document)
