"""What Docker is asked for a container, and what becomes of its refusals."""

import tarfile

import docker.errors
import pytest
import requests.exceptions
from local_sagemaker.conformance.containers import Containers, RefusedError
from local_sagemaker.conformance.setup import Setup
from local_sagemaker.errors import EngineMissingError


class Refusing:
    """An engine whose containers do not start."""

    def __init__(self, reason):
        self.reason = reason
        self.asked = {}
        self.removed = 0
        self.containers = self

    def create(self, image, command, **options):
        self.asked = {"image": image, "command": command, **options}
        return self

    def start(self):
        raise docker.errors.APIError(self.reason)

    def remove(self, **_):
        self.removed += 1


@pytest.mark.parametrize(
    ("gpus", "reason", "error"),
    [
        ("all", 'could not select device driver "" with capabilities: [[gpu]]', EngineMissingError),
        ("all", 'exec: "serve": executable file not found in $PATH', RefusedError),
        (None, "nvidia-smi: no such file or directory", RefusedError),
    ],
)
def test_want_of_a_gpu_is_no_fault_of_the_image(gpus, reason, error):
    """22.3: the machine is to blame, and nothing is left of what did not start."""
    client = Refusing(reason)
    containers = Containers(client, "an-image")
    with pytest.raises(error), containers.started(Setup(("serve",), network="none", gpus=gpus)):
        pass
    assert [one["Count"] for one in client.asked.get("device_requests", ())] == ([-1] if gpus else [])
    assert client.removed == 1


def test_want_of_room_for_a_network_is_no_fault_of_the_image():
    """22.3: networks that others have left use up Docker's addresses."""

    class Full(Refusing):
        def create(self, *_, **__):
            raise docker.errors.APIError("could not find an available, non-overlapping IPv4 address pool")

    client = Full("")
    client.networks = client
    containers = Containers(client, "an-image")
    with (
        pytest.raises(EngineMissingError, match=r"address pool(.|\n)*docker network prune"),
        containers.started(Setup(("train",), hostname="algo-1", peers="hosts")),
    ):
        pass


def test_silence_of_a_starved_engine_is_told():
    """22.3: in words, and as no fault of the image."""

    class Silent(Refusing):
        def create(self, *_, **__):
            raise requests.exceptions.ReadTimeout("Read timed out.")

    with (
        pytest.raises(RefusedError, match="Docker does not answer: Read timed out"),
        Containers(Silent(""), "an-image").started(Setup(("serve",), network="none")),
    ):
        pass


def test_a_model_is_given_to_a_container_from_the_disk(tmp_path):
    """22.1: it may be larger than memory."""

    class Filled(Refusing):
        def put_archive(self, volume, data):
            assert not isinstance(data, bytes)
            with tarfile.open(fileobj=data) as tar:
                self.filled = volume, sorted(tar.getnames())

    (tmp_path / "weights").touch()
    client = Filled("refused")
    setup = Setup(("serve",), network="none", writable=("/opt/ml/model",), copies={"/opt/ml/model": tmp_path})
    with pytest.raises(RefusedError), Containers(client, "an-image").started(setup):
        pass
    assert client.filled == ("/opt/ml/model", [".", "./weights"])
