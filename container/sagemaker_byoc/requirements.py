"""Which lines of a requirements.txt the image does not meet: a look into the package folders, and no pip at all."""

import importlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

REQUIREMENTS = "requirements.txt"
_SIMPLE = r"(?P<name>[A-Za-z0-9][\w.-]*?)\s*(?P<limits>((==|>=|<=|!=|<|>)\s*\d+(\.\d+)*\s*(,\s*|$))*)"
_RELEASE = r"\d+(\.\d+)*"
_COMMENT = r"(^|\s)#.*$"
_HASH = r"\s--hash[= ]\S+"
_INCLUDE = r"(?:-r\s*|--requirement[= ]\s*)(?P<file>\S+)"
# Options that say where packages come from, not which.
_WHERE = r"(-i|-f|--(index-url|extra-index-url|find-links|no-index|trusted-host|prefer-binary|pre)\b)"


def find_missing(file: Path, seen: frozenset[Path] = frozenset()) -> Iterator[str]:
    """The lines of a requirements file that are not met, or that only pip can judge."""
    installed = installed_versions()
    try:
        lines = _logical_lines(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError):
        yield f"-r {file}"  # pip says what is wrong with it
        return
    for line in lines:
        included = re.fullmatch(_INCLUDE, line)
        if included:
            path = file.parent / included["file"]
            if path.resolve() not in seen:
                yield from find_missing(path, seen | {file.resolve()})
        elif not re.match(_WHERE, line) and not _is_met(re.sub(_HASH, "", line).strip(), installed):
            yield line


def _logical_lines(text: str) -> list[str]:
    """Lines without comments, those that end in a backslash joined with the next."""
    lines = (re.sub(_COMMENT, "", line).strip() for line in text.replace("\\\n", " ").splitlines())
    return [line for line in lines if line]


def installed_versions() -> dict[str, str]:
    """Version of each installed distribution, by normalized name: the names of its metadata folders have both."""
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208 - names are enough, and this is on every start
        except OSError:
            continue
        for name in names:
            if name.endswith(".dist-info"):
                distribution, _, version = name.removesuffix(".dist-info").partition("-")
                found.setdefault(_normalize(distribution), version)
    return found


def _normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_met(line: str, installed: Mapping[str, str]) -> bool:
    """Plain names and plain versions are compared here; the rest is for `packaging`, which takes long to import."""
    simple = re.fullmatch(_SIMPLE, line)
    if simple:
        version = installed.get(_normalize(simple["name"]))
        if version is None or not simple["limits"]:
            return version is not None
        version = version.partition("+")[0]  # limits without a local part, such as +cpu, ignore one
        if re.fullmatch(_RELEASE, version):
            limits = re.findall(r"([=<>!]+)\s*([\d.]+)", simple["limits"])
            return all(_holds(version, operator, limit) for operator, limit in limits)
    return _is_met_for_packaging(line)


def _holds(version: str, operator: str, limit: str) -> bool:
    have, want = ([int(part) for part in text.split(".")] for text in (version, limit))
    length = max(len(have), len(want))
    have, want = (numbers + [0] * (length - len(numbers)) for numbers in (have, want))
    return {
        "==": have == want,
        "!=": have != want,
        ">=": have >= want,
        "<=": have <= want,
        ">": have > want,
        "<": have < want,
    }[operator]


def _is_met_for_packaging(line: str) -> bool:
    """Whether a requirement with markers, extras or any version is met. What it cannot read is pip's to judge."""
    packaging = _import_packaging()
    if packaging is None:
        return False
    try:
        return _is_requirement_met(packaging.Requirement(line), packaging, extra="", depth=0)
    except packaging.InvalidRequirement:
        return False


def _is_requirement_met(requirement: Any, packaging: Any, extra: str, depth: int) -> bool:
    from importlib import metadata  # noqa: PLC0415 - slow, and needed for few files

    if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
        return True
    if requirement.url or depth > 10:
        return False
    try:
        distribution = metadata.distribution(requirement.name)
    except metadata.PackageNotFoundError:
        return False
    if not requirement.specifier.contains(distribution.version, prereleases=True):
        return False
    needs = [packaging.Requirement(text) for text in distribution.requires or [] if requirement.extras]
    return all(
        _is_requirement_met(need, packaging, asked, depth + 1)
        for asked in requirement.extras
        for need in needs
        if need.marker and "extra" in str(need.marker)
    )


def _import_packaging() -> Any:
    """`packaging.requirements`, or pip's own copy of it; None where there is neither."""
    for name in ("packaging.requirements", "pip._vendor.packaging.requirements"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None
