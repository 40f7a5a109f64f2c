"""Memory that runs out in a container with a limit: the kernel kills for real."""

import json

import pytest
from sagemaker_byoc.training.memory import MemoryReading, describe_out_of_memory

from tests.support.docker import run
from tests.support.places import RUNTIME

pytestmark = pytest.mark.docker

LIMIT = 256 * 1024**2
# Takes the readings around a child, as `train` does, and prints both and how the child ended.
WATCH = """\
import dataclasses, json, subprocess, sys
from sagemaker_byoc.training.memory import read_memory
before = read_memory()
child = subprocess.run([sys.executable, "-c", sys.argv[1]], stderr=subprocess.DEVNULL)
print(json.dumps([child.returncode, dataclasses.asdict(before), dataclasses.asdict(read_memory())]))
"""
FILLS_MEMORY = "held = [bytearray(b'x' * 2**20) for _ in range(1024)]"
WORKER_FILLS_MEMORY = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {FILLS_MEMORY!r}], check=True)"


def watch(image: str, script: str) -> tuple[int, MemoryReading, MemoryReading]:
    """How the child ended, and the readings before and after it."""
    limits = ["--network", "none", "--memory", str(LIMIT), "--memory-swap", str(LIMIT)]
    runtime = ["-v", f"{RUNTIME}:/opt/program/lib/sagemaker_byoc:ro", "--entrypoint", "python3"]
    ran = run(image, "-c", WATCH, script, options=[*limits, *runtime])
    assert ran.exit_code == 0, ran.log
    code, before, after = json.loads(ran.stdout)
    return code, MemoryReading(**before), MemoryReading(**after)


def test_kill_of_the_script_is_named_with_limit_and_peak(image: str) -> None:
    """1.11."""
    code, before, after = watch(image, FILLS_MEMORY)
    assert code == -9
    assert (after.limit, before.oom_kills, after.oom_kills) == (LIMIT, 0, 1)
    text = describe_out_of_memory(before, after) or ""
    assert "killed 1 process at the container's limit of 256 MiB" in text


def test_kill_of_a_worker_is_named_though_the_script_only_raises(image: str) -> None:
    """1.11: the exit code 1 of the parent says nothing of memory."""
    code, before, after = watch(image, WORKER_FILLS_MEMORY)
    assert code == 1
    assert "killed 1 process at the container's limit of 256 MiB" in (describe_out_of_memory(before, after) or "")


def test_script_that_only_kills_itself_is_not_said_to_have_run_out_of_memory(image: str) -> None:
    """1.11: exit code 137 alone is no proof."""
    code, before, after = watch(image, "import os; os.kill(os.getpid(), 9)")
    assert code == -9
    assert describe_out_of_memory(before, after) is None
