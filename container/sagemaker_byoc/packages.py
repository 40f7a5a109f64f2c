"""Packages that the user's code needs beyond the image, from a requirements.txt or a setup.py, installed by pip."""

import os
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sagemaker_byoc.child import Outcome
from sagemaker_byoc.credentials import without_credentials
from sagemaker_byoc.errors import PlatformInputError, Stopped, UserCodeError
from sagemaker_byoc.pip_failures import explain
from sagemaker_byoc.requirements import REQUIREMENTS, find_missing, installed_versions

SETUP = "setup.py"
CODE_ARTIFACT = "CA_REPOSITORY_ARN"
_NOWHERE = ("192.0.2.1", 9)  # an address for documentation: nothing is sent there
_SHOWN = 12


@dataclass(frozen=True)
class Place:
    """Where packages go: the environment's own package folder, or below `prefix` where that cannot be written to."""

    prefix: Path | None = None

    @property
    def python_path(self) -> str | None:
        """A folder to put on PYTHONPATH; None where Python looks anyway."""
        if self.prefix is None:
            return None
        scheme = sysconfig.get_preferred_scheme("prefix")
        base = str(self.prefix)
        return sysconfig.get_path("purelib", scheme, vars={"base": base, "platbase": base})

    def environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The environment for what is to find the packages."""
        if self.python_path is None:
            return dict(environ)
        folders = [self.python_path, environ.get("PYTHONPATH", "")]
        return {**environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))}


@dataclass(frozen=True)
class InstallPlan:
    """What pip has to do.

    Attributes:
        file: the requirements.txt, or the setup.py where there is no such file.
        missing: the lines that are not met, fit to be shown.
        command: pip's command line, complete; relative paths in the file are relative to the file's folder.
        place: where the packages go.
    """

    file: Path
    missing: tuple[str, ...]
    command: tuple[str, ...]
    place: Place = field(default_factory=Place)

    def environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The environment for pip: `environ`, and the index of AWS CodeArtifact if CA_REPOSITORY_ARN names one.

        Raises PlatformInputError when that index cannot be asked for.
        """
        told = {"PIP_RETRIES": "2" if _has_network() else "1", **environ}  # with 0 it does not say why
        if self.place.prefix is not None:
            told["TMPDIR"] = str(self.place.prefix.parent)  # what pip unpacks needs room as well
        if environ.get(CODE_ARTIFACT):
            told["PIP_INDEX_URL"] = _code_artifact_index(environ)
        return told


def plan_packages(
    folder: Path, *, with_setup: bool, place: Place | None = None, constraints: Path | None = None
) -> InstallPlan | None:
    """What to install for the code in this folder, or None when nothing is missing.

    `with_setup`: a setup.py in it is a package to be installed. `place` is where an earlier plan's packages went, and
    `constraints` a file with versions that pip may not change. Raises PlatformInputError where no folder can take them.
    """
    file, setup = folder / REQUIREMENTS, folder / SETUP
    packaged = with_setup and setup.is_file()
    missing = tuple(find_missing(file)) if file.is_file() else ()
    if not missing and not packaged:
        return None
    shown = tuple(map(without_credentials, missing)) or (str(folder),)
    place = place or find_place(shown)
    command = [sys.executable, "-m", "pip", "install", "--no-input", "--no-cache-dir", "--disable-pip-version-check"]
    # Not --target, with which pip installs anew what the image has already, PyTorch included.
    command += ["--prefix", str(place.prefix)] if place.prefix else []
    command += ["-c", str(constraints)] if constraints else []
    command += ["-r", str(file)] if missing else []
    # The package is the user's own and small: what builds it is in the image, and must not be fetched.
    command += ["--use-pep517", "--no-build-isolation", str(folder)] if packaged else []
    return InstallPlan(file if missing else setup, shown, tuple(command), place)


