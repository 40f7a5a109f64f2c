"""What of the repository people use besides this package: the template of a project, and what an image is built from.

They lie in the checkout that this package is a part of; a wheel brings a copy of them.
"""

from __future__ import annotations

from pathlib import Path

from local_sagemaker.errors import UsageError

NEEDED = ("Dockerfile", "container/sagemaker_byoc", "opt_ml_template/code")


def repository_root(package: Path | None = None) -> Path:
    """The checkout, or the copy in the installed package.

    Args:
        package: the package's folder; by default this one's.

    Raises:
        UsageError: if there is neither.
    """
    package = package or Path(__file__).resolve().parent
    for root in (package.parents[1], package / "repository"):
        if all((root / part).exists() for part in NEEDED):
            return root
    raise UsageError(
        f"there is neither a template nor a Dockerfile with the package in {package}",
        "expected what its wheel brings, or a checkout of the repository",
        "install it again: `pip install --force-reinstall 'sagemaker-byoc[local]'`",
    )
