"""The Docker engine of the harness: what a plan asks for is what the container has, and all of it is found again."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from local_sagemaker.engines import ContainerPlan, DockerEngine, Limits, NetworkPlan
from local_sagemaker.engines.base import Mount
from local_sagemaker.engines.docker_network import make_network
from local_sagemaker.engines.overlay import UPPER, make_changes
from local_sagemaker.errors import EngineMissingError, UsageError

from tests.support.docker import LABEL
from tests.support.waiting import wait_until

pytestmark = pytest.mark.docker
PlanMaker = Callable[..., ContainerPlan]
SERVER = "python3 -m http.server 8080 & exec python3 -m http.server 8081"


@pytest.fixture(scope="module")
def engine() -> DockerEngine:
    """The local one."""
    return DockerEngine.connect()


@pytest.fixture
def labels(engine: DockerEngine) -> Iterator[dict[str, str]]:
    """Of this test alone; whatever carries them is gone afterwards."""
    made = {"byoc.test": uuid.uuid4().hex, "byoc.kind": "Endpoint", LABEL: ""}
    yield made
    engine.remove_all({"byoc.test": made["byoc.test"]})


@pytest.fixture
def plan(image: str, tmp_path: Path, labels: dict[str, str]) -> PlanMaker:
    """A container of the image that runs a line of shell."""

    def make(line: str, name: str = "one", **options: Any) -> ContainerPlan:
        options = {"entrypoint": ("sh", "-c"), "arguments": (line,), "labels": labels} | options
        return ContainerPlan(f"{name}-{labels['byoc.test']}", "serve", image, tmp_path, {}, **options)

    return make


def output_of(engine: DockerEngine, plan: ContainerPlan) -> str:
    running = engine.start(plan)
    try:
        return b"".join(chunk.data for chunk in running.logs()).decode()
    finally:
        running.remove()


@pytest.mark.parametrize("name", ["a:b", "with space", "größe 👋", 'a,b "c"', "back\\slash"])
@pytest.mark.parametrize("way", ["read-only", "writable", "with changes"])
def test_a_folder_of_any_name_is_mounted(
    engine: DockerEngine, plan: PlanMaker, tmp_path: Path, name: str, way: str
) -> None:
    """3.2, 3.4."""
    folder, changes = tmp_path / name / "data", tmp_path / name / "changes" if way == "with changes" else None
    folder.mkdir(parents=True)
    (folder / "old").write_text("there\n")
    if changes is not None:
        make_changes(changes)
    mount = Mount(folder, "/mnt/x", read_only=way == "read-only", changes=changes)
    seen = output_of(engine, plan("cat /mnt/x/old; touch /mnt/x/new 2>&1; ls /mnt/x", mounts=(mount,)))
    assert seen.startswith("there\n")
    assert ("Read-only file system" in seen) == (way == "read-only")
    assert seen.endswith("old\n" if way == "read-only" else "new\nold\n")
    assert (folder / "new").exists() == (way == "writable")
    if changes is not None:
        assert (changes / UPPER / "new").exists()


def answers(host: str, port: int) -> bool:
    try:
        return httpx.get(f"http://{host}:{port}/", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def test_arguments_replace_the_images_command(engine: DockerEngine, plan: PlanMaker) -> None:
    """1.2, 1.3, 1.4."""
    assert output_of(engine, plan("", entrypoint=(), arguments=("echo", "a", "b c"))) == "a b c\n"
    assert output_of(engine, plan("", entrypoint=("echo", "e"), arguments=None)) == "e\n"


def test_a_strict_container_can_write_to_memory_alone(engine: DockerEngine, plan: PlanMaker) -> None:
    """4.8, 13.11: and its /dev/shm is what the platform gives."""
    line = "id -u; touch /tmp/a && echo tmp; touch /home/a 2>/dev/null || echo root; df -m /dev/shm | tail -1"
    text = output_of(engine, plan(line, read_only_root=True, tmpfs=("/tmp",), user="1000:1000"))
    assert text.splitlines()[:2] == ["1000", "tmp"]
    assert "root" in text.splitlines()
    assert text.splitlines()[-1].split()[1] == "64"


def test_an_image_of_ecr_is_this_machines_image_of_that_name(engine: DockerEngine, plan: PlanMaker, image: str) -> None:
    """23.3: documents name images of a registry; nothing is pulled."""
    in_ecr = replace(plan("echo here"), image=f"000000000000.dkr.ecr.us-east-1.amazonaws.com/{image}")
    assert output_of(engine, in_ecr) == "here\n"
    with pytest.raises(EngineMissingError, match="there is no image"):
        engine.start(replace(in_ecr, image=f"{in_ecr.image}-absent"))


def test_a_gpu_that_docker_lacks_is_a_missing_engine(engine: DockerEngine, plan: PlanMaker) -> None:
    if "nvidia" in engine.client.info()["Runtimes"]:  # there the promise is that it starts
        assert "/dev/nvidia" in output_of(engine, plan("ls -d /dev/nvidia*", limits=Limits(gpus="all")))
        return
    with pytest.raises(EngineMissingError, match="--gpus all: Docker has no GPU to give"):
        engine.start(plan("true", limits=Limits(gpus="all")))
    assert engine.find(plan("true").labels) == []


def test_a_container_is_reached_by_its_own_address_and_by_its_ports(engine: DockerEngine, plan: PlanMaker) -> None:
    """A published port costs a process in between, the container's own address does not."""
    running = engine.start(plan(SERVER, port=0, publish=(8081,)))
    assert running.address is not None
    host, port = running.address
    wait_until(lambda: answers(host, port), "the container to answer", 300)
    assert answers("127.0.0.1", running.port or 0)
    assert host.startswith("127.") is False
    assert port == 8080


