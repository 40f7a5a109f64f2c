"""Building the image: a context of exactly what the Dockerfile needs, sent to ``docker build`` on standard input."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from local_sagemaker.base_image import BASE_IMAGE_TAG, build_base_image
from local_sagemaker.code_folder import CACHES
from local_sagemaker.errors import BuildFailedError, EngineMissingError, UsageError
from local_sagemaker.progress import silent
from local_sagemaker.repository import repository_root

DEFAULT_TAG = "sagemaker-byoc:latest"
OFFICIAL_BASE = "python:3.11-slim-bookworm"
PULL_SECONDS = 120
# What of the checkout the Dockerfile needs; tests, documents and virtual environments stay out.
CONTEXT_PATHS = ("Dockerfile", ".dockerignore", "container")
TEMPLATE_CODE = "opt_ml_template/code"
USER_CODE = "user_code"
WHEELS_DIR = "container/wheels"
# Values of the build argument WITH_HOROVOD.
HOROVOD_FLAVOURS = ("none", "gloo", "mpi", "nccl")
# Settings of the machine's pip that the build's pip needs as well. A file: index lies on this machine only.
PASSED_SETTINGS = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "TORCH_INDEX_URL")


@dataclass(frozen=True)
class BuildPlan:
    """A build, completely described: the command, and the files of the context by their names in it."""

    tag: str
    base_image: str
    command: tuple[str, ...]
    files: Mapping[str, Path]


def plan_build(
    root: Path,
    environ: Mapping[str, str],
    *,
    base_image: str,
    tag: str = DEFAULT_TAG,
    code: Path | None = None,
    torch_index_url: str | None = None,
    with_horovod: str = "none",
    wheels: Iterable[Path] = (),
    builder_args: Iterable[str] = (),
) -> BuildPlan:
    """Describe the build of the repository at ``root``.

    Args:
        root: the checkout, or a wheel's copy of it.
        environ: where pip's index settings come from.
        base_image: the image to begin with.
        tag: the name of the result.
        code: a code folder to bake in, instead of the template's.
        torch_index_url: the index that has torch.
        with_horovod: the Horovod to compile, one of ``HOROVOD_FLAVOURS``.
        wheels: files that pip shall find besides its index.
        builder_args: more arguments of ``docker build``.

    Raises:
        UsageError: if ``code`` is no directory, or there is no such flavour of Horovod.
    """
    if with_horovod not in HOROVOD_FLAVOURS:
        raise UsageError(
            f"there is no flavour {with_horovod!r} of Horovod", f"one of {', '.join(HOROVOD_FLAVOURS)}", "correct it"
        )
    if code is not None and not code.is_dir():
        raise UsageError(f"there is no directory {code}", "--code names a folder of Python files", "correct it")
    arguments = {"BASE_IMAGE": base_image, **passed_settings(environ)}
    if torch_index_url:
        arguments["TORCH_INDEX_URL"] = torch_index_url
    if with_horovod != "none":
        arguments["WITH_HOROVOD"] = with_horovod
    files: dict[str, Path] = {}
    for name in CONTEXT_PATHS:
        files.update(_below(root / name, name))
    if code is None:
        files.update(_below(root / TEMPLATE_CODE, TEMPLATE_CODE))
    else:
        files.update(_below(code, USER_CODE))
        arguments["CODE"] = USER_CODE
    files.update({f"{WHEELS_DIR}/{wheel.name}": wheel for wheel in wheels})
    command = ["docker", "build", "--tag", tag]
    for key, value in sorted(arguments.items()):
        command += ["--build-arg", f"{key}={value}"]
    return BuildPlan(tag, base_image, (*command, *builder_args, "-"), files)


def _below(path: Path, name: str) -> Iterator[tuple[str, Path]]:
    if path.is_file():
        yield name, path
    elif path.is_dir():
        for child in sorted(path.iterdir()):
            if child.name not in CACHES and child.suffix != ".pyc":
                yield from _below(child, f"{name}/{child.name}")


def passed_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Pick the index settings that a container can use; an address on this machine's disk is left out."""
    picked = {}
    for key in PASSED_SETTINGS:
        words = [word for word in environ.get(key, "").split() if key == "PIP_TRUSTED_HOST" or word.startswith("http")]
        if words:
            picked[key] = " ".join(words)
    return picked


