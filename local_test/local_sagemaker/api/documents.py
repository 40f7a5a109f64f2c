"""Request documents as users keep them, in JSON or YAML, and flags laid over them."""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local_sagemaker.errors import UsageError

STDIN = "-"
BYTE_ORDER_MARK = "\ufeff"  # some editors of Windows write one
# Members whose keys are the user's own: a value that is missing there is a mistake to be told.
MAPS = frozenset({"HyperParameters", "StaticHyperParameters", "Environment"})


def read_request(path: Path) -> dict[str, Any]:
    """Read a request document; ``-`` is standard input. A name that does not end in ``.json`` may be YAML.

    Raises:
        UsageError: naming path, line and column, if it cannot be read, is no object or has a key twice.
    """
    name = "standard input" if str(path) == STDIN else str(path)
    try:
        text = sys.stdin.read() if str(path) == STDIN else _decode(path.read_bytes())
    except OSError as error:
        raise UsageError(
            f"{name} cannot be read: {error.strerror}", "expected a request document", "correct the path"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{name} cannot be read: {error}", "expected a request document in UTF-8", "save it in UTF-8"
        ) from error
    text = text.removeprefix(BYTE_ORDER_MARK)
    try:
        return _read_object(_parse_json(text, name) if path.suffix == ".json" else _parse_yaml(text, name), name)
    except RecursionError:
        raise UsageError(
            f"{name} is nested too deeply, or in itself", "expected a request", "correct the file"
        ) from None


def _decode(content: bytes) -> str:
    """The text of a file: UTF-8, or UTF-16 with a byte order mark, as what PowerShell's ``>`` has written."""
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_wide else "utf-8")


def _read_object(document: Any, name: str) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise UsageError(
            f"{name} is empty" if document is None else f"{name} holds a {type(document).__name__}",
            "expected one object, the request as the API takes it",
            "see `request` in what `byoc train --dry-run --json` prints",
        )
    return without_nulls(document)


def without_nulls(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document less the members that are null, at every depth: to the service they are not given."""
    return {
        name: value if name in MAPS else _without_nulls(value) for name, value in document.items() if value is not None
    }


def merge(document: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one document over another: objects are merged, anything else replaces; None leaves what is there."""
    merged = dict(document)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        elif value is not None:
            merged[key] = value
    return merged


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return without_nulls(value)
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _parse_json(text: str, name: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{name}, line {error.lineno}, column {error.colno}: {error.msg}", "expected JSON", "correct the file"
        ) from error
    except ValueError as error:  # a number of thousands of digits, or a key twice
        raise UsageError(f"{name}: {error}", "expected JSON", "correct the file") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, of whose keys none may be lost in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in found if keys.count(key) > 1)!r} stands twice in an object")
    return found


def _parse_yaml(text: str, name: str) -> Any:
    import yaml  # noqa: PLC0415 - only who reads a document pays for it

    try:
        return yaml.load(text, Loader=_loader())  # noqa: S506 - made from the safe one
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        is_tag = isinstance(error, yaml.constructor.ConstructorError) and "the tag" in str(error.problem)
        step = (
            "write the value itself; functions of CloudFormation are not called here" if is_tag else "correct the file"
        )
        raise UsageError(f"{name}{where}: {error.problem}", "expected YAML or JSON", step) from error
    except (yaml.YAMLError, ValueError) as error:  # a character that YAML does not allow, or !!int of no number
        reason = " ".join(str(error).split())
        raise UsageError(f"{name}: {reason}", "expected YAML or JSON", "correct the file") from error


def _loader() -> Any:
    """PyYAML's safe loader, less what makes a date of ``2026-01-31`` and a truth of ``on``, and takes a key twice."""
    import yaml  # noqa: PLC0415

    truth, left_out = "tag:yaml.org,2002:bool", {"tag:yaml.org,2002:timestamp"}

    class PlainLoader(yaml.SafeLoader):
        yaml_implicit_resolvers = {  # noqa: RUF012 - as PyYAML has it
            first: [
                (tag, pattern) for tag, pattern in rules if tag not in left_out and (tag != truth or first in "tTfF")
            ]
            for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} stands twice in an object", key.start_mark
                    )
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    return PlainLoader
