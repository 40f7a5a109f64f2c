"""The template in the image, its ranks started by each of the three launchers."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.support.docker import Ran, Running, mounted, run
from tests.support.opt_ml import OptMl
from tests.support.places import REPOSITORY, program

pytestmark = pytest.mark.docker

TEMPLATE = REPOSITORY / "opt_ml_template"
PYTHON = ("python3", "-u", "/opt/ml/code/train.py")
# Docker forbids the system call by which Open MPI would copy between processes of a host. A rank that waits leaves its
# core to the one that it waits for, where there are fewer cores to have than ranks.
SETTINGS = ("--mca", "btl_vader_single_copy_mechanism", "none", "--mca", "mpi_yield_when_idle", "1")
MPIRUN = ("mpirun", "--allow-run-as-root", "--oversubscribe", *SETTINGS)
LAUNCHERS = [
    pytest.param((*MPIRUN, "-np", "2", *PYTHON), id="mpirun"),
    pytest.param(("horovodrun", "--gloo", "-np", "2", *PYTHON), id="horovodrun"),
    pytest.param(("torchrun", "--standalone", "--nproc-per-node", "2", "/opt/ml/code/train.py"), id="torchrun"),
]


@pytest.fixture
def digits(opt_ml: OptMl) -> OptMl:
    """A job of the template with its data."""
    shutil.copytree(TEMPLATE / "code", opt_ml.base / "code", dirs_exist_ok=True)
    subprocess.run([sys.executable, TEMPLATE / "prepare_data.py", "--project", opt_ml.base], check=True)
    opt_ml.config("inputdataconfig.json", {"train": {}, "validation": {}})
    return opt_ml


def started(image: str, tree: OptMl, command: Sequence[str], *arguments: str) -> Ran:
    """Run to the end; it must end well."""
    ran = run(image, *command, *arguments, options=[*mounted(tree), "-e", "OMP_NUM_THREADS=1"])
    assert ran.exit_code == 0, ran.log
    return ran


def fingerprints(log: str) -> dict[str, str]:
    """Rank to the hash of its final parameters; launchers may write the rank before a line."""
    return dict(re.findall(r"rank=(\d+) parameters=([0-9a-f]{64})", log))


@pytest.mark.parametrize("command", LAUNCHERS)
def test_two_ranks_train_one_network(horovod_image: str, digits: OptMl, command: Sequence[str]) -> None:
    """5.3, 5.8, 8.3: bit-equal, as accurate as one process, metrics and model from one rank only."""
    ran = started(horovod_image, digits, command, "--epochs", "6")
    hashes = fingerprints(ran.log)
    assert set(hashes) == {"0", "1"}, ran.log
    assert hashes["0"] == hashes["1"]
    history = json.loads((digits.base / "output/data/history.json").read_text())
    assert len(re.findall(r"validation_accuracy=", ran.log)) == len(history) == 6
    assert history[-1]["validation_accuracy"] > 0.95
    assert ran.log.count("model saved") == 1


@pytest.mark.parametrize("command", LAUNCHERS)
def test_ranks_combine_what_one_process_would_compute(
    horovod_image: str, opt_ml: OptMl, command: Sequence[str]
) -> None:
    """5.8: gradients of uneven and empty shares, statistics, numbers, flags and objects."""
    opt_ml.code("combines_ranks")
    shutil.copy(TEMPLATE / "code" / "ranks.py", opt_ml.base / "code")
    found = re.findall(r"(\{.*\})\s*$", started(horovod_image, opt_ml, command).stdout.decode(), re.MULTILINE)
    lines = [json.loads(line) for line in found]
    assert sorted(line["rank"] for line in lines) == [0, 1]
    for line in lines:
        assert line["difference"] < 1e-6
        assert (line["size"], line["mean"], line["numbers"]) == (2, 0.5, [3.0, 1.0])
        assert (line["totals"], line["any"], line["from_leader"]) == ([2.0**41, 1.0], [True, False], {"rank": 0})


@pytest.mark.parametrize("command", LAUNCHERS)
def test_ranks_stop_together_and_go_on_to_the_same_bits(
    horovod_image: str, digits: OptMl, command: Sequence[str]
) -> None:
    """1.8, 1.12, 7.2, 7.5: one rank is told to stop; a fresh container goes on."""
    arguments = ("--epochs", "4", "--width", "8")
    whole = fingerprints(started(horovod_image, digits, command, *arguments).log)
    shutil.rmtree(digits.base / "checkpoints")
    shutil.copy(program("tells_rank_1_to_stop") / "train_until_told.py", digits.base / "code")
    stopped = started(horovod_image, digits, (*command[:-1], "/opt/ml/code/train_until_told.py"), *arguments)
    assert "asked to stop during epoch 2" in stopped.log
    resumed = started(horovod_image, digits, command, *arguments)
    assert "resuming after step" in resumed.log
    assert fingerprints(resumed.log) == whole


@pytest.mark.parametrize("distribution", ["mpi", "horovod", "torch_distributed"])
def test_stop_of_the_job_reaches_every_rank_and_all_is_saved(
    horovod_image: str, digits: OptMl, distribution: str
) -> None:
    """1.12, 1.13, 7.5, 12.5: `docker stop` on a job that the SDK's hyperparameters distribute."""
    digits.hyperparameters(
        epochs="1000000",
        width="8",
        sagemaker_mpi_num_of_processes_per_host="2",
        **{f"sagemaker_{distribution}_enabled": "true"},
    )
    options = [*mounted(digits), "-e", "OMP_NUM_THREADS=1", "--hostname", "algo-1"]
    with Running(horovod_image, "train", options=options) as job:
        job.wait_for_line("epoch=1 ")
        assert job.stop(100) == 0, job.log
        hashes = fingerprints(job.log)
    assert set(hashes) == {"0", "1"}
    assert hashes["0"] == hashes["1"]
    assert (digits.base / "model" / "weights.pt").is_file()
    assert len(list((digits.base / "checkpoints").iterdir())) == 1
