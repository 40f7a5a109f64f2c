"""`byoc train --hosts N` with real containers: names, networks, merged artifacts, failures, interruptions."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from local_sagemaker.engines import ContainerPlan, DockerEngine, Limits
from local_sagemaker.engines.docker import DockerContainer
from local_sagemaker.errors import EngineMissingError
from local_sagemaker.project import read_project
from local_sagemaker.training.containers import plan_containers
from local_sagemaker.training.job import TrainingJob, TrainingResult, plan_training_job, run_training_job

from tests.support.docker import docker
from tests.support.places import CONTAINER, HARNESS, program
from tests.support.waiting import wait_until

pytestmark = pytest.mark.docker

NOW = datetime(2026, 1, 31, 12, 1, 2, 345000, tzinfo=UTC)
JOB_LABEL = "sagemaker-byoc.job"


@dataclass(frozen=True)
class Ran:
    """A job that has ended, what was on the screen, what was said, and how Docker had its hosts."""

    result: TrainingResult
    log: str
    lines: list[str]
    containers: list[dict[str, Any]]
    networks: list[dict[str, Any]]

    def seen(self) -> dict[str, Any]:
        """What each host wrote into its output data, by its name."""
        return {
            name.removesuffix(".json"): json.loads(text) for name, text in unpacked(self.result.output_data).items()
        }


@pytest.fixture(scope="module")
def make_job(tmp_path_factory: pytest.TempPathFactory, image: str) -> Callable[..., TrainingJob]:
    """A job of the user program of this name, with a name that no other test has."""

    def make(code: str, **options: Any) -> TrainingJob:
        root = tmp_path_factory.mktemp("project")
        shutil.copytree(program(code), root / "code")
        name = f"tests-{uuid.uuid4().hex[:12]}"
        return plan_training_job(read_project(root), {}, NOW, image=image, name=name, session=name, **options)

    return make


def run(job: TrainingJob) -> Ran:
    """Run it to its end."""
    log = io.BytesIO()
    lines: list[str] = []
    containers: list[dict[str, Any]] = []
    networks: list[dict[str, Any]] = []

    class Watching(DockerEngine):
        def start(self, plan: ContainerPlan) -> DockerContainer:
            running = super().start(plan)
            containers.append(self.client.api.inspect_container(plan.name)["HostConfig"])
            networks.append(self.client.api.inspect_network(plan.network))
            return running

    result = run_training_job(job, Watching(DockerEngine.connect().client), log, lines.append)
    return Ran(result, log.getvalue().decode(), lines, containers, networks)


def unpacked(archive: Path | None) -> dict[str, str]:
    """The files of an archive."""
    assert archive is not None
    with tarfile.open(archive) as tar:
        files = {member.name: tar.extractfile(member) for member in tar}
        return {name: file.read().decode() for name, file in files.items() if file is not None}


def left_over(job: str) -> list[str]:
    """The containers and networks of a job that are still there."""
    label = f"label={JOB_LABEL}={job}"
    return docker("ps", "-aq", "--filter", label).split() + docker("network", "ls", "-q", "--filter", label).split()


def names(folder: Path) -> list[str]:
    """The files and folders in a folder, without those of uploads that are under way."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def why_ended(running: Future[Ran]) -> str | None:
    """The log of a job that has ended, else None."""
    return running.result().log if running.done() else None


@contextmanager
def byoc(arguments: Sequence[str], log: Path) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], str]]]:
    """The command in the background, and what it has written up to now; stopped at the end of the block."""
    paths = os.pathsep.join([str(CONTAINER), str(HARNESS.parent)])
    with log.open("wb") as sink:
        command = [sys.executable, "-m", "local_sagemaker", *arguments]
        process = subprocess.Popen(command, stdout=sink, stderr=sink, env={**os.environ, "PYTHONPATH": paths})
        try:
            yield process, lambda: log.read_text(errors="replace")
        finally:
            process.terminate()
            process.wait(300)


@pytest.fixture(scope="module")
def met(make_job: Callable[..., TrainingJob]) -> Ran:
    """Three hosts that met each other."""
    return run(make_job("meets_its_peers", hosts=3, instance_type="ml.m5.large"))


