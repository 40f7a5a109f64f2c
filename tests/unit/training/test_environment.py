"""SM_* variables and arguments, derived without starting anything."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sagemaker_byoc.training.entry_point import EntryPoint
from sagemaker_byoc.training.environment import collisions, derive_environment, split_too_long, user_arguments
from sagemaker_byoc.training.job import Hyperparameter

from tests.support.opt_ml import ONE_HOST
from tests.unit.training.test_job import job

ENTRY = EntryPoint("train.py", Path("/code"), ("python", "train.py"))
TWO_GROUPS = {
    "current_host": "algo-1",
    "current_group_name": "gpu",
    "hosts": ["algo-1", "algo-2", "algo-3"],
    "instance_groups": [
        {"instance_group_name": "cpu", "instance_type": "ml.c5.xlarge", "hosts": ["algo-2"]},
        {"instance_group_name": "gpu", "instance_type": "ml.g5.xlarge", "hosts": ["algo-3", "algo-1"]},
    ],
}


def environment(base: Path, environ: dict[str, str] | None = None, compatible: bool = False, **documents: Any):
    return derive_environment(job(base, **documents), ENTRY, environ or {}, compatible)


@pytest.mark.parametrize(
    ("token", "argument", "variable"),
    [
        ("1.10", "1.1", "1.1"),
        ("1e5", "100000.0", "100000.0"),
        ("007", "007", "007"),
        ("null", "", ""),
        ('["a", 1]', "['a', 1]", '["a",1]'),
        ('{"b": null, "a": [1]}', "a=[1],b=None", '{"a":[1],"b":null}'),
        ("NaN", "nan", "NaN"),
        ("true", "True", "true"),
        ('"it\'s"', "it's", "it's"),
        ('"größer"', "größer", "größer"),
    ],
)
def test_switch_gives_the_toolkits_notation(tmp_path: Path, token: str, argument: str, variable: str) -> None:
    """11.1, B.2: for scripts that depend on it."""
    found = job(tmp_path, hyperparameters={"batch-size": token})
    assert user_arguments(found, toolkit_compatible=True) == ["--batch-size", argument]
    env = derive_environment(found, ENTRY, {}, toolkit_compatible=True)
    assert env["SM_HP_BATCH-SIZE"] == variable
    assert "SM_HP_BATCH_SIZE" not in env


def test_switch_leaves_out_what_the_toolkit_does_not_set(tmp_path: Path) -> None:
    """11.5."""
    theirs = environment(tmp_path, compatible=True, resourceconfig=ONE_HOST)
    ours = environment(tmp_path, resourceconfig=ONE_HOST)
    assert set(ours) - set(theirs) == {
        *("SM_CURRENT_HOST_RANK", "SM_ENTRY_SCRIPT", "SM_HOST_COUNT", "SM_INPUT_DATA_DIR", "SM_MASTER_ADDR"),
        *("SM_MASTER_PORT", "SM_OUTPUT_FAILURE", "SM_SOURCE_DIR"),
    }


def test_variables_of_the_sdks_drivers_are_set(tmp_path: Path) -> None:
    """11.5."""
    env = environment(tmp_path, resourceconfig={"current_host": "algo-2", "hosts": ["algo-1", "algo-10", "algo-2"]})
    assert (env["SM_HOST_COUNT"], env["SM_CURRENT_HOST_RANK"]) == ("3", "2")
    assert (env["SM_MASTER_ADDR"], env["SM_MASTER_PORT"]) == ("algo-1", "7777")
    assert (env["SM_INPUT_DATA_DIR"], env["SM_OUTPUT_FAILURE"]) == (
        f"{tmp_path}/input/data",
        f"{tmp_path}/output/failure",
    )
    assert (env["SM_SOURCE_DIR"], env["SM_ENTRY_SCRIPT"]) == ("/code", "train.py")


def test_scripts_that_form_their_own_process_group_find_where_to_meet(tmp_path: Path) -> None:
    """5.1: as SageMaker's PyTorch images set it, on every host of several; what the job's own variables say wins."""
    config = {"current_host": "algo-2", "hosts": ["algo-1", "algo-2"]}
    env = environment(tmp_path, resourceconfig=config)
    assert (env["MASTER_ADDR"], env["MASTER_PORT"]) == ("algo-1", "7777")
    env = environment(tmp_path, {"MASTER_PORT": "2345", "BYOC_MASTER_PORT": "9999"}, resourceconfig=config)
    assert (env["MASTER_ADDR"], env["MASTER_PORT"], env["SM_MASTER_PORT"]) == ("algo-1", "2345", "9999")


def test_one_host_has_no_place_to_meet(tmp_path: Path) -> None:
    """5.1: a script on one host chooses its own port, of which jobs on one machine may not share one."""
    assert not {"MASTER_ADDR", "MASTER_PORT"} & set(environment(tmp_path, resourceconfig=ONE_HOST))


@pytest.mark.parametrize("name", ["batch-size", "a.b", "with space", "a=b", "x/y"])
def test_every_name_has_a_variable_that_a_shell_can_read(tmp_path: Path, name: str) -> None:
    """11.2, 2.8: for hyperparameters and channels."""
    env = environment(tmp_path, hyperparameters={name: "1"}, inputdataconfig={name: {}})
    readable = name.upper().translate(str.maketrans("-. =/", "_____"))
    assert env[f"SM_HP_{readable}"] == "1"
    assert env[f"SM_CHANNEL_{readable}"] == f"{tmp_path}/input/data/{name}"
    assert (f"SM_HP_{name.upper()}" in env) == ("=" not in name)


@pytest.mark.parametrize(
    ("names", "variable", "winner"),
    [(["lr", "LR"], "SM_HP_LR", "lr"), (["batch-size", "batch_size"], "SM_HP_BATCH_SIZE", "batch_size")],
)
def test_names_that_become_one_variable_are_told_and_the_order_does_not_matter(
    tmp_path: Path, names: list[str], variable: str, winner: str
) -> None:
    """11.2."""
    for order in (names, names[::-1]):
        found = job(tmp_path, hyperparameters={name: f"value of {name}" for name in order})
        (sentence,) = collisions(found)
        assert variable in sentence
        assert f"the value of {winner!r}" in sentence
        assert derive_environment(found, ENTRY, {})[variable] == f"value of {winner}"
        assert sorted(user_arguments(found)[::2]) == sorted("--" + name for name in names)


def test_sentence_on_a_collision_shows_no_value(tmp_path: Path) -> None:
    """It goes to the log, and may be about a token."""
    (sentence,) = collisions(job(tmp_path, hyperparameters={"TOKEN": "s3cr3t", "token": "s3cr3t"}))
    assert "s3cr3t" not in sentence


def test_channels_that_become_one_variable_are_told(tmp_path: Path) -> None:
    """2.8, 11.2."""
    (sentence,) = collisions(job(tmp_path, inputdataconfig={"my-data": {}, "my_data": {}, "other": {}}))
    assert "channels 'my-data' and 'my_data'" in sentence
    assert "'my_data';" in sentence


@given(st.dictionaries(st.text(max_size=6), st.text(max_size=8), max_size=5))
def test_each_collision_is_about_names_that_exist_and_none_is_overlooked(values: dict[str, str]) -> None:
    """11.2."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        found = job(Path(folder), hyperparameters={f"h{name}": value for name, value in values.items()})
    uppers = [h.name.upper() for h in found.users_hyperparameters]
    assert bool(collisions(found)) >= (len(set(uppers)) < len(uppers))
    assert all("hyperparameters" in sentence for sentence in collisions(found))


