"""Rows: how many a value has, which values can be joined along them, and how an answer is split again.

Arrays and tensors have as many rows as their first axis is long, lists as many as they have elements, and a dict of
these the rows that its values have in common. Every other value is one thing of its own, which cannot be joined. No
framework is imported here: a value brings its own.
"""

import sys
from collections.abc import Hashable, Sequence
from itertools import accumulate, pairwise
from typing import Any

# Whose values can be joined, and by which of the package's functions.
_JOINS = {("numpy", "ndarray"): "concatenate", ("torch", "Tensor"): "cat"}


class CannotSplitError(ValueError):
    """An answer does not have the rows of the values that were asked about."""


def measure(value: Any) -> tuple[Hashable | None, int]:
    """A value's kind and its rows: 1 for one that cannot be joined."""
    kind = kind_of(value)
    return kind, _rows(value) if kind is not None else 1


def kind_of(value: Any) -> Hashable | None:
    """What a value has in common with those that it can be joined with: types, element types, all axes but the first,
    and keys. None for a value that cannot be joined, also because it has no row.
    """
    if isinstance(value, list):
        return (list, type(value[0])) if value and type(value) is list else None
    if type(value) is dict:
        kinds = frozenset((key, kind_of(column)) for key, column in value.items())
        columns = value.values()
        alike = len({_rows(column) for column in columns if kind_of(column) is not None}) == 1
        return (dict, kinds) if alike and all(kind is not None for _, kind in kinds) else None
    if _join_name(value) is None or not value.shape or not value.shape[0]:
        return None
    return type(value), value.dtype, value.shape[1:], getattr(value, "device", None)


def join(values: Sequence[Any]) -> Any:
    """One value with the rows of all, in order. They must be of one kind."""
    first = values[0]
    if isinstance(first, list):
        return [row for value in values for row in value]
    if isinstance(first, dict):
        return {key: join([value[key] for value in values]) for key in first}
    name = _join_name(first)
    if name is None:
        raise TypeError(f"values of type {type(first).__name__} cannot be joined.")
    return getattr(sys.modules[type(first).__module__], name)(values)


def split(result: Any, counts: Sequence[int]) -> list[Any]:
    """The answer for each value: as many rows as it had, in order. A tuple or dict is split in each of its parts.

    Raises CannotSplitError where the answer, or a part of it, does not have exactly the rows that were asked about.
    """
    total = sum(counts)
    if isinstance(result, dict | tuple) and not result:
        raise CannotSplitError(f"an empty {type(result).__name__}; expected {total} rows")
    if type(result) is dict:
        columns = {key: split(part, counts) for key, part in result.items()}
        return [{key: column[at] for key, column in columns.items()} for at in range(len(counts))]
    if isinstance(result, tuple):
        made = getattr(type(result), "_make", type(result))
        return [made(parts) for parts in zip(*(split(part, counts) for part in result), strict=True)]
    if type(result) is not list and not getattr(result, "shape", None):
        raise CannotSplitError(f"a {type(result).__name__}; expected {total} rows in an array, tensor or list")
    if _rows(result) != total:
        raise CannotSplitError(f"{_rows(result)} rows in a {type(result).__name__}; expected {total}")
    return [result[start:end] for start, end in pairwise(accumulate(counts, initial=0))]


def _rows(value: Any) -> int:
    if isinstance(value, dict):
        return _rows(next(iter(value.values())))
    return len(value) if isinstance(value, list) else int(value.shape[0])


def _join_name(value: Any) -> str | None:
    kind = type(value)
    return _JOINS.get((kind.__module__, kind.__name__))
