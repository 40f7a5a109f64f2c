"""`byoc check` finds the faults of images in other tools' layouts, and none in ours."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from local_sagemaker.conformance.rule import LABEL_PREFIX

from tests.support.docker import ASKING, RUN, docker
from tests.support.places import REPOSITORY
from tests.support.waiting import wait_until

pytestmark = pytest.mark.docker

BASE = "sagemaker-byoc-base:bookworm"
LAYOUTS = REPOSITORY / "tests" / "images"
LABEL = "sagemaker-byoc.check"


@pytest.fixture(scope="session")
def build(image: str):
    """Build the image of a layout; the tag."""
    tags: list[str] = []

    def make(layout: str, base: str = image, *labels: str) -> str:
        tags.append(f"byoc-check-{'-'.join((layout.replace('_', '-'), *labels))}:{RUN}")
        words = [word for label in labels for word in ("--label", f"{LABEL_PREFIX}{label}=true")]
        docker("build", "--quiet", "--tag", tags[-1], "--build-arg", f"BASE={base}", *words, str(LAYOUTS / layout))
        return tags[-1]

    yield make
    for tag in set(tags):
        docker("rmi", "-f", tag)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two seconds of training on one file, and a payload beside it."""
    for name, text in {
        "input/config/hyperparameters.json": '{"seconds": "1.5", "label": "two words"}',
        "input/data/training/rows.csv": "1,2\n",
        "payload.csv": "1,2,3\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def check(image: str, project: Path, *options: str, exit_code: int = 0) -> dict[str, str]:
    """Run it; the outcome of each rule that was tested, by its short id. Nothing of it is left."""
    words = ["check", image, "--project", project, "--json", *options]
    run = subprocess.run(
        [sys.executable, "-m", "local_sagemaker", *words],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "local_test")},
        capture_output=True,
        timeout=900,
        check=False,
    )
    assert run.returncode == exit_code, run.stderr.decode() + run.stdout.decode()
    findings = json.loads(run.stdout)["findings"]
    return {one["rule"][5:]: one["outcome"] for one in findings if one["outcome"] != "skipped"}


def broken(found: dict[str, str]) -> set[str]:
    """The rules that are."""
    return {rule for rule, outcome in found.items() if outcome == "violated"}


def test_ours_breaks_no_rule(image: str, project: Path) -> None:
    """22.3, and all that the rules stand on: strict, with the template's training and the digits."""
    prepare = REPOSITORY / "opt_ml_template" / "prepare_data.py"
    digits = project / "digits"
    subprocess.run([sys.executable, prepare, "--project", digits], check=True, capture_output=True)
    payload = REPOSITORY / "local_test" / "payloads" / "digits.json"
    options = ["--hyperparameter", "epochs=1", "--payload", str(payload), "--training-timeout", "400"]
    found = check(image, digits, "--strict", "--startup-timeout", "300", *options)
    assert broken(found) == set()
    assert {"T001", "T003", "T012", "T015", "S006", "S014", "S022", "S025", "S033"} <= set(found)


def test_faults_of_the_public_sample_are_found(build, project: Path) -> None:
    """1.12, 13.2, 13.3, 14.7, 15.3, 15.7: nginx before one sync worker, which takes a second for a row."""
    payload = str(project / "payload.csv")
    asked = ("T015", "T021", "S006", "S015", "S017", "S022", "S025", "S026")
    rules = [word for rule in asked for word in ("--rule", rule)]
    model = project / "model"
    model.mkdir()
    (model / "model.txt").write_text("trained")
    # A busy machine looks at process 1 every few seconds only, and a training has to last for four such looks.
    options = [
        "--model-data",
        str(model),
        "--payload",
        payload,
        "--env",
        "SECONDS=1",
        "--hyperparameter",
        "seconds=20",
    ]
    found = check(build("public_sample"), project, *options, *rules, exit_code=4)
    assert broken(found) == {"T015", "S006", "S015", "S017", "S022", "S025"}


def test_faults_of_a_shell_that_wraps_functions_are_found(build, project: Path) -> None:
    """0.3, 1.7, 1.12, 13.2: the shell keeps SIGTERM and gives its own exit code."""
    (project / "input/data/training").rename(project / "input/data/train")
    rules = [word for rule in ("T001", "T012", "T015", "T021", "S023") for word in ("--rule", rule)]
    found = check(build("shell_wrapper", BASE), project, *rules, exit_code=4)
    assert broken(found) == {"T012", "T015", "T021", "S023"}


