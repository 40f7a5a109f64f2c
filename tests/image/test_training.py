"""`docker run IMAGE train` with a hand-made /opt/ml: no harness."""

import json
import tarfile
from pathlib import Path

import pytest

from tests.support.docker import Running, mounted, open_to_everyone, run
from tests.support.opt_ml import OptMl
from tests.support.places import program

pytestmark = pytest.mark.docker

HARDENED = ["--read-only", "--tmpfs", "/tmp", "--user", "1000", "--network", "none"]


def test_job_runs_and_leaves_its_model(image: str, opt_ml: OptMl) -> None:
    """1.1, 1.7."""
    opt_ml.code("succeeds")
    ran = run(image, "train", options=mounted(opt_ml))
    assert (ran.exit_code, ran.stdout, ran.stderr) == (0, b"epoch=1 train_loss=0.1234;\n", b"")
    assert (opt_ml.base / "model" / "weights.txt").read_text() == "0.5\n"


def test_no_command_trains_when_the_platforms_input_is_there(image: str, opt_ml: OptMl) -> None:
    """1.1: one real client starts the image with no command."""
    opt_ml.code("exits_3")
    assert run(image, options=mounted(opt_ml)).exit_code == 3


def test_code_of_the_image_trains_when_the_job_brings_none(image: str, opt_ml: OptMl) -> None:
    """0.6: the template is in the image; without its data it says what is missing, by name."""
    ran = run(image, "train", options=mounted(opt_ml))
    assert ran.exit_code not in {0, 64, 66, 70}, ran.log
    assert "train" in (opt_ml.failure or "")


def test_variables_lead_to_opt_ml(image: str, opt_ml: OptMl) -> None:
    """B.2: the platform's own paths."""
    opt_ml.hyperparameters(**{"batch-size": "32"})
    opt_ml.channel("train", {"a.csv": b"1\n"})
    opt_ml.code("prints_environment")
    ran = run(image, "train", options=[*mounted(opt_ml), "-e", "TRAINING_JOB_NAME=digits-1"])
    assert ran.exit_code == 0, ran.log
    seen = json.loads((opt_ml.base / "output/data/given.json").read_text())
    assert seen["argv"] == ["--batch-size", "32"]
    assert seen["cwd"] == "/opt/ml/code"
    assert seen["env"]["SM_MODEL_DIR"] == "/opt/ml/model"
    assert seen["env"]["SM_CHANNEL_TRAIN"] == "/opt/ml/input/data/train"
    assert seen["env"]["SM_HP_BATCH_SIZE"] == "32"


@pytest.mark.parametrize(("name", "code"), [("raises", 1), ("exits_3", 3), ("killed_by_sigkill", 137)])
def test_exit_code_and_failure_are_the_scripts(image: str, opt_ml: OptMl, name: str, code: int) -> None:
    """1.7, 1.9."""
    opt_ml.code(name)
    assert run(image, "train", options=mounted(opt_ml)).exit_code == code
    assert opt_ml.failure


def test_training_needs_no_root_no_network_and_no_writable_image(image: str, opt_ml: OptMl) -> None:
    """4.11, 13.11, 18.6."""
    opt_ml.code("succeeds")
    open_to_everyone(opt_ml)
    ran = run(image, "train", options=[*mounted(opt_ml), *HARDENED])
    assert (ran.exit_code, ran.stdout, ran.stderr) == (0, b"epoch=1 train_loss=0.1234;\n", b""), ran.log


def test_process_1_reaps_orphans(image: str, opt_ml: OptMl) -> None:
    """0.4: there is no tini."""
    opt_ml.code("leaves_an_orphan")
    assert run(image, "train", options=mounted(opt_ml)).exit_code == 0
    assert opt_ml.output("orphan.json") == {"parent": 1, "reaped": True}


def test_stop_lets_the_script_save_and_end_well(image: str, opt_ml: OptMl) -> None:
    """1.12, 1.13: SIGTERM to process 1 reaches the script."""
    opt_ml.code("saves_on_sigterm")
    with Running(image, "train", options=mounted(opt_ml)) as job:
        job.wait_for_line("ready")
        assert job.stop(120) == 0
    assert (opt_ml.base / "model" / "checkpoint.txt").read_text() == "epoch 7\n"


def test_stop_of_a_deaf_script_is_ours_before_it_is_the_platforms(image: str, opt_ml: OptMl) -> None:
    """1.12: the failure is still written."""
    opt_ml.code("ignores_sigterm")
    with Running(image, "train", options=[*mounted(opt_ml), "-e", "BYOC_STOP_GRACE_SECONDS=1"]) as job:
        job.wait_for_line("ready")
        assert job.stop(60) == 137
    assert opt_ml.failure


def test_40000_lines_arrive(image: str, opt_ml: OptMl) -> None:
    """4.7: through the engine's log driver too."""
    opt_ml.code("prints_40000_lines")
    ran = run(image, "train", options=mounted(opt_ml))
    assert ran.stdout == b"".join(b"line %05d step_loss=0.5;\n" % number for number in range(40_000))


def test_read_only_channel_is_enough(image: str, opt_ml: OptMl) -> None:
    """3.4: FastFile channels are read-only."""
    folder: Path = opt_ml.channel("train", {"a.csv": b"1\n"})
    opt_ml.code("succeeds")
    options = [*mounted(opt_ml), "-v", f"{folder}:/opt/ml/input/data/train:ro"]
    assert run(image, "train", options=options).exit_code == 0


def test_source_that_an_sdk_packed_is_unpacked_and_run(image: str, opt_ml: OptMl) -> None:
    """12.2: sagemaker_submit_directory names a tarball; sagemaker-training unpacks it."""
    with tarfile.open(opt_ml.base / "input" / "sourcedir.tar.gz", "w:gz") as archive:
        archive.add(program("exits_3") / "train.py", "train.py")
    opt_ml.hyperparameters(
        sagemaker_program='"train.py"', sagemaker_submit_directory='"/opt/ml/input/sourcedir.tar.gz"'
    )
    ran = run(image, "train", options=mounted(opt_ml))
    assert ran.exit_code == 3, ran.log


def test_uploaded_source_runs_on_a_read_only_image_and_wins_over_the_images_code(image: str, opt_ml: OptMl) -> None:
    """12.2: a tarball, as the SDKs upload source, and no place to unpack it but /tmp."""
    with tarfile.open(opt_ml.base / "input" / "sourcedir.tar.gz", "w:gz") as archive:
        archive.add(program("succeeds") / "train.py", "train.py")
    opt_ml.hyperparameters(sagemaker_submit_directory=json.dumps("/opt/ml/input/sourcedir.tar.gz"))
    open_to_everyone(opt_ml)
    ran = run(image, "train", options=[*mounted(opt_ml), *HARDENED])
    assert (ran.exit_code, ran.stdout) == (0, b"epoch=1 train_loss=0.1234;\n"), ran.log


def test_source_that_cannot_be_fetched_is_named_with_what_to_do(image: str, opt_ml: OptMl) -> None:
    """4.11, 12.2: under network isolation there is no S3."""
    opt_ml.hyperparameters(sagemaker_submit_directory=json.dumps("s3://bucket/job/sourcedir.tar.gz"))
    ran = run(image, "train", options=[*mounted(opt_ml), "--network", "none"])
    assert ran.exit_code == 64
    assert "Traceback" not in ran.log
    assert "s3://bucket/job/sourcedir.tar.gz" in (opt_ml.failure or "")
    assert "network isolation" in (opt_ml.failure or "")
