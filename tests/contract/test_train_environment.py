"""What a script is given: SM_* variables and arguments, held to documents written by hand from the contract."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.opt_ml import OptMl
from tests.support.places import GOLDEN
from tests.support.training import TrainRun, run_train

TRAINING_ENV_KEYS = {
    *("additional_framework_parameters", "channel_input_dirs", "current_host", "current_instance_group"),
    *("current_instance_group_hosts", "current_instance_type", "distribution_hosts", "distribution_instance_groups"),
    *("framework_module", "hosts", "hyperparameters", "input_config_dir", "input_data_config", "input_dir"),
    *("instance_groups", "instance_groups_dict", "is_hetero", "is_master", "is_modelparallel_enabled"),
    *("is_smddpmprun_installed", "is_smddprun_installed", "job_name", "log_level", "master_hostname", "model_dir"),
    *("module_dir", "module_name", "network_interface_name", "num_cpus", "num_gpus", "num_neurons"),
    *("output_data_dir", "output_dir", "output_intermediate_dir", "resource_config", "topology", "user_entry_point"),
}


def given(tree: OptMl, env: dict[str, str] | None = None) -> dict[str, Any]:
    """Run the program that writes down what it is given."""
    tree.code("prints_environment")
    run = run_train(tree, env)
    assert run.exit_code == 0, run.log
    document = tree.output("given.json")
    assert isinstance(document, dict)
    return document


def golden(tree: OptMl, case: str) -> dict[str, Any]:
    """Lay the case's input into the tree; returns what is expected, with the tree's base put in."""
    shutil.rmtree(tree.base / "input")
    shutil.copytree(GOLDEN / case / "input", tree.base / "input")
    for path in (tree.base / "input" / "config").iterdir():
        path.write_text(path.read_text().replace("{base}", str(tree.base)))
    expected: dict[str, Any] = json.loads((GOLDEN / case / "expected.json").read_text())
    expected["env"] = {key: value.replace("{base}", str(tree.base)) for key, value in expected["env"].items()}
    return expected


@pytest.mark.parametrize("case", sorted(entry.name for entry in GOLDEN.iterdir()))
def test_variables_and_arguments_are_as_documented(opt_ml: OptMl, case: str) -> None:
    """11.1-11.4 and table B.2."""
    expected = golden(opt_ml, case)
    seen = given(opt_ml, {"SM_STUDIO_LOCAL_MODE": "true"})  # the other hosts of a golden job do not exist
    assert {key: seen["env"].get(key) for key in expected["env"]} == expected["env"]
    assert seen["argv"] == expected["argv"]
    assert not set(expected["absent"]) & set(seen["env"])


def test_training_env_holds_every_property(opt_ml: OptMl) -> None:
    """11.6: the keys of SM_TRAINING_ENV."""
    golden(opt_ml, "platform_one_host")
    document = json.loads(given(opt_ml, {"TRAINING_JOB_NAME": "digits-1"})["env"]["SM_TRAINING_ENV"])
    assert set(document) == TRAINING_ENV_KEYS
    assert document["is_master"] is True
    assert document["master_hostname"] == "algo-1"
    assert document["job_name"] == "digits-1"


def test_counts_of_the_machine_are_whole_numbers(opt_ml: OptMl) -> None:
    """B.2: SM_NUM_CPUS, SM_NUM_GPUS, SM_NUM_NEURONS."""
    env = given(opt_ml)["env"]
    assert int(env["SM_NUM_CPUS"]) >= 1
    assert int(env["SM_NUM_GPUS"]) >= 0
    assert int(env["SM_NUM_NEURONS"]) == 0


def test_every_documented_list_and_object_is_compact_json_with_sorted_keys(opt_ml: OptMl) -> None:
    """11.1."""
    golden(opt_ml, "platform_one_host")
    env = given(opt_ml)["env"]
    for name in ("SM_HPS", "SM_TRAINING_ENV", "SM_RESOURCE_CONFIG", "SM_INPUT_DATA_CONFIG", "SM_INSTANCE_GROUPS_DICT"):
        assert env[name] == json.dumps(json.loads(env[name]), sort_keys=True, separators=(",", ":")), name


@pytest.mark.parametrize(
    "token",
    [
        "1.10",
        "1e5",
        "007",
        "null",
        "a b",
        "it's",
        'say "hi"',
        "line one\nline two",
        "größer",
        "日本語",
        "-1",
        "NaN",
        "[1, 2]",
    ],
)
def test_hyperparameter_reaches_the_script_as_it_was_sent(opt_ml: OptMl, token: str) -> None:
    """2.1, 2.3: decoding and printing again must not change a value on its way to argv or SM_HP_*."""
    opt_ml.hyperparameters(value=token)
    seen = given(opt_ml)
    assert seen["argv"] == ["--value", token]
    assert seen["env"]["SM_HP_VALUE"] == token


def test_switch_gives_the_toolkits_own_output(opt_ml: OptMl) -> None:
    """11.1, B.2: for scripts that depend on its quirks."""
    opt_ml.hyperparameters(**{"batch-size": "1.10", "layers": '["a"]', "nothing": "null"})
    seen = given(opt_ml, {"BYOC_COMPATIBILITY": "toolkit"})
    assert seen["argv"] == ["--batch-size", "1.1", "--layers", "['a']", "--nothing", ""]
    assert (seen["env"]["SM_HP_BATCH-SIZE"], seen["env"]["SM_HP_NOTHING"]) == ("1.1", "")
    assert not {"SM_HP_BATCH_SIZE", "SM_MASTER_ADDR"} & set(seen["env"])


def test_names_that_become_one_variable_are_told(opt_ml: OptMl, train: Callable[..., TrainRun]) -> None:
    """11.2: in the log, without the values."""
    opt_ml.hyperparameters(lr="0.125", LR="0.375")
    run = train("succeeds")
    assert run.exit_code == 0
    assert b"'LR' and 'lr' all become SM_HP_LR" in run.stderr
    assert b"0.125" not in run.stderr + run.stdout


def test_channels_with_dots_and_dashes_have_two_variables(opt_ml: OptMl) -> None:
    """2.8, 11.2: as the toolkit writes them, and as a shell can read them."""
    folder = opt_ml.channel("my.data-1", {"a.csv": b"1\n"})
    env = given(opt_ml)["env"]
    assert env["SM_CHANNEL_MY.DATA-1"] == env["SM_CHANNEL_MY_DATA_1"] == str(folder)


def test_value_that_no_program_can_be_given_keeps_its_escapes(opt_ml: OptMl) -> None:
    """2.1: a NUL would keep the script from starting."""
    opt_ml.config("hyperparameters.json", {"value": '"a\\u0000b"', "": "empty", "a=b": "1"})
    seen = given(opt_ml)
    assert seen["argv"] == ["", "empty", "--a=b", "1", "--value", '"a\\u0000b"']
    assert (seen["env"]["SM_HP_VALUE"], seen["env"]["SM_HP_A_B"]) == ('"a\\u0000b"', "1")
    assert json.loads(seen["env"]["SM_HPS"])["value"] == "a\0b"


def test_longest_hyperparameters_arrive_whole(opt_ml: OptMl) -> None:
    """2.2: one of 2,500 characters beside ninety-nine of 256."""
    values = {f"h{number:03d}": f"{number:03d}" + "x" * 253 for number in range(99)} | {"long": "y" * 2500}
    opt_ml.hyperparameters(**values)
    seen = given(opt_ml)
    assert seen["argv"] == [text for name in sorted(values) for text in ("--" + name, values[name])]


def test_what_the_job_sets_reaches_the_script(opt_ml: OptMl) -> None:
    """4.1: names of the job and every pair of its Environment."""
    env = given(opt_ml, {"TRAINING_JOB_NAME": "digits-1", "TRAINING_JOB_ARN": "arn:x", "MY_SETTING": "a=b c"})["env"]
    assert (env["TRAINING_JOB_NAME"], env["TRAINING_JOB_ARN"], env["MY_SETTING"]) == ("digits-1", "arn:x", "a=b c")


def test_script_runs_in_its_code_folder_unbuffered_and_leads_its_group(opt_ml: OptMl) -> None:
    """4.7, and the launcher's own promise about folder and process group."""
    seen = given(opt_ml)
    assert seen["cwd"] == str(opt_ml.base / "code")
    assert seen["unbuffered"]
    assert seen["group_leader"]


