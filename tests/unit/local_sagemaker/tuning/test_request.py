"""Flags, and documents with flags over them, become the API's request."""

import re
from datetime import UTC, datetime

import pytest
from local_sagemaker.api.validation import validate
from local_sagemaker.cli.tune import tune, want
from local_sagemaker.errors import UsageError
from local_sagemaker.tuning.request import check_tuning_job_name, make_tuning_job_name
from local_sagemaker.tuning.shorthand import expression_of, parse_objective, parse_ranges


def wanted(root, *arguments, document=None):
    """What ``byoc tune ROOT ARGUMENTS`` wants."""
    from local_sagemaker.cli.train import said_options

    with tune.make_context("tune", [str(root), *arguments]) as context:
        given = dict(context.params)
        project = given.pop("project")
        return want(project, given if document is None else said_options(context, given), document)


def request_of(root, *arguments, document=None):
    request = wanted(root, *arguments, document=document).request
    validate("CreateHyperParameterTuningJob", request)
    return request


@pytest.fixture
def root(make_project):
    made = make_project(train="")
    (made / "input/config").mkdir(parents=True)
    (made / "input/config/hyperparameters.json").write_text('{"lr": "0.1", "epochs": "5"}')
    (made / "input/data/train").mkdir(parents=True)
    return made


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("lr=0.001..0.1:log", "ContinuousParameterRanges", ("lr", "0.001", "0.1", "Logarithmic")),
        ("layers=1..4", "IntegerParameterRanges", ("layers", "1", "4", "Auto")),
        ("x=-1..1.5:linear", "ContinuousParameterRanges", ("x", "-1", "1.5", "Linear")),
        ("m=.5..0.999:reverse-log", "ContinuousParameterRanges", ("m", ".5", "0.999", "ReverseLogarithmic")),
        ("wd=1e-6..1e-2:log", "ContinuousParameterRanges", ("wd", "1e-6", "1e-2", "Logarithmic")),
    ],
)
def test_a_range_of_numbers_is_written_with_two_points(text, key, expected):
    """24.4."""
    members = ("Name", "MinValue", "MaxValue", "ScalingType")
    assert parse_ranges([text]) == {key: [dict(zip(members, expected, strict=True))]}


def test_categories_are_written_with_commas_and_one_alone_is_a_category_too():
    """24.4."""
    found = parse_ranges(["act=relu,tanh", "opt=adam"])
    assert found == {
        "CategoricalParameterRanges": [
            {"Name": "act", "Values": ["relu", "tanh"]},
            {"Name": "opt", "Values": ["adam"]},
        ]
    }


@pytest.mark.parametrize("text", ["lr", "=1..2", "lr=", "lr=1..", "lr=1..2:loud", "lr=1..2..3"])
def test_a_range_that_cannot_be_read_is_answered_with_examples(text):
    with pytest.raises(UsageError, match="write for example --range"):
        parse_ranges([text])


@pytest.mark.parametrize(
    ("text", "name", "direction"),
    [
        ("loss", "loss", "Minimize"),
        ("accuracy:Maximize", "accuracy", "Maximize"),
        ("validation:auc:maximize", "validation:auc", "Maximize"),
        ("validation:auc", "validation:auc", "Minimize"),
    ],
)
def test_an_objective_is_minimized_where_nothing_else_is_said(text, name, direction):
    """24.3."""
    assert parse_objective(text) == {"MetricName": name, "Type": direction}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("epoch=1 loss=0.25;", "0.25"),
        ("loss: -1.5e-07", "-1.5e-07"),
        ("loss = 3", "3"),
        ("train_loss=1.0; loss=0.5;", "0.5"),
        ("train_loss=1.0;", None),
    ],
)
def test_an_objective_without_an_expression_is_found_as_name_and_value(line, value):
    """8.2, 8.3."""
    match = re.search(expression_of("loss"), line)
    assert (match and match[1]) == value


def test_a_project_and_flags_make_a_request_that_the_service_takes(root):
    """24.1, 24.5."""
    request = request_of(root, "--objective", "loss", "--range", "lr=0.001..0.1:log", "--parallel", "2", "--seed", "3")
    config = request["HyperParameterTuningJobConfig"]
    assert config["ResourceLimits"] == {"MaxParallelTrainingJobs": 2, "MaxNumberOfTrainingJobs": 12}
    assert (config["Strategy"], config["RandomSeed"]) == ("Bayesian", 3)
    definition = request["TrainingJobDefinition"]
    assert definition["StaticHyperParameters"] == {"epochs": "5"}  # the project's lr is searched
    assert [one["Name"] for one in definition["AlgorithmSpecification"]["MetricDefinitions"]] == ["loss"]
    assert [one["ChannelName"] for one in definition["InputDataConfig"]] == ["train"]


def test_the_same_data_has_the_same_address_so_that_a_warm_start_can_tell(root):
    """24.7."""
    arguments = ("--objective", "loss", "--range", "lr=0.1..1")
    first, second = (request_of(root, *arguments, "--job-name", name) for name in ("one", "two"))
    definitions = first["TrainingJobDefinition"], second["TrainingJobDefinition"]
    assert definitions[0]["InputDataConfig"] == definitions[1]["InputDataConfig"]
    assert definitions[0]["CheckpointConfig"] != definitions[1]["CheckpointConfig"]


def test_flags_win_over_a_document_and_defaults_do_not(root, make_request):
    """24.1."""
    document = make_request(static={"epochs": "9"}, jobs=40)
    request = request_of(root, "--parallel", "3", "--static", "depth=2", document=document)
    assert request["HyperParameterTuningJobConfig"]["ResourceLimits"] == {
        "MaxNumberOfTrainingJobs": 40,
        "MaxParallelTrainingJobs": 3,
    }
    assert request["HyperParameterTuningJobConfig"]["Strategy"] == "Random"
    assert request["TrainingJobDefinition"]["StaticHyperParameters"] == {"epochs": "9", "depth": "2"}
    unchanged = request_of(root, document=document)
    assert unchanged == document


def test_a_grid_has_no_number_of_jobs_by_default(root):
    """24.4."""
    request = request_of(root, "--objective", "loss", "--strategy", "Grid", "--range", "act=relu,tanh")
    assert "MaxNumberOfTrainingJobs" not in request["HyperParameterTuningJobConfig"]["ResourceLimits"]


def test_what_is_searched_cannot_be_static(root):
    """24.5."""
    with pytest.raises(UsageError, match="only one of these"):
        wanted(root, "--objective", "loss", "--range", "lr=0.1..1", "--static", "lr=1")


def test_names_leave_room_for_those_of_the_training_jobs():
    """24.1."""
    name = make_tuning_job_name("a_very_long_project_name_indeed", datetime(2026, 1, 31, 12, 1, 2, tzinfo=UTC))
    assert name == "a-very-long-proj-20260131-120102"
    assert check_tuning_job_name(name) == name
    with pytest.raises(UsageError, match="1 to 32"):
        check_tuning_job_name("x" * 33)
