"""Uploaded source in the image: S3, tarballs, packages and their requirements, and the SDK's own drivers."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.docker import Running, mounted, open_to_everyone, run
from tests.support.opt_ml import OptMl
from tests.support.places import REPOSITORY, program
from tests.support.wheels import wheel

pytestmark = pytest.mark.docker

HARDENED = ["--read-only", "--tmpfs", "/tmp", "--user", "1000"]
OFFLINE = ["--network", "none"]
CREDENTIALS = ["-e", "AWS_ACCESS_KEY_ID=x", "-e", "AWS_SECRET_ACCESS_KEY=yyyy", "-e", "AWS_REGION=eu-west-1"]
ENDPOINT = "http://127.0.0.1:9000"
REQUIREMENTS = b"--no-index\n--find-links wheels\ntiny==1.0\nnumpy\n"
USES_TINY = b"import os, tiny\nprint('tiny', tiny.VALUE, os.getcwd())\n"


def pack(path: Path, name: str, **files: bytes) -> Path:
    """A tarball of a user program, with further files."""
    with tarfile.open(path, "w:gz") as archive:
        for source in sorted(program(name).rglob("*")):
            archive.add(source, str(source.relative_to(program(name))), recursive=False)
        for member, content in files.items():
            add(archive, member, content)
    return path


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def given(tree: OptMl) -> dict[str, Any]:
    document = tree.output("given.json")
    assert isinstance(document, dict)
    return document


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    """The folder that the S3 of these tests shows as a bucket named `source`."""
    folder = tmp_path / "s3" / "source"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def s3(image: str, bucket: Path) -> Iterator[list[str]]:
    """A running S3; the options of a job that shares its network."""
    options = ["-v", f"{REPOSITORY / 'tests/support/aws_server.py'}:/aws_server.py:ro", "-v", f"{bucket.parent}:/s3:ro"]
    with Running(image, "python3", "/aws_server.py", "/s3", options=[*OFFLINE, *options]) as server:
        server.wait_for_line("listening")
        yield ["--network", f"container:{server.id}", *CREDENTIALS]


@pytest.mark.parametrize("name", ["S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_tarball_in_s3_is_fetched_and_run_where_scripts_expect_it(
    image: str, opt_ml: OptMl, bucket: Path, s3: list[str], name: str
) -> None:
    """12.2, 12.4: each SDK names the endpoint in its own variable."""
    pack(bucket / "sourcedir.tar.gz", "prints_environment")
    opt_ml.hyperparameters(sagemaker_submit_directory='"s3://source/sourcedir.tar.gz"')
    ran = run(image, "train", options=[*mounted(opt_ml), *s3, "-e", f"{name}={ENDPOINT}"])
    assert ran.exit_code == 0, ran.log
    seen = given(opt_ml)
    assert seen["cwd"] == "/opt/ml/code"
    assert seen["env"]["SM_MODULE_DIR"] == "s3://source/sourcedir.tar.gz"


def test_uploaded_source_goes_before_code_that_is_there(image: str, opt_ml: OptMl, bucket: Path, s3: list[str]) -> None:
    """12.2: whatever lies in /opt/ml/code or in the image."""
    pack(bucket / "sourcedir.tar.gz", "prints_environment")
    opt_ml.code("exits_3")
    env = ["-e", "SAGEMAKER_SUBMIT_DIRECTORY=s3://source/sourcedir.tar.gz", "-e", f"S3_ENDPOINT_URL={ENDPOINT}"]
    ran = run(image, "train", options=[*mounted(opt_ml), *s3, *env])
    assert ran.exit_code == 0, ran.log
    assert given(opt_ml)["cwd"] != "/opt/ml/code"


def test_source_that_s3_does_not_have_is_told(image: str, opt_ml: OptMl, s3: list[str]) -> None:
    """12.2: exit 64 and the address."""
    opt_ml.hyperparameters(sagemaker_submit_directory='"s3://source/nowhere.tar.gz"')
    ran = run(image, "train", options=[*mounted(opt_ml), *s3, "-e", f"S3_ENDPOINT_URL={ENDPOINT}"])
    assert ran.exit_code == 64, ran.log
    assert "s3://source/nowhere.tar.gz" in (opt_ml.failure or "")
    assert "404" in (opt_ml.failure or "")


def test_archive_cannot_write_outside_of_its_folder(image: str, opt_ml: OptMl) -> None:
    """12.2: the toolkit's hardened extraction; what is harmless runs."""
    path = pack(opt_ml.base / "source.tar.gz", "succeeds", **{"../../model/up": b"x", "/opt/ml/model/absolute": b"x"})
    with tarfile.open(opt_ml.base / "links.tar.gz", "w:gz") as archive:
        with tarfile.open(path) as before:
            for member in before:
                archive.addfile(member, before.extractfile(member))
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, "/opt/ml/model"
        archive.addfile(link)
        add(archive, "out/through-a-link", b"x")
    env = ["-e", "SAGEMAKER_SUBMIT_DIRECTORY=/opt/ml/links.tar.gz"]
    ran = run(image, "train", options=[*mounted(opt_ml), *OFFLINE, *env])
    assert ran.exit_code == 0, ran.log
    assert [entry.name for entry in (opt_ml.base / "model").iterdir()] == ["weights.txt"]


