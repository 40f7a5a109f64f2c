"""The file that keeps a host's output, over all attempts of its job."""

from __future__ import annotations

from pathlib import Path

from local_sagemaker.engines.base import Chunk


class FileSink:
    """Adds every byte at once to a file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)

    def write(self, chunk: Chunk) -> None:
        """Add one chunk."""
        self._file.write(chunk.data)

    def end(self) -> None:
        """Close the file."""
        self._file.close()