@pytest.mark.parametrize("token", ['"a\\u0000b"', '"\\ud800"', '["\\ud800"]', "a\0b"])
def test_text_that_no_program_can_be_given_keeps_its_escapes_with_the_switch_too(tmp_path: Path, token: str) -> None:
    """2.1: the toolkit itself would not start the script."""
    found = job(tmp_path, hyperparameters={"h": token})
    arguments = user_arguments(found, toolkit_compatible=True)
    assert arguments[1].encode() == arguments[1].encode("ascii")
    assert "\0" not in arguments[1] + derive_environment(found, ENTRY, {}, toolkit_compatible=True)["SM_HP_H"]


@given(st.dictionaries(st.text(max_size=10), st.text(max_size=20), max_size=6))
def test_whatever_is_sent_a_program_can_be_given(values: dict[str, str]) -> None:
    """2.1-2.3: no name and no value keeps the script from starting, and the documents stay JSON."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        found = job(Path(folder), hyperparameters=values)
        env = derive_environment(found, ENTRY, {})
    for text in (*env.values(), *env, *user_arguments(found)):
        assert b"\0" not in text.encode("utf-8", "surrogateescape")
    assert not [name for name in env if "=" in name]
    sent = {h.name: h.value for h in found.users_hyperparameters}
    assert (
        json.loads(env["SM_HPS"])
        == json.loads(json.dumps(sent))
        == json.loads(env["SM_TRAINING_ENV"])["hyperparameters"]
    )
    assert json.loads(env["SM_USER_ARGS"]) == user_arguments(found)


@pytest.mark.parametrize(
    ("hyperparameters", "groups", "hosts", "master"),
    [
        ({}, [], [], "algo-1"),
        ({"sagemaker_mpi_enabled": "true"}, ["gpu"], ["algo-3", "algo-1"], "algo-1"),
        ({"sagemaker_horovod_enabled": "true"}, ["gpu"], ["algo-3", "algo-1"], "algo-1"),
        ({"sagemaker_mpi_enabled": "false"}, [], [], "algo-1"),
        ({"sagemaker_distribution_instance_groups": '["cpu"]'}, ["cpu"], ["algo-2"], "algo-2"),
        ({"sagemaker_distribution_instance_groups": "cpu"}, ["cpu"], ["algo-2"], "algo-2"),
    ],
)
def test_groups_of_a_distribution_and_its_master(
    tmp_path: Path, hyperparameters: dict[str, str], groups: list[str], hosts: list[str], master: str
) -> None:
    """5.1, 11.6."""
    env = environment(tmp_path, hyperparameters=hyperparameters, resourceconfig=TWO_GROUPS)
    document = json.loads(env["SM_TRAINING_ENV"])
    assert json.loads(env["SM_DISTRIBUTION_INSTANCE_GROUPS"]) == document["distribution_instance_groups"] == groups
    assert document["distribution_hosts"] == hosts
    assert document["master_hostname"] == env["SM_MASTER_ADDR"] == master
    assert document["is_master"] == (master == "algo-1")


@pytest.mark.parametrize(
    ("hyperparameters", "environ", "level"),
    [
        ({}, {}, "20"),
        ({"sagemaker_container_log_level": "0"}, {"SAGEMAKER_CONTAINER_LOG_LEVEL": "40"}, "0"),
        ({}, {"SAGEMAKER_CONTAINER_LOG_LEVEL": "40"}, "40"),
    ],
)
def test_log_level_comes_from_the_job_then_from_the_environment(
    tmp_path: Path, hyperparameters: dict[str, str], environ: dict[str, str], level: str
) -> None:
    """12.4, 12.5."""
    assert environment(tmp_path, environ, hyperparameters=hyperparameters)["SM_LOG_LEVEL"] == level


@pytest.mark.parametrize(
    ("environ", "region"),
    [
        ({"AWS_REGION": "a", "AWS_DEFAULT_REGION": "b", "SAGEMAKER_REGION": "c"}, "a"),
        ({"AWS_DEFAULT_REGION": "b", "SAGEMAKER_REGION": "c"}, "b"),
        ({"SAGEMAKER_REGION": "c"}, "c"),
        ({}, ""),
    ],
)
def test_region_is_found_where_it_is(tmp_path: Path, environ: dict[str, str], region: str) -> None:
    """4.4, 11.7, 12.4."""
    assert environment(tmp_path, environ)["SAGEMAKER_REGION"] == region


def test_neuron_cores_of_a_trn2_are_its_logical_ones(tmp_path: Path) -> None:
    """B.2: what its programs see."""
    assert environment(tmp_path, resourceconfig={"current_instance_type": "ml.trn2.48xlarge"})["SM_NUM_NEURONS"] == "64"


def test_variable_too_long_for_the_kernel_is_set_apart() -> None:
    """2.2: SM_HPS may hold a hundred long values."""
    fitting, left_out = split_too_long({"A": "x", "B": "y" * 200_000})
    assert (fitting, left_out) == ({"A": "x"}, ("B",))


def test_hyperparameter_that_is_no_string_is_taken_as_json() -> None:
    """2.1: a tree made by hand may hold numbers."""
    assert Hyperparameter.read("h", 1.5).text == "1.5"
    assert Hyperparameter.read("h", None).token == "null"
