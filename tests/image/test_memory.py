"""Memory that runs out in a container with a limit: the kernel kills for real."""

import pytest

from tests.support.docker import Ran, mounted, run
from tests.support.opt_ml import OptMl

pytestmark = pytest.mark.docker

LIMIT = ["--memory", "256m", "--memory-swap", "256m"]
NAMED = "out of memory: the kernel killed 1 process at the container's limit of 256 MiB"


def train(image: str, tree: OptMl, program: str) -> Ran:
    """Run the program in a container with little memory."""
    tree.code(program)
    return run(image, "train", options=[*mounted(tree), *LIMIT])


def test_kill_of_the_script_is_named_with_limit_and_peak(image: str, opt_ml: OptMl) -> None:
    """1.9, 1.11."""
    ran = train(image, opt_ml, "fills_memory")
    assert ran.exit_code == 137
    assert NAMED in (opt_ml.failure or "")
    assert "peak 256 MiB" in (opt_ml.failure or "")
    assert NAMED in ran.log


def test_kill_of_a_worker_is_named_though_the_script_only_raises(image: str, opt_ml: OptMl) -> None:
    """1.9, 1.11: the exit code 1 of the parent says nothing of memory."""
    ran = train(image, opt_ml, "worker_fills_memory")
    assert ran.exit_code == 1
    assert NAMED in (opt_ml.failure or "")
    assert "CalledProcessError" in (opt_ml.failure or "")


def test_script_that_only_kills_itself_is_not_said_to_have_run_out_of_memory(image: str, opt_ml: OptMl) -> None:
    """1.11: exit code 137 alone is no proof, and the kernel keeps count."""
    ran = train(image, opt_ml, "killed_by_sigkill")
    assert ran.exit_code == 137
    assert "out of memory" not in ran.log + (opt_ml.failure or "")
