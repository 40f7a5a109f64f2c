"""The base image, made from Debian packages alone, for machines that reach no image registry.

``mmdebstrap`` writes a root file system to ``docker import``. Debian's mirror and the machine's extra CA certificates
are taken from the machine itself, so nothing about a network is written down here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from local_sagemaker.errors import BuildFailedError, EngineMissingError
from local_sagemaker.progress import silent

BASE_IMAGE_TAG = "sagemaker-byoc-base:bookworm"
SUITE = "bookworm"
EXTRA_CA_DIR = Path("/usr/local/share/ca-certificates")
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
PACKAGES = ("ca-certificates", "python3", "python3-venv")
# Documentation and translations make up a sixth of the tree and nothing in a container reads them.
EXCLUDED_PATHS = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
WHEELS = "/usr/share/python-wheels"
INSTALL_PIP = (
    f'PYTHONPATH="$(echo {WHEELS}/pip-*.whl)" python3 -m pip install '
    f"--no-index --no-compile --find-links {WHEELS} pip setuptools"
)
MEMORY_DIR = Path("/dev/shm")  # noqa: S108 - mmdebstrap makes a private folder below it
PIP_CONF = f"[global]\ncert = {CA_BUNDLE}\ndisable-pip-version-check = true\nroot-user-action = ignore\n"


@dataclass(frozen=True)
class BaseImagePlan:
    """The two commands that make the base image: a root file system on stdout, and its import from stdin."""

    tag: str
    bootstrap: tuple[str, ...]
    import_: tuple[str, ...]


def debian_sources(indextargets: str, suite: str = SUITE) -> tuple[str, ...]:
    """Turn the output of ``apt-get indextargets`` (lines "URI CODENAME COMPONENT") into sources.list lines.

    Raises:
        EngineMissingError: if this machine's apt knows no mirror of the suite.
    """
    wanted = (suite, f"{suite}-updates", f"{suite}-security")
    found: dict[str, str] = {}
    for line in indextargets.splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[1] in wanted and fields[2] == "main":
            found.setdefault(fields[1], fields[0])
    if suite not in found:
        raise EngineMissingError(
            f"apt on this machine knows no mirror of Debian {suite}",
            f"expected a 'deb ... {suite} main' line whose index is downloaded",
            "run `apt-get update` on a Debian 12 machine, or name a base image with `byoc build --base-image IMAGE`",
        )
    return tuple(f"deb {found[name]} {name} main" for name in wanted if name in found)


def plan_base_image(
    sources: tuple[str, ...], certificates: tuple[Path, ...], pip_conf: Path, docker: str, tag: str = BASE_IMAGE_TAG
) -> BaseImagePlan:
    """Write out the bootstrap and import commands, without running them."""
    hooks = ['mkdir -p "$1/usr/local/share/ca-certificates"']
    hooks += [f'install -m 0644 "{path}" "$1/usr/local/share/ca-certificates/{path.name}"' for path in certificates]
    hooks += [
        'chroot "$1" update-ca-certificates',
        'rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED',
        'ln -sf /usr/bin/python3 "$1/usr/local/bin/python3"',
        'ln -sf /usr/bin/python3 "$1/usr/local/bin/python"',
        f'install -m 0644 "{pip_conf}" "$1/etc/pip.conf"',
        # Debian switches ensurepip off but ships its wheels, so pip installs itself without a download.
        f"chroot \"$1\" sh -c '{INSTALL_PIP}'",
        'rm -rf "$1"/root/.cache "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin',
    ]
    bootstrap = [
        "mmdebstrap",
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
        '--aptopt=Acquire::Languages "none"',
        # A container's clock may lag behind the mirror's; the signature is still checked.
        '--aptopt=Acquire::Check-Date "false"',
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED_PATHS),
        *(f"--customize-hook={hook}" for hook in hooks),
        SUITE,
        "-",
        *sources,
    ]
    import_ = [docker, "import"]
    for change in (
        "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "ENV LANG=C.UTF-8",
        f"ENV PIP_CERT={CA_BUNDLE}",
        f"ENV SSL_CERT_FILE={CA_BUNDLE}",
        'CMD ["python3"]',
    ):
        import_ += ["--change", change]
    return BaseImagePlan(tag, tuple(bootstrap), (*import_, "-", tag))


def require_bootstrap_tools() -> str:
    """Check that this machine can bootstrap Debian; returns the docker command line client.

    Raises:
        EngineMissingError: naming the missing tool and how to install it.
    """
    if shutil.which("apt-get") is None:
        raise EngineMissingError(
            "this machine has no apt-get, so a base image cannot be made from Debian packages",
            "expected Debian 12 or a system derived from it",
            "name a base image that you have instead: `byoc build --base-image IMAGE`",
        )
    if shutil.which("mmdebstrap") is None:
        raise EngineMissingError(
            "mmdebstrap is not installed",
            "it makes the base image from Debian packages",
            "run `apt-get install mmdebstrap`, or name a base image: `byoc build --base-image IMAGE`",
        )
    if os.geteuid() != 0:
        raise EngineMissingError(
            f"bootstrapping Debian needs root, and this is user {os.geteuid()}",
            "mmdebstrap changes root into the new file system",
            "run `sudo byoc base-image` once, or name a base image: `byoc build --base-image IMAGE`",
        )
    docker = shutil.which("docker")
    if docker is None:
        raise EngineMissingError(
            "the docker command is not on PATH",
            "it imports and builds images",
            "install Docker (Debian: `apt-get install docker.io`)",
        )
    return docker


def bootstrap_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for the bootstrap: pip's own settings name folders that the new file system does not have."""
    clean = {key: value for key, value in environ.items() if not key.startswith("PIP_")}
    if MEMORY_DIR.is_dir():
        clean["TMPDIR"] = str(MEMORY_DIR)  # spares thousands of disk syncs while packages unpack
    return clean