def find_links_folders(environ: Mapping[str, str], pip_config: str) -> tuple[Path, ...]:
    """The local folders that this machine's pip looks for wheels in.

    Args:
        environ: may hold PIP_FIND_LINKS.
        pip_config: the output of ``pip config list``, lines such as ``global.find-links='/a /b'``.
    """
    words = environ.get("PIP_FIND_LINKS", "").split()
    for line in pip_config.splitlines():
        key, _, value = line.partition("=")
        if key.endswith(".find-links"):
            words += value.strip().strip("'\"").replace("\\n", " ").split()
    folders = (Path(word.removeprefix("file://")).expanduser() for word in words if not word.startswith("http"))
    return tuple(dict.fromkeys(folder for folder in folders if folder.is_dir()))


def torch_wheels(folders: Iterable[Path], machine: str) -> tuple[Path, ...]:
    """The torch wheels for Linux on ``machine`` (``x86_64``, ``aarch64``) in these folders, one of each name."""
    found = {wheel.name: wheel for folder in folders for wheel in sorted(folder.glob("torch-*.whl"))}
    return tuple(wheel for name, wheel in sorted(found.items()) if "linux" in name and name.endswith(f"{machine}.whl"))


def pip_configuration() -> str:
    """What ``pip config list`` says; empty where this Python has no pip."""
    asked = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    return asked.stdout if asked.returncode == 0 else ""


def image_exists(tag: str) -> bool:
    """Whether this machine's Docker engine has the image."""
    return subprocess.run(["docker", "image", "inspect", tag], capture_output=True, check=False).returncode == 0


def pull(tag: str) -> bool:
    """Try to get an image from its registry; False if that fails or takes longer than two minutes."""
    try:
        asked = subprocess.run(
            ["docker", "pull", "--quiet", tag], capture_output=True, check=False, timeout=PULL_SECONDS
        )
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0


def choose_base_image(
    given: str | None,
    exists: Callable[[str], bool] = image_exists,
    pull_image: Callable[[str], bool] = pull,
    bootstrap: Callable[[], str] = build_base_image,
    report: Callable[[str], None] = silent,
) -> str:
    """Decide what the image begins with, and see to it that this machine has it.

    In this order: the given one; the official Python image if it is here; a base made earlier from Debian packages;
    the official one from its registry; a base made now.

    Raises:
        EngineMissingError, BuildFailedError: if none can be had.
    """
    if given:
        return given
    for tag in (OFFICIAL_BASE, BASE_IMAGE_TAG):
        if exists(tag):
            return tag
    report(f"getting {OFFICIAL_BASE} from its registry")
    if pull_image(OFFICIAL_BASE):
        return OFFICIAL_BASE
    report("no registry answers, so the base is made from Debian packages (about a minute)")
    return bootstrap()


def likely_base_image(given: str | None, exists: Callable[[str], bool] = image_exists) -> str:
    """What ``choose_base_image`` begins with, without getting or making it: where none is here, the official one."""
    return given or next((tag for tag in (OFFICIAL_BASE, BASE_IMAGE_TAG) if exists(tag)), OFFICIAL_BASE)


def require_docker() -> None:
    """Raise EngineMissingError where there is no docker command."""
    if shutil.which("docker") is None:
        raise EngineMissingError(
            "the docker command is not on PATH",
            "it builds images",
            "install Docker (Debian: `apt-get install docker.io`)",
        )


def plan_image(
    base_image: str,
    *,
    tag: str = DEFAULT_TAG,
    code: Path | None = None,
    torch_index_url: str | None = None,
    with_horovod: str = "none",
    builder_args: Iterable[str] = (),
) -> BuildPlan:
    """Describe the build of this version on this machine: with its index settings, and the torch that lies here.

    Raises:
        UsageError: if there is no Dockerfile, no ``code``, or no such flavour of Horovod.
    """
    root = repository_root()
    wheels = torch_wheels(find_links_folders(os.environ, pip_configuration()), platform.machine())
    if with_horovod == "nccl":
        wheels = tuple(wheel for wheel in wheels if "+cpu" not in wheel.name)
    return plan_build(
        root,
        os.environ,
        base_image=base_image,
        tag=tag,
        code=code,
        torch_index_url=torch_index_url,
        with_horovod=with_horovod,
        wheels=wheels,
        builder_args=builder_args,
    )


