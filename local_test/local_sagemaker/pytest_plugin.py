"""Fixtures for the tests of people's own projects: the image, a training job that has run, an endpoint that answers.

Importing this costs nothing: what the fixtures need is imported when one of them is asked for.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from local_sagemaker.engines import Engine
    from local_sagemaker.testing import FinishedJob, TestEndpoint


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which image, and how it runs."""
    group = parser.getgroup("byoc", "SageMaker on this machine")
    group.addoption("--byoc-image", metavar="TAG", help="The image to test; by default it is built from the project.")
    group.addoption(
        "--byoc-engine",
        choices=["auto", "docker", "process"],
        default="auto",
        help="How containers run; auto is docker where it answers.",
    )
    group.addoption(
        "--byoc-project",
        metavar="DIR",
        type=Path,
        help="The project with the folder code; by default pytest's root directory.",
    )


@contextmanager
def _told_without_a_traceback() -> Iterator[None]:
    """What this machine lacks is no fault of a line of ours: the test's error is its words alone."""
    from local_sagemaker.errors import LocalSageMakerError  # noqa: PLC0415

    try:
        yield
    except LocalSageMakerError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def byoc_project(pytestconfig: pytest.Config) -> Path:
    """The project directory: ``--byoc-project``, or pytest's root directory."""
    return Path(pytestconfig.getoption("--byoc-project") or pytestconfig.rootpath).resolve()


@pytest.fixture(scope="session")
def byoc_engine(pytestconfig: pytest.Config) -> Iterator[Engine]:
    """What runs containers; whatever of this run is left at the end is removed, and what a killed run left before."""
    from local_sagemaker.testing import clean_engine  # noqa: PLC0415 - paid for by those who ask

    with _told_without_a_traceback(), clean_engine(pytestconfig.getoption("--byoc-engine")) as engine:
        yield engine


@pytest.fixture(scope="session")
def byoc_image(pytestconfig: pytest.Config, byoc_engine: Engine, byoc_project: Path) -> str:
    """The image's tag: ``--byoc-image``, or one that is built from the project's Dockerfile, or from its code."""
    from local_sagemaker.testing import find_or_build_image  # noqa: PLC0415

    with _told_without_a_traceback():
        return find_or_build_image(byoc_engine, pytestconfig.getoption("--byoc-image"), byoc_project)


@pytest.fixture(scope="session")
def byoc_training_job(
    byoc_engine: Engine, byoc_image: str, byoc_project: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., FinishedJob]:
    """A function that runs a training job to its end; see ``local_sagemaker.testing.TrainingJobs``."""
    from local_sagemaker.testing import TrainingJobs  # noqa: PLC0415

    return TrainingJobs(byoc_engine, byoc_image, byoc_project, lambda: tmp_path_factory.mktemp("byoc-job"))


@pytest.fixture(scope="session")
def byoc_endpoint(
    byoc_engine: Engine, byoc_image: str, byoc_project: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., TestEndpoint]]:
    """A function that starts an endpoint; all of them end with the tests. See ``local_sagemaker.testing.Endpoints``."""
    from local_sagemaker.testing import Endpoints  # noqa: PLC0415

    with Endpoints(
        byoc_engine, byoc_image, byoc_project, lambda: tmp_path_factory.mktemp("byoc-endpoint")
    ) as endpoints:
        yield endpoints
