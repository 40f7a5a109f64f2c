"""Where everything lies under /opt/ml."""

from dataclasses import dataclass
from pathlib import Path

DEFAULT_BASE = Path("/opt/ml")
DEFAULT_IMAGE_CODE = Path("/opt/program/code")


@dataclass(frozen=True)
class MLPaths:
    """The folders of one job or endpoint below `base` (/opt/ml on the platform), and the code baked into the image."""

    base: Path = DEFAULT_BASE
    image_code: Path = DEFAULT_IMAGE_CODE

    @property
    def input(self) -> Path:
        return self.base / "input"

    @property
    def config(self) -> Path:
        return self.input / "config"

    @property
    def data(self) -> Path:
        return self.input / "data"

    @property
    def code(self) -> Path:
        return self.base / "code"

    @property
    def model(self) -> Path:
        return self.base / "model"

    @property
    def models(self) -> Path:
        return self.base / "models"

    @property
    def output(self) -> Path:
        return self.base / "output"

    @property
    def output_data(self) -> Path:
        return self.output / "data"

    @property
    def failure(self) -> Path:
        return self.output / "failure"