def find_place(missing: tuple[str, ...] = ()) -> Place:
    """Where packages can go. Raises PlatformInputError, naming what is `missing`, where nothing can be written to."""
    own = sysconfig.get_path("purelib")
    if _is_writable(own):
        return Place()
    import tempfile  # noqa: PLC0415 - few jobs need it

    folders = [folder for folder in (_temporary_folder(), "/var/tmp", "/dev/shm") if folder and _is_writable(folder)]  # noqa: S108
    if not folders:
        raise PlatformInputError(
            f"{', '.join(missing) or 'packages'} cannot be installed: neither the image's package folder {own} nor the "
            "temporary directory or /dev/shm can be written to. Mount a tmpfs on /tmp, or install the packages when "
            "the image is built."
        )
    # Compiled modules cannot be loaded from a file system without programs, which a tmpfs of Docker's is by itself.
    chosen = next((folder for folder in folders if not _is_noexec(folder)), folders[0])
    return Place(Path(tempfile.mkdtemp(prefix="sagemaker-byoc-packages-", dir=chosen)))


def install(plan: InstallPlan, run: Callable[[InstallPlan], Outcome]) -> None:
    """Have pip do it, by way of `run`, and say so in the log.

    Raises Stopped when the platform gives up meanwhile, UserCodeError when pip fails.
    """
    _tell(f"installing {', '.join(plan.missing)} ({plan.file})")
    before, started = installed_versions(), time.monotonic()
    outcome = run(plan)
    if outcome.stopped:
        raise Stopped(max(1, outcome.exit_code - 128))
    if outcome.exit_code != 0:
        tail = outcome.stderr_tail.decode("utf-8", errors="replace")
        raise UserCodeError(explain_failure(plan, outcome.exit_code, tail))
    _tell(f"installed in {time.monotonic() - started:.1f} s ({plan.file})")
    replaced = _replaced(before, installed_versions())
    if replaced:
        _tell(f"{plan.file} has replaced packages of the image, which others in it may need as they were: {replaced}")
    unusable = _compiled(plan.place)
    if unusable:
        _tell(
            f"{unusable} is a compiled module, and cannot be imported from a file system without programs (noexec). "
            "Mount the temporary directory with exec, or install the package when the image is built."
        )


def explain_failure(plan: InstallPlan, exit_code: int, output_tail: str) -> str:
    """Why pip failed and what to do, in a few sentences."""
    found = explain(without_credentials(output_tail), plan.place.prefix or Path(sysconfig.get_path("purelib")))
    what = found.what or ", ".join(plan.missing)
    return f"{plan.file}: {what} could not be installed (pip ended with exit code {exit_code}){found.reason}"


def _replaced(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Packages that now have another version, as `name 1.0 by 2.0`."""
    changed = [name for name, version in before.items() if after.get(name, version) != version]
    more = [f"and {len(changed) - _SHOWN} more"] if len(changed) > _SHOWN else []
    return ", ".join([f"{name} {before[name]} by {after[name]}" for name in changed[:_SHOWN]] + more)


def _compiled(place: Place) -> Path | None:
    """A compiled module among the packages, where none can be loaded."""
    if place.prefix is None or not _is_noexec(str(place.prefix)):
        return None
    return next(place.prefix.rglob("*.so"), None)


def _tell(text: str) -> None:
    print(f"sagemaker-byoc: {text}", file=sys.stderr, flush=True)


def _temporary_folder() -> str | None:
    import tempfile  # noqa: PLC0415 - few jobs need it

    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        return None


def _is_writable(folder: str) -> bool:
    return os.access(folder, os.W_OK)


def _is_noexec(folder: str) -> bool:
    return bool(os.statvfs(folder).f_flag & os.ST_NOEXEC)


def _has_network() -> bool:
    """Whether there is any way out: without one pip need not try again and again."""
    import socket  # noqa: PLC0415 - few jobs need it

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_NOWHERE)
        except OSError:
            return False
    return True


def _code_artifact_index(environ: Mapping[str, str]) -> str:
    from sagemaker_byoc.toolkit import import_toolkit  # noqa: PLC0415 - few jobs name such an index

    try:
        index: str = import_toolkit("modules")._get_codeartifact_index()  # noqa: SLF001 - the one place that has it
    except Exception as error:
        cause = error.__context__ or error  # the toolkit's own text says only that it failed
        raise PlatformInputError(
            f"{CODE_ARTIFACT} is {environ[CODE_ARTIFACT]!r}, and its index could not be asked for: {cause}. "
            "Check the name, the role's rights and the network."
        ) from error
    return index
