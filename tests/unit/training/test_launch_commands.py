"""What each host of a distributed job runs, as plans: torchrun, mpirun, variables of the network, waiting for names."""

import socket
from pathlib import Path
from typing import Any

import pytest
from sagemaker_byoc.errors import HostLostError, PlatformInputError
from sagemaker_byoc.training.distribution import Distribution, Kind
from sagemaker_byoc.training.host import communication_environment
from sagemaker_byoc.training.hosts import wait_for_names
from sagemaker_byoc.training.mpi import mpirun_command
from sagemaker_byoc.training.rank import merge_environment
from sagemaker_byoc.training.torchrun import torchrun_command

DIRECTORY = Path("/tmp/run")
TWO = ("algo-1", "algo-2")


def of(kind: Kind, **changes: Any) -> Distribution:
    """The second of two hosts, two processes on each."""
    return Distribution(
        **{"kind": kind, "hosts": TWO, "current_host": "algo-2", "processes_per_host": 2, "interface": "eth0"} | changes
    )


def mpirun(version: int = 4, efa: bool = False, **changes: Any) -> list[str]:
    """The command of the leader, whose hosts have two slots and three."""
    slots = {"algo-1": 2, "algo-2": 3}
    return list(mpirun_command(of("mpi", **changes), slots, DIRECTORY, "mpirun", version, "ssh -F none", efa=efa))


def value(command: list[str], option: str) -> str:
    """What follows an option that stands there once."""
    assert command.count(option) == 1, command
    return command[command.index(option) + 1]


def test_torchrun_of_every_host_meets_on_the_first_one() -> None:
    """5.1, 5.7."""
    command = torchrun_command(of("torchrun"), DIRECTORY, port=7777, max_restarts=0, run="run")
    options = {"--nnodes=2", "--nproc_per_node=2", "--node_rank=1", "--master_addr=algo-1", "--master_port=7777"}
    assert options <= set(command)


def test_mpirun_names_every_host_with_its_slots_and_the_options_of_the_toolkit() -> None:
    """5.5: as SageMaker's own images write it for Open MPI 4."""
    command = mpirun()
    assert value(command, "--host") == "algo-1:2,algo-2:3"
    assert value(command, "-np") == "5"
    assert "--allow-run-as-root" in command
    assert (value(command, "--bind-to"), value(command, "--map-by")) == ("none", "slot")
    for name, wanted in {
        "pml": "ob1",
        "btl": "^openib",
        "btl_tcp_if_include": "eth0",
        "oob_tcp_if_include": "eth0",
        "plm_rsh_no_tree_spawn": "1",
        "btl_vader_single_copy_mechanism": "none",
    }.items():
        assert value(command, name) == wanted


def test_job_decides_the_number_of_processes_and_its_options_win() -> None:
    """5.5, 12.5: sagemaker_mpi_num_processes and sagemaker_mpi_custom_mpi_options."""
    command = mpirun(processes=3, mpi_options=("-mca", "btl_tcp_if_include", "eth1", "-x", "NAME=value"))
    assert value(command, "-np") == "3"
    assert value(command, "btl_tcp_if_include") == "eth1"
    assert value(command, "-x") == "NAME=value"
    with pytest.raises(PlatformInputError, match="6 MPI processes"):
        mpirun(processes=6)


def test_open_mpi_5_gets_its_own_names_for_parameters() -> None:
    """5.5."""
    command = mpirun(version=5)
    assert value(command, "prte_if_include") == "eth0"
    assert value(command, "plm_ssh_agent") == "ssh -F none"
    assert not {"oob_tcp_if_include", "plm_rsh_agent", "btl_vader_single_copy_mechanism"} & set(command)


def test_rank_started_from_another_host_has_the_variables_of_its_own() -> None:
    """5.6: mpirun's parent brings the rank and what `-x` names, and must not bring the leader's SM_* or PATH."""
    host = {"SM_CURRENT_HOST": "algo-2", "SM_HP_EPOCHS": "3", "PATH": "/opt/venv/bin", "AWS_REGION": "eu-west-1"}
    parent = {"SM_CURRENT_HOST": "algo-1", "PATH": "/bin", "OMPI_COMM_WORLD_RANK": "3", "NAME": "value", "SM_NEW": "x"}
    added = {"OMPI_COMM_WORLD_RANK": "3", "NAME": "value", "SM_NEW": "x"}
    assert merge_environment(host, parent) == host | added


def test_elastic_fabric_is_used_where_its_devices_are(tmp_path: Path) -> None:
    """4.10: and TCP goes over the named interface."""
    fabric = {"FI_PROVIDER": "efa", "FI_EFA_USE_DEVICE_RDMA": "1", "RDMAV_FORK_SAFE": "1"}
    assert fabric.items() <= communication_environment(of("torchrun"), tmp_path).items()
    without = communication_environment(of("torchrun"), tmp_path / "absent")
    assert not fabric.keys() & without.keys()
    assert (without["NCCL_SOCKET_IFNAME"], without["GLOO_SOCKET_IFNAME"]) == ("eth0", "eth0")
    assert "^openib" not in mpirun(efa=True)


def test_host_whose_name_does_not_resolve_yet_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """2.15."""
    resolve, refusals = socket.getaddrinfo, ["algo-2", "algo-2"]

    def late(host: str, *others: Any) -> Any:
        if host in refusals:
            refusals.remove(host)
            raise socket.gaierror(socket.EAI_NONAME, "not known yet")
        return resolve("127.0.0.1", *others)

    monkeypatch.setattr(socket, "getaddrinfo", late)
    pauses: list[float] = []
    wait_for_names(TWO, 60.0, pauses.append)
    assert len(pauses) == 2
    assert not refusals


def test_host_that_never_resolves_is_named_when_the_limit_is_over() -> None:
    """2.15: with the variable that sets the limit."""
    with pytest.raises(HostLostError, match=r"algo-9\.invalid to resolve.*BYOC_DNS_TIMEOUT_SECONDS"):
        wait_for_names(["localhost", "algo-9.invalid"], 0.0, lambda _: None)


def test_single_host_is_localhost_whatever_its_name() -> None:
    """2.12, 5.5: the name of the document may be none that this container knows."""
    alone = Distribution("mpi", ("algo-1",), "algo-1", 2)
    command = list(mpirun_command(alone, {"algo-1": 2}, DIRECTORY, "mpirun", 4, None))
    assert value(command, "--host") == "localhost:2"
    assert value(command, "oob_tcp_if_include") == "lo"


def test_ranks_that_share_few_cores_let_each_other_work_while_they_wait() -> None:
    """5.5: Open MPI's ranks spin by default."""
    alone = Distribution("mpi", ("algo-1",), "algo-1", 2)
    command = list(mpirun_command(alone, {"algo-1": 2}, DIRECTORY, "mpirun", 4, None, crowded=True))
    assert value(command, "mpi_yield_when_idle") == "1"