def test_hosts_have_the_platforms_names_and_find_each_other_by_them(met: Ran) -> None:
    """2.12, 5.2."""
    assert met.result.status == "Completed", met.log
    assert {host: (seen["me"], seen["uname"]) for host, seen in met.seen().items()} == {
        host: (host, host) for host in ("algo-1", "algo-2", "algo-3")
    }
    addresses = [seen["addresses"] for seen in met.seen().values()]
    assert addresses == [addresses[0]] * 3
    assert len(set(addresses[0].values())) == 3


def test_a_host_has_its_name_before_its_container_and_after_it(make_job: Callable[..., TrainingJob]) -> None:
    """5.2, 2.15: an instance is there for the whole of a job, so a script of a moment misses no peer."""

    class OneAfterTheOther(DockerEngine):
        def start(self, plan: ContainerPlan) -> DockerContainer:
            running = super().start(plan)
            running.wait(300)
            return running

    log = io.BytesIO()
    job = make_job("resolves_every_host", hosts=2)
    result = run_training_job(job, OneAfterTheOther(DockerEngine.connect().client), log)
    assert result.status == "Completed", log.getvalue()
    looked_up = [line.split(" | ") for line in log.getvalue().decode().splitlines()]
    by_host = {host: sorted(text for name, text in looked_up if name == host) for host in ("algo-1", "algo-2")}
    assert len(by_host["algo-1"]) == 2
    assert by_host["algo-1"] == by_host["algo-2"]


def test_the_interface_that_the_platform_names_is_there(met: Ran) -> None:
    """2.9."""
    for seen in met.seen().values():
        assert seen["resource_config"]["network_interface_name"] in seen["interfaces"]


def test_each_host_is_told_who_it_is(met: Ran) -> None:
    """2.9 to 2.11."""
    hosts = ["algo-1", "algo-2", "algo-3"]
    group = {"instance_group_name": "homogeneousCluster", "instance_type": "ml.m5.large", "hosts": hosts}
    for host, seen in met.seen().items():
        assert seen["resource_config"] == {
            "current_host": host,
            "current_instance_type": "ml.m5.large",
            "current_group_name": "homogeneousCluster",
            "hosts": hosts,
            "instance_groups": [group],
            "network_interface_name": "eth0",
            "topology": None,
        }


def test_models_of_all_hosts_are_one_archive_and_a_lost_file_is_named(met: Ran) -> None:
    """6.1, 6.2."""
    assert unpacked(met.result.model_data) == {
        "same": "equal on all",
        "clash": "algo-3",
        **{f"{host}/weights": host for host in ("algo-1", "algo-2", "algo-3")},
    }
    (warning,) = met.result.warnings
    assert "algo-1, algo-2, algo-3 left different files named 'clash'" in warning
    assert f"WARNING {warning}" in met.lines


def test_each_host_has_a_disk_of_its_own(met: Ran) -> None:
    """5.1: the same code on all, and what one writes beside it no other sees."""
    for host in ("algo-1", "algo-2", "algo-3"):
        assert (met.result.directory / "hosts" / host / "code" / "left-beside-the-code").read_text() == host


def test_every_line_is_whole_and_behind_its_host(met: Ran) -> None:
    """4.7: one stream a host."""
    hosts = ("algo-1", "algo-2", "algo-3")
    expected = [f"{host} | {host} line {number}" for host in hosts for number in range(200)]
    assert sorted(line for line in met.log.splitlines() if " line " in line) == sorted(expected)
    assert met.result.log_file.read_text() == met.log
    for host in hosts:
        own = (met.result.directory / "hosts" / host / "logs.txt").read_text().splitlines()
        assert [line for line in own if " line " in line] == [f"{host} line {number}" for number in range(200)]


def test_nothing_of_a_job_is_left(met: Ran) -> None:
    assert left_over(met.result.job_name) == []
    assert met.result.host_exit_codes == {"algo-1": 0, "algo-2": 0, "algo-3": 0}


def test_isolated_hosts_reach_each_other_and_nothing_else(make_job: Callable[..., TrainingJob], met: Ran) -> None:
    """4.11: the network is one that Docker lets nothing out of."""
    isolated = run(make_job("meets_its_peers", hosts=2, network="none"))
    assert isolated.result.status == "Completed", isolated.log
    assert sorted(isolated.seen()) == ["algo-1", "algo-2"]
    assert [network["Internal"] for network in isolated.networks] == [True, True]
    assert [network["Internal"] for network in met.networks] == [False] * 3


