"""Plans of builds; no builder is run."""

import io
import tarfile
from pathlib import Path

import pytest
from local_sagemaker.base_image import debian_sources, plan_base_image
from local_sagemaker.errors import EngineMissingError, UsageError
from local_sagemaker.image import (
    BASE_IMAGE_TAG,
    OFFICIAL_BASE,
    BuildPlan,
    choose_base_image,
    find_links_folders,
    passed_settings,
    plan_build,
    run_build,
    torch_wheels,
    write_context,
)


@pytest.fixture
def checkout(tmp_path):
    for name in ("Dockerfile", "container/sagemaker_byoc/train", "container/__pycache__/x.pyc", "tests/test_x.py",
                 "opt_ml_template/code/train.py"):  # fmt: skip
        path = tmp_path / "checkout" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "checkout"


def test_the_context_holds_what_the_dockerfile_needs_and_nothing_else(checkout):
    plan = plan_build(checkout, {}, base_image="base")
    assert sorted(plan.files) == ["Dockerfile", "container/sagemaker_byoc/train", "opt_ml_template/code/train.py"]


def test_the_users_code_takes_the_place_of_the_templates(checkout, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.py").touch()
    plan = plan_build(checkout, {}, base_image="base", code=tmp_path / "mine")
    assert "user_code/train.py" in plan.files
    assert "opt_ml_template/code/train.py" not in plan.files
    assert "CODE=user_code" in plan.command


def test_absent_code_is_a_usage_error(checkout, tmp_path):
    with pytest.raises(UsageError):
        plan_build(checkout, {}, base_image="base", code=tmp_path / "absent")


def test_horovod_is_a_build_argument_only_where_it_is_asked_for(checkout):
    assert "WITH_HOROVOD=mpi" in plan_build(checkout, {}, base_image="base", with_horovod="mpi").command
    assert not any("HOROVOD" in word for word in plan_build(checkout, {}, base_image="base").command)


def test_an_unknown_flavour_of_horovod_is_a_usage_error_that_lists_those_there_are(checkout):
    with pytest.raises(UsageError, match="none, gloo, mpi, nccl"):
        plan_build(checkout, {}, base_image="base", with_horovod="tpu")


def test_an_index_on_this_machines_disk_is_not_passed_on():
    assert passed_settings({"PIP_INDEX_URL": "https://a/simple", "PIP_EXTRA_INDEX_URL": "file:///b http://c"}) == {
        "PIP_INDEX_URL": "https://a/simple",
        "PIP_EXTRA_INDEX_URL": "http://c",
    }


def test_pips_wheel_folders_come_from_its_environment_and_its_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # a blank in a path would end it for pip
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    config = "global.find-links='~/b ~/absent'\nglobal.index-url='https://x'"
    assert find_links_folders({"PIP_FIND_LINKS": "~/a https://y"}, config) == (tmp_path / "a", tmp_path / "b")


def test_only_torch_for_this_kind_of_machine_goes_into_the_context(tmp_path):
    wanted = "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl"
    for name in (wanted, "torch-2.13.0-cp311-none-macosx_11_0_arm64.whl", "torchvision-1-cp311-linux_x86_64.whl"):
        (tmp_path / name).touch()
    assert [wheel.name for wheel in torch_wheels((tmp_path,), "x86_64")] == [wanted]


def test_the_same_files_give_the_same_context(checkout):
    def archive():
        buffer = io.BytesIO()
        write_context(plan_build(checkout, {}, base_image="base").files, buffer)
        return buffer.getvalue()

    first = archive()
    (checkout / "Dockerfile").touch()
    assert archive() == first
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        assert tar.extractfile("Dockerfile").read() == b"Dockerfile"


@pytest.mark.parametrize(
    ("given", "here", "pulled", "chosen"),
    [
        ("mine", (), False, "mine"),
        (None, (OFFICIAL_BASE, BASE_IMAGE_TAG), False, OFFICIAL_BASE),
        (None, (BASE_IMAGE_TAG,), True, BASE_IMAGE_TAG),
        (None, (), True, OFFICIAL_BASE),
        (None, (), False, "made"),
    ],
)
def test_the_base_is_the_given_one_or_one_that_is_here_or_pulled_or_made(given, here, pulled, chosen):
    assert choose_base_image(given, here.__contains__, lambda _: pulled, lambda: "made") == chosen


def test_mirrors_come_from_apt():
    listing = "http://m/debian/ bookworm main\nhttp://m/debian/ bookworm contrib\nhttp://s/ bookworm-security main\n"
    assert debian_sources(listing) == ("deb http://m/debian/ bookworm main", "deb http://s/ bookworm-security main")


def test_a_machine_without_debian_is_told_what_to_do():
    with pytest.raises(EngineMissingError, match="--base-image"):
        debian_sources("http://m/ubuntu/ noble main\n")


def test_extra_certificates_are_copied_into_the_base():
    plan = plan_base_image(("deb m bookworm main",), (Path("/ca/own.crt"),), Path("/pip.conf"), "docker", "t:1")
    assert any("/ca/own.crt" in word and word.startswith("--customize-hook=install") for word in plan.bootstrap)
    assert plan.import_[-2:] == ("-", "t:1")


def test_a_file_that_cannot_be_sent_to_the_builder_is_named(tmp_path):
    """A file of the code folder that goes away meanwhile, or that nobody may read."""
    plan = BuildPlan("a-tag", "a-base", ("cat",), {"Dockerfile": tmp_path / "gone"})
    with pytest.raises(UsageError, match="gone cannot be sent to docker build: No such file"):
        run_build(plan)
