"""Packages that a model's code needs beyond the image: installed before any worker starts, or, where there are many
models, as one that needs them is loaded.

Many models share one set of packages, as they share one Python: what one of them brings, all may import, and none may
change the version of what is there.
"""

import logging
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from sagemaker_byoc import child
from sagemaker_byoc.child import Outcome
from sagemaker_byoc.errors import DeadlineExceeded, PlatformInputError
from sagemaker_byoc.packages import InstallPlan, Place, find_place, install, plan_packages
from sagemaker_byoc.requirements import REQUIREMENTS, installed_versions
from sagemaker_byoc.serving.settings import ServeSettings

STOP_SECONDS = 5.0  # what pip gets to clean up
PREFIX = "BYOC_PACKAGES_PREFIX"  # set by the supervisor for the workers of many models, not by users
_VERSION = r"\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?(\+[a-z0-9.]+)?"
log = logging.getLogger(__name__)


def install_for_endpoint(settings: ServeSettings, environ: Mapping[str, str]) -> dict[str, str]:
    """Install what lies beside the code and is missing; returns the environment in which it is found.

    To be called inside `processes.blocked_signals`. Raises UserCodeError when pip fails, PlatformInputError where there
    is no place for packages, Stopped when the platform gives up meanwhile.
    """
    place: Place | None = None
    for folder in _folders_with_requirements(settings) if settings.install_requirements else []:
        plan = plan_packages(folder, with_setup=False, place=place)
        if plan is None:
            continue
        install(plan, lambda plan: child.run(plan.command, plan.environ(environ), plan.file.parent, STOP_SECONDS))
        place = plan.place
        if place.python_path and place.python_path not in sys.path:
            sys.path.insert(0, place.python_path)  # the next file may name the same package
    if settings.multi_model:
        place = place or _place_for_later()
    if place is None or place.prefix is None:
        return dict(environ)
    return {**place.environ(environ), PREFIX: str(place.prefix)}


class ModelPackages:
    """What the models of one container bring. To be used by one worker at a time, with the registry's lock held."""

    def __init__(self, settings: ServeSettings, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self._settings = settings
        self._folder = folder
        self._environ = os.environ if environ is None else environ

    def provide(self, name: str, settings: ServeSettings) -> None:
        """Install what the code of one model, whose folders `settings` has, asks for and nobody has brought yet.

        Raises UserCodeError when that is not to be had, or not without changing what is there, PlatformInputError where
        there is no place for packages, and DeadlineExceeded.
        """
        if not settings.install_requirements:
            return
        prefix = self._environ.get(PREFIX)
        for folder in _folders_with_requirements(settings):
            plan = plan_packages(
                folder, with_setup=False, place=Place(Path(prefix)) if prefix else None, constraints=self._constraints
            )
            if plan is not None:
                self._write_constraints()
                install(plan, lambda plan: self._run(name, plan))

    @property
    def _constraints(self) -> Path:
        return self._folder / "constraints.txt"

    def _write_constraints(self) -> None:
        pinned = [f"{name}=={version}\n" for name, version in installed_versions().items() if _is_plain(version)]
        self._constraints.write_text("".join(pinned), encoding="utf-8")

    def _run(self, name: str, plan: InstallPlan) -> Outcome:
        """In a worker, which takes no signals away from its server."""
        seconds = self._settings.model_load_timeout
        try:
            done = subprocess.run(
                plan.command,
                env=plan.environ(self._environ),
                cwd=plan.file.parent,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DeadlineExceeded(
                f"the packages of model {name!r} were not installed within {seconds:g} s (BYOC_MODEL_LOAD_TIMEOUT)."
            ) from None
        sys.stderr.write(done.stderr.decode("utf-8", errors="replace"))
        return Outcome(done.returncode, done.stderr)


def _folders_with_requirements(settings: ServeSettings) -> list[Path]:
    """A model's own folder may hold a requirements.txt that has to do with something else: only beside the program."""
    return [
        folder
        for folder in settings.own_folders
        if (folder / REQUIREMENTS).is_file()
        and (folder != settings.paths.model or (folder / settings.program).is_file())
    ]


def _place_for_later() -> Place | None:
    try:
        return find_place()
    except PlatformInputError:
        return None  # told when a model brings packages


def _is_plain(version: str) -> bool:
    return re.fullmatch(_VERSION, version) is not None