def test_missing_configuration_files_are_no_error(opt_ml: OptMl) -> None:
    """2.8, 2.10: a job started by hand may have none of the documents."""
    shutil.rmtree(opt_ml.base / "input")
    env = given(opt_ml)["env"]
    assert (env["SM_HPS"], env["SM_CHANNELS"]) == ("{}", "[]")
    assert env["SM_HOSTS"] == json.dumps([env["SM_CURRENT_HOST"]])
    assert (env["SM_NETWORK_INTERFACE_NAME"], env["SM_CURRENT_INSTANCE_TYPE"]) == ("eth0", "local")


def test_unknown_files_and_keys_are_left_alone(opt_ml: OptMl) -> None:
    """2.14, 2.5: real jobs hold more than is documented."""
    for name in ("init-config.json", "trainingjobconfig.json", "metric-definition-regex.json"):
        opt_ml.config(name, "not even JSON")
    opt_ml.config("inputdataconfig.json", {"train": {"TrainingInputMode": "Pipe", "Novelty": [1]}, "empty": {}})
    assert given(opt_ml)["env"]["SM_CHANNELS"] == '["empty","train"]'


def test_hyperparameters_stay_out_of_the_launchers_log(opt_ml: OptMl, train: Callable[..., TrainRun]) -> None:
    """A token sent as a hyperparameter is nobody else's to print."""
    opt_ml.hyperparameters(api_token="s3cr3t-0123456789")
    run = train("exits_3")
    assert "s3cr3t" not in run.log + (run.failure or "")