def test_file_that_is_no_archive_is_told(image: str, opt_ml: OptMl) -> None:
    """12.2."""
    (opt_ml.base / "source.tar.gz").write_bytes(b"no archive")
    ran = run(
        image, "train", options=[*mounted(opt_ml), *OFFLINE, "-e", "SAGEMAKER_SUBMIT_DIRECTORY=/opt/ml/source.tar.gz"]
    )
    assert ran.exit_code == 64
    assert "/opt/ml/source.tar.gz" in (opt_ml.failure or "")


@pytest.mark.parametrize("hardened", [False, True], ids=["root", "any-user-read-only"])
def test_requirements_beside_the_source_are_installed(image: str, opt_ml: OptMl, hardened: bool) -> None:
    """12.1, 18.6: also where the image's own package folder cannot be written to."""
    files = {"requirements.txt": REQUIREMENTS, "wheels/tiny-1.0-py3-none-any.whl": wheel(), "uses_tiny.py": USES_TINY}
    pack(opt_ml.base / "source.tar.gz", "succeeds", **files)
    open_to_everyone(opt_ml)
    env = ["-e", "SAGEMAKER_SUBMIT_DIRECTORY=/opt/ml/source.tar.gz", "-e", "SAGEMAKER_PROGRAM=uses_tiny.py"]
    ran = run(image, "train", options=[*mounted(opt_ml), *OFFLINE, *env, *(HARDENED if hardened else [])])
    assert ran.exit_code == 0, ran.log
    assert b"tiny 42 /opt/ml/code" in ran.stdout
    assert "numpy" not in ran.stderr.decode().partition("installing ")[2].partition("\n")[0]


