"""Where the code comes from: folders that a job names, functions of modules, and what its requirements.txt asks for."""

import json
import shutil
from pathlib import Path

import pytest

from tests.support.opt_ml import OptMl
from tests.support.places import program
from tests.support.training import TrainRun, run_train

OFFLINE = {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def source(tree: OptMl, name: str) -> str:
    """A folder with uploaded source."""
    folder = tree.base.parent / "uploaded"
    shutil.copytree(program(name), folder)
    return str(folder)


@pytest.mark.parametrize("how", ["variable", "hyperparameter"])
def test_folder_that_the_job_names_goes_before_all_other_code(opt_ml: OptMl, how: str) -> None:
    """12.2: the code of the image and of /opt/ml/code must not hide it."""
    folder = source(opt_ml, "prints_environment")
    opt_ml.code("exits_3")
    if how == "hyperparameter":
        opt_ml.hyperparameters(sagemaker_submit_directory=json.dumps(folder))
    env = {"SAGEMAKER_SUBMIT_DIRECTORY": folder} if how == "variable" else {}
    run = run_train(opt_ml, {**env, "BYOC_IMAGE_CODE_DIR": str(program("exits_3"))})
    assert run.exit_code == 0, run.log
    seen = opt_ml.output("given.json")
    assert isinstance(seen, dict)
    assert seen["cwd"] == seen["env"]["SM_MODULE_DIR"] == folder


def test_source_that_is_not_there_is_told(opt_ml: OptMl) -> None:
    """12.2: exit 64 and the value."""
    run = run_train(opt_ml, {"SAGEMAKER_SUBMIT_DIRECTORY": "/no/such/folder"})
    assert run.exit_code == 64
    assert "'/no/such/folder'" in (run.failure or "")
    assert "Traceback" not in run.log


def test_code_channel_of_the_sdk_is_code(opt_ml: OptMl) -> None:
    """12.6, 2.16: SDK v3 uploads source as a channel, beside its drivers, and may then run our train."""
    opt_ml.channel("sm_drivers", {"sm_train.sh": b"train\n"})
    folder = opt_ml.channel("code", {})
    shutil.copytree(program("prints_environment"), folder)
    run = run_train(
        opt_ml, {"SM_SOURCE_DIR": "stale", "SM_HPS": "stale", "BYOC_IMAGE_CODE_DIR": str(program("exits_3"))}
    )
    assert run.exit_code == 0, run.log
    seen = opt_ml.output("given.json")
    assert isinstance(seen, dict)
    assert seen["cwd"] == seen["env"]["SM_SOURCE_DIR"] == str(folder)
    assert seen["env"]["SM_HPS"] == "{}"


def test_channel_of_that_name_alone_is_data(opt_ml: OptMl) -> None:
    """2.16: a user may call a channel `code`."""
    opt_ml.channel("code", {"train.py": b"raise SystemExit(9)\n"})
    opt_ml.code("exits_3")
    assert run_train(opt_ml).exit_code == 3


def _module(tree: OptMl, spec: str, env: dict[str, str] | None = None) -> TrainRun:
    tree.code("function_of_a_module")
    tree.hyperparameters(lr="1.10")
    return run_train(tree, {"SAGEMAKER_TRAINING_MODULE": spec, **(env or {})})


@pytest.mark.parametrize("spec", ["jobs.digits", "jobs.digits:main", "jobs.digits:Trainer.run"])
def test_function_of_a_module_is_run_in_place_of_a_script(opt_ml: OptMl, spec: str) -> None:
    """12.3: with the arguments and variables of a script."""
    run = _module(opt_ml, spec)
    assert run.exit_code == 0, run.log
    code = opt_ml.base / "code"
    assert opt_ml.output("given.json") == {
        "argv": [str(code / "jobs" / "digits.py"), "--lr", "1.10"],
        "cwd": str(code),
        "lr": "1.10",
        "module": "jobs.digits",
    }


def test_function_of_an_installed_module_is_found(opt_ml: OptMl, tmp_path: Path) -> None:
    """12.3."""
    shutil.copytree(program("function_of_a_module"), tmp_path / "installed")
    opt_ml.hyperparameters(lr="2")
    paths = f"{tmp_path / 'installed'}:{Path(__file__).parents[2] / 'container'}"
    run = run_train(opt_ml, {"SAGEMAKER_TRAINING_MODULE": "jobs.digits:main", "PYTHONPATH": paths})
    assert run.exit_code == 0, run.log


def test_failure_of_a_function_shows_the_users_frames_alone(opt_ml: OptMl) -> None:
    """12.3, 1.9."""
    run = _module(opt_ml, "jobs.digits:fails")
    assert run.exit_code == 1
    assert (run.failure or "").startswith("ValueError: the data is empty")
    assert 'jobs/digits.py", line' in run.log
    assert "sagemaker_byoc" not in run.log
    assert "runpy" not in run.log


def test_exit_of_a_function_is_the_jobs(opt_ml: OptMl) -> None:
    """12.3, 1.7."""
    assert _module(opt_ml, "jobs.digits:leaves_with_4").exit_code == 4


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("jobs.digits:mian", "main"),
        ("jobs.digits:LIMIT", "int"),
        ("jbos.digits:main", "jobs"),
        ("jobs.digits.main()", "module:function"),
        ("jobs/digits.py", "module:function"),
    ],
)
def test_wrong_name_is_told_with_what_there_is(opt_ml: OptMl, spec: str, told: str) -> None:
    """12.3: exit 66, no traceback of ours."""
    run = _module(opt_ml, spec)
    assert run.exit_code == 66
    assert told in (run.failure or "")
    assert "Traceback" not in run.log


