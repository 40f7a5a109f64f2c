"""What can be said of an image without starting it: its configuration, and which files it has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from local_sagemaker.conformance.findings import Finding, decided, passed, skipped, violated
from local_sagemaker.conformance.rule import CAPABILITIES, LABEL_PREFIX

GB = 1024**3
SERVERLESS_BYTES = 10 * GB
LONGEST_REFERENCE = 255
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHELL = re.compile(r"(.*/)?(ba|da|a)?sh")
DRIVER = "libcuda.so.1"
LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib/aarch64-linux-gnu")
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
SHOWN = 5


class Files(Protocol):
    """The files of an image."""

    def mode(self, path: str) -> int | None:
        """The permissions of a file, its links followed; None if there is none."""

    def names(self, path: str) -> list[str]:
        """The files below a folder, by their paths in it; none if there is no folder."""


def capabilities(inspected: Mapping[str, Any]) -> frozenset[str]:
    """What the image's labels promise."""
    labels = inspected["Config"].get("Labels") or {}
    return frozenset(name for name in CAPABILITIES if labels.get(LABEL_PREFIX + name) == "true")


def examine_image(reference: str, inspected: Mapping[str, Any], files: Files) -> Iterator[Finding]:
    """Every rule about the image itself.

    Args:
        reference: as it would be written in CreateTrainingJob.
        inspected: as ``docker image inspect`` tells it.
        files: what is in it.
    """
    config = inspected["Config"]
    environment = dict(pair.split("=", 1) for pair in config.get("Env") or () if "=" in pair)
    entry_point = config.get("Entrypoint") or []
    yield from _entry_point(entry_point)
    folders = environment.get("PATH", DEFAULT_PATH).split(":")
    yield from _commands(entry_point, folders, files)
    yield _platform(inspected)
    user = config.get("User") or "root"
    yield decided("BYOC-I006", user.split(":")[0] in {"root", "0"}, f"USER is {user}")
    yield _baked(files)
    drivers = [f"{folder}/{DRIVER}" for folder in LIBRARIES if files.mode(f"{folder}/{DRIVER}") is not None]
    yield decided("BYOC-I008", not drivers, *(f"there is {path}" for path in drivers))
    yield _labels(config.get("Labels") or {})
    fits = len(reference) <= LONGEST_REFERENCE and not re.search(r"\s", reference)
    yield decided("BYOC-I010", fits, f"{len(reference)} characters: {reference[:80]}")
    yield _manifest(inspected)
    yield decided("BYOC-I012", bool(entry_point or config.get("Cmd")), "there is neither ENTRYPOINT nor CMD")
    yield _tools(folders, files)
    named = [name for name in SECRETS if name in environment]
    yield decided("BYOC-I014", not named, *(f"ENV {name} is set" for name in named))
    size = int(inspected.get("Size") or 0)
    yield decided("BYOC-I015", size <= SERVERLESS_BYTES, f"{size / GB:.1f} GB")


def _entry_point(entry_point: list[str]) -> Iterator[Finding]:
    written = f"ENTRYPOINT is {entry_point}"
    is_shell = len(entry_point) > 1 and SHELL.fullmatch(entry_point[0]) is not None and entry_point[1] == "-c"
    yield decided("BYOC-I001", not is_shell, written)
    is_tini = any(word.rpartition("/")[2].startswith("tini") for word in entry_point[:1])
    yield decided("BYOC-I002", not is_tini, written)


def _commands(entry_point: list[str], folders: list[str], files: Files) -> Iterator[Finding]:
    for rule, command in (("BYOC-I003", "train"), ("BYOC-I004", "serve")):
        if entry_point:
            # Whether it dispatches can only be seen by starting it.
            yield passed(rule, f"ENTRYPOINT {entry_point} gets the argument {command}")
            continue
        where = _found(command, folders, files)
        if where is None:
            yield violated(rule, f"no ENTRYPOINT, and no file {command} in {':'.join(folders)}")
        else:
            mode = files.mode(where) or 0
            yield decided(rule, bool(mode & 0o111), f"{where} has the permissions {mode & 0o777:o}")


def _found(command: str, folders: list[str], files: Files) -> str | None:
    paths = [f"{folder.rstrip('/')}/{command}" for folder in folders if folder]
    return next((path for path in paths if files.mode(path) is not None), None)


def _platform(inspected: Mapping[str, Any]) -> Finding:
    found = f"{inspected.get('Os')}/{inspected.get('Architecture')}"
    return decided("BYOC-I005", found == "linux/amd64", f"the platform is {found}")


def _baked(files: Files) -> Finding:
    lost = [name for name in files.names("/opt/ml") if not name.startswith("code/")]
    shown = [f"/opt/ml/{name}" for name in lost[:SHOWN]]
    more = [f"and {len(lost) - SHOWN} more"] if len(lost) > SHOWN else []
    return decided("BYOC-I007", not lost, *shown, *more)


def _labels(labels: Mapping[str, str]) -> Finding:
    ours = {name: value for name, value in labels.items() if name.startswith(LABEL_PREFIX)}
    wrong = [f"LABEL {name}={value}" for name, value in ours.items() if value not in {"true", "false", ""}]
    unknown = [f"LABEL {name} is none" for name in ours if name.removeprefix(LABEL_PREFIX) not in CAPABILITIES]
    return decided("BYOC-I009", not (wrong or unknown), *wrong, *unknown)


def _manifest(inspected: Mapping[str, Any]) -> Finding:
    media_type = (inspected.get("Descriptor") or {}).get("mediaType")
    if media_type is None:
        return skipped("BYOC-I011", "this engine keeps no manifest: it is made by the push; `byoc push` makes it right")
    return decided("BYOC-I011", media_type == DOCKER_MANIFEST, f"the media type is {media_type}")


def _tools(folders: list[str], files: Files) -> Finding:
    wanted = (("bash",), ("python3", "python"), ("pip", "pip3"))
    missing = [names[0] for names in wanted if not any(_found(name, folders, files) for name in names)]
    return decided("BYOC-I013", not missing, f"not on PATH: {', '.join(missing)}")
