"""What an image built with Horovod holds, and what it must never hold."""

import re
import subprocess
import tarfile
from collections.abc import Iterator

import pytest

from tests.image.test_image import shell
from tests.support.docker import docker, run

pytestmark = pytest.mark.docker

ALLREDUCE = (
    "import torch, horovod.torch as hvd; hvd.init(); "
    "total = hvd.allreduce(torch.tensor([hvd.rank() + 1.0]), op=hvd.Sum).item(); "
    "print(f'sum {total} of {hvd.size()}\\n', end='')"  # one write, so that lines of two ranks stay whole
)
KEY_NAME = re.compile(r"(^|/)(ssh_host_\w*key|id_(rsa|dsa|ecdsa|ecdsa_sk|ed25519|ed25519_sk)|authorized_keys)(\.pub)?$")
KEY_PLACES = ("etc/", "root/", "home/", "opt/program/")
PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")


def layer_files(image: str) -> Iterator[tuple[str, bytes]]:
    """Every file of every layer, with its content where keys lie: what a later layer deletes is still there."""
    with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as save:
        assert save.stdout is not None
        with tarfile.open(fileobj=save.stdout, mode="r|") as archive:
            for entry in archive:
                content = archive.extractfile(entry)
                if content is None or entry.name.endswith(".json"):
                    continue
                try:
                    layer = tarfile.open(fileobj=content, mode="r|*")  # noqa: SIM115
                except tarfile.ReadError:
                    continue  # not a layer
                with layer:
                    for file in filter(tarfile.TarInfo.isfile, layer):
                        readable = layer.extractfile(file) if file.name.startswith(KEY_PLACES) else None
                        yield file.name, readable.read() if readable else b""
    assert save.returncode == 0


def test_both_controllers_are_built(horovod_image: str) -> None:
    """5.3: Horovod by MPI, and by Gloo without it."""
    report = run(horovod_image, "horovodrun", "--check-build").log
    assert {"PyTorch", "MPI", "Gloo"} <= set(re.findall(r"\[X\] (\w+)", report)), report


@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param(("mpirun", "--allow-run-as-root", "-np", "2"), id="mpi"),
        pytest.param(("horovodrun", "--gloo", "-np", "2"), id="gloo"),
    ],
)
def test_two_ranks_sum_a_tensor(horovod_image: str, launcher: tuple[str, ...]) -> None:
    """5.3: what is built also runs."""
    ran = run(horovod_image, *launcher, "python3", "-c", ALLREDUCE)
    assert ran.exit_code == 0, ran.log
    assert ran.stdout.count(b"sum 3.0 of 2") == 2, ran.log


def test_what_an_mpi_job_is_started_with_is_there(horovod_image: str) -> None:
    """5.3: mpirun, orted, mpi4py, both ends of ssh, and the folder without which sshd does not start."""
    found = shell(
        horovod_image,
        "command -v mpirun orted ssh ssh-keygen && test -x /usr/sbin/sshd && test -d /var/run/sshd"
        " && mpirun --allow-run-as-root -np 1 python3 -m mpi4py -c 'import mpi4py.MPI as m; print(m.COMM_WORLD.size)'",
    ).split()
    assert found == ["/usr/bin/mpirun", "/usr/bin/orted", "/usr/bin/ssh", "/usr/bin/ssh-keygen", "1"]


def test_no_layer_has_a_key(horovod_image: str) -> None:
    """5.3: host keys are made when a container starts; a key in an image belongs to everyone who has the image."""
    names = set()
    keys = []
    for name, content in layer_files(horovod_image):
        names.add(name)
        if KEY_NAME.search(name) or PRIVATE_KEY.search(content):
            keys.append(name)
    assert "usr/sbin/sshd" in names, "the layers were not read"
    assert keys == []


def test_what_the_newest_sdk_drives_the_image_with_is_there(horovod_image: str) -> None:
    """12.6: bash, python3, pip, and paramiko for its MPI driver."""
    ran = run(
        horovod_image,
        "-c",
        "command -v bash python3 pip && python3 -c 'import paramiko' && pip --version",
        options=["--entrypoint", "/bin/bash"],
    )
    assert ran.exit_code == 0, ran.log
    assert ran.stdout.decode().splitlines()[1:3] == ["/opt/venv/bin/python3", "/opt/venv/bin/pip"]


def test_compilers_stay_behind(horovod_image: str) -> None:
    """A final image is for running."""
    assert shell(horovod_image, "for tool in gcc cc g++ c++ make cmake; do command -v $tool; done; true") == ""


def test_installed_packages_agree_with_each_other(horovod_image: str) -> None:
    """What Horovod needs is pinned with everything else."""
    ran = run(horovod_image, "python3", "-m", "pip", "check")
    assert ran.exit_code == 0, ran.log


def test_image_without_horovod_has_nothing_of_it(image: str) -> None:
    """5.3: MPI and ssh are for those who ask for them."""
    assert shell(image, "for tool in mpirun orted ssh sshd horovodrun cmake; do command -v $tool; done; true") == ""
    absent = "import importlib.util as u; print([n for n in ('horovod', 'mpi4py') if u.find_spec(n)])"
    assert run(image, "python3", "-c", absent).stdout == b"[]\n"


def test_image_without_horovod_carries_an_empty_layer_for_it(image: str) -> None:
    """Nobody pays for a choice not made."""
    history = docker("history", "--no-trunc", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}", image)
    assert [line.split()[0] for line in history.splitlines() if "openssh-server" in line] == ["0"]
