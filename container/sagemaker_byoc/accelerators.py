"""How many accelerators this host has, from device files where the kernel shows them; no GPU tool is started."""

import re
from pathlib import Path


def count_gpus(dev: Path = Path("/dev")) -> int:
    """NVIDIA GPUs given to this container: its /dev/nvidia<n> files."""
    return _count(dev, r"nvidia\d+")


def count_neurons(instance_type: str = "") -> int:
    """Neuron cores, as `neuron-ls -j` sums them; 0 where that tool is absent or fails.

    That tool counts the physical cores of a trn2.48xlarge; what its programs see are 64 logical ones.
    """
    if "trn2.48xlarge" in instance_type:
        return 64
    import json  # noqa: PLC0415 - every start pays for what is imported above
    import shutil  # noqa: PLC0415
    import subprocess  # noqa: PLC0415

    tool = shutil.which("neuron-ls")
    if not tool:
        return 0
    try:
        listing = subprocess.run([tool, "-j"], capture_output=True, check=True, timeout=30).stdout
        return sum(int(device["nc_count"]) for device in json.loads(listing))
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return 0


def _count(folder: Path, pattern: str) -> int:
    try:
        return sum(1 for entry in folder.iterdir() if re.fullmatch(pattern, entry.name))
    except OSError:
        return 0
