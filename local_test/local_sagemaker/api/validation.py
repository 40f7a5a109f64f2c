"""Checks a request against SageMaker's service model, and says what is wrong in the service's own words.

botocore's client checks types and required members only; patterns, enumerations and limits are checked by the service
when the request has reached it. Here all of it is checked before.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Any

from local_sagemaker.api.service_model import input_shape, output_shape, service_model
from local_sagemaker.errors import ValidationError

SHOWN_CHARACTERS = 200
SHOWN_VALUES = 30
ALIKE = 0.9  # how much of two names is the same, of which one may be meant by the other
NUMBERS = {"integer": (int,), "long": (int,), "float": (int, float), "double": (int, float)}
BITS = {"integer": 32, "long": 64}
# Java's classes that Python's re does not have, inside of a bracket or not.
JAVA_CLASSES = (r"\p{L}", r"\p{Z}", r"\p{N}")


def validate(operation: str, document: Mapping[str, Any]) -> None:
    """Check the request of an operation.

    Raises:
        ValidationError: naming each member that is wrong and what was expected of it.
        UnknownOperationError: if SageMaker has no such operation.
    """
    problems = list(_problems(input_shape(operation), document, ""))
    if problems:
        count = f"{len(problems)} validation error{'s' if len(problems) > 1 else ''} detected"
        raise ValidationError(f"{count}: {'; '.join(problems)}", _next_step(operation, document))


def _next_step(operation: str, document: Mapping[str, Any]) -> str:
    described = operation.replace("Create", "Describe", 1)
    step = f"correct the {operation} request"
    if described == operation or described not in service_model().operation_names:
        return step
    answered = set(output_shape(described).members) - set(input_shape(operation).members)
    if answered.isdisjoint(document):
        return step
    return f"{step}: this looks like what {described} answers, of which a request has less"


def _problems(shape: Any, value: Any, path: str) -> Iterator[str]:
    """What is wrong with a value; ``path`` is the service's, as ``inputDataConfig.1.member.channelName``."""
    kind = shape.type_name
    if kind == "structure":
        yield from _structure(shape, value, path)
    elif kind == "list":
        yield from _list(shape, value, path)
    elif kind == "map":
        yield from _map(shape, value, path)
    else:
        yield from _scalar(shape, value, path)