def test_containers_in_one_network_share_localhost(engine: DockerEngine, plan: PlanMaker) -> None:
    """15.30."""
    first = engine.start(plan(SERVER, port=0))
    assert first.address is not None
    wait_until(lambda: answers(*first.address), "the first container to answer", 300)
    second = engine.start(
        plan(
            "python3 -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1:8080/\").status)'; sleep 600",
            "two",
            network=f"container:{first.name}",
            container_port=8081,
        )
    )
    assert next(chunk.data for chunk in second.logs()).startswith(b"200")
    assert second.address == (first.address[0], 8081)


def test_containers_are_found_and_removed_by_their_labels(
    engine: DockerEngine, plan: PlanMaker, labels: dict[str, str]
) -> None:
    """What a killed tool leaves behind: containers that run, have ended or were never started, and networks."""
    test = {"byoc.test": labels["byoc.test"], "byoc.kind": None}
    running = engine.start(plan("sleep 600", port=0))
    ended = engine.start(plan("exit 3", "two"))
    ended.wait(300)
    engine.client.containers.create(running._container.image, name=f"three-{labels['byoc.test']}", labels=labels)
    network = NetworkPlan(f"net-{labels['byoc.test']}", ("algo-1",), isolated=True, labels=labels)
    make_network(engine.client, network)

    found = {one.name.partition("-")[0]: one for one in engine.find(test)}
    assert {name: (one.running, one.exit_code) for name, one in found.items()} == {
        "one": (True, None),
        "two": (False, 3),
        "three": (False, None),
    }
    assert found["one"].port == running.port
    assert found["one"].labels["byoc.kind"] == "Endpoint"
    assert engine.find(test | {"byoc.kind": "TrainingJob"}) == []

    assert len(engine.labels_of_all(test)) == 4  # the network too

    assert engine.remove_all(test) == 4
    assert engine.find(test) == []
    assert engine.remove_all(test) == 0
    running.remove()


def test_files_of_root_are_given_back_to_whoever_started_the_job(
    engine: DockerEngine, plan: PlanMaker, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outputs are never root's on this machine; a folder that has none of root's costs no container."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "model.bin").touch()
    (tmp_path / "link").symlink_to("/etc/hostname")
    monkeypatch.setattr("os.getuid", lambda: 1234)
    monkeypatch.setattr("os.getgid", lambda: 1235)
    engine.give_back(tmp_path, image, plan("true").labels)
    owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in (tmp_path, *tmp_path.rglob("*"))}
    assert owners == {(1234, 1235)}
    assert Path("/etc/hostname").stat().st_uid == 0
    engine.give_back(tmp_path, "no-such-image-is-asked-for")
    (tmp_path / "new").touch()
    with pytest.raises(UsageError, match="sudo chown -R 1234"):
        engine.give_back(tmp_path, "no-such-image")
