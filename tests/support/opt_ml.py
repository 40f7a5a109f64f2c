"""A tree laid out as the platform lays out /opt/ml, made by hand."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.places import program

ONE_HOST: Mapping[str, object] = {
    "current_host": "algo-1",
    "current_instance_type": "ml.m5.xlarge",
    "current_group_name": "homogeneousCluster",
    "hosts": ["algo-1"],
    "instance_groups": [
        {"instance_group_name": "homogeneousCluster", "instance_type": "ml.m5.xlarge", "hosts": ["algo-1"]}
    ],
    "network_interface_name": "eth0",
    "topology": None,
}


@dataclass(frozen=True)
class OptMl:
    """One job's or one model's tree below ``base``."""

    base: Path

    @classmethod
    def make(cls, base: Path) -> "OptMl":
        """Lay out an empty tree with the platform's three configuration files."""
        tree = cls(base)
        for folder in ("input/config", "input/data", "model", "output/data", "code", "checkpoints"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        tree.config("hyperparameters.json", {})
        tree.config("inputdataconfig.json", {})
        tree.config("resourceconfig.json", dict(ONE_HOST))
        return tree

    def config(self, name: str, document: object) -> Path:
        """Write a configuration file: a text or bytes as they are, anything else as JSON."""
        path = self.base / "input" / "config" / name
        if isinstance(document, bytes):
            path.write_bytes(document)
        else:
            path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
        return path

    def hyperparameters(self, **values: str) -> None:
        """Write hyperparameters, strings only, as the platform does."""
        self.config("hyperparameters.json", values)

    def channel(self, name: str, files: Mapping[str, bytes]) -> Path:
        """Add a channel with its files, and its entry in inputdataconfig.json."""
        folder = self.base / "input" / "data" / name
        for relative, content in files.items():
            (folder / relative).parent.mkdir(parents=True, exist_ok=True)
            (folder / relative).write_bytes(content)
        path = self.base / "input" / "config" / "inputdataconfig.json"
        channels = json.loads(path.read_text(encoding="utf-8"))
        channels[name] = {
            "TrainingInputMode": "File",
            "S3DistributionType": "FullyReplicated",
            "RecordWrapperType": "None",
        }
        self.config("inputdataconfig.json", channels)
        return folder

    def code(self, name: str) -> None:
        """Put the user program ``name`` into the job's code folder."""
        shutil.copytree(program(name), self.base / "code", dirs_exist_ok=True)

    def model_code(self, name: str) -> None:
        """Put the user program ``name`` beside the model, where hosting looks first."""
        shutil.copytree(program(name), self.base / "model" / "code", dirs_exist_ok=True)

    def model_file(self, name: str, content: bytes) -> None:
        """Add a file to the model."""
        (self.base / "model" / name).write_bytes(content)

    @property
    def failure(self) -> str | None:
        """The text of the failure file, or None when there is none."""
        path = self.base / "output" / "failure"
        return path.read_text(encoding="utf-8") if path.exists() else None

    def output(self, name: str) -> object:
        """A JSON document the program wrote to output/data."""
        return json.loads((self.base / "output" / "data" / name).read_text(encoding="utf-8"))
