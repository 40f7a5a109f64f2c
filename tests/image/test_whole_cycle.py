"""The example that goes through everything, by ``byoc`` alone, as a person would run it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.support.places import REPOSITORY

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]
SCRIPT = REPOSITORY / "examples/whole_cycle/run.sh"


@pytest.fixture(scope="module")
def ran(image: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The example's project, and all that it printed."""
    directory = tmp_path_factory.mktemp("cycle")
    commands = Path(sys.executable).parent
    done = subprocess.run(
        [SCRIPT, image, directory],
        env={**os.environ, "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=1700,
    )
    assert done.returncode == 0, done.stdout
    return directory / "digits", done.stdout


def test_two_hosts_train_one_model(ran: tuple[Path, str]) -> None:
    """5.1, 6.2, 8.2."""
    project, output = ran
    assert "two-hosts: Completed" in output
    assert (project / ".byoc/jobs/two-hosts/model.tar.gz").stat().st_size > 10_000


def test_twelve_jobs_are_tuned_two_at_a_time_and_the_best_is_named(ran: tuple[Path, str]) -> None:
    """24.2, 24.7."""
    document = json.loads((ran[0] / "tuned.json").read_text())
    assert document["TrainingJobStatusCounters"]["Completed"] == 12, ran[1]
    best = document["BestTrainingJob"]
    assert float(best["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]) > 0.8
    assert f"the best of them is {best['TrainingJobName']}" in ran[1]


def test_shares_of_the_traffic_follow_the_weights_and_nothing_fails(ran: tuple[Path, str]) -> None:
    """20.3."""
    shares = [int(found) for found in re.findall(r"answered by blue (\d+) ", ran[1])]
    assert len(re.findall(r"^200 requests .* failed: none$", ran[1], re.MULTILINE)) == 2
    # Of 200 draws, a share strays by six standard deviations less often than once in a million runs.
    assert abs(shares[0] - 180) <= 30
    assert abs(shares[1] - 100) <= 42


def test_every_request_was_captured_in_the_platforms_layout(ran: tuple[Path, str]) -> None:
    """21.1, 21.2."""
    files = list((ran[0] / ".byoc/s3").rglob("data-capture/**/*.jsonl"))
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert len(lines) == 400
    assert {line["captureData"]["endpointInput"]["mode"] for line in lines} == {"INPUT"}


def test_each_of_100000_rows_has_its_answer_in_order(ran: tuple[Path, str]) -> None:
    """15.37, 15.38: the rows repeat after 270, and so do the answers."""
    answers = (ran[0] / "predictions/rows.csv.out").read_text().splitlines()
    assert len(answers) == 100_000
    digits = [max(range(10), key=[float(p) for p in line.split(",")].__getitem__) for line in answers[:540]]
    assert digits[:270] == digits[270:]
    assert len(set(digits)) == 10


def test_the_image_breaks_no_rule(ran: tuple[Path, str]) -> None:
    suite = ET.parse(ran[0] / "contract.xml").getroot()  # noqa: S314 - our own file
    cases = list(suite.iter("testcase"))
    assert len(cases) > 30
    assert not [case.get("name") for case in cases if case.find("failure") is not None]


def test_nothing_is_left_running(ran: tuple[Path, str]) -> None:
    assert "endpoint digits is deleted" in ran[1]
    listed = subprocess.run(
        [sys.executable, "-m", "local_sagemaker", "ps", "--json", "--project", ran[0]],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(listed.stdout)["resources"] == []
