"""How many connections an endpoint's process can have."""

import os
import subprocess
import sys

from tests.support.places import HARNESS

PROGRAM = """
import resource
from local_sagemaker.hosting.open_files import allow_open_files
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, min(hard, 4096)))
print(allow_open_files(1024), allow_open_files(512), allow_open_files(10**6), min(hard, 4096))
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_the_limit_of_open_files_is_raised_as_far_as_it_may_be_and_never_lowered():
    """14.4."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(HARNESS)},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    first, second = ran.stdout.splitlines()
    *found, hard = map(int, first.split())
    assert found == [min(1024, hard), min(1024, hard), hard]
    assert second.split() == [str(hard)] * 2
