"""Predictions as plain values: arrays of tensors, Python values of arrays and models, one record for each prediction.

No framework is imported here: a value brings its own.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

_COLLECTIONS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (Mapping, dict),
    (list | tuple, list),
    (set | frozenset, sorted),
)
_PYTHONS_OWN = frozenset({dict, list, tuple, str, bytes, int, float, bool, type(None)})


def as_array(value: Any) -> Any:
    """A tensor of any framework as a NumPy array; other values as they are."""
    if type(value) in _PYTHONS_OWN or is_array(value) or hasattr(value, "to_pylist"):
        return value
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # which NumPy does not have
            value = value.float()
    if hasattr(value, "__array__"):
        import numpy as np  # noqa: PLC0415 - not before a value needs it: `serve` starts sooner

        return np.asarray(value)
    return value


def is_array(value: Any) -> bool:
    """Whether it is an array or a number of NumPy's."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray | numpy.generic)


def as_plain(value: Any) -> Any:
    """One level of a structure as Python values: NumPy's, pydantic's, data classes, tables, sets and bytes.

    Raises TypeError for what no JSON value stands for.
    """
    value = as_array(value)
    if is_array(value):
        return value.tolist()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode()
    for collection, make in _COLLECTIONS:
        if isinstance(value, collection):
            return make(value)
    return _fields_of(value)


def _fields_of(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True)
    if hasattr(value, "to_pylist"):
        return value.to_pylist()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Decimal):  # of a table; as text it keeps its digits
        return str(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")


def as_records(value: Any) -> Iterable[Any]:
    """One record for each prediction: the rows of an array, list or table, else the value itself."""
    if hasattr(value, "to_pylist"):
        return list(value.to_pylist())
    if is_array(value) and value.ndim > 0:
        return list(value)
    return value if isinstance(value, list | tuple) else [value]


def as_rows(value: Any) -> Iterable[Any]:
    """The records, those of a table without the columns' names."""
    if hasattr(value, "to_pylist"):
        return list(zip(*(column.to_pylist() for column in value.columns), strict=True))
    return as_records(value)