def _structure(shape: Any, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield _wrong_type(value, path, "an object")
        return
    unknown = ", ".join(f'"{name}"{_meant(name, shape, value)}' for name in value if name not in shape.members)
    if unknown:
        where = f' at "{path}"' if path else ""
        yield f"Unknown parameter in input{where}: {unknown}, must be one of: {', '.join(sorted(shape.members))}"
    for name, member in shape.members.items():
        below = f"{path}.{_camel(name)}" if path else _camel(name)
        if value.get(name) is not None:
            yield from _problems(member, value[name], below)
        elif name in shape.required_members:
            yield f"Value null at '{below}' failed to satisfy constraint: Member must not be null"
    given = [name for name in shape.members if value.get(name) is not None]
    if getattr(shape, "is_tagged_union", False) and len(given) != 1:
        yield f"Value at '{path}' failed to satisfy constraint: exactly one of {', '.join(shape.members)} must be set"


def _meant(name: Any, shape: Any, value: Mapping[str, Any]) -> str:
    """The member that an unknown name is most like, as ``training_job_name`` is like TrainingJobName."""
    free = {member.lower(): member for member in shape.members if member not in value}
    near = difflib.get_close_matches(str(name).replace("_", "").lower(), free, 1, ALIKE)
    return f" (is {free[near[0]]} meant?)" if near else ""


def _list(shape: Any, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, list | tuple):
        yield _wrong_type(value, path, "a list")
        return
    yield from _size(shape, value, path)
    for place, item in enumerate(value, start=1):
        yield from _problems(shape.member, item, f"{path}.{place}.member")


def _map(shape: Any, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield _wrong_type(value, path, "an object")
        return
    yield from _size(shape, value, path)
    for key, item in value.items():
        broken = [_constraint(problem) for problem in _problems(shape.key, key, path)]
        if broken:
            yield (
                f"Value '{_show(value)}' at '{path}' failed to satisfy constraint: "
                f"Map keys must satisfy constraint: [{', '.join(broken)}] (key {key!r})"
            )
        yield from _problems(shape.value, item, f"{path}.{key}.member")


def _scalar(shape: Any, value: Any, path: str) -> Iterator[str]:
    kind = shape.type_name
    if kind == "boolean":
        if not isinstance(value, bool):
            yield _wrong_type(value, path, "true or false")
    elif kind in NUMBERS:
        yield from _number(shape, value, path)
    elif kind == "timestamp":
        if not _is_time(value):
            yield _wrong_type(value, path, "a time, as 2026-01-31T08:00:00Z or seconds since the epoch")
    elif kind == "blob":
        if not isinstance(value, bytes | bytearray | str):
            yield _wrong_type(value, path, "bytes")
    elif not isinstance(value, str):
        yield _wrong_type(value, path, "a string")
    else:
        yield from _string(shape, value, path)


def _number(shape: Any, value: Any, path: str) -> Iterator[str]:
    kind = shape.type_name
    if isinstance(value, bool) or not isinstance(value, NUMBERS[kind]):
        yield _wrong_type(value, path, "a whole number" if kind in BITS else "a number")
    elif kind in BITS and not -(1 << BITS[kind] - 1) <= value < 1 << BITS[kind] - 1:
        yield _wrong_type(value, path, f"a whole number of {BITS[kind]} bits")
    else:
        yield from _range(shape, value, path, "value", value)


def _is_time(value: Any) -> bool:
    """Whether botocore's client reads it as one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | datetime):
        return False
    from botocore.utils import parse_to_aware_datetime  # noqa: PLC0415 - few requests have a time

    try:
        parse_to_aware_datetime(value)
    except (ValueError, RuntimeError):  # the latter: of a time beyond the calendar
        return False
    return True


def _string(shape: Any, value: str, path: str) -> Iterator[str]:
    yield from _size(shape, value, path)
    if shape.enum and value not in shape.enum:
        yield _broken(value, path, f"Member must satisfy enum value set: [{_some(shape.enum, value)}]")
    pattern = shape.metadata.get("pattern")
    compiled = _compile(pattern) if pattern else None
    if compiled is not None and not compiled.fullmatch(value):
        yield _broken(value, path, f"Member must satisfy regular expression pattern: {pattern}")


def _size(shape: Any, value: Any, path: str) -> Iterator[str]:
    yield from _range(shape, value, path, "length", len(value))


def _range(shape: Any, value: Any, path: str, noun: str, measure: float) -> Iterator[str]:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if low is not None and measure < low:
        yield _broken(value, path, f"Member must have {noun} greater than or equal to {low}")
    if high is not None and measure > high:
        yield _broken(value, path, f"Member must have {noun} less than or equal to {high}")


def _broken(value: Any, path: str, constraint: str) -> str:
    return f"Value '{_show(value)}' at '{path}' failed to satisfy constraint: {constraint}"


def _constraint(problem: str) -> str:
    return problem.partition("constraint: ")[2] or problem


def _wrong_type(value: Any, path: str, expected: str) -> str:
    hint = ": write it in quotes" if expected == "a string" and isinstance(value, int | float) else ""
    found = {bool: "boolean", int: "number", float: "number", str: "string", list: "list", dict: "object"}
    noun = found.get(type(value), type(value).__name__)
    return f"Invalid type at '{path or 'the request'}': {_show(value)} is a {noun}, expected {expected}{hint}"


def _show(value: Any) -> str:
    text = str(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def _some(values: list[str], wanted: str) -> str:
    """The values of an enumeration; of hundreds, those that look like what was wanted."""
    if len(values) <= SHOWN_VALUES:
        return ", ".join(values)
    near = difflib.get_close_matches(wanted, values, 5, 0.3) or values[:5]
    return f"{', '.join(near)} and {len(values) - len(near)} more"


def _camel(name: str) -> str:
    return name[:1].lower() + name[1:]


@cache
def _compile(pattern: str) -> re.Pattern[str] | None:
    """A pattern of the model, which is Java's; None for one that Python cannot read, which is then not checked."""
    try:
        return re.compile(_without_java(pattern))
    except re.error:
        return None


def _without_java(pattern: str) -> str:
    if not any(name in pattern for name in JAVA_CLASSES):
        return pattern
    return re.sub(r"\[((?:\\p\{[LZN]\})+)", lambda found: "[" + _classes(found[1]), pattern)


def _classes(names: str) -> str:
    letters = r"\w" if r"\p{L}" in names else ""
    return letters + (r"\s" if r"\p{Z}" in names else "") + (r"\d" if r"\p{N}" in names and not letters else "")