def test_launcher_adds_no_variables_of_a_peer(opt_ml: OptMl) -> None:
    """11.5: SM_MASTER is a name of no toolkit."""
    assert "SM_MASTER" not in given(opt_ml)["env"]


def _entry(tree: OptMl, program: str, entry: str, how: str) -> TrainRun:
    tree.code(program)
    tree.hyperparameters(epochs="2", **({"sagemaker_program": json.dumps(entry)} if how == "hyperparameter" else {}))
    return run_train(tree, {"SAGEMAKER_PROGRAM": entry} if how == "variable" else {})


@pytest.mark.parametrize("how", ["variable", "hyperparameter"])
def test_shell_script_is_run_by_a_shell(opt_ml: OptMl, how: str) -> None:
    """12.1."""
    run = _entry(opt_ml, "shell_entry", "train.sh", how)
    assert run.exit_code == 5
    assert run.stdout.decode() == (
        f"arguments: --epochs 2\nepochs from the environment: 2\nfolder: {opt_ml.base / 'code'}\n"
    )


@pytest.mark.parametrize(("program", "entry"), [("module_entry", "trainer"), ("package_entry", "trainer")])
def test_module_or_package_is_run_as_python_runs_it(opt_ml: OptMl, program: str, entry: str) -> None:
    """12.1: a name without suffix is a module or a package of the code folder."""
    run = _entry(opt_ml, program, entry, "variable")
    assert run.exit_code == 0, run.log
    document = opt_ml.output("given.json")
    assert isinstance(document, dict)
    assert document["argv"] == ["--epochs", "2"]
    assert document["name"] in {"trainer", "trainer.__main__"}


def test_module_of_a_package_is_run_by_its_dotted_name(opt_ml: OptMl) -> None:
    """12.1."""
    run = _entry(opt_ml, "package_entry", "trainer.steps", "hyperparameter")
    assert run.stdout == b"steps ran with ['--epochs', '2']\n", run.log


def test_code_of_the_image_is_the_fallback(opt_ml: OptMl, program: Callable[[str], Path]) -> None:
    """0.6: code baked into the image, outside /opt/ml, runs when the job brings none."""
    run = run_train(opt_ml, {"BYOC_IMAGE_CODE_DIR": str(program("exits_3"))})
    assert run.exit_code == 3


def test_code_of_the_job_goes_before_the_code_of_the_image(opt_ml: OptMl, program: Callable[[str], Path]) -> None:
    """0.6: /opt/ml/code is an overlay."""
    opt_ml.code("succeeds")
    assert run_train(opt_ml, {"BYOC_IMAGE_CODE_DIR": str(program("exits_3"))}).exit_code == 0


def test_users_modules_are_never_hidden_by_ours(train: Callable[..., TrainRun]) -> None:
    """A user may call a module predictor or training."""
    run = train("imports_its_neighbours")
    assert run.stdout == b"the user's predictor the user's training\n", run.log
