"""What stands for a container's /tmp: a folder that ends with its plain process, and is found again if nobody saw that.

The folder says whose it is, because the process that would say it may be gone already.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from local_sagemaker.engines.process_marks import carries

PREFIX = "byoc-"
LABELS_FILE = "labels.json"
CONTENT = "tmp"


def make_temporary(labels: Mapping[str, str]) -> Path:
    """A folder for a container of these labels; the program's own part is ``content_of`` it."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    (folder / LABELS_FILE).write_text(json.dumps(dict(labels)), encoding="utf-8")
    content_of(folder).mkdir(mode=0o700)
    return folder


def content_of(folder: Path) -> Path:
    """The part of the folder that is the program's."""
    return folder / CONTENT


def remove_temporary(folder: Path) -> None:
    """Remove a folder that ``make_temporary`` made; any other is left alone, fine if there is none."""
    # The name is read from a process's environment, which a program may change.
    if folder.name.startswith(PREFIX):
        # Whose it is goes last: a removal that is killed can be found again.
        shutil.rmtree(content_of(folder), ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def find_temporary(wanted: Mapping[str, str | None]) -> Iterator[Path]:
    """The folders of containers that carry the labels; None stands for any value."""
    for file in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{LABELS_FILE}"):
        try:
            labels = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # it is being removed or made, or it is another user's
            continue
        if isinstance(labels, dict) and carries(labels, wanted):
            yield file.parent
