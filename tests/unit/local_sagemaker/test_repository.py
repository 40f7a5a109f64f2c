"""What a wheel brings besides the package: people who install it need no checkout."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from local_sagemaker.errors import UsageError
from local_sagemaker.image import plan_build
from local_sagemaker.repository import repository_root

from tests.support.places import REPOSITORY

PARTS = ("setup.py", "pyproject.toml", "README.md", "Dockerfile", ".dockerignore", "container", "opt_ml_template")
CONTEXT = """
import json
from local_sagemaker.image import plan_build
from local_sagemaker.repository import repository_root
plan = plan_build(repository_root(), {}, base_image="base")
print(json.dumps({name: path.stat().st_mode & 0o100 for name, path in plan.files.items()}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs Python with nothing of the checkout but what a wheel of it brings; gives its output."""
    directory = tmp_path_factory.mktemp("wheel")
    source = directory / "source"
    for name in (*PARTS, "local_test"):
        path, ignored = REPOSITORY / name, shutil.ignore_patterns("__pycache__", "*.whl")
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=ignored)
        else:
            source.mkdir(exist_ok=True)
            shutil.copy2(path, source / name)
    site = directory / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", site, source]
    subprocess.run(pip, check=True, stdin=subprocess.DEVNULL)
    shutil.rmtree(source)

    def python(*arguments: str) -> str:
        ran = subprocess.run(
            [sys.executable, "-P", *arguments],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    return python


def test_a_project_starts_from_the_template_that_the_wheel_brings(
    installed: Callable[..., str], tmp_path: Path
) -> None:
    installed("-m", "local_sagemaker", "init", str(tmp_path / "project"))
    made = {str(path.relative_to(tmp_path / "project")) for path in (tmp_path / "project").rglob("*")}
    assert made >= {"code/train.py", "code/inference.py", "prepare_data.py", ".gitignore"}
    template = REPOSITORY / "opt_ml_template/code/train.py"
    assert (tmp_path / "project/code/train.py").read_bytes() == template.read_bytes()


def test_an_image_is_built_from_the_same_files_with_a_wheel_as_with_a_checkout(installed: Callable[..., str]) -> None:
    files = plan_build(REPOSITORY, {}, base_image="base").files
    here = {
        name: path.stat().st_mode & 0o100
        for name, path in files.items()
        if path.suffix != ".whl" and ".egg-info" not in name
    }
    assert json.loads(installed("-c", CONTEXT)) == here


def test_a_package_without_its_repository_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="install it again"):
        repository_root(tmp_path / "site" / "local_sagemaker")
