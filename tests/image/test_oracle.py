"""The real sagemaker-training of the image and ours, on the same jobs: all that differs is on the reviewed list."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.oracle.cases import Case, all_cases, as_json
from tests.oracle.compare import Observed, differences
from tests.oracle.differences import DIFFERENCES
from tests.support.docker import run
from tests.support.places import REPOSITORY

CASES = all_cases()


@pytest.fixture(scope="module")
def results(image: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every program gave to the script, by case and program; all in one container."""
    work = tmp_path_factory.mktemp("oracle")
    (work / "cases.json").write_text(as_json(CASES), encoding="utf-8")
    options = [
        "--network",
        "none",
        "-v",
        f"{REPOSITORY / 'tests/oracle'}:/oracle/driver:ro",
        "-v",
        f"{work}:/oracle/work",
    ]
    driver = ("python3", "/oracle/driver/inside.py", "/oracle/work/cases.json", "/oracle/work/results.json")
    ran = run(image, *driver, options=options, seconds=1700)
    assert ran.exit_code == 0, ran.log
    found: dict[str, Any] = json.loads(Path(work / "results.json").read_text(encoding="utf-8"))
    return found


def _observed(case: Case, results: dict[str, Any], mode: str) -> list[Observed]:
    return differences(case, results[case.name]["toolkit"], results[case.name][mode])


@pytest.mark.docker
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mode", ["ours", "compatible"])
def test_every_difference_from_the_toolkit_is_on_the_reviewed_list(results: dict[str, Any], mode: str) -> None:
    """11.1-11.7, 12.1-12.5, against the program that defines them."""
    observed = [one for case in CASES for one in _observed(case, results, mode)]
    unknown = [one for one in observed if not any(row.explains(one, mode == "compatible") for row in DIFFERENCES)]
    assert not unknown, f"{len(unknown)} differences are not on the list:\n" + "\n".join(map(str, unknown[:20]))


@pytest.mark.docker
@pytest.mark.timeout(1800)
def test_no_row_of_the_list_is_left_over(results: dict[str, Any]) -> None:
    """A row that no case needs hides the next difference of its kind."""
    observed = [one for case in CASES for one in _observed(case, results, "ours")]
    unused = [row.what for row in DIFFERENCES if not any(row.explains(one, compatible=False) for one in observed)]
    assert not unused


@pytest.mark.docker
@pytest.mark.timeout(1800)
def test_script_is_started_in_every_case(results: dict[str, Any]) -> None:
    """2.1-2.14: whatever a job may hold."""
    failed = {name: of["ours"]["log"] for name, of in results.items() if of["ours"]["given"] is None}
    assert not failed


def test_there_are_cases_of_every_kind() -> None:
    """Golden documents, corners and generated ones, each with a name of its own."""
    assert len({case.name for case in CASES}) == len(CASES) >= 60
    assert sum(case.name.startswith("generated-") for case in CASES) >= 40
