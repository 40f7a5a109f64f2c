"""Which launcher a job gets, over which hosts, with how many processes."""

from pathlib import Path
from typing import Any

import pytest
from sagemaker_byoc.errors import PlatformInputError
from sagemaker_byoc.paths import MLPaths
from sagemaker_byoc.training.distribution import Distribution, choose_distribution
from sagemaker_byoc.training.horovod import rank_environments
from sagemaker_byoc.training.job import TrainingJob

from tests.support.opt_ml import ONE_HOST, OptMl


def distribution(tree: OptMl, resource: dict[str, Any] | None = None, **hyperparameters: str) -> Distribution:
    """What these documents ask for."""
    tree.hyperparameters(**hyperparameters)
    tree.config("resourceconfig.json", {**ONE_HOST, **(resource or {})})
    return choose_distribution(TrainingJob.read(MLPaths(tree.base), {}))


@pytest.mark.parametrize(
    ("hyperparameter", "kind"),
    [
        ("sagemaker_torch_distributed_enabled", "torchrun"),
        ("sagemaker_pytorch_ddp_enabled", "torchrun"),
        ("sagemaker_horovod_enabled", "horovod"),
        ("sagemaker_mpi_enabled", "mpi"),
        ("sagemaker_parameter_server_enabled", "parameter_server"),
        ("sagemaker_multi_worker_mirrored_strategy_enabled", "mirrored"),
    ],
)
@pytest.mark.parametrize("value", ["true", "True", '"true"', "1"])
def test_sdks_hyperparameter_chooses_the_launcher(opt_ml: OptMl, hyperparameter: str, kind: str, value: str) -> None:
    """12.5: JSON-encoded, or the str() of a Python value."""
    assert distribution(opt_ml, **{hyperparameter: value}).kind == kind


@pytest.mark.parametrize("value", ["false", "False", "0", "null", ""])
def test_hyperparameter_that_is_off_chooses_nothing(opt_ml: OptMl, value: str) -> None:
    """12.5."""
    assert distribution(opt_ml, sagemaker_mpi_enabled=value).kind == "none"


def test_two_distributions_at_once_are_refused_by_name(opt_ml: OptMl) -> None:
    """12.5."""
    with pytest.raises(PlatformInputError, match="torch_distributed_enabled and sagemaker_mpi_enabled exclude"):
        distribution(opt_ml, sagemaker_mpi_enabled="true", sagemaker_torch_distributed_enabled="true")


@pytest.mark.parametrize(
    "name", ["sagemaker_distributed_dataparallel_enabled", "sagemaker_pytorch_xla_multi_worker_enabled"]
)
def test_distribution_that_the_image_lacks_is_refused_with_another_to_use(opt_ml: OptMl, name: str) -> None:
    """12.5: better than a job that trains on one process for a day."""
    with pytest.raises(PlatformInputError, match=f"{name}.*Use torch_distributed, Horovod or MPI"):
        distribution(opt_ml, **{name: "true"})


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5x"])
def test_number_of_processes_that_is_none_is_refused(opt_ml: OptMl, value: str) -> None:
    """12.5."""
    with pytest.raises(PlatformInputError, match="sagemaker_mpi_num_of_processes_per_host is"):
        distribution(opt_ml, sagemaker_mpi_enabled="true", sagemaker_mpi_num_of_processes_per_host=value)


def test_one_process_a_host_where_there_is_no_accelerator(opt_ml: OptMl) -> None:
    """5.5."""
    assert distribution(opt_ml, sagemaker_mpi_enabled="true").processes_per_host == 1


def test_leader_is_the_lexicographically_first_host(opt_ml: OptMl) -> None:
    """2.9, 5.1."""
    hosts = [f"algo-{n}" for n in (2, 10, 1)]
    resource = {"hosts": hosts, "current_host": "algo-10", "instance_groups": None}
    found = distribution(opt_ml, resource, sagemaker_mpi_enabled="true")
    assert found.hosts == ("algo-1", "algo-10", "algo-2")
    assert (found.leader, found.is_leader, found.host_rank) == ("algo-1", False, 1)


