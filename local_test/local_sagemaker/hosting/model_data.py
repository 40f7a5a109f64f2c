"""A model's data as hosting gives it to containers: downloaded and unpacked once, and read-only."""

from __future__ import annotations

import hashlib
import shutil
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_sagemaker.archive import make_read_only, remove_tree, unpack
from local_sagemaker.errors import NoSuchObjectError, UsageError
from local_sagemaker.hosting.blueprint import hostname_of
from local_sagemaker.hosting.checks import containers_of, is_multi_model
from local_sagemaker.state.buckets import Buckets

LONGEST_PART = 255


@dataclass(frozen=True)
class ModelData:
    """Unpacked model data below ``directory``; the same data has the same folder, for all containers that want it."""

    directory: Path
    buckets: Buckets
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def folders(self, model: Mapping[str, Any]) -> dict[str, tuple[Path | None, Mapping[str, Path]]]:
        """Unpack a model's data; the folder and the additional folders of each container, by its host name.

        Raises:
            UsageError: if the data is not there or cannot be unpacked.
        """
        return {
            hostname_of(document): (
                None if is_multi_model(document) else self._folder(document),
                {
                    source["ChannelName"]: self.prefix(source["S3DataSource"])
                    for source in document.get("AdditionalModelDataSources", ())
                },
            )
            for document in containers_of(model)
        }

    def _folder(self, document: Mapping[str, Any]) -> Path | None:
        if document.get("ModelDataUrl"):
            return self.archive(document["ModelDataUrl"])
        source = document.get("ModelDataSource", {}).get("S3DataSource")
        return None if source is None else self.prefix(source)

    def archive(self, uri: str) -> Path:
        """The folder that an archive was unpacked into."""
        path = self.buckets.path(uri)
        self.buckets.open(uri).close()  # says in words what there is instead
        status = path.stat()
        return self._once(f"{uri} {status.st_mtime_ns} {status.st_size}", lambda folder: unpack(path, folder))

    def prefix(self, source: Mapping[str, Any]) -> Path:
        """The folder of an S3DataSource: an archive unpacked, or objects under their keys less the prefix.

        Raises:
            UsageError: if there is nothing, or two objects cannot be files of one folder.
        """
        uri = source["S3Uri"]
        if source.get("CompressionType") == "Gzip":
            return self.archive(uri)
        objects = list(self.buckets.objects(uri))
        if not objects:
            raise NoSuchObjectError(f"there is nothing below {uri}", "expected a model's files", "correct the address")
        key = objects[0].uri[: -len(objects[0].key)]
        beginning = uri.removeprefix(key).rpartition("/")[0]
        state = [(item.key, item.size, item.path.stat().st_mtime_ns) for item in objects]

        def copy(folder: Path) -> None:
            for item in objects:
                _copy(item.path, folder / item.key.removeprefix(beginning).lstrip("/"))

        return self._once(f"{uri} {state}", copy)

    def _once(self, identity: str, fill: Callable[[Path], object]) -> Path:
        folder = self.directory / hashlib.sha256(identity.encode()).hexdigest()[:16]
        with self._lock:
            if not folder.is_dir():
                unfinished = self.directory / f".unfinished-{uuid.uuid4().hex[:12]}"
                unfinished.mkdir(parents=True)
                try:
                    fill(unfinished)
                    unfinished.rename(folder)
                    make_read_only(folder)
                finally:
                    remove_tree(unfinished)
        return folder

    def remove(self) -> None:
        """Delete all of it; fine if there is nothing."""
        remove_tree(self.directory)


def _copy(source: Path, target: Path) -> None:
    if any(len(part.encode()) > LONGEST_PART for part in target.parts):
        raise UsageError(
            f"{target} cannot be a file", f"a part has more than {LONGEST_PART} bytes", "rename the object"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise UsageError(
            f"{target.name} is a file and a folder in the model's data", "a model's keys must be paths", "rename one"
        ) from error
