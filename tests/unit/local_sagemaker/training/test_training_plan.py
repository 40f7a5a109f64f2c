"""A job of several hosts on paper, and what is said about one that failed."""

from dataclasses import replace

import pytest
from local_sagemaker.engines import DockerEngine, Limits
from local_sagemaker.errors import UsageError
from local_sagemaker.names import parse_size
from local_sagemaker.project import read_project
from local_sagemaker.state.workspace import WORKSPACE_LABEL
from local_sagemaker.training.hosts import HostEnd
from local_sagemaker.training.plan import plan_containers, plan_network, plan_training_job
from local_sagemaker.training.result import collect, explain


@pytest.fixture
def plan(make_project, now):
    root = make_project(train="")
    return lambda **options: plan_training_job(read_project(root), {}, now, name="job", **options)


def test_each_host_has_a_container_and_folders_of_its_own(plan):
    job = plan(hosts=2)
    containers = plan_containers(job)
    project = job.labels[WORKSPACE_LABEL]
    assert [(host, one.name, one.hostname) for host, one in containers.items()] == [
        ("algo-1", f"byoc-train-{project}-job-algo-1", "algo-1"),
        ("algo-2", f"byoc-train-{project}-job-algo-2", "algo-2"),
    ]
    sources = [{mount.source for mount in one.mounts} for one in containers.values()]
    assert not sources[0] & sources[1]
    assert all(source.is_relative_to(job.directory / "hosts" / "algo-1") for source in sources[0])


def test_a_host_that_is_alone_has_no_network_of_its_own_and_its_files_where_they_were(plan):
    job = plan()
    assert plan_network(job) is None
    (container,) = plan_containers(job).values()
    assert (container.name, container.network) == (f"byoc-train-{job.labels[WORKSPACE_LABEL]}-job", "bridge")
    assert {mount.source.parent for mount in container.mounts} == {job.directory}


def test_the_commands_of_a_job_name_its_network_and_its_limits(plan):
    """4.11, 5.2."""
    job = plan(hosts=2, network="none", limits=Limits(32 << 20, 1 << 30, 1.5))
    engine = DockerEngine(client=None)
    network = plan_network(job)
    assert engine.describe_network(network).startswith("docker network create --internal --label ")
    command = engine.describe(plan_containers(job)["algo-2"])
    for words in (
        f"--hostname algo-2 --network {network.name} --network-alias algo-2 --detach",
        "--shm-size 33554432 --memory 1073741824 --memory-swap 1073741824 --cpus 1.5",
    ):
        assert words in command


def test_a_host_knows_the_addresses_of_all_once_there_is_a_network(plan):
    """5.2."""
    addresses = {"algo-1": "10.9.0.10", "algo-2": "10.9.0.11"}
    command = DockerEngine(client=None).describe(plan_containers(plan(hosts=2), addresses)["algo-2"])
    assert "--ip 10.9.0.11 --add-host algo-1:10.9.0.10" in command


@pytest.mark.parametrize(("text", "size"), [("1", 1), ("2k", 2048), ("64m", 64 << 20), ("1G", 1 << 30), ("5b", 5)])
def test_sizes_are_read_as_docker_reads_them(text, size):
    assert parse_size(text, "--memory") == size


@pytest.mark.parametrize("text", ["", "0", "m", "1.5g", "-1", "2t"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UsageError, match="is no size"):
        parse_size(text, "--memory")


def fail(job, host, text):
    folder = job.host_directory(host) / "output"
    folder.mkdir(parents=True)
    (folder / "failure").write_text(text)


def test_the_reason_is_that_of_the_host_that_failed_first(plan):
    """1.8, 1.9: the other one only complains that its peer is gone."""
    job = plan(hosts=2)
    fail(job, "algo-1", "Connection closed by peer")
    fail(job, "algo-2", "ValueError: no such column")
    ends = [HostEnd("algo-2", 1, was_stopped=False), HostEnd("algo-1", 1, was_stopped=False)]
    assert explain(job, ends[0], ends) == "AlgorithmError: ValueError: no such column"


def test_the_reason_is_the_leaders_where_the_first_host_could_write_none(plan):
    """1.8, 1.9: it was killed."""
    job = plan(hosts=2)
    fail(job, "algo-1", "host algo-2 is gone")
    ends = [HostEnd("algo-2", 137, was_stopped=False), HostEnd("algo-1", 69, was_stopped=False)]
    assert explain(job, ends[0], ends) == "AlgorithmError: host algo-2 is gone"


def test_the_reason_is_the_failing_hosts_where_the_leader_was_only_stopped(plan):
    job = plan(hosts=2)
    fail(job, "algo-1", "stopped by SIGTERM")
    fail(job, "algo-2", "no such column")
    ends = [HostEnd("algo-2", 1, was_stopped=False), HostEnd("algo-1", 143, was_stopped=True)]
    assert explain(job, ends[0], ends) == "AlgorithmError: no such column"


def test_without_any_text_the_reason_is_the_code_of_the_host_that_failed_first(plan):
    """1.10."""
    job = plan(hosts=2)
    ends = [HostEnd("algo-2", 3, was_stopped=False), HostEnd("algo-1", 1, was_stopped=False)]
    assert explain(job, ends[0], ends) == "AlgorithmError: Exit Code: 3"


def test_a_failure_before_ctrl_c_stays_a_failure_and_a_stopped_job_is_none(plan):
    """1.14."""
    job = plan(hosts=2)
    job.directory.mkdir(parents=True)
    stopped = [HostEnd("algo-1", 143, was_stopped=True), HostEnd("algo-2", 143, was_stopped=True)]
    failed = [HostEnd("algo-2", 1, was_stopped=False), HostEnd("algo-1", 143, was_stopped=True)]
    assert collect(job, "docker", stopped, "Stopped", "", 0.0).secondary_status == "Stopped"
    result = collect(job, "docker", failed, "Stopped", "", 0.0)
    assert (result.status, result.secondary_status, result.exit_code) == ("Failed", "Failed", 1)


def test_jobs_of_one_name_in_two_projects_have_containers_and_networks_of_their_own(plan):
    one, other = (replace(plan(hosts=2), own_labels={WORKSPACE_LABEL: project}) for project in ("aaaa", "bbbb"))
    assert [container.name for container in plan_containers(one).values()] == [
        "byoc-train-aaaa-job-algo-1",
        "byoc-train-aaaa-job-algo-2",
    ]
    assert plan_containers(other)["algo-1"].name == "byoc-train-bbbb-job-algo-1"
    assert plan_network(one).name != plan_network(other).name
