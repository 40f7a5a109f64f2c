"""Starting a project: a copy of the repository's template."""

from __future__ import annotations

import shutil
from pathlib import Path

from local_sagemaker.errors import UsageError
from local_sagemaker.repository import repository_root

TEMPLATE = "opt_ml_template"
IGNORED = ("__pycache__", "*.pyc", ".byoc", "*.npz")


def template_directory() -> Path:
    """Where the template lies.

    Raises:
        UsageError: if the package was installed without it.
    """
    return repository_root() / TEMPLATE


def init_project(target: Path, *, force: bool = False) -> Path:
    """Copy the template to ``target`` and return its absolute path.

    Args:
        target: the project directory to make.
        force: copy into a directory that has files already; those of the same names are replaced.

    Raises:
        UsageError: if ``target`` is a file, or a directory with files.
    """
    target = target.expanduser().resolve()
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file", "expected a new or empty directory", "choose another name")
    if target.is_dir() and any(target.iterdir()) and not force:
        raise UsageError(
            f"{target} is not empty", "expected a new or empty directory", "choose another, or --force to copy over it"
        )
    shutil.copytree(template_directory(), target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*IGNORED))
    return target