def test_requirements_come_from_code_artifact_where_the_job_names_it(
    image: str, opt_ml: OptMl, bucket: Path, s3: list[str]
) -> None:
    """12.4: CA_REPOSITORY_ARN; a token is asked for with the job's credentials."""
    files = {
        "v1/authorization-token": b'{"authorizationToken": "t0ken-of-the-index"}',
        "v1/repository/endpoint": f'{{"repositoryEndpoint": "{ENDPOINT}/pypi/repo/"}}'.encode(),
        "pypi/repo/simple/tiny/index.html": b'<a href="tiny-1.0-py3-none-any.whl">tiny-1.0-py3-none-any.whl</a>',
        "pypi/repo/simple/tiny/tiny-1.0-py3-none-any.whl": wheel(),
    }
    for name, content in files.items():
        (bucket.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (bucket.parent / name).write_bytes(content)
    (opt_ml.base / "code" / "requirements.txt").write_text("tiny\n")
    (opt_ml.base / "code" / "train.py").write_bytes(USES_TINY)
    env = ["-e", "CA_REPOSITORY_ARN=arn:aws:codeartifact:eu-west-1:123456789012:repository/domain/repo"]
    ran = run(image, "train", options=[*mounted(opt_ml), *s3, *env, "-e", f"AWS_ENDPOINT_URL_CODEARTIFACT={ENDPOINT}"])
    assert ran.exit_code == 0, ran.log
    assert b"tiny 42" in ran.stdout
    assert "t0ken-of-the-index" not in ran.log


def test_index_of_code_artifact_that_cannot_be_asked_for_is_told(image: str, opt_ml: OptMl) -> None:
    """12.4: exit 64, the name, and no script."""
    opt_ml.code("succeeds")
    (opt_ml.base / "code" / "requirements.txt").write_text("tiny\n")
    ran = run(image, "train", options=[*mounted(opt_ml), *OFFLINE, "-e", "CA_REPOSITORY_ARN=arn:aws:nothing"])
    assert ran.exit_code == 64, ran.log
    assert "'arn:aws:nothing'" in (opt_ml.failure or "")
    assert b"epoch=" not in ran.stdout


def test_package_is_installed_and_its_module_run(image: str, opt_ml: OptMl) -> None:
    """12.1: a folder with setup.py, without a network."""
    opt_ml.code("package_with_setup")
    opt_ml.hyperparameters(epochs="2", sagemaker_program='"digits.train"')
    ran = run(image, "train", options=[*mounted(opt_ml), *OFFLINE])
    assert ran.exit_code == 0, ran.log
    assert b"digits.train was given ['--epochs', '2']\n" in ran.stdout


DRIVER = """\
set -e
python=$(command -v python3 || command -v python)
command -v pip3 || command -v pip
cat /opt/ml/input/config/resourceconfig.json /opt/ml/input/config/inputdataconfig.json
$python - <<'END'
import json
hps = json.load(open("/opt/ml/input/config/hyperparameters.json"))
with open("/opt/ml/input/sm_training.env", "w") as env:
    env.write(f"export SM_HPS='{json.dumps(hps)}'\\nexport SM_SOURCE_DIR=/opt/ml/input/data/code\\n")
END
source /opt/ml/input/sm_training.env
cd /opt/ml/input/data/code
eval "COMMAND"
"""


@pytest.mark.parametrize("command", ["train", "$python train.py --lr 1.10"])
def test_drivers_of_the_sdk_find_all_they_need(image: str, opt_ml: OptMl, command: str) -> None:
    """12.6, 2.16: bash, python, pip, a writable /opt/ml/input; also with the image's own train as the command."""
    opt_ml.channel("sm_drivers", {"sm_train.sh": DRIVER.replace("COMMAND", command).encode()})
    opt_ml.channel("code", {"train.py": (program("prints_environment") / "train.py").read_bytes()})
    opt_ml.hyperparameters(lr="1.10")
    script = "/opt/ml/input/data/sm_drivers/sm_train.sh"
    options = [
        *mounted(opt_ml),
        *OFFLINE,
        "-e",
        "TRAINING_JOB_NAME=digits-1",
        "-e",
        "SM_OUTPUT_DATA_DIR=/opt/ml/output/data",
    ]
    ran = run(image, "-c", f"chmod +x {script} && /bin/bash {script}", options=[*options, "--entrypoint", "/bin/bash"])
    assert ran.exit_code == 0, ran.log
    seen = given(opt_ml)
    assert seen["argv"] == ["--lr", "1.10"]
    assert seen["cwd"] == seen["env"]["SM_SOURCE_DIR"] == "/opt/ml/input/data/code"
    assert json.loads(seen["env"]["SM_HPS"])["lr"] in {1.1, "1.10"}
