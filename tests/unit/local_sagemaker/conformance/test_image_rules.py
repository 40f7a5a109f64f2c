"""What an image's configuration and files say, without an engine."""

import pytest
from local_sagemaker.conformance.image import examine_image, find_roles

CONFIG = {
    "Env": ["PATH=/opt/program:/usr/bin"],
    "Cmd": ["train"],
    "Entrypoint": None,
    "User": "",
    "Labels": None,
    "WorkingDir": "",
}
INSPECTED = {"Os": "linux", "Architecture": "amd64", "Size": 10**9, "Config": CONFIG}
FILES = {f"/opt/program/{name}": 0o755 for name in ("train", "serve")} | {
    f"/usr/bin/{name}": 0o755 for name in ("bash", "env", "python3", "pip", "run")
}
SCRIPT = b"#!/usr/bin/env python3\nimport main\n"
LABEL = "com.amazonaws.sagemaker.capabilities"


class Files:
    def __init__(self, modes, baked=(), script=SCRIPT):
        self.modes, self.baked, self.script = modes, list(baked), script

    def mode(self, path):
        return self.modes.get(path)

    def start(self, path):
        return self.script if path in self.modes else None

    def names(self, path):
        return self.baked


def broken(reference="an-image:1", files=None, baked=(), script=SCRIPT, **changes):
    config = {**CONFIG, **{key: value for key, value in changes.items() if key in CONFIG}}
    others = {key: value for key, value in changes.items() if key not in CONFIG}
    inspected = {**INSPECTED, **others, "Config": config}
    found = examine_image(reference, inspected, Files(FILES if files is None else files, baked, script))
    return {one.rule.id[5:] for one in found if one.outcome == "violated"}


def test_good_image_breaks_no_rule():
    """0.1 to 0.12."""
    assert broken() == set()


@pytest.mark.parametrize(
    ("changes", "rules"),
    [
        ({"Entrypoint": ["/usr/bin/bash", "-c", "python3 main.py"]}, {"I001"}),
        ({"Entrypoint": ["bash", "-o", "pipefail", "-lc", "cd /x; python3 main.py"]}, {"I001"}),
        ({"Entrypoint": ["/usr/bin/tini", "--"], "files": {**FILES, "/usr/bin/tini": 0o755}}, {"I002"}),
        ({"files": {**FILES, "/opt/program/train": 0o644}}, {"I003"}),
        ({"Env": ["PATH=/usr/bin"]}, {"I003", "I004"}),
        ({"Architecture": "arm64"}, {"I005"}),
        ({"User": "1000:1000"}, {"I006"}),
        ({"baked": ["model/weights.pt", "code/train.py"]}, {"I007"}),
        ({"files": {**FILES, "/usr/lib64/libcuda.so.1": 0o755}}, {"I008"}),
        ({"Labels": {f"{LABEL}.multi-models": "yes"}}, {"I009"}),
        ({"reference": "an image"}, {"I010"}),
        ({"Descriptor": {"mediaType": "application/vnd.oci.image.index.v1+json"}}, {"I011"}),
        ({"Cmd": None}, {"I012"}),
        ({"files": {path: mode for path, mode in FILES.items() if "pip" not in path}}, {"I013"}),
        ({"Env": [*CONFIG["Env"], "AWS_SECRET_ACCESS_KEY=x"]}, {"I014"}),
        ({"Size": 11 * 1024**3}, {"I015"}),
        ({"script": b"#!/usr/bin/env python3\r\nimport main\r\n"}, {"I016"}),
        ({"script": b"#!/bin/zsh\n"}, {"I016"}),
        ({"script": b"#!/usr/bin/env -S julia --startup-file=no\n"}, {"I016"}),
        ({"script": b"import main\n"}, {"I016"}),
        ({"Entrypoint": ["run.sh"]}, {"I016"}),
    ],
)
def test_each_fault_breaks_its_rule(changes, rules):
    """0.1, 0.2, 0.4 to 0.9, 0.11, 0.12, 4.11, 10.1, 12.6, 18.2."""
    assert broken(**changes) == rules


@pytest.mark.parametrize(
    "changes",
    [
        {"Entrypoint": ["bash", "-lc", 'cd /x; exec python3 main.py "$0"']},
        {"Entrypoint": ["bash", "/opt/program/train"]},
        {"Entrypoint": ["./run"], "WorkingDir": "/usr/bin"},
        {"script": b"\x7fELF\x02\x01\x01\0"},
        {"script": b"#!/usr/bin/env -S python3 -u\n"},
    ],
)
def test_what_hears_sigterm_and_starts_is_no_fault(changes):
    """0.1, 0.2: a shell that is replaced by the program, a path from WORKDIR, a program that is no script."""
    assert broken(**changes) == set()


@pytest.mark.parametrize(
    ("entry_point", "there", "roles"),
    [
        (["run"], (), {"train", "serve"}),
        (None, ("train", "serve"), {"train", "serve"}),
        (None, ("train",), {"train"}),
        (None, ("serve",), {"serve"}),
        (None, (), {"train", "serve"}),
    ],
)
def test_image_is_for_what_it_has_executables_for(entry_point, there, roles):
    """0.1: an image of one role is whole; one of none lacks both."""
    files = Files({f"/opt/program/{name}": 0o755 for name in there})
    assert find_roles({"Config": {**CONFIG, "Entrypoint": entry_point}}, files) == roles


def test_baked_code_is_no_fault():
    """0.6."""
    assert broken(baked=["code/inference.py"]) == set()
