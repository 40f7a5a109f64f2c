"""S3 as a tree of files that people can look into: ``s3://BUCKET/KEY`` is the file ``BUCKET/KEY``.

A user's own folder appears below a prefix as a link, so nothing is copied. What S3 can hold and a tree cannot, a key
that is also another key's folder, is refused in words. An object's content type is the file's extended attribute
``user.mime_type``, the desktops' name for it, which other programs read and write too.
"""

from __future__ import annotations

import mimetypes
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from local_sagemaker.content_types import content_type_of
from local_sagemaker.errors import NoSuchObjectError, UsageError

SCHEME = "s3://"
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
UNFINISHED = ".byoc-unfinished-"
CONTENT_TYPE = "user.mime_type"


@dataclass(frozen=True)
class S3Object:
    """One object: its address, its key in the bucket, the file that holds it, and its size in bytes."""

    uri: str
    key: str
    path: Path
    size: int


def split_uri(uri: str) -> tuple[str, str]:
    """The bucket and the key of ``s3://BUCKET/KEY``; the key may be empty.

    Raises:
        UsageError: if it is no such address, or one that leaves its bucket.
    """
    bucket, _, key = uri.removeprefix(SCHEME).partition("/")
    if not uri.startswith(SCHEME) or not BUCKET.fullmatch(bucket):
        expected = "expected s3://BUCKET/KEY, with 3 to 63 characters of a-z 0-9 . - as the bucket"
        raise UsageError(f"{uri!r} is no address in S3", expected, "correct the address")
    parts = key.split("/")
    if "\0" in key or any(part in {".", ".."} for part in parts) or "" in parts[:-1]:
        raise UsageError(f"{uri!r} cannot be a file", "expected a key without empty parts, . and ..", "use another key")
    return bucket, key


def join_uri(uri: str, *parts: str) -> str:
    """An address below another one: ``join_uri("s3://b/a/", "x", "y")`` is ``s3://b/a/x/y``."""
    return "/".join((uri.rstrip("/"), *parts))


