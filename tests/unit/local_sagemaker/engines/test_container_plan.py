"""What a plan amounts to, told as a `docker run` command."""

import csv
import shlex
from pathlib import Path

import pytest
from local_sagemaker.engines import ContainerPlan, DockerEngine, Limits
from local_sagemaker.engines.base import Mount
from local_sagemaker.engines.docker_container import is_on_link
from local_sagemaker.engines.gpus import gpu_variables, parse_gpus
from local_sagemaker.engines.overlay import overlay_options
from local_sagemaker.errors import EngineMissingError, UsageError


def plan(command="train", **options):
    return ContainerPlan("one", command, "image", Path("/base"), {}, **options)


def behind_the_image(container):
    words = shlex.split(DockerEngine(client=None).describe(container))
    return words[words.index("image") + 1 :]


def options_of(container):
    words = shlex.split(DockerEngine(client=None).describe(container))
    return " ".join(words[: words.index("image")])


@pytest.mark.parametrize("command", ["train", "serve"])
def test_an_image_is_started_with_the_single_word_of_its_role(command):
    """1.1."""
    assert behind_the_image(plan(command)) == [command]


def test_a_processing_image_is_started_with_no_word_at_all():
    """10.1."""
    assert behind_the_image(plan("process")) == []


def test_an_entrypoint_alone_drops_the_platforms_word():
    """1.2."""
    container = plan(entrypoint=("python3", "-m", "mine"))
    assert "--entrypoint python3" in options_of(container)
    assert behind_the_image(container) == ["-m", "mine"]


def test_arguments_alone_replace_the_platforms_word_and_keep_the_images_entrypoint():
    """1.3."""
    container = plan(arguments=("--fast", "yes"))
    assert "--entrypoint" not in options_of(container)
    assert behind_the_image(container) == ["--fast", "yes"]


def test_an_entrypoint_with_arguments_is_followed_by_them():
    """1.4."""
    container = plan(entrypoint=("sh", "-c"), arguments=("exit 3",))
    assert "--entrypoint sh" in options_of(container)
    assert behind_the_image(container) == ["-c", "exit 3"]


@pytest.mark.parametrize("name", ["data", "a:b", "with space", "größe 👋", 'a,b "c"', "back\\slash"])
def test_a_folder_of_any_name_is_mounted_by_its_name(name):
    """3.2."""
    folder = Path("/home/me", name)
    mounts = (Mount(folder, "/opt/ml/input/data/a", read_only=True), Mount(folder, "/opt/ml/model"))
    words = shlex.split(DockerEngine(client=None).describe(plan(mounts=mounts)))
    told = [next(csv.reader([words[place + 1]])) for place, word in enumerate(words) if word == "--mount"]
    assert told == [
        ["type=bind", f"src={folder}", "dst=/opt/ml/input/data/a", "readonly"],
        ["type=bind", f"src={folder}", "dst=/opt/ml/model"],
    ]


def test_what_separates_the_kernels_options_is_told_apart_from_a_folders_name():
    """3.4."""
    options = overlay_options(Path("/a:b,c"), Path("/back\\slash"))["o"]
    assert options == (r"lowerdir=/a\:b\,c,upperdir=/back\\slash/upper,workdir=/back\\slash/work")


def test_a_strict_container_has_a_read_only_root_and_a_user_of_its_own():
    """13.11."""
    container = plan(read_only_root=True, tmpfs=("/tmp", "/run"), user="1000:1000")
    assert "--read-only --tmpfs /tmp --tmpfs /run --user 1000:1000" in options_of(container)


def test_other_ports_than_8080_are_published_on_loopback_only():
    """15.30."""
    options = options_of(plan("serve", port=0, container_port=8081, publish=(8082, 8083)))
    assert "--publish 127.0.0.1::8081 --publish 127.0.0.1::8082 --publish 127.0.0.1::8083" in options


def test_a_container_in_anothers_network_has_no_name_of_its_own_there():
    """15.30: containers of one instance share localhost."""
    options = options_of(plan("serve", network="container:first"))
    assert "--network container:first" in options
    assert "--hostname" not in options
    assert "--network-alias" not in options


def test_gpus_are_asked_for_in_dockers_words():
    assert "--gpus device=0,1" in options_of(plan(limits=Limits(gpus="device=0,1")))


@pytest.mark.parametrize(("text", "parsed"), [("all", -1), ("2", 2), ("device=0,GPU-1", ("0", "GPU-1"))])
def test_gpus_are_all_a_number_or_named(text, parsed):
    assert parse_gpus(text) == parsed


@pytest.mark.parametrize("text", ["", "0", "none", "-1", "device=", "device=0,,1", "1.5"])
def test_what_names_no_gpus_is_refused(text):
    with pytest.raises(UsageError, match="names no GPUs"):
        parse_gpus(text)


def test_gpus_that_this_machine_lacks_are_never_replaced_by_the_cpu(tmp_path):
    for name in ("nvidia2", "nvidia3", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert gpu_variables(None, tmp_path) == {}
    assert gpu_variables("all", tmp_path) == {"CUDA_VISIBLE_DEVICES": "0,1"}
    assert gpu_variables("1", tmp_path) == {"CUDA_VISIBLE_DEVICES": "0"}
    assert gpu_variables("device=1", tmp_path) == {"CUDA_VISIBLE_DEVICES": "1"}
    for wanted in ("3", "device=2"):
        with pytest.raises(EngineMissingError, match="shows 2 NVIDIA GPUs"):
            gpu_variables(wanted, tmp_path)


def test_an_address_is_on_link_only_where_this_machine_has_one_beside_it():
    assert is_on_link("127.0.0.1", 8)
    assert not is_on_link("198.51.100.7", 24)  # a network that is reserved for documents
    assert not is_on_link("", 0)
