"""mpirun on the leader, for Open MPI 4 and 5; the other hosts only run an ssh server for it.

One host needs no ssh. Nothing of the job travels over the command line but what the job's own options say: each rank
reads its environment on its own host. Source: Open MPI documentation, mpirun(1) of 4.1 and 5.0; SageMaker's training
toolkit for the options that its users know.
"""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from sagemaker_byoc.errors import PlatformInputError
from sagemaker_byoc.training.distribution import MPI_OPTIONS, Distribution
from sagemaker_byoc.training.rank import rank_command

_MCA = re.compile(r"^--?(g|pr|prte|pmix)?(mca|pmca)$")


def mpirun_command(
    distribution: Distribution,
    slots: Mapping[str, int],
    directory: Path,
    mpirun: str,
    version: int,
    ssh: str | None,
    *,
    efa: bool = False,
    crowded: bool = False,
) -> tuple[str, ...]:
    """The leader's command.

    Args:
        distribution: the job's.
        slots: the number of ranks on each host.
        directory: the run directory, the same on each host.
        mpirun: the program.
        version: Open MPI's first number.
        ssh: the command that reaches the other hosts, or None on a single host.
        efa: whether the fabric, and not TCP, carries messages.
        crowded: whether a host has too few cores for ranks that wait without pause.

    Raises:
        PlatformInputError: the job limits its processes to more than its hosts have.
    """
    most = sum(slots.values())
    processes = distribution.processes or most
    if processes > most:
        raise PlatformInputError(
            f"the job asks for {processes} MPI processes, and its hosts have {most} slots: {dict(slots)!r}."
        )
    return (
        mpirun,
        "--allow-run-as-root",
        *("--host", _hosts(slots, distribution)),
        *("-np", str(processes)),
        *("--bind-to", "none", "--map-by", "slot"),
        *_parameters(
            _mca(distribution, version, ssh, efa) | ({"mpi_yield_when_idle": "1"} if crowded else {}),
            version,
            distribution.mpi_options,
        ),
        *distribution.mpi_options,
        *rank_command(directory),
    )


def _hosts(slots: Mapping[str, int], distribution: Distribution) -> str:
    """Hosts with their slots. A single host is called localhost, for its own name may not resolve."""
    if len(distribution.hosts) == 1:
        return f"localhost:{slots[distribution.leader]}"
    return ",".join(f"{host}:{slots[host]}" for host in distribution.hosts)


def _mca(distribution: Distribution, version: int, ssh: str | None, efa: bool) -> dict[str, str]:
    """Component parameters by name; those of the launcher itself are called otherwise in Open MPI 5."""
    interface = "lo" if len(distribution.hosts) == 1 else distribution.interface
    between = {} if efa else {"pml": "ob1", "btl": "^openib" if version < 5 else "^uct"}
    if interface and not efa:
        between["btl_tcp_if_include"] = interface
    if version < 5:
        launcher = {"plm_rsh_no_tree_spawn": "1", "btl_vader_single_copy_mechanism": "none"}
        launcher |= {"oob_tcp_if_include": interface} if interface else {}
        launcher |= {"plm_rsh_agent": ssh} if ssh else {}
        return between | launcher
    launcher = {"plm_ssh_no_tree_spawn": "1"}
    launcher |= {"prte_if_include": interface} if interface and len(distribution.hosts) > 1 else {}
    launcher |= {"plm_ssh_agent": ssh} if ssh else {}
    return between | launcher


def _parameters(values: Mapping[str, str], version: int, options: tuple[str, ...]) -> list[str]:
    """As arguments; what the job's own options set is theirs, for mpirun takes no parameter twice."""
    given = {options[index + 1] for index, option in enumerate(options[:-1]) if _MCA.match(option)}
    arguments: list[str] = []
    for name, value in values.items():
        if name not in given:
            ours = version >= 5 and name.startswith(("plm_", "prte_"))
            arguments += ["--prtemca" if ours else "--mca", name, value]
    return arguments


def find_mpirun(search: str | None = None) -> tuple[str, int]:
    """The absolute path of mpirun and Open MPI's first version number. Raises PlatformInputError."""
    mpirun = shutil.which("mpirun", path=search)
    if mpirun is None:
        raise PlatformInputError(
            "the job's distribution is MPI, and this image has no mpirun on PATH. Build it with "
            "--build-arg WITH_HOROVOD=mpi, or use Horovod without MPI: hyperparameter sagemaker_horovod_enabled=true "
            f"in place of sagemaker_mpi_enabled ({MPI_OPTIONS} is not used then)."
        )
    said = subprocess.run([mpirun, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"Open MPI\)? *v?(\d+)", said) or re.search(r"\b(\d+)\.\d+\.\d+", said)
    if "Open MPI" not in said or found is None:
        raise PlatformInputError(f"{mpirun} is not Open MPI: it says {said.strip()[:120]!r}; expected version 4 or 5.")
    return mpirun, int(found.group(1))