@dataclass(frozen=True)
class Buckets:
    """All buckets; ``root`` has one folder for each."""

    root: Path

    def path(self, uri: str) -> Path:
        """The file or folder that an address names, whether it exists or not.

        Raises:
            UsageError: if it is no address in S3.
        """
        bucket, key = split_uri(uri)
        return self.root / bucket / key

    def exists(self, uri: str) -> bool:
        """Whether there is an object of just this name."""
        return self.path(uri).is_file() and not uri.endswith("/")

    def objects(self, prefix: str) -> Iterator[S3Object]:
        """The objects whose address begins with ``prefix``, in the binary order of their keys, as S3 lists them.

        As in S3 a prefix need not end at a slash: ``s3://b/tra`` has the objects of ``train/`` too. Links are followed.

        Raises:
            UsageError: if it is no address in S3.
        """
        bucket, key = split_uri(prefix)
        folder, _, _ = key.rpartition("/")
        top = self.root / bucket
        found = sorted((f"{folder}/{name}" if folder else name for name in _files(top / folder)), key=os.fsencode)
        for name in found:
            if name.startswith(key):
                path = top / name
                yield S3Object(f"{SCHEME}{bucket}/{name}", name, path, path.stat().st_size)

    def open(self, uri: str) -> BinaryIO:
        """An object's bytes.

        Raises:
            NoSuchObjectError: if there is no such object; the message names what there is.
        """
        try:
            return self.path(uri).open("rb")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise self._absent(uri) from None

    def read_bytes(self, uri: str) -> bytes:
        """A whole object; see ``open``."""
        with self.open(uri) as file:
            return file.read()

    def content_type(self, uri: str) -> str | None:
        """What an object was said to be when it was put, else what its suffix says; None if that says nothing."""
        path = self.path(uri)
        with suppress(OSError, AttributeError):  # of the file system, of a Python without extended attributes
            said = os.getxattr(path, CONTENT_TYPE).decode("latin-1")
            if said.isascii() and said.isprintable():  # it becomes a header, whoever wrote it
                return said
        return content_type_of(path) or _registered_type(path)

    def put(self, uri: str, source: Path, content_type: str | None = None) -> None:
        """Make a file an object: by a hard link where the file system allows, else by a copy; at once or not at all.

        ``source`` must not be changed in place afterwards. The content type is kept where the file system allows.
        """

        def bring(unfinished: Path) -> None:
            try:
                os.link(source, unfinished)
            except OSError:
                shutil.copyfile(source, unfinished)

        self._place(uri, bring, content_type)

    def copy(self, uri: str, source: Path) -> None:
        """Make a copy of a file an object, whatever happens to the file later."""
        self._place(uri, lambda unfinished: shutil.copyfile(source, unfinished))

    def put_bytes(self, uri: str, data: bytes, content_type: str | None = None) -> None:
        """Write an object, at once or not at all. The content type is kept where the file system allows."""
        self._place(uri, lambda unfinished: unfinished.write_bytes(data), content_type)

    def link(self, uri: str, source: Path) -> None:
        """Let a file or folder of the user's appear under an address. Nothing is copied.

        Raises:
            UsageError: if something else is there already.
        """
        path = self.path(uri.rstrip("/"))
        source = source.resolve()
        self._make_parent(uri, path)
        try:
            path.symlink_to(source)
        except FileExistsError:
            # Asked only now: two jobs with a channel in common may show it at the same moment.
            if path.is_symlink() and path.readlink() == source:
                return
            raise UsageError(
                f"{uri} exists already, as {path}", f"it was to show {source}", "use another address, or remove it"
            ) from None

    def delete(self, uri: str) -> None:
        """Remove an object or a link; fine if there is none. What a link shows stays."""
        path = self.path(uri.rstrip("/"))
        if path.is_symlink() or path.is_file():
            path.unlink()

    def delete_prefix(self, prefix: str) -> None:
        """Remove all objects below a folder's address, and links, but nothing that a link shows."""
        path = self.path(prefix.rstrip("/"))
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)

    def _place(self, uri: str, write: Callable[[Path], object], content_type: str | None = None) -> None:
        path = self.path(uri)
        if uri.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)  # how consoles make a folder: an object of no bytes
            return
        self._make_parent(uri, path)
        unfinished = path.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")
        try:
            write(unfinished)
            if content_type:
                with suppress(OSError, AttributeError):
                    os.setxattr(unfinished, CONTENT_TYPE, content_type.encode("latin-1"))
            unfinished.replace(path)
        except IsADirectoryError:
            raise UsageError(
                f"{uri} is a folder of other objects here", "a file and a folder cannot share a name", "use another key"
            ) from None
        finally:
            unfinished.unlink(missing_ok=True)

    def _make_parent(self, uri: str, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise UsageError(
                f"{uri} would lie below an object", "a file and a folder cannot share a name", "use another key"
            ) from None

    def _absent(self, uri: str) -> NoSuchObjectError:
        bucket, key = split_uri(uri)
        if not (self.root / bucket).is_dir():
            there = sorted(path.name for path in self.root.iterdir()) if self.root.is_dir() else []
            return NoSuchObjectError(
                f"{uri}: there is no bucket {bucket}",
                f"there are {', '.join(there) or 'none'} below {self.root}",
                "put files there, or correct the address",
            )
        folder = key.rpartition("/")[0]
        beside = [item.key for item in self.objects(f"{SCHEME}{bucket}/{folder + '/' if folder else ''}")][:5]
        return NoSuchObjectError(
            f"{uri}: there is no such object",
            f"beside it there are {', '.join(beside) or 'none'}",
            f"put the file at {self.path(uri)}, or correct the address",
        )


def _registered_type(file: Path) -> str | None:
    content_type, encoding = mimetypes.guess_type(file.name)
    return content_type if encoding is None else None


def _files(folder: Path) -> Iterator[str]:
    """The files below a folder by their relative names; links are followed, but into no folder a second time."""
    if not folder.is_dir():
        return
    above: dict[str, frozenset[str]] = {str(folder): frozenset({os.path.realpath(folder)})}
    for parent, folders, files in os.walk(folder, followlinks=True):
        seen = above.pop(parent, frozenset())
        for name in list(folders):
            real = os.path.realpath(os.path.join(parent, name))  # noqa: PTH118 - os.walk gives strings
            if real in seen:
                folders.remove(name)
            else:
                above[os.path.join(parent, name)] = seen | {real}  # noqa: PTH118
        relative = os.path.relpath(parent, folder)
        for name in files:
            if not name.startswith(UNFINISHED) and os.path.isfile(os.path.join(parent, name)):  # noqa: PTH118, PTH113
                yield name if relative == "." else f"{relative}/{name}"
