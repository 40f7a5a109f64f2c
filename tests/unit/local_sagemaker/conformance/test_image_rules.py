"""What an image's configuration and files say, without an engine."""

import pytest
from local_sagemaker.conformance.image import examine_image

CONFIG = {"Env": ["PATH=/opt/program:/usr/bin"], "Cmd": ["train"], "Entrypoint": None, "User": "", "Labels": None}
INSPECTED = {"Os": "linux", "Architecture": "amd64", "Size": 10**9, "Config": CONFIG}
FILES = {f"/opt/program/{name}": 0o755 for name in ("train", "serve")} | {
    f"/usr/bin/{name}": 0o755 for name in ("bash", "python3", "pip")
}
LABEL = "com.amazonaws.sagemaker.capabilities"


class Files:
    def __init__(self, modes, baked=()):
        self.modes, self.baked = modes, list(baked)

    def mode(self, path):
        return self.modes.get(path)

    def names(self, path):
        return self.baked


def broken(reference="an-image:1", files=None, baked=(), **changes):
    config = {**CONFIG, **{key: value for key, value in changes.items() if key in CONFIG}}
    others = {key: value for key, value in changes.items() if key not in CONFIG}
    inspected = {**INSPECTED, **others, "Config": config}
    found = examine_image(reference, inspected, Files(FILES if files is None else files, baked))
    return {one.rule.id[5:] for one in found if one.outcome == "violated"}


def test_good_image_breaks_no_rule():
    """0.1 to 0.12."""
    assert broken() == set()


@pytest.mark.parametrize(
    ("changes", "rules"),
    [
        ({"Entrypoint": ["/bin/sh", "-c", "python3 main.py"]}, {"I001"}),
        ({"Entrypoint": ["/usr/bin/tini", "--"]}, {"I002"}),
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
    ],
)
def test_each_fault_breaks_its_rule(changes, rules):
    """0.1, 0.2, 0.4 to 0.9, 0.11, 0.12, 4.11, 10.1, 12.6, 18.2."""
    assert broken(**changes) == rules


def test_baked_code_is_no_fault():
    """0.6."""
    assert broken(baked=["code/inference.py"]) == set()
