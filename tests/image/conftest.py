"""The image under test: built once a run, by the same code that `byoc build` runs."""

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.support.docker import LABEL, LABEL_OF_ANY_RUN, docker
from tests.support.places import REPOSITORY

BUILDING_SECONDS = 1800
COMPILING_SECONDS = 2700
# In the tags, because two checkouts may be tested at once by one engine.
CHECKOUT = sha256(os.fsencode(REPOSITORY)).hexdigest()[:8]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whichever test asks for an image first waits until it is built, with Horovod until that is compiled."""
    for item in items:
        names = getattr(item, "fixturenames", ())
        if "horovod_image" in names or "image" in names:
            item.add_marker(pytest.mark.timeout(COMPILING_SECONDS if "horovod_image" in names else BUILDING_SECONDS))


@pytest.fixture(scope="session")
def image() -> Iterator[str]:
    """The image of this checkout; BYOC_TEST_IMAGE names one that was built already. No container of ours stays."""
    # Networks that runs have left which were cut off use up the engine's addresses, some thirty.
    old = ["--filter", f"label={LABEL_OF_ANY_RUN}", "--filter", "until=6h"]
    subprocess.run(["docker", "network", "prune", "--force", *old], capture_output=True, check=False)
    named = os.environ.get("BYOC_TEST_IMAGE")
    yield named or _build(f"sagemaker-byoc:tests-{CHECKOUT}")
    left = docker("ps", "-aq", "--filter", f"label={LABEL}").split()
    if left:
        docker("rm", "-f", "-v", *left)


@pytest.fixture(scope="session")
def horovod_image(image: str) -> str:
    """The same with Horovod and MPI; BYOC_TEST_HOROVOD_IMAGE names one that was built already.

    It is built after ``image``, whose layers it shares, and takes minutes.
    """
    return os.environ.get("BYOC_TEST_HOROVOD_IMAGE") or _build(
        f"sagemaker-byoc:tests-{CHECKOUT}-horovod", with_horovod="mpi"
    )


def _build(tag: str, with_horovod: str = "none") -> str:
    sys.path.insert(0, str(REPOSITORY / "local_test"))
    from local_sagemaker.image import build_image

    lock = Path(tempfile.gettempdir(), f"{tag.replace(':', '-')}-{os.getuid()}.lock")
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # two processes of tests want the same image: the second finds all layers
        build_image(tag, with_horovod=with_horovod)
    return tag
