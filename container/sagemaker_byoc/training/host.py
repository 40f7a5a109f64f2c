"""What one host of a distributed job does: find the others, meet them, plan its part, run it."""

import contextlib
import json
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sagemaker_byoc.accelerators import count_gpus
from sagemaker_byoc.errors import EXIT_BUG, ByocError, PlatformInputError
from sagemaker_byoc.settings import TrainSettings, available_cpus
from sagemaker_byoc.training import horovod, mpi, parameter_server, ssh
from sagemaker_byoc.training.cluster import Alone, Introduction, Leader, Member, Verdict, Welcome, connect
from sagemaker_byoc.training.distribution import MPI_OPTIONS, Distribution
from sagemaker_byoc.training.host_run import TICK_SECONDS, HostRun, Part
from sagemaker_byoc.training.hosts import TRY_SECONDS, Waiting, address_of, wait_for_names
from sagemaker_byoc.training.launch import LaunchPlan, heed_stop
from sagemaker_byoc.training.rank import RANK_VARIABLE, rank_command
from sagemaker_byoc.training.torchrun import torchrun_command

EXCUSE_SECONDS = 10.0
RUN_DIRECTORY_BYTES = 256 * 1024  # the environment of a job, keys, and reports of its ranks


def run_distributed(distribution: Distribution, launch: LaunchPlan, settings: TrainSettings) -> Verdict:
    """Run this host's part of the job to the end of the whole job; the verdict is the same on every host.

    To be called inside `processes.blocked_signals`. Raises HostLostError when the hosts do not find each other,
    Stopped when the platform gives up before that, PlatformInputError or UserCodeError for a launcher that is missing.
    """
    distribution = _use_what_is_there(distribution, launch)
    _check_tools(distribution, launch.environ.get("PATH"))
    environ = {**communication_environment(distribution), **launch.environ}
    launch = replace(launch, environ=environ, command=_command_for(distribution, launch.command))
    if settings.wait_for_hosts and len(distribution.hosts) > 1:
        wait_for_names(distribution.hosts, settings.dns_timeout_seconds, heed_stop)
    meeting = _meet_alone if len(distribution.hosts) == 1 else _lead if distribution.is_leader else _follow
    return meeting(distribution, launch, settings)


def _use_what_is_there(distribution: Distribution, launch: LaunchPlan) -> Distribution:
    """Horovod needs no MPI: where an image has the one and not the other, its Gloo controller does the same work."""
    if distribution.kind != "mpi" or shutil.which("mpirun", path=launch.environ.get("PATH")) or not _has("horovod"):
        return distribution
    print(
        "sagemaker-byoc: MPI was asked for and this image has no mpirun: Horovod starts the ranks by its Gloo "
        f"controller, {MPI_OPTIONS} is not used",
        file=sys.stderr,
        flush=True,
    )
    return replace(distribution, kind="horovod")


def _check_tools(distribution: Distribution, search: str | None) -> None:
    """Fail on every host alike, before they meet, when the image lacks what the distribution needs."""
    match distribution.kind:
        case "mpi":
            mpi.find_mpirun(search)
            if len(distribution.hosts) > 1:
                ssh.check_tools()
        case "horovod" if not _has("horovod"):
            raise PlatformInputError(
                "the job's distribution is Horovod, and this image does not have it. Build it with --build-arg "
                "WITH_HOROVOD=gloo, or use torch.distributed: hyperparameter sagemaker_torch_distributed_enabled=true."
            )
        case "torchrun" if shutil.which("torchrun", path=search) is None and not _has("torch"):
            raise PlatformInputError(
                "the job's distribution is torch.distributed, and this image has neither torchrun nor torch. "
                "Build it with PyTorch."
            )


def _command_for(distribution: Distribution, command: tuple[str, ...]) -> tuple[str, ...]:
    """A Python script under MPI runs by mpi4py where that is: an exception ends all ranks then, as MPI_Abort does.

    Without it the rank that raised would wait at its exit for the others, in MPI_Finalize, and they for it.
    """
    if distribution.kind == "mpi" and command[:2] == (sys.executable, "-u") and _has("mpi4py"):
        return (*command[:2], "-m", "mpi4py", *command[2:])
    return command


def _has(package: str) -> bool:
    """Whether a package is installed; a folder that happens to have its name is none."""
    found = find_spec(package)
    return found is not None and found.origin is not None