def plan_for_this_machine(pip_conf: Path, tag: str = BASE_IMAGE_TAG) -> BaseImagePlan:
    """The commands that make the base image here, from this machine's mirror and certificates.

    Raises:
        EngineMissingError: if a tool, root or the mirror is missing.
    """
    docker = require_bootstrap_tools()
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    certificates = tuple(sorted(EXTRA_CA_DIR.glob("*.crt")))
    return plan_base_image(debian_sources(listing.stdout), certificates, pip_conf, docker, tag)


def build_base_image(tag: str = BASE_IMAGE_TAG, report: Callable[[str], None] = silent) -> str:
    """Bootstrap Debian, import it under ``tag`` and return the tag. Takes about a minute.

    Args:
        tag: the name of the image to make.
        report: called with one line per step, for the user to follow.

    Raises:
        EngineMissingError: if a tool, root or the mirror is missing.
        BuildFailedError: if the bootstrap or the import fails; carries the last lines of its log.
    """
    with tempfile.TemporaryDirectory(prefix="byoc-base-") as work:
        pip_conf = Path(work, "pip.conf")
        pip_conf.write_text(PIP_CONF)
        plan = plan_for_this_machine(pip_conf, tag)
        report(f"bootstrapping Debian {SUITE} with Python and pip (about a minute)")
        _pipe(plan, Path(work, "bootstrap.log"))
    report(f"imported {tag}")
    return tag


def _pipe(plan: BaseImagePlan, log: Path) -> None:
    with log.open("wb") as log_file:
        bootstrap = subprocess.Popen(
            plan.bootstrap, stdout=subprocess.PIPE, stderr=log_file, env=bootstrap_environment(os.environ)
        )
        with bootstrap:
            imported = subprocess.run(plan.import_, stdin=bootstrap.stdout, capture_output=True, text=True, check=False)
    if bootstrap.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        if imported.returncode == 0:
            # A truncated archive may import well; an image of half a system must not stay.
            subprocess.run([plan.import_[0], "image", "rm", plan.tag], capture_output=True, check=False)
        raise BuildFailedError(
            f"mmdebstrap ended with exit code {bootstrap.returncode}",
            tail,
            "check that `apt-get update` works on this machine",
        )
    if imported.returncode != 0:
        raise BuildFailedError(
            f"docker import ended with exit code {imported.returncode}",
            imported.stderr.strip(),
            "check `byoc doctor`",
        )