HETEROGENEOUS = {
    "hosts": ["algo-1", "algo-2", "algo-3"],
    "instance_groups": [
        {"instance_group_name": "feeders", "instance_type": "ml.c5.xlarge", "hosts": ["algo-1"]},
        {"instance_group_name": "trainers", "instance_type": "ml.g5.xlarge", "hosts": ["algo-3", "algo-2"]},
    ],
}


def test_distribution_spans_the_instance_groups_that_it_names(opt_ml: OptMl) -> None:
    """2.13, 5.1, 12.5: the leader is the first host of those groups."""
    resource = {**HETEROGENEOUS, "current_host": "algo-3", "current_group_name": "trainers"}
    asked = {"sagemaker_mpi_enabled": "true", "sagemaker_distribution_instance_groups": '["trainers"]'}
    found = distribution(opt_ml, resource, **asked)
    assert (found.kind, found.hosts) == ("mpi", ("algo-2", "algo-3"))


def test_host_outside_of_those_groups_runs_the_script_by_itself(opt_ml: OptMl) -> None:
    """2.13, 12.5."""
    resource = {**HETEROGENEOUS, "current_host": "algo-1", "current_group_name": "feeders"}
    asked = {"sagemaker_mpi_enabled": "true", "sagemaker_distribution_instance_groups": '["trainers"]'}
    assert distribution(opt_ml, resource, **asked).kind == "none"


def test_each_group_is_a_distribution_of_its_own_when_none_is_named(opt_ml: OptMl) -> None:
    """2.13, 5.1: as in SageMaker's toolkit."""
    resource = {**HETEROGENEOUS, "current_host": "algo-3", "current_group_name": "trainers"}
    assert distribution(opt_ml, resource, sagemaker_mpi_enabled="true").hosts == ("algo-2", "algo-3")


def test_group_that_the_job_does_not_have_is_named(opt_ml: OptMl) -> None:
    """12.5."""
    asked = {"sagemaker_mpi_enabled": "true", "sagemaker_distribution_instance_groups": '["gpus"]'}
    with pytest.raises(PlatformInputError, match=r"names \['gpus'\]"):
        distribution(opt_ml, **asked)


def test_options_for_mpirun_are_split_as_a_shell_does(opt_ml: OptMl) -> None:
    """5.5, 12.5."""
    found = distribution(opt_ml, sagemaker_mpi_custom_mpi_options="\"-x NAME='a b' --verbose\"")
    assert found.mpi_options == ("-x", "NAME=a b", "--verbose")
    with pytest.raises(PlatformInputError, match="No closing quotation"):
        distribution(opt_ml, sagemaker_mpi_custom_mpi_options="-x 'a")


def test_interface_that_the_container_lacks_is_not_used(opt_ml: OptMl, tmp_path: Path) -> None:
    """2.9, 12.6: one SDK's local mode names an interface that no container has."""
    opt_ml.config("resourceconfig.json", {**ONE_HOST, "network_interface_name": "ethwe"})
    assert choose_distribution(TrainingJob.read(MLPaths(opt_ml.base), {}), tmp_path).interface is None


def test_ranks_of_horovod_are_numbered_by_host_and_place() -> None:
    """5.1: hosts may differ in their number of slots."""
    hosts = ("algo-1", "algo-2", "algo-3")
    slots = {"algo-1": 2, "algo-2": 1, "algo-3": 2}
    found = [
        variables
        for host in hosts
        for variables in rank_environments(Distribution("horovod", hosts, host), slots, "10.0.0.1", 7777)
    ]
    assert [one["HOROVOD_RANK"] for one in found] == ["0", "1", "2", "3", "4"]
    assert {one["HOROVOD_SIZE"] for one in found} == {"5"}
    assert [(one["HOROVOD_LOCAL_RANK"], one["HOROVOD_LOCAL_SIZE"]) for one in found] == [
        ("0", "2"), ("1", "2"), ("0", "1"), ("0", "2"), ("1", "2"),
    ]  # fmt: skip
    assert [(one["HOROVOD_CROSS_RANK"], one["HOROVOD_CROSS_SIZE"]) for one in found] == [
        ("0", "3"), ("0", "2"), ("1", "3"), ("2", "3"), ("1", "2"),
    ]  # fmt: skip