def communication_environment(distribution: Distribution, fabric: Path = Path("/dev/infiniband")) -> dict[str, str]:
    """Variables for the libraries that talk between ranks; what the job itself sets wins."""
    interface = "lo" if len(distribution.hosts) == 1 else distribution.interface
    found = {"OMP_NUM_THREADS": str(max(1, available_cpus() // distribution.processes_per_host))}
    if interface:
        found |= dict.fromkeys(("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME"), interface)
    if fabric.is_dir():
        found |= {"FI_PROVIDER": "efa", "FI_EFA_USE_DEVICE_RDMA": "1", "RDMAV_FORK_SAFE": "1"}
    return found


def excuse(distribution: Distribution, settings: TrainSettings, exit_code: int, reason: str) -> None:
    """Tell the other hosts, as far as they can be reached within seconds, that this one cannot take part, and why."""
    with contextlib.suppress(ByocError):  # a stop, say: then nobody waits any more
        if distribution.is_leader:
            leader = _make_leader(distribution, settings)
            leader.give_up(exit_code, reason)
            _listen(leader, settings.control_port, Welcome(_new_run()))
            deadline = time.monotonic() + EXCUSE_SECONDS
            while leader.missing and time.monotonic() < deadline:
                heed_stop(TICK_SECONDS)
            leader.close()
        else:
            member = _reach_leader(distribution, settings, EXCUSE_SECONDS)
            member.greet()
            member.refuse(exit_code, reason)
            member.close()


def _meet_alone(distribution: Distribution, launch: LaunchPlan, settings: TrainSettings) -> Verdict:
    slots = {distribution.current_host: distribution.processes_per_host}
    with _run_directory(_new_run()) as directory:
        part = _plan_part(distribution, launch, settings, slots, directory, ssh_client=None)
        host = HostRun(part, launch, distribution, directory, Alone(distribution.current_host))
        host.prepare(_ports(distribution, settings))
        return host.run()


def _lead(distribution: Distribution, launch: LaunchPlan, settings: TrainSettings) -> Verdict:
    run = _new_run()
    with contextlib.ExitStack() as stack:
        try:
            directory = stack.enter_context(_run_directory(run))
            key = ssh.make_key(directory / "leader_key") if distribution.kind == "mpi" else ""
        except ByocError as error:
            excuse(distribution, settings, error.exit_code, f"{type(error).__name__}: {error}")
            raise
        leader = _make_leader(distribution, settings)
        _listen(leader, settings.control_port, Welcome(run, key))
        try:
            return _take_the_roll(leader, settings) or _run_as_leader(leader, distribution, launch, settings, directory)
        except Exception as error:
            code = error.exit_code if isinstance(error, ByocError) else EXIT_BUG
            leader.give_up(code, f"{type(error).__name__}: {error}")
            raise
        finally:
            leader.close()


def _take_the_roll(leader: Leader, settings: TrainSettings) -> Verdict | None:
    """Wait until every host has joined; a verdict when the job has failed before that."""
    waiting = Waiting("the other hosts", settings.dns_timeout_seconds)
    while leader.missing:
        verdict = leader.verdict()
        if verdict is not None:
            return verdict
        waiting.say(f"{', '.join(leader.missing)} to join")
        heed_stop(TICK_SECONDS)
    return None


def _run_as_leader(
    leader: Leader, distribution: Distribution, launch: LaunchPlan, settings: TrainSettings, directory: Path
) -> Verdict:
    joined = leader.introductions()
    slots = {host: one.slots for host, one in joined.items()}
    slots = {host: slots.get(host, distribution.processes_per_host) for host in distribution.hosts}
    keys = {host: one.host_key for host, one in joined.items()}
    client = ssh.client_command(directory, keys, settings.ssh_port) if distribution.kind == "mpi" else None
    part = _plan_part(distribution, launch, settings, slots, directory, ssh_client=client)
    host = HostRun(part, launch, distribution, directory, leader)
    host.prepare(_ports(distribution, settings))
    leader.start(slots)
    return host.run()


def _make_leader(distribution: Distribution, settings: TrainSettings) -> Leader:
    return Leader(
        distribution.current_host,
        distribution.hosts,
        silence_seconds=settings.host_timeout_seconds,
        rank_failure_ends=distribution.has_ranks and settings.max_restarts == 0,
        leader_ends=distribution.kind == "parameter_server",
        deciding=(distribution.leader,) if distribution.kind == "mpi" else distribution.hosts,
    )


def _reach_leader(distribution: Distribution, settings: TrainSettings, limit_seconds: float) -> Member:
    """Connect to the leader as soon as it answers. Raises HostLostError when it does not in time."""
    waiting = Waiting("the leader", limit_seconds)
    while True:
        address = address_of(distribution.leader)
        connection = connect(address, settings.control_port, settings.host_timeout_seconds) if address else None
        if connection is not None:
            return Member(connection, distribution.current_host, distribution.leader, settings.host_timeout_seconds)
        waiting.say(f"{distribution.leader} to answer on port {settings.control_port}")
        heed_stop(TRY_SECONDS)


def _follow(distribution: Distribution, launch: LaunchPlan, settings: TrainSettings) -> Verdict:
    member = _reach_leader(distribution, settings, settings.dns_timeout_seconds)
    try:
        welcome = member.greet()
        with _run_directory(welcome.run) as directory:
            servers: tuple[tuple[str, ...], ...] = ()
            host_key = ""
            if distribution.kind == "mpi":
                own = address_of(distribution.current_host) or "0.0.0.0"  # noqa: S104 - then any of ours
                server, host_key = ssh.server_command(directory, welcome.leader_key, own, settings.ssh_port)
                servers = (server,)
            host = HostRun(Part((), (), servers), launch, distribution, directory, member)
            host.prepare((settings.ssh_port,) if servers else ())
            member.join(Introduction(distribution.current_host, distribution.processes_per_host, host_key))
            while member.slots is None and member.verdict() is None:
                heed_stop(TICK_SECONDS)
            if member.slots is not None and distribution.kind != "mpi":
                host.part = _plan_part(distribution, launch, settings, member.slots, directory, ssh_client=None)
                host.prepare(())
            return host.run()
    except Exception as error:
        code = error.exit_code if isinstance(error, ByocError) else EXIT_BUG
        member.refuse(code, f"{type(error).__name__}: {error}")
        raise
    finally:
        member.close()


def _plan_part(  # noqa: PLR0911 - one answer for each distribution
    distribution: Distribution,
    launch: LaunchPlan,
    settings: TrainSettings,
    slots: Mapping[str, int],
    directory: Path,
    ssh_client: str | None,
) -> Part:
    """The commands of this host, by the job's distribution."""
    port = settings.master_port
    match distribution.kind:
        case "torchrun":
            command = torchrun_command(
                distribution, directory, port=port, max_restarts=settings.max_restarts, run=directory.name
            )
            # A store of its own for each start: ranks must not find the addresses of those that have gone.
            own_store = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"} if settings.max_restarts else {}
            return Part((command,), (own_store,))
        case "horovod":
            leader = address_of(distribution.leader) if len(distribution.hosts) > 1 else "127.0.0.1"
            environments = horovod.rank_environments(distribution, slots, leader or distribution.leader, port)
            server = horovod.rendezvous_command(distribution, slots, port)
            servers = (server,) if distribution.is_leader else ()
            return Part((rank_command(directory),) * len(environments), tuple(environments), servers)
        case "mpi":
            program, version = mpi.find_mpirun(launch.environ.get("PATH"))
            efa = Path("/dev/infiniband").is_dir()
            # A rank computes and talks at the same time; without a GPU, computing takes all cores there are.
            crowded = count_gpus() == 0 or 2 * max(slots.values()) > available_cpus()
            command = mpi.mpirun_command(
                distribution, slots, directory, program, version, ssh_client, efa=efa, crowded=crowded
            )
            return Part((command,), ({},))
        case "parameter_server":
            hosts, current = distribution.hosts, distribution.current_host
            if len(hosts) == 1:  # SageMaker's images start a single host's script without TF_CONFIG
                return Part((rank_command(directory),), ({},))
            config = _tf_config(distribution, parameter_server.parameter_server_config(hosts, current))
            serves = _tf_config(distribution, parameter_server.parameter_server_config(hosts, current, serves=True))
            return Part((rank_command(directory),), (config,), (parameter_server.server_command(),), serves)
        case "mirrored":
            config = parameter_server.mirrored_config(distribution.hosts, distribution.current_host)
            return Part((rank_command(directory),), (_tf_config(distribution, config),))
        case "none":
            return Part((rank_command(directory),), ({},))


def _tf_config(distribution: Distribution, config: Mapping[str, Any]) -> dict[str, str]:
    return {"TF_CONFIG": json.dumps(config), RANK_VARIABLE: str(distribution.host_rank)}


def _ports(distribution: Distribution, settings: TrainSettings) -> tuple[int, ...]:
    """Where the leader's servers must answer before any rank starts."""
    return (settings.master_port,) if distribution.kind == "horovod" else ()


@contextlib.contextmanager
def _run_directory(run: str) -> Iterator[Path]:
    """A folder for this user alone, of the same name on every host, gone at the end."""
    try:
        directory = Path(tempfile.gettempdir()) / run
        directory.mkdir(mode=0o700)
        (directory / "probe").write_bytes(bytes(RUN_DIRECTORY_BYTES))
        (directory / "probe").unlink()
    except OSError as error:
        raise PlatformInputError(
            f"the folder for temporary files cannot be written: {error}. A job with a distribution needs a few "
            "hundred kilobytes there; TMPDIR names another folder."
        ) from error
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _new_run() -> str:
    return f"sagemaker-byoc-{secrets.token_hex(8)}"


def _listen(leader: Leader, port: int, welcome: Welcome) -> None:
    try:
        leader.listen("0.0.0.0", port, welcome)  # noqa: S104 - the job's own network
    except OSError as error:
        raise PlatformInputError(
            f"port {port}, where the hosts of the job report, cannot be opened: {error}. "
            "Set BYOC_CONTROL_PORT to a free one."
        ) from error