def test_module_that_cannot_be_imported_tells_why(opt_ml: OptMl) -> None:
    """12.3."""
    run = _module(opt_ml, "jobs.nowhere:main")
    assert run.exit_code == 1
    assert (run.failure or "").startswith("ModuleNotFoundError: No module named 'jobs.nowhere'")


def test_requirements_that_are_met_start_no_pip(opt_ml: OptMl) -> None:
    """12.1: nothing is printed, nothing is looked up."""
    opt_ml.code("succeeds")
    (opt_ml.base / "code" / "requirements.txt").write_text("pytest>=8\nhypothesis  # tests\n")
    run = run_train(opt_ml, {"PIP_INDEX_URL": "http://127.0.0.1:9/simple"})
    assert (run.exit_code, run.stdout, run.stderr) == (0, b"epoch=1 train_loss=0.1234;\n", b"")


def test_requirement_that_cannot_be_had_ends_the_job_with_its_name(opt_ml: OptMl) -> None:
    """4.11, 12.1: exit 66, the script is not started, and the failure says what to do."""
    opt_ml.code("succeeds")
    (opt_ml.base / "code" / "requirements.txt").write_text("pytest\nno-such-package-anywhere==9.9\n")
    run = run_train(opt_ml, OFFLINE)
    assert run.exit_code == 66, run.log
    assert "no-such-package-anywhere==9.9" in (run.failure or "")
    assert b"epoch=" not in run.stdout


def test_requirement_without_a_network_is_told_as_such(opt_ml: OptMl) -> None:
    """4.11: the index does not answer."""
    opt_ml.code("succeeds")
    (opt_ml.base / "code" / "requirements.txt").write_text("no-such-package-anywhere\n")
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1", "PIP_EXTRA_INDEX_URL": ""}
    run = run_train(opt_ml, {**nowhere, "PIP_CONFIG_FILE": "/dev/null"})
    assert run.exit_code == 66, run.log
    assert "network isolation" in (run.failure or "")


def test_code_of_the_image_does_not_stand_in_for_a_script_that_the_jobs_code_lacks(opt_ml: OptMl) -> None:
    """12.1, 12.2: a job that trains something else, and well, is found out late."""
    (opt_ml.base / "code" / "main.py").write_text("print('mine')\n")
    run = run_train(opt_ml, {"BYOC_IMAGE_CODE_DIR": str(program("succeeds"))})
    assert run.exit_code == 66
    assert "main.py" in (run.failure or "")


def test_script_of_the_image_runs_when_it_is_named(opt_ml: OptMl) -> None:
    """12.1: then it is meant."""
    (opt_ml.base / "code" / "data.txt").write_text("mine\n")
    image = str(program("succeeds"))
    assert run_train(opt_ml, {"BYOC_IMAGE_CODE_DIR": image, "SAGEMAKER_PROGRAM": "train.py"}).exit_code == 0
