"""Promises of the platform's contract that no other file of tests is about."""

import datetime as dt
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from local_sagemaker.engines import ProcessEngine
from local_sagemaker.project import read_project
from local_sagemaker.training.job import plan_training_job, run_training_job
from sagemaker_byoc.settings import read_paths
from sagemaker_byoc.training.entry_point import EntryPoint
from sagemaker_byoc.training.environment import derive_environment
from sagemaker_byoc.training.job import TrainingJob

from tests.support.opt_ml import ONE_HOST, OptMl
from tests.support.places import REPOSITORY, RUNTIME
from tests.support.training import TrainRun, job_environment, run_train
from tests.support.waiting import wait_until

TEMPLATE = REPOSITORY / "opt_ml_template"


def given(tree: OptMl, env: dict[str, str] | None = None) -> dict[str, Any]:
    """Run the program that writes down what it is given; returns its environment."""
    tree.code("prints_environment")
    run = run_train(tree, env)
    assert run.exit_code == 0, run.log
    document = tree.output("given.json")
    assert isinstance(document, dict)
    variables: dict[str, Any] = document["env"]
    return variables


def test_start_without_a_command_leaves_no_process_between_the_platform_and_train(
    opt_ml: OptMl, tmp_path: Path
) -> None:
    """0.3: the process that was started becomes `train`, and gets the platform's signals itself."""
    opt_ml.code("saves_on_sigterm")
    environ = job_environment(opt_ml)
    environ["PATH"] = f"{RUNTIME}{os.pathsep}{environ['PATH']}"
    log = tmp_path / "log"
    with log.open("wb") as stream:
        started = subprocess.Popen([RUNTIME / "default"], env=environ, stdout=stream, stderr=stream)
    try:
        ended = lambda: None if started.poll() is None else log.read_text()  # noqa: E731
        wait_until(lambda: "ready" in log.read_text(), "the script's first line", ended=ended)
        assert str(RUNTIME / "train") in Path(f"/proc/{started.pid}/cmdline").read_text().split("\0")
        started.send_signal(signal.SIGTERM)
        assert started.wait(120) == 0
    finally:
        started.kill()
        started.wait()
    assert (opt_ml.base / "model" / "checkpoint.txt").read_text() == "epoch 7\n"


def test_channels_of_all_modes_look_alike_to_the_script(opt_ml: OptMl) -> None:
    """2.6, 2.7, 3.2, 11.3: nothing depends on the reported mode, which documents disagree about."""
    modes = {"local": "File", "mounted": "FastFile", "streamed": "Pipe", "shared": "File"}
    opt_ml.config("inputdataconfig.json", {name: {"TrainingInputMode": mode} for name, mode in modes.items()})
    env = given(opt_ml)
    assert json.loads(env["SM_CHANNELS"]) == sorted(modes)
    for name in modes:
        assert env[f"SM_CHANNEL_{name.upper()}"] == str(opt_ml.base / "input/data" / name)


def test_host_of_a_heterogeneous_cluster_knows_its_group_and_its_own_channels(opt_ml: OptMl) -> None:
    """2.13: the hosts of a group need not be neighbours, and a channel may be for one group only."""
    groups = [
        {"instance_group_name": "cpu", "instance_type": "ml.c5.xlarge", "hosts": ["algo-3", "algo-1"]},
        {"instance_group_name": "gpu", "instance_type": "ml.g5.xlarge", "hosts": ["algo-2"]},
    ]
    mine = {"current_host": "algo-3", "current_group_name": "cpu", "current_instance_type": "ml.c5.xlarge"}
    hosts = ["algo-1", "algo-2", "algo-3"]
    opt_ml.config("resourceconfig.json", {**ONE_HOST, **mine, "hosts": hosts, "instance_groups": groups})
    opt_ml.channel("cpu-only", {"a": b"1"})
    job = TrainingJob.read(read_paths({"SAGEMAKER_BASE_DIR": str(opt_ml.base)}), {})
    env = derive_environment(job, EntryPoint("train.py", opt_ml.base / "code", ("python", "train.py")), {})
    assert env["SM_CURRENT_INSTANCE_GROUP"] == "cpu"
    assert json.loads(env["SM_CURRENT_INSTANCE_GROUP_HOSTS"]) == ["algo-3", "algo-1"]
    assert json.loads(env["SM_INSTANCE_GROUPS"]) == ["cpu", "gpu"]
    assert json.loads(env["SM_IS_HETERO"]) is True
    assert json.loads(env["SM_CHANNELS"]) == ["cpu-only"]


def test_file_beside_the_channels_is_no_channel(opt_ml: OptMl) -> None:
    """3.3: the platform leaves a manifest next to the folder."""
    opt_ml.channel("train", {"deep/er/a.csv": b"1\n"})
    (opt_ml.base / "input/data/train-manifest").write_text("[]")
    assert json.loads(given(opt_ml)["SM_CHANNELS"]) == ["train"]


