"""Promises of the platform's contract about the image that no other file of tests is about."""

import json

import pytest

from tests.support.docker import Running, docker, mounted, run
from tests.support.opt_ml import OptMl

pytestmark = pytest.mark.docker


def test_image_carries_no_driver_and_works_without_a_gpu(image: str) -> None:
    """0.5: drivers are the platform's; the frameworks start on the CPU."""
    names = "libcuda.so* libnvidia-ml.so* nvidia-smi nvidia-modprobe"
    search = f'for name in {names.replace("*", "?*")}; do find / -xdev -name "$name" 2>/dev/null; done'
    ran = run(image, "/bin/bash", "-fc", search)
    assert (ran.stdout, ran.stderr) == (b"", b"")
    script = "import importlib.util as u; print(u.find_spec('torch') and __import__('torch').ones(2).sum().item())"
    assert run(image, "python3", "-c", script).stdout in {b"2.0\n", b"None\n"}


def test_image_is_for_the_processor_that_it_was_built_on(image: str) -> None:
    """0.7: another one is asked for with --platform."""
    built = json.loads(docker("image", "inspect", image))[0]
    engine = json.loads(docker("version", "--format", "{{json .Server}}"))
    assert (built["Os"], built["Architecture"]) == ("linux", engine["Arch"])


def test_entry_point_alone_starts_without_the_argument_train(image: str, opt_ml: OptMl) -> None:
    """1.2: the same job runs with `train` as the entry point."""
    opt_ml.code("exits_3")
    assert run(image, options=[*mounted(opt_ml), "--entrypoint", "train"]).exit_code == 3


@pytest.mark.parametrize("command", [("python3", "-c", "print('theirs')"), ("/bin/bash", "-c", "echo theirs")])
def test_arguments_that_stand_in_the_place_of_train_are_run(image: str, command: tuple[str, ...]) -> None:
    """1.3, 10.1: so a processing job can name any program of the image."""
    ran = run(image, *command)
    assert (ran.exit_code, ran.stdout) == (0, b"theirs\n")


def test_processing_job_may_name_an_entry_point_alone(image: str) -> None:
    """10.1: the image's own command is dropped."""
    ran = run(image, options=["--entrypoint", "python3"])
    assert (ran.exit_code, ran.stdout) == (0, b"")


def test_shell_can_be_opened_beside_a_running_job(image: str, opt_ml: OptMl) -> None:
    """4.13: for remote debugging."""
    opt_ml.code("saves_on_sigterm")
    with Running(image, "train", options=mounted(opt_ml)) as job:
        job.wait_for_line("ready")
        assert job.execute("/bin/bash", "-c", "cat /proc/1/cmdline | tr '\\0' ' '").split()[-1].endswith("train")
        assert job.stop(120) == 0
