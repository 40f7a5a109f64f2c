"""How the image is built: with either builder, and quickly again after a change of user code."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from local_sagemaker.errors import BuildFailedError
from local_sagemaker.image import build_image

from tests.image.conftest import COMPILING_SECONDS
from tests.support.docker import RUN, Running, docker, inspect, mounted, run
from tests.support.opt_ml import OptMl
from tests.support.places import REPOSITORY, program

pytestmark = pytest.mark.docker

DEBIANS = Path("/usr/bin/docker")
TESTS = f"sagemaker-byoc:tests-{RUN}"  # the beginning of tags that another run neither moves nor removes


def layers(image: str) -> list[str]:
    """The ids of the image's layers, lowest first."""
    found: list[str] = json.loads(docker("image", "inspect", image))[0]["RootFS"]["Layers"]
    return found


def size(image: str) -> int:
    """Its bytes, not compressed."""
    found: int = json.loads(docker("image", "inspect", image))[0]["Size"]
    return found


def build(tag: str, code: Path | None, path: str, buildkit: str, with_horovod: str = "none") -> str:
    """Build in a process of its own, so that the choice of docker command and builder is this test's alone."""
    env: Mapping[str, str] = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY / "local_test"),
        "PATH": path + os.pathsep + os.environ["PATH"],
        "DOCKER_BUILDKIT": buildkit,
    }
    script = (
        "import sys; from pathlib import Path; from local_sagemaker.image import build_image\n"
        "build_image(sys.argv[1], code=Path(sys.argv[2]) if sys.argv[2] else None, with_horovod=sys.argv[3],"
        " output=sys.stdout.buffer)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tag, str(code or ""), with_horovod],
        env=dict(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=COMPILING_SECONDS,
    )
    log = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, log[-4000:]
    return log


def test_change_of_user_code_rebuilds_without_installing_again(image: str, program_code: Path) -> None:
    """Seconds, not minutes: every layer below the code is the same."""
    tag = f"{TESTS}-code"
    build(tag, program_code, "", "0")
    try:
        before = layers(tag)
        (program_code / "train.py").write_text("print('changed')\n")
        log = build(tag, program_code, "", "0")
        assert "Collecting" not in log
        assert "Downloading" not in log
        assert run(tag, "cat", "/opt/program/code/train.py").stdout == b"print('changed')\n"
        same = sum(1 for one, other in zip(before, layers(tag), strict=True) if one == other)
        assert same >= 3, "base, system packages and Python packages must be shared"
    finally:
        docker("rmi", tag)


def test_change_of_user_code_does_not_compile_horovod_again(horovod_image: str, program_code: Path) -> None:
    """Minutes would be lost at every edit."""
    tag = f"{TESTS}-horovod-code"
    build(tag, program_code, "", "0", with_horovod="mpi")
    try:
        (program_code / "train.py").write_text("print('changed')\n")
        log = build(tag, program_code, "", "0", with_horovod="mpi")
        assert "compiling Horovod" not in log
        assert "Downloading" not in log
        assert run(tag, "cat", "/opt/program/code/train.py").stdout == b"print('changed')\n"
    finally:
        docker("rmi", tag)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("WITH_HOROVOD=tpu", "WITH_HOROVOD is 'tpu'"),
        ("WITH_HOROVOD=nccl", "WITH_HOROVOD=nccl, but"),
        ("HOROVOD_CXX_STANDARD=c++17", "HOROVOD_CXX_STANDARD is 'c++17'"),
        ("WITH_FORMATS=some", "WITH_FORMATS is 'some'"),
    ],
)
def test_what_cannot_be_built_is_refused_before_minutes_of_compiling(image: str, argument: str, said: str) -> None:
    """5.3: a wrong word, and a GPU build on a base without CUDA, say so and what to do."""
    output = io.BytesIO()
    with pytest.raises(BuildFailedError):
        build_image(f"{TESTS}-refused", builder_args=("--force-rm", "--build-arg", argument), output=output)
    log = output.getvalue().decode()
    assert said in log
    assert "expected:" in log
    assert "compiling Horovod" not in log


def test_formats_can_be_left_out(image: str, opt_ml: OptMl) -> None:
    """15.5, 18.2: a smaller image, which says what it lacks when a request needs it."""
    tag = f"{TESTS}-no-formats"
    build_image(tag, builder_args=("--build-arg", "WITH_FORMATS=none"))
    opt_ml.model_code("echoes")
    try:
        options = [*mounted(opt_ml, read_only_model=True), "-p", "127.0.0.1::8080"]
        with Running(tag, "serve", options=options) as server:
            server.wait_until_ready()
            refused = server.invoke(b"PAR1", "application/vnd.apache.parquet")
            assert (refused.status, refused.error["type"]) == (415, "UnsupportedContentType")
            assert "pyarrow" in refused.error["message"]
            assert server.invoke(b"1,2\n", "text/csv").json == [[1, 2]]
        assert size(tag) < size(image) - 200e6
    finally:
        docker("rmi", tag)


@pytest.fixture
def program_code(tmp_path: Path) -> Path:
    """A user program in a folder of its own, to be changed."""
    return Path(shutil.copytree(program("succeeds"), tmp_path / "code"))


def test_buildkit_builds_it_too(image: str, tmp_path: Path) -> None:
    """The other builder, with the docker command that has it: the same commands, labels and variables."""
    if not _has_buildkit():
        pytest.skip("no docker command here builds with BuildKit")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker").symlink_to(DEBIANS)
    tag = f"{TESTS}-buildkit"
    build(tag, None, str(tmp_path / "bin"), "1")
    try:
        for key in ("Cmd", "Entrypoint", "Labels", "Env", "WorkingDir"):
            assert inspect(tag)[key] == inspect(image)[key]
        assert run(tag, "train", "--help").exit_code != 127
    finally:
        docker("rmi", tag)


def _has_buildkit() -> bool:
    if not DEBIANS.exists():
        return False
    probe = subprocess.run(
        [str(DEBIANS), "build", "-"],
        input=b"FROM scratch\nLABEL probe=sagemaker-byoc-tests\n",
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
        capture_output=True,
        check=False,
    )
    return probe.returncode == 0
