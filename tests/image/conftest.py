"""The image under test: built once a run, by the same code that `byoc build` runs."""

import os
import sys
from collections.abc import Iterator

import pytest

from tests.support.docker import LABEL, docker
from tests.support.places import REPOSITORY


@pytest.fixture(scope="session")
def image() -> Iterator[str]:
    """The image of this checkout; BYOC_TEST_IMAGE names one that was built already. No container of ours stays."""
    named = os.environ.get("BYOC_TEST_IMAGE")
    yield named or _build()
    left = docker("ps", "-aq", "--filter", f"label={LABEL}").split()
    if left:
        docker("rm", "-f", "-v", *left)


def _build() -> str:
    sys.path.insert(0, str(REPOSITORY / "local_test"))
    from local_sagemaker.image import build_image

    tag = "sagemaker-byoc:tests"
    build_image(tag)
    return tag