@pytest.mark.parametrize("there", [True, False])
def test_host_whose_share_of_a_channel_is_empty_runs_its_script(opt_ml: OptMl, there: bool) -> None:
    """3.9: fewer objects than hosts, with the folder or without it."""
    folder = opt_ml.channel("train", {})
    if there:
        folder.mkdir()
    assert given(opt_ml)["SM_CHANNEL_TRAIN"] == str(folder)


def test_largest_environment_of_a_job_reaches_the_script(opt_ml: OptMl) -> None:
    """4.2: 100 variables of 512 characters each."""
    variables = {f"KEY_{number:03d}_" + "K" * 504: "v" * 512 for number in range(100)}
    assert variables.items() <= given(opt_ml, variables).items()


def test_variables_of_the_toolkit_are_made_here_and_never_taken_from_outside(opt_ml: OptMl) -> None:
    """4.3: the platform sets none of them; one that a base image left behind would lie."""
    env = given(opt_ml, {"SM_MODEL_DIR": "/left/behind", "SM_HOSTS": '["other"]'})
    assert (env["SM_MODEL_DIR"], env["SM_HOSTS"]) == (str(opt_ml.base / "model"), '["algo-1"]')


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_REGION", "eu-west-1"),
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/1"),
        ("SAGEMAKER_MANAGED_WARMPOOL_CACHE_DIRECTORY", "/opt/ml/sagemaker/warmpoolcache"),
        ("SAGEMAKER_METRICS_DIRECTORY", "/opt/ml/output/metrics/sagemaker"),
        ("SMDEBUG_CONFIG_FILE_PATH", "/opt/ml/input/config/debughookconfig.json"),
    ],
)
def test_variable_that_the_platform_or_an_sdk_adds_is_passed_on_untouched(opt_ml: OptMl, name: str, value: str) -> None:
    """4.4, 4.5, 4.6, 6.7, 8.6: credentials, caches, metrics and debugger are between them and the script."""
    assert given(opt_ml, {name: value})[name] == value


def test_intermediate_folder_has_its_variable(opt_ml: OptMl) -> None:
    """6.8: it is the toolkit's idea and no folder of the platform's."""
    folder = opt_ml.base / "output/intermediate"
    assert given(opt_ml)["SM_OUTPUT_INTERMEDIATE_DIR"] == str(folder)


def test_what_an_earlier_job_left_in_the_pools_cache_is_not_run(opt_ml: OptMl, train: Callable[..., TrainRun]) -> None:
    """9.3: the folder outlives jobs; code is looked for where this job's is."""
    cache = opt_ml.base / "sagemaker/warmpoolcache"
    cache.mkdir(parents=True)
    (cache / "train.py").write_text("raise SystemExit('the code of another job')")
    (cache / "requirements.txt").write_text("a-package-that-there-is-not==1\n")
    run = train("exits_3", {"SAGEMAKER_MANAGED_WARMPOOL_CACHE_DIRECTORY": str(cache)})
    assert run.exit_code == 3
    assert "another job" not in run.log


def test_empty_failure_file_is_as_good_as_none(opt_ml: OptMl, train: Callable[..., TrainRun]) -> None:
    """12.7: drivers of the SDK create it before they know a reason."""
    (opt_ml.base / "output/failure").touch()
    assert "exit code 3" in (train("exits_3").failure or "")


def test_template_prints_its_metrics_every_epoch_so_that_a_regular_expression_finds_numbers(opt_ml: OptMl) -> None:
    """8.2, 8.3, 8.4: `name=value;`, one line an epoch, the objective among them."""
    shutil.copytree(TEMPLATE / "code", opt_ml.base / "code", dirs_exist_ok=True)
    subprocess.run([sys.executable, TEMPLATE / "prepare_data.py", "--project", opt_ml.base], check=True)
    opt_ml.hyperparameters(epochs="2", width="4")
    # Threads that wait for each other crawl on a machine that others use.
    run = run_train(opt_ml, {"OMP_NUM_THREADS": "1"}, seconds=500)
    assert run.exit_code == 0, run.log
    for name in ("train_loss", "validation_loss", "validation_accuracy"):
        found = re.findall(rf"\b{name}=([-+0-9.eE]+);", run.stdout.decode())
        assert len(found) == 2, run.log
        assert [float(number) for number in found]


def test_what_a_script_writes_to_the_output_data_folder_becomes_an_archive_of_its_own(tmp_path: Path) -> None:
    """6.3: packed after the end, with nothing else of the output folder."""
    (tmp_path / "code").mkdir()
    script = "import os, pathlib; pathlib.Path(os.environ['SM_OUTPUT_DATA_DIR'], 'history.json').write_text('[]')\n"
    script += "pathlib.Path(os.environ['SM_OUTPUT_DIR'], 'beside').touch()\n"
    (tmp_path / "code/train.py").write_text(script)
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    result = run_training_job(plan_training_job(read_project(tmp_path), {}, now, name="job"), ProcessEngine())
    assert result.status == "Completed"
    assert result.output_data is not None
    with tarfile.open(result.output_data) as archive:
        assert archive.getnames() == ["history.json"]
