"""Which accelerator each worker slot gets. The container's own are counted, never the host's."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sagemaker_byoc.accelerators import count_gpus, count_neurons

CUDA_VARIABLE = "CUDA_VISIBLE_DEVICES"
NEURON_VARIABLE = "NEURON_RT_VISIBLE_CORES"


@dataclass(frozen=True)
class Devices:
    """The accelerators that this container may use, by the names that `variable` takes: 0, 1, GPU-<uuid>, MIG-<uuid>.

    Without any, the CPU is the device.
    """

    kind: Literal["cuda", "neuron", "cpu"] = "cpu"
    names: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What a handler finds in its context: each slot sees one accelerator, so its number is always 0."""
        return {"cuda": "cuda:0", "neuron": "xla:0", "cpu": "cpu"}[self.kind]


def find_devices(environ: Mapping[str, str], dev: Path = Path("/dev")) -> Devices:
    """GPUs, as CUDA_VISIBLE_DEVICES lists them, else by their device files; else Neuron cores; else none.

    An empty CUDA_VISIBLE_DEVICES, or -1, hides all of them.
    """
    named = environ.get(CUDA_VARIABLE)
    gpus = _visible(named) if named is not None else _numbers(count_gpus(dev))
    if gpus:
        return Devices("cuda", gpus)
    cores = environ.get(NEURON_VARIABLE)
    neurons = _cores(cores) if cores is not None else _numbers(count_neurons())
    return Devices("neuron", neurons) if neurons else Devices()


def assign(slot: int, devices: Devices) -> dict[str, str]:
    """The environment that leaves the worker of a slot, counted from 0, one accelerator: they go round in turn."""
    if not devices.names:
        return {}
    variable = CUDA_VARIABLE if devices.kind == "cuda" else NEURON_VARIABLE
    return {variable: devices.names[slot % len(devices.names)]}


def _visible(text: str) -> tuple[str, ...]:
    """CUDA reads its list up to the first entry that names no device."""
    names = []
    for entry in text.split(","):
        name = entry.strip()
        if not re.fullmatch(r"\d+|(GPU|MIG)-[\w/-]+", name):
            break
        names.append(name)
    return tuple(names)


def _cores(text: str) -> tuple[str, ...]:
    """`0,2` or `0-3`."""
    names: list[str] = []
    for entry in text.split(","):
        first, _, last = entry.strip().partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            names += map(str, range(int(first), int(last or first) + 1))
    return tuple(names)


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))
