"""Reading a project directory."""

import json

import pytest
from local_sagemaker.errors import UsageError
from local_sagemaker.names import check_channel_name, check_job_name, make_job_name, parse_pairs
from local_sagemaker.project import read_project


def write_hyperparameters(project, text):
    path = project / "input" / "config" / "hyperparameters.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_every_hyperparameter_becomes_a_string(tmp_path):
    """Contract 2.1: all values are strings."""
    write_hyperparameters(
        tmp_path, json.dumps({"epochs": 10, "rate": 0.1, "shuffle": True, "layers": [1, 2], "n": "x"})
    )
    assert read_project(tmp_path).hyperparameters == {
        "epochs": "10", "rate": "0.1", "shuffle": "true", "layers": "[1, 2]", "n": "x",
    }  # fmt: skip


def test_a_hyperparameter_given_on_the_command_line_wins(tmp_path):
    write_hyperparameters(tmp_path, '{"epochs": 10, "rate": 1}')
    assert read_project(tmp_path, {"epochs": "3"}).hyperparameters == {"epochs": "3", "rate": "1"}


def test_a_byte_order_mark_before_the_hyperparameters_is_passed_over(tmp_path):
    """As some editors of Windows write one, in request documents too."""
    write_hyperparameters(tmp_path, '\ufeff{"epochs": 10}')
    assert read_project(tmp_path).hyperparameters == {"epochs": "10"}


def test_broken_json_is_reported_with_path_line_and_column(tmp_path):
    write_hyperparameters(tmp_path, '{"epochs": 10,\n  oops}')
    with pytest.raises(UsageError, match=r"hyperparameters\.json, line 2, column 3"):
        read_project(tmp_path)


@pytest.mark.parametrize(("given", "message"), [("[1]", "list"), ('"a"', "str")])
def test_hyperparameters_must_be_one_object(tmp_path, given, message):
    write_hyperparameters(tmp_path, given)
    with pytest.raises(UsageError, match=message):
        read_project(tmp_path)


def test_each_folder_below_input_data_is_a_channel(tmp_path):
    for name in ("train", "validation", ".hidden"):
        (tmp_path / "input" / "data" / name).mkdir(parents=True)
    (tmp_path / "input" / "data" / "notes.txt").touch()
    assert read_project(tmp_path).channels == {
        name: tmp_path / "input" / "data" / name for name in ("train", "validation")
    }


def test_a_channel_must_be_a_folder(tmp_path):
    with pytest.raises(UsageError, match="channel train: there is no directory"):
        read_project(tmp_path, channels={"train": tmp_path / "absent"})


def test_a_value_that_the_platform_refuses_is_refused(tmp_path):
    """Contract 2.2: at most 2500 characters."""
    read_project(tmp_path, {"k": "v" * 2500})
    with pytest.raises(UsageError, match="2501 characters"):
        read_project(tmp_path, {"k": "v" * 2501})


@pytest.mark.parametrize("name", ["a", "a-b", "a--b", "A1", "a" * 63])
def test_platform_job_names_are_accepted(name):
    """Contract 1.20."""
    assert check_job_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "a_b", "a" * 64, "a b", "ä", "a\n"])
def test_other_job_names_are_refused(name):
    """Contract 1.20."""
    with pytest.raises(UsageError):
        check_job_name(name)


@pytest.mark.parametrize("project", ["digits", "my project_2", "ünï", "-", "x" * 200])
def test_a_made_job_name_is_always_allowed(project, now):
    check_job_name(make_job_name(project, now))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a" * 65])
def test_a_channel_name_cannot_leave_its_folder(name):
    with pytest.raises(UsageError):
        check_channel_name(name)


def test_only_the_first_equals_sign_splits_a_pair():
    assert parse_pairs(("a=b=c", "d="), "--env") == {"a": "b=c", "d": ""}


@pytest.mark.parametrize("pair", ["a", "=b"])
def test_a_pair_without_key_or_sign_is_refused(pair):
    with pytest.raises(UsageError, match="--env"):
        parse_pairs((pair,), "--env")
