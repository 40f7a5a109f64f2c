# ruff: noqa: INP001 - a program of the image build, in no package
"""The image's bill of materials: that of its Python packages, with the distribution's packages put in.

    python sbom.py PYTHON_BILL PACKAGES OUTPUT

PYTHON_BILL is what `cyclonedx-py environment` wrote. PACKAGES begins with a line "ID VERSION_ID" of /etc/os-release;
each line after it is "NAME VERSION ARCHITECTURE SOURCE_NAME SOURCE_VERSION" of dpkg-query. The Dockerfile runs this in
the virtual environment of cyclonedx-py; a bill that breaks CycloneDX's schema ends the build.
"""

import json
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

Bill = dict[str, Any]


@dataclass(frozen=True)
class Distribution:
    """Where packages come from: such as debian 12."""

    name: str
    version: str


@dataclass(frozen=True)
class Package:
    """One installed package; the source is what security notices name."""

    name: str
    version: str
    architecture: str
    source: str
    source_version: str


def read_packages(text: str) -> tuple[Distribution, list[Package]]:
    """The distribution and its installed packages. Raises ValueError or TypeError for a line of another form."""
    first, *lines = text.splitlines()
    name, version = first.split()
    return Distribution(name, version), [Package(*line.split()) for line in lines]


def describe_package(package: Package, distribution: Distribution) -> Bill:
    """A component. Where the source has another name or version, scanners find it in `upstream`."""
    qualifiers = {"arch": package.architecture, "distro": f"{distribution.name}-{distribution.version}"}
    if (package.source, package.source_version) != (package.name, package.version):
        qualifiers["upstream"] = f"{package.source}@{package.source_version}"
    return _component(
        package.name,
        package.version,
        f"pkg:deb/{distribution.name}/{_escape(package.name)}@{_escape(package.version)}?"
        + "&".join(f"{key}={_escape(value)}" for key, value in sorted(qualifiers.items())),
    )


def merge(bill: Bill, distribution: Distribution, packages: list[Package]) -> Bill:
    """The bill of the whole image."""
    system = [describe_package(package, distribution) for package in packages]
    python = platform.python_version()
    if not any(package.name == f"python{python.rpartition('.')[0]}" for package in packages):
        system.append(_component("python", python, f"pkg:generic/python@{python}"))
    metadata = {**bill["metadata"], "component": {"type": "container", "bom-ref": "image", "name": "sagemaker-byoc"}}
    return {**bill, "metadata": metadata, "components": [*bill["components"], *system]}


def check(text: str) -> None:
    """Raises ValueError for text that is no bill by CycloneDX's schema."""
    from cyclonedx.schema import SchemaVersion  # noqa: PLC0415 - it is there in an image's build only
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415

    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if error is not None:
        raise ValueError(f"the bill of materials breaks CycloneDX's schema: {error}")


def _component(name: str, version: str, purl: str) -> Bill:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _escape(text: str) -> str:
    """As package URLs have it: all is escaped but letters, digits, `.-_~` and the colon."""
    return quote(text, safe=":")


def main(python_bill: str, packages: str, output: str) -> None:
    """Read two files, write one. Raises OSError or ValueError."""
    bill = json.loads(Path(python_bill).read_text(encoding="utf-8"))
    text = json.dumps(merge(bill, *read_packages(Path(packages).read_text(encoding="utf-8"))), indent=1)
    check(text)
    Path(output).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
