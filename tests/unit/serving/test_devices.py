"""Which accelerator each worker slot gets."""

from pathlib import Path

import pytest
from sagemaker_byoc.serving.devices import Devices, assign, find_devices

UUID = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
MIG = "MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/0"


def dev(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


def test_a_machine_without_accelerators_has_the_cpu(tmp_path: Path) -> None:
    """0.5, 20.2."""
    devices = find_devices({}, dev(tmp_path, "null", "nvidiactl", "nvidia-uvm"))
    assert (devices, devices.name, assign(0, devices)) == (Devices(), "cpu", {})


def test_gpus_are_numbered_from_0_whatever_their_files_are_called(tmp_path: Path) -> None:
    """20.2: CUDA counts what the container was given."""
    devices = find_devices({}, dev(tmp_path, "nvidia3", "nvidia5", "nvidiactl"))
    assert (devices.kind, devices.names, devices.name) == ("cuda", ("0", "1"), "cuda:0")


@pytest.mark.parametrize(
    ("named", "expected"),
    [("1,0", ("1", "0")), (f"{UUID}, 2", (UUID, "2")), (MIG, (MIG,)), ("2,-1,0", ("2",)), ("0,,1", ("0",))],
)
def test_cuda_visible_devices_is_kept_as_it_is(tmp_path: Path, named: str, expected: tuple[str, ...]) -> None:
    """20.2: another copy on the machine may own the rest; the list ends where CUDA would end it."""
    assert find_devices({"CUDA_VISIBLE_DEVICES": named}, dev(tmp_path, "nvidia0")).names == expected


@pytest.mark.parametrize("named", ["", "-1", "NoDevFiles"])
def test_hidden_gpus_are_not_used(tmp_path: Path, named: str) -> None:
    """20.2."""
    assert find_devices({"CUDA_VISIBLE_DEVICES": named}, dev(tmp_path, "nvidia0", "nvidia1")) == Devices()


def test_slots_take_turns() -> None:
    """20.2: more slots than GPUs share them evenly, and each sees one."""
    devices = Devices("cuda", (UUID, "1"))
    assert [assign(slot, devices) for slot in range(3)] == [
        {"CUDA_VISIBLE_DEVICES": UUID},
        {"CUDA_VISIBLE_DEVICES": "1"},
        {"CUDA_VISIBLE_DEVICES": UUID},
    ]


@pytest.mark.parametrize(("named", "cores"), [("0-3", 4), ("0,2", 2), ("5", 1)])
def test_neuron_cores_are_divided_too(tmp_path: Path, named: str, cores: int) -> None:
    """20.2."""
    devices = find_devices({"NEURON_RT_VISIBLE_CORES": named}, tmp_path)
    assert (devices.kind, len(devices.names), devices.name) == ("neuron", cores, "xla:0")
    assert assign(0, devices) == {"NEURON_RT_VISIBLE_CORES": devices.names[0]}