def build_image(
    tag: str = DEFAULT_TAG,
    *,
    base_image: str | None = None,
    code: Path | None = None,
    torch_index_url: str | None = None,
    with_horovod: str = "none",
    builder_args: Iterable[str] = (),
    output: BinaryIO | None = None,
    report: Callable[[str], None] = silent,
) -> str:
    """Build the image of this version and return its id (``sha256:...``).

    Args:
        tag: the image's name.
        base_image: what to begin with; see ``choose_base_image``.
        code: a code folder to bake in, instead of the template's.
        torch_index_url: the index that has torch.
        with_horovod: the Horovod to compile, one of ``HOROVOD_FLAVOURS``.
        builder_args: more arguments of ``docker build``.
        output: where the builder's own output goes.
        report: called with one line per step.

    Raises:
        EngineMissingError: if there is no docker command or no base image.
        BuildFailedError: if the build fails; carries its last lines.
        UsageError: if there is no Dockerfile, no ``code``, or no such flavour of Horovod.
    """
    require_docker()
    plan = plan_image(
        choose_base_image(base_image, report=report),
        tag=tag,
        code=code,
        torch_index_url=torch_index_url,
        with_horovod=with_horovod,
        builder_args=builder_args,
    )
    wheels = [name.removeprefix(f"{WHEELS_DIR}/") for name in plan.files if name.endswith(".whl")]
    report(f"building {tag} on {plan.base_image}" + "".join(f", with {wheel}" for wheel in wheels))
    run_build(plan, output)
    asked = subprocess.run(["docker", "image", "inspect", tag], capture_output=True, text=True, check=True)
    return str(json.loads(asked.stdout)[0]["Id"])


def run_build(plan: BuildPlan, output: BinaryIO | None = None) -> None:
    """Send the context and follow the build.

    Raises:
        BuildFailedError: if it fails; carries its last lines.
        UsageError: if a file of the context cannot be read.
    """
    lines: list[bytes] = []
    with subprocess.Popen(
        plan.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as build:
        if build.stdin is None or build.stdout is None:
            raise BuildFailedError("docker build has no standard input or output")
        unsent: list[OSError] = []
        sender = threading.Thread(target=_send, args=(plan.files, build.stdin, unsent), name="context", daemon=True)
        sender.start()
        for line in build.stdout:
            lines = [*lines[-29:], line]
            if output is not None:
                output.write(line)
                output.flush()
        sender.join()
    if unsent:
        raise UsageError(
            f"{unsent[0].filename or 'a file'} cannot be sent to docker build: {unsent[0].strerror or unsent[0]}",
            "expected files that can be read, and that nobody changes meanwhile",
            "give yourself the right to it, or take it out of the code folder, and build again",
        )
    if build.returncode != 0:
        raise BuildFailedError(
            f"docker build of {plan.tag} ended with exit code {build.returncode}",
            b"".join(lines).decode(errors="replace").rstrip(),
            "`byoc doctor` checks what a build needs",
        )


def _send(files: Mapping[str, Path], pipe: BinaryIO, unsent: list[OSError]) -> None:
    # A builder that gives up early closes the pipe; its own message says why.
    try:
        with suppress(BrokenPipeError), pipe:
            write_context(files, pipe)
    except OSError as error:
        unsent.append(error)


def write_context(files: Mapping[str, Path], stream: BinaryIO) -> None:
    """Write the files as a tar archive that is the same for the same contents, so that the builder's cache holds."""
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for name, path in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            status = path.stat()
            entry.mode = 0o755 if status.st_mode & 0o100 else 0o644
            entry.size = status.st_size
            with path.open("rb") as content:
                tar.addfile(entry, content)