def test_each_host_has_the_limits_that_were_asked_for(make_job: Callable[..., TrainingJob], met: Ran) -> None:
    """4.8: /dev/shm has 64 MB unless more is asked for; an instance has no swap."""
    limits = Limits(shm_bytes=32 << 20, memory_bytes=512 << 20, cpus=0.5)
    limited = run(make_job("meets_its_peers", hosts=2, limits=limits))
    assert [seen["shm_bytes"] for seen in limited.seen().values()] == [32 << 20] * 2
    assert [seen["shm_bytes"] for seen in met.seen().values()] == [64 << 20] * 3
    for config in limited.containers:
        assert (config["Memory"], config["MemorySwap"], config["NanoCpus"]) == (512 << 20, 512 << 20, 500_000_000)


def test_one_failing_host_fails_the_job_and_the_others_are_stopped(make_job: Callable[..., TrainingJob]) -> None:
    """1.7, 1.8, 1.9: the leader was stopped and has no reason of its own, so the failing host's is told."""
    ran = run(make_job("fails_on_the_second_host", hosts=2, after_failure_seconds=0.5))
    assert (ran.result.status, ran.result.exit_code, ran.result.model_data) == ("Failed", 1, None)
    assert ran.result.host_exit_codes == {"algo-1": 0, "algo-2": 1}
    assert ran.result.stopped_hosts == ["algo-1"]
    assert (ran.result.failure_reason or "").startswith("AlgorithmError: ValueError: the second host has no data")
    assert unpacked(ran.result.output_data) == {"algo-1.txt": "saved"}
    assert left_over(ran.result.job_name) == []


def test_ctrl_c_stops_every_host_and_keeps_what_they_saved(image: str, tmp_path: Path) -> None:
    """1.12, 1.13."""
    shutil.copytree(program("saves_on_sigterm_on_every_host"), tmp_path / "code")
    name = f"tests-{uuid.uuid4().hex[:12]}"
    arguments = ["train", str(tmp_path), "--image", image, "--engine", "docker", "--hosts", "2", "--job-name", name]
    job = tmp_path / ".byoc" / "jobs" / name
    with byoc(arguments, tmp_path / "out") as (process, log):
        wait_until(
            lambda: log().count("| ready") == 2,
            "both hosts",
            300,
            lambda: log() if process.poll() is not None else None,
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(300) == 130, log()
    document = json.loads((job / "job.json").read_text())
    assert (document["status"], document["stopped_hosts"]) == ("Stopped", ["algo-1", "algo-2"])
    assert unpacked(job / "model.tar.gz") == {"algo-1": "saved", "algo-2": "saved"}
    assert left_over(name) == []


def test_a_host_that_cannot_start_leaves_nothing_of_the_others(make_job: Callable[..., TrainingJob]) -> None:
    """Containers, network and the job's name."""

    class Broken(DockerEngine):
        def start(self, plan: ContainerPlan) -> DockerContainer:
            if plan.hostname == "algo-2":
                raise EngineMissingError("no room for a second host")
            return super().start(plan)

    job = make_job("saves_on_sigterm_on_every_host", hosts=2)
    with pytest.raises(EngineMissingError, match="no room"):
        run_training_job(job, Broken(DockerEngine.connect().client))
    assert left_over(job.name) == []
    assert not job.directory.exists()


def test_a_killed_job_leaves_its_checkpoints_and_the_next_one_resumes_on_every_host(
    make_job: Callable[..., TrainingJob], tmp_path: Path
) -> None:
    """7.2, 7.3, 7.4: carried during the run, deletions too; the next job's hosts have all of them."""
    store = tmp_path / "checkpoints"
    store.mkdir()
    (store / "stale.pt").touch()
    job = make_job("keeps_checkpoints", hosts=2, checkpoints=store, after_failure_seconds=0.0)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(run, job)
        kept = ["algo-1.pt", "algo-2.pt"]
        wait_until(lambda: names(store) == kept, "checkpoints of both hosts", 300, lambda: why_ended(running))
        docker("kill", "--signal", "KILL", plan_containers(job)["algo-1"].name)
        ran = running.result(300)
    assert (ran.result.status, ran.result.exit_code, ran.result.stopped_hosts) == ("Failed", 137, ["algo-2"])
    assert names(store) == kept
    again = run(make_job("keeps_checkpoints", hosts=2, checkpoints=store))
    assert again.result.status == "Completed"
    assert again.log.count("| found algo-1.pt algo-2.pt\n") == 2
    assert again.result.checkpoints == store