def test_server_of_another_port_and_its_shell_form_are_found(build, project: Path) -> None:
    """0.2, 0.11, 14.1: and it says where the server listens."""
    options = ["--only", "image,serve", "--startup-timeout", "5"]
    found = check(build("other_port", BASE), project, *options, exit_code=4)
    assert broken(found) == {"I001", "I006", "S001"}


def test_server_that_does_not_train_needs_a_network_and_writes_to_its_model_is_found(build, project: Path) -> None:
    """1.1, 13.5, 13.10: the conditions are told apart, whatever else is wrong."""
    model = project / "model"
    model.mkdir()
    (model / "model.json").write_text("{}")
    (project / "input/data/training/rows.csv").unlink()
    options = ["--model-data", str(model), "--env", "FAULTS=needs_network,writes_model"]
    rules = [word for rule in ("T001", "S001", "S008", "S009", "S010", "S011") for word in ("--rule", rule)]
    found = check(build("stranger", BASE), project, *options, *rules, exit_code=4)
    assert broken(found) == {"T001", "S008", "S009"}


def test_conditions_that_a_strangers_training_does_not_stand_are_told_apart(build, project: Path) -> None:
    """1.9, 1.11, 2.3, 2.4, 2.5, 2.10, 2.12, 3.4, 4.8, 4.9, 4.11, 5.1, 13.6."""
    faults = (
        "needs_network,writes_channels,reads_topology,one_host_name,strict_arguments,large_shm,writes_beside,"
        "quoted_text,needs_all_keys,leader_only,no_reason,much_memory,links_model"
    )
    asked = (*range(1, 14), 16, 17, 18, 20, 22)
    rules = [word for number in asked for word in ("--rule", f"T{number:03d}")]
    found = check(build("stranger", BASE), project, "--strict", "--env", f"FAULTS={faults}", *rules, exit_code=4)
    kept = {"T001", "T002", "T012", "T017", "T018"}
    assert (broken(found), set(found) - broken(found)) == ({f"T{number:03d}" for number in asked} - kept, kept)


def test_conditions_and_promises_that_a_strangers_server_does_not_keep_are_told_apart(build, project: Path) -> None:
    """0.4, 13.2, 13.3, 13.11 to 13.13, 14.8, 15.19, 15.23, 15.30, 15.31, 15.34, 18.1."""
    model = project / "model"
    model.mkdir()
    (model / "model.json").write_text("{}")
    labels = ("accept-bind-to-port", "multi-models", "bidirectional-streaming")
    image = build("stranger", BASE, *labels)
    given = ["--model-data", str(model), "--payload", str(project / "payload.csv"), "--strict"]
    faults = (
        "writes_beside,large_shm,much_memory,not_in_batch,says_nothing,fails_at_end,helper_unwatched,leaves_dead,"
        "well_without_model,second_port"
    )
    asked = (1, *range(8, 15), *range(24, 27), *range(32, 37))
    rules = [word for number in asked for word in ("--rule", f"S{number:03d}")]
    found = check(image, project, *given, "--env", f"FAULTS={faults}", *rules, exit_code=4)
    kept = {"S001", "S008", "S009", "S014"}
    assert (broken(found), set(found) - broken(found)) == ({f"S{number:03d}" for number in asked} - kept, kept)
    fixed = ["--env", "FAULTS=fixed_port", "--startup-timeout", "3", "--rule", "S014"]
    assert broken(check(image, project, *given, *fixed, exit_code=4)) == {"S014"}


def begin(image: str, project: Path) -> "subprocess.Popen[bytes]":
    """A check in the middle of a training that takes long."""
    words = ["check", image, "--project", project, "--hyperparameter", "seconds=1000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "local_sagemaker", *words],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "local_test")},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    wait_until(lambda: running(image), "a container of the check", 300, interval=ASKING)
    return process


def left(image: str) -> list[str]:
    """The containers that checks have left of an image."""
    return docker("ps", "-aq", "--filter", f"label={LABEL}", "--filter", f"ancestor={image}").split()


def running(image: str) -> list[str]:
    """Those of them that run."""
    return docker("ps", "-q", "--filter", f"label={LABEL}", "--filter", f"ancestor={image}").split()


def test_nothing_is_left_when_it_is_interrupted(build, project: Path) -> None:
    """13.2: Ctrl-C in the middle of a training."""
    image = build("stranger", BASE)
    with begin(image, project) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(300) == 130
    assert left(image) == []


def test_what_a_killed_check_has_left_is_removed_by_the_next(build, project: Path) -> None:
    """22.3: kill -9; the containers know whose they were."""
    image = build("stranger", BASE)
    with begin(image, project) as process:
        process.kill()
        process.wait(300)
    check(image, project, "--rule", "I005")
    assert left(image) == []
