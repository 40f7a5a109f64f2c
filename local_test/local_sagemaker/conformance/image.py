"""What can be said of an image without starting it: its configuration, and which files it has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Protocol

from local_sagemaker.conformance.findings import Finding, decided, passed, skipped, violated
from local_sagemaker.conformance.rule import CAPABILITIES, LABEL_PREFIX, ROLES, Role

GB = 1024**3
SERVERLESS_BYTES = 10 * GB
LONGEST_REFERENCE = 255
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHELL = re.compile(r"(.*/)?(ba|da|a|z|k)?sh")
SHELL_COMMAND = re.compile(r"-[a-z]*c")
# A shell that is replaced by the program is no process 1.
REPLACED = re.compile(r"(^|[;&\n])\s*exec\s")
DRIVER = "libcuda.so.1"
LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib/aarch64-linux-gnu")
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
SHOWN = 5


class Files(Protocol):
    """The files of an image."""

    def mode(self, path: str) -> int | None:
        """The permissions of a file, its links followed; None if there is none."""

    def start(self, path: str) -> bytes | None:
        """The first bytes of a file, its links followed; None if there is none."""

    def names(self, path: str) -> list[str]:
        """The files below a folder, by their paths in it; none if there is no folder."""


def capabilities(inspected: Mapping[str, Any]) -> frozenset[str]:
    """What the image's labels promise."""
    labels = inspected["Config"].get("Labels") or {}
    return frozenset(name for name in CAPABILITIES if labels.get(LABEL_PREFIX + name) == "true")


def find_roles(inspected: Mapping[str, Any], files: Files) -> frozenset[Role]:
    """What an image can be for: both where it has an entry point, else what it has files for; both without any."""
    if inspected["Config"].get("Entrypoint"):
        return frozenset(ROLES)
    folders = _folders(inspected)
    return frozenset(role for role in ROLES if _found(role, folders, files) is not None) or frozenset(ROLES)


def examine_image(reference: str, inspected: Mapping[str, Any], files: Files) -> Iterator[Finding]:
    """Every rule about the image itself.

    Args:
        reference: as it would be written in CreateTrainingJob.
        inspected: as ``docker image inspect`` tells it.
        files: what is in it.
    """
    config = inspected["Config"]
    entry_point = config.get("Entrypoint") or []
    yield from _entry_point(entry_point)
    folders = _folders(inspected)
    yield from _commands(entry_point, folders, files)
    yield _start(_started(entry_point, str(config.get("WorkingDir") or "/"), folders, files), folders, files)
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
    named = [name for name in SECRETS if name in _environment(inspected)]
    yield decided("BYOC-I014", not named, *(f"ENV {name} is set" for name in named))
    size = int(inspected.get("Size") or 0)
    yield decided("BYOC-I015", size <= SERVERLESS_BYTES, f"{size / GB:.1f} GB")


def _environment(inspected: Mapping[str, Any]) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in inspected["Config"].get("Env") or () if "=" in pair)


def _folders(inspected: Mapping[str, Any]) -> list[str]:
    return _environment(inspected).get("PATH", DEFAULT_PATH).split(":")


def _entry_point(entry_point: list[str]) -> Iterator[Finding]:
    written = f"ENTRYPOINT is {entry_point}"
    yield decided("BYOC-I001", not _is_shell_form(entry_point), written)
    is_tini = any(word.rpartition("/")[2].startswith("tini") for word in entry_point[:1])
    yield decided("BYOC-I002", not is_tini, written)


def _is_shell_form(entry_point: list[str]) -> bool:
    """Whether a shell reads the command: also one of the SHELL instruction, with options of its own."""
    if not entry_point or SHELL.fullmatch(entry_point[0]) is None:
        return False
    place = next((place for place, word in enumerate(entry_point) if place and SHELL_COMMAND.fullmatch(word)), None)
    return place is not None and not any(REPLACED.search(word) for word in entry_point[place + 1 :])


def _started(entry_point: list[str], folder: str, folders: list[str], files: Files) -> list[str]:
    """The files that can be process 1."""
    if not entry_point:
        return [path for role in ROLES if (path := _found(role, folders, files)) is not None]
    word = entry_point[0]
    return [str(PurePosixPath(folder, word)) if "/" in word else _found(word, folders, files) or word]


def _start(paths: list[str], folders: list[str], files: Files) -> Finding:
    """Whether the kernel can start the files; Docker's own words for it name neither the line nor the interpreter."""
    if not paths:
        return skipped("BYOC-I016", "there is nothing to start: BYOC-I003, BYOC-I004")
    wrong = [f"{path}: {trouble}" for path in paths if (trouble := _trouble(path, folders, files))]
    return decided("BYOC-I016", not wrong, *wrong)


def _trouble(path: str, folders: list[str], files: Files) -> str:
    head = files.start(path)
    if head is None:
        return "there is no such file"
    if not head.startswith(b"#!"):
        is_text = b"\0" not in head
        return "it is a text without #! in its first line" if is_text else ""
    line = head[2:].partition(b"\n")[0].decode(errors="replace")
    if line.endswith("\r"):
        return f"its first line ends with a carriage return: #!{line.strip()}"
    words = line.split()
    if not words or files.mode(words[0]) is None:
        return f"there is no interpreter {line.strip() or '(empty)'}"
    named = next((word for word in words[1:] if not word.startswith("-") and "=" not in word), None)
    if words[0].endswith("/env") and named and _found(named, folders, files) is None:
        return f"its interpreter {named} is not on PATH"
    return ""


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
