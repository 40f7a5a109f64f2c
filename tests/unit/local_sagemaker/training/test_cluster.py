"""Names, types and groups of a job's hosts."""

import pytest
from local_sagemaker.errors import UsageError
from local_sagemaker.training.cluster import GroupRequest, parse_groups, plan_cluster
from local_sagemaker.training.distribution import distribution_hyperparameters


def test_hosts_are_listed_in_lexicographic_order_and_the_first_leads():
    """2.9, 2.12, 5.1."""
    cluster = plan_cluster(11)
    assert cluster.hosts[:4] == ("algo-1", "algo-10", "algo-11", "algo-2")
    assert cluster.leader == "algo-1"


def test_hosts_without_groups_are_one_homogeneous_cluster():
    """2.10."""
    (group,) = plan_cluster(2, "ml.m5.large").groups
    assert (group.name, group.instance_type, group.hosts) == ("homogeneousCluster", "ml.m5.large", ("algo-1", "algo-2"))


def test_the_hosts_of_a_group_are_no_neighbours():
    """2.13."""
    cluster = plan_cluster(groups=(GroupRequest("cpu", 2), GroupRequest("gpu", 1, "ml.g5.xlarge")))
    assert {group.name: group.hosts for group in cluster.groups} == {"cpu": ("algo-1", "algo-3"), "gpu": ("algo-2",)}
    assert cluster.hosts == ("algo-1", "algo-2", "algo-3")
    assert cluster.group_of("algo-2").instance_type == "ml.g5.xlarge"


def test_groups_are_read_with_and_without_a_type():
    assert parse_groups("cpu=2, gpu=1:ml.g5.xlarge") == (GroupRequest("cpu", 2), GroupRequest("gpu", 1, "ml.g5.xlarge"))


@pytest.mark.parametrize("text", ["", "cpu", "cpu=", "cpu=0", "cpu=1,cpu=2", "cpu=1;gpu=2", "cpu=1:"])
def test_groups_that_cannot_be_read_are_refused(text):
    with pytest.raises(UsageError, match="cannot be read"):
        parse_groups(text)


def test_a_job_has_at_most_five_groups():
    """2.13."""
    with pytest.raises(UsageError, match="at most 5"):
        parse_groups(",".join(f"g{number}=1" for number in range(6)))


@pytest.mark.parametrize("hosts", [0, 21])
def test_a_number_of_hosts_that_cannot_be_is_refused(hosts):
    with pytest.raises(UsageError, match="expected 1 to 20"):
        plan_cluster(hosts)


def test_hosts_and_groups_must_agree():
    with pytest.raises(UsageError, match="leave out --hosts"):
        plan_cluster(3, groups=(GroupRequest("cpu", 2),))


@pytest.mark.parametrize(
    ("name", "processes", "sent"),
    [
        ("none", None, {}),
        ("torchrun", None, {"sagemaker_torch_distributed_enabled": "true"}),
        (
            "torchrun",
            2,
            {"sagemaker_torch_distributed_enabled": "true", "sagemaker_mpi_num_of_processes_per_host": "2"},
        ),
        (
            "mpi",
            None,
            {
                "sagemaker_mpi_enabled": "true",
                "sagemaker_mpi_num_of_processes_per_host": "1",
                "sagemaker_mpi_custom_mpi_options": '""',
            },
        ),
        ("horovod", 4, {"sagemaker_horovod_enabled": "true", "sagemaker_mpi_num_of_processes_per_host": "4"}),
        ("parameter-server", None, {"sagemaker_parameter_server_enabled": "true"}),
    ],
)
def test_a_distribution_adds_the_hyperparameters_that_an_sdk_sends(name, processes, sent):
    """2.3: each value is JSON."""
    assert distribution_hyperparameters(name, processes) == sent


@pytest.mark.parametrize("name", ["none", "parameter-server"])
def test_a_number_of_processes_that_nothing_reads_is_refused(name):
    with pytest.raises(UsageError, match="processes-per-host"):
        distribution_hyperparameters(name, 2)
