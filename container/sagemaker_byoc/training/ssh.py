"""ssh between the hosts of one job, with keys that live as long as the job: nothing is baked into the image.

The leader makes a key pair, each other host makes a host key; the public halves travel at the roll call. So the
leader knows the hosts it logs in to, and they admit nobody else.
"""

import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from sagemaker_byoc.errors import PlatformInputError


def check_tools() -> None:
    """Raises PlatformInputError when the image lacks a part of OpenSSH, or the user cannot log in by ssh."""
    for name in ("ssh-keygen", "sshd", "ssh"):
        _tool(name)
    _user()


def make_key(path: Path) -> str:
    """Make a key pair at `path`; returns the public half. Raises PlatformInputError when there is no ssh-keygen."""
    command = [_tool("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "sagemaker-byoc", "-f", str(path)]
    made = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if made.returncode != 0:
        raise PlatformInputError(f"no ssh key could be made at {path}: {made.stderr.strip() or made.stdout.strip()}")
    return path.with_suffix(".pub").read_text(encoding="ascii").strip()


def server_command(directory: Path, leader_key: str, address: str, port: int) -> tuple[tuple[str, ...], str]:
    """The ssh server of this host, on `address` only, and its public host key. Its files are in the run directory."""
    host_key = make_key(directory / "ssh_host_key")
    (directory / "authorized_keys").write_text(leader_key + "\n", encoding="ascii")
    (directory / "sshd_config").write_text(
        "\n".join(
            (
                f"ListenAddress {address}",
                f"Port {port}",
                f"HostKey {directory}/ssh_host_key",
                f"AuthorizedKeysFile {directory}/authorized_keys",
                "AuthenticationMethods publickey",
                "PermitRootLogin prohibit-password",
                "StrictModes no",
                "UsePAM no",
                "PidFile none",
                "X11Forwarding no",
                "AllowTcpForwarding no",
                "MaxStartups 1000",
                "LogLevel FATAL",  # it would report our own knocking as an error
                "",
            )
        ),
        encoding="ascii",
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(parents=True, exist_ok=True)  # where the server's unprivileged half lives
    # By its whole path, as it starts itself anew for each connection.
    return (_tool("sshd"), "-D", "-e", "-f", str(directory / "sshd_config")), host_key


def client_command(directory: Path, host_keys: Mapping[str, str], port: int) -> str:
    """The ssh command of the leader, which takes no host for another."""
    known = [f"[{host}]:{port} {key}" for host, key in host_keys.items()]
    (directory / "known_hosts").write_text("\n".join(known) + "\n", encoding="ascii")
    (directory / "ssh_config").write_text(
        "\n".join(
            (
                f"Port {port}",
                f"User {_user()}",
                f"IdentityFile {directory}/leader_key",
                "IdentitiesOnly yes",
                f"UserKnownHostsFile {directory}/known_hosts",
                "GlobalKnownHostsFile none",
                "StrictHostKeyChecking yes",
                "CheckHostIP no",
                "BatchMode yes",
                "ConnectTimeout 30",
                "ServerAliveInterval 5",
                "ServerAliveCountMax 3",
                "LogLevel ERROR",
                "",
            )
        ),
        encoding="ascii",
    )
    return f"{_tool('ssh')} -F {directory / 'ssh_config'}"


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise PlatformInputError(
            f"MPI on several hosts logs in by ssh, and user id {os.geteuid()} of this container has no name in "
            "/etc/passwd. Run as root, as the platform does, or use Horovod without ssh (sagemaker_horovod_enabled)."
        ) from None


def _tool(name: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin")
    if found is None:
        raise PlatformInputError(
            f"MPI on several hosts needs {name}, which this image lacks. Build it with --build-arg WITH_HOROVOD=mpi "
            "(OpenSSH comes with it), or use Horovod without ssh: hyperparameter sagemaker_horovod_enabled=true."
        )
    return found
