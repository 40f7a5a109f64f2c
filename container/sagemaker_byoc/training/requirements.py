"""What the user's code needs beyond the image: requirements.txt, or a setup.py, installed by pip before the start.

Requirements that are met already cost a look into the package folders and no pip at all.
"""

import importlib
import os
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagemaker_byoc.errors import PlatformInputError
from sagemaker_byoc.training.secrets import without_credentials
from sagemaker_byoc.training.source import import_toolkit

REQUIREMENTS = "requirements.txt"
SETUP = "setup.py"
CODE_ARTIFACT = "CA_REPOSITORY_ARN"
_SIMPLE = r"(?P<name>[A-Za-z0-9][\w.-]*?)\s*(?P<limits>((==|>=|<=|!=|<|>)\s*\d+(\.\d+)*\s*(,\s*|$))*)"
_RELEASE = r"\d+(\.\d+)*"
_COMMENT = r"(^|\s)#.*$"
_HASH = r"\s--hash[= ]\S+"
_INCLUDE = r"(?:-r\s*|--requirement[= ]\s*)(?P<file>\S+)"
# Options that say where packages come from, not which.
_WHERE = r"(-i|-f|--(index-url|extra-index-url|find-links|no-index|trusted-host|prefer-binary|pre)\b)"
_NO_NETWORK = (
    *("Failed to establish a new connection", "Temporary failure in name resolution", "Name or service not known"),
    *("Network is unreachable", "Connection refused", "ConnectTimeoutError", "Read timed out", "Could not connect"),
)
_NOT_FOUND = r"(?:No matching distribution found for|satisfies the requirement) (?P<what>[^\s(]+)"


@dataclass(frozen=True)
class RequirementsPlan:
    """What pip has to do before the start.

    Attributes:
        file: the requirements.txt, or the setup.py where there is no such file.
        missing: the lines that are not met, fit to be shown.
        command: pip's command line, complete; it runs in any folder.
        python_path: a folder to put on PYTHONPATH, where the environment's own package folder cannot be written to.
    """

    file: Path
    missing: tuple[str, ...]
    command: tuple[str, ...]
    python_path: str | None = None

    def environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The environment for pip: `environ`, and the index of AWS CodeArtifact if CA_REPOSITORY_ARN names one.

        Raises PlatformInputError when that index cannot be asked for.
        """
        if not environ.get(CODE_ARTIFACT):
            return dict(environ)
        return {**environ, "PIP_INDEX_URL": _code_artifact_index(environ)}


def plan_requirements(folder: Path) -> RequirementsPlan | None:
    """What to install for the code in this folder, or None when nothing is missing."""
    file, setup = folder / REQUIREMENTS, folder / SETUP
    packaged = setup.is_file()
    missing = tuple(_missing(file)) if file.is_file() else ()
    if not missing and not packaged:
        return None
    prefix = None if _is_writable(sysconfig.get_path("purelib")) else _new_folder()
    command = [sys.executable, "-m", "pip", "install", "--no-input", "--no-cache-dir", "--disable-pip-version-check"]
    # Not --target, with which pip installs anew what the image has already, PyTorch included.
    command += ["--prefix", prefix] if prefix else []
    command += ["-r", str(file)] if missing else []
    # The package is the user's own and small: what builds it is in the image, and must not be fetched.
    command += ["--use-pep517", "--no-build-isolation", str(folder)] if packaged else []
    shown = tuple(map(without_credentials, missing)) or (str(folder),)
    return RequirementsPlan(file if missing else setup, shown, tuple(command), _package_folder(prefix))


def explain_failure(plan: RequirementsPlan, exit_code: int, output_tail: str) -> str:
    """Why pip failed and what to do, in a few sentences."""
    output_tail = without_credentials(output_tail)
    found = re.search(_NOT_FOUND, output_tail)
    what = found["what"].rstrip(".,;") if found else ", ".join(plan.missing)
    told = f"{plan.file}: {what} could not be installed (pip ended with exit code {exit_code})"
    if "No module named pip" in output_tail:
        return f"{told}: this image has no pip. Install the packages when the image is built."
    if any(sign in output_tail for sign in _NO_NETWORK):
        return (
            f"{told}: no package index answers, as under network isolation or in a VPC without a way out. "
            "Install the packages when the image is built (code/requirements.txt beside the code, then `byoc build`), "
            "or set PIP_INDEX_URL to an index that this container reaches."
        )
    if found:
        return f"{told}: the index has no such version for this Python. Mend the line, or name another index in it."
    lines = [line.strip() for line in output_tail.splitlines() if "error" in line.lower()]
    reason = f": {lines[0][:300]}" if lines else ""
    return f"{told}{reason}. The log has all of pip's output; mend the file, or install the packages into the image."


def _missing(file: Path, seen: frozenset[Path] = frozenset()) -> Iterator[str]:
    """The lines of a requirements file that are not met, or that only pip can judge."""
    installed = _installed()
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
                yield from _missing(path, seen | {file.resolve()})
        elif not re.match(_WHERE, line) and not _is_met(re.sub(_HASH, "", line).strip(), installed):
            yield line


def _logical_lines(text: str) -> list[str]:
    """Lines without comments, those that end in a backslash joined with the next."""
    lines = (re.sub(_COMMENT, "", line).strip() for line in text.replace("\\\n", " ").splitlines())
    return [line for line in lines if line]


def _installed() -> dict[str, str]:
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


def _new_folder() -> str:
    import tempfile  # noqa: PLC0415 - few jobs need it

    return tempfile.mkdtemp(prefix="sagemaker-byoc-packages-")


def _package_folder(prefix: str | None) -> str | None:
    """Where pip puts packages below a prefix."""
    if prefix is None:
        return None
    scheme = sysconfig.get_preferred_scheme("prefix")
    return sysconfig.get_path("purelib", scheme, vars={"base": prefix, "platbase": prefix})


def _is_writable(folder: str) -> bool:
    return os.access(folder, os.W_OK)


def _code_artifact_index(environ: Mapping[str, str]) -> str:
    try:
        index: str = import_toolkit("modules")._get_codeartifact_index()  # noqa: SLF001 - the one place that has it
    except Exception as error:
        cause = error.__context__ or error  # the toolkit's own text says only that it failed
        raise PlatformInputError(
            f"{CODE_ARTIFACT} is {environ[CODE_ARTIFACT]!r}, and its index could not be asked for: {cause}. "
            "Check the name, the role's rights and the network."
        ) from error
    return index
