"""Content types by a file's suffix, as verbs guess them where none is said."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

CONTENT_TYPES: Mapping[str, str] = MappingProxyType(
    {
        ".json": "application/json",
        ".jsonl": "application/jsonlines",
        ".csv": "text/csv",
        ".npy": "application/x-npy",
    }
)


def content_type_of(file: Path) -> str | None:
    """What a file's suffix says, also where ``.gz`` is behind it; None if it says nothing."""
    suffix = file.with_suffix("").suffix if file.suffix.lower() == ".gz" else file.suffix
    return CONTENT_TYPES.get(suffix.lower())
