"""What callers are told in place of the paths of this machine, which are for the log."""

import re
from collections.abc import Mapping
from pathlib import Path

from sagemaker_byoc.serving.settings import ServeSettings

_PATH = r"(?<![\w:/.])/(?P<top>[^\s/'\":,;()]+)/(?:[^\s/'\":,;()]+/)*(?P<name>[^\s/'\":,;()]*)"


def hide_paths(text: str, settings: ServeSettings) -> str:
    """The text with the folders of the model and of its code named, and of other paths only the last part."""
    paths = settings.paths
    for place, name in _names(settings).items():
        text = re.sub(rf"{re.escape(str(place))}(?![\w./-])", name, text)
    text = text.replace(f"{paths.model}/", "")
    return re.sub(_PATH, lambda match: match["name"] if Path("/", match["top"]).is_dir() else match[0], text)


def _names(settings: ServeSettings) -> Mapping[Path, str]:
    """Each place once, by the first name that fits."""
    paths = settings.paths
    names = {
        paths.model / "code": "the model's folder code",
        paths.model: "the model's folder",
        paths.code: "the container's folder code",
        paths.image_code: "the image's code",
    }
    return {**({settings.submit_directory: "the submitted code"} if settings.submit_directory else {}), **names}
