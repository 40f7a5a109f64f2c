"""The image's bill of materials."""

import json
from functools import cache
from typing import Any

import pytest

from tests.support.docker import run

pytestmark = pytest.mark.docker

RUNNING_VERSIONS = """
import importlib.metadata, json, subprocess
packages = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${Version}\\n"], capture_output=True, text=True).stdout
installed = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in importlib.metadata.distributions()}
print(json.dumps([installed, dict(line.split() for line in packages.splitlines())]))
"""


@cache
def bill_of(image: str) -> dict[str, Any]:
    ran = run(image, "cat", "/opt/program/sbom.cdx.json")
    assert ran.exit_code == 0, ran.log
    bill: dict[str, Any] = json.loads(ran.stdout)
    return bill


def listed(image: str, kind: str) -> dict[str, str]:
    """Names and versions of the components whose package URL is of a kind."""
    return {
        component["name"].lower().replace("_", "-"): component["version"]
        for component in bill_of(image)["components"]
        if component["purl"].startswith(f"pkg:{kind}/")
    }


def test_everything_that_is_installed_is_listed_with_the_version_that_runs(image: str) -> None:
    """Nothing more and nothing less: of Python's packages and of the distribution's."""
    ran = run(image, "/opt/venv/bin/python", "-c", RUNNING_VERSIONS, options=["--workdir", "/"])
    assert ran.exit_code == 0, ran.log
    python, system = json.loads(ran.stdout)
    assert listed(image, "pypi") == python
    assert listed(image, "deb") == system
    assert {"torch", "flask", "gunicorn", "numpy"} <= set(python)
    assert {"nginx", "libc6", "openssl"} <= set(system)


def test_bill_has_the_form_that_scanners_read(image: str) -> None:
    """CycloneDX 1.6; the build checks it against the whole schema."""
    bill = bill_of(image)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["type"] == "container"
    references = [component["bom-ref"] for component in bill["components"]]
    assert len(set(references)) == len(references)


def test_packages_name_the_source_that_security_notices_are_about(image: str) -> None:
    """libssl3 is built from openssl."""
    components = {component["name"]: component for component in bill_of(image)["components"]}
    assert components["libssl3"]["purl"].startswith("pkg:deb/debian/libssl3@")
    assert "upstream=openssl%40" in components["libssl3"]["purl"]
    assert "distro=debian-12" in components["libssl3"]["purl"]


def test_bill_tells_nothing_of_the_machine_that_built_it(image: str) -> None:
    """No index, no folder."""
    text = json.dumps(bill_of(image))
    assert "file:" not in text
    assert "/build" not in text
