"""What a request brings, as the arrays that a model with declared inputs takes; what does not fit is told by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sagemaker_byoc.errors import MalformedBody

if TYPE_CHECKING:
    import numpy as np

TEXT = "text"
ANY = "any"  # a free length without a name


@dataclass(frozen=True)
class TensorInput:
    """One input: its name, NumPy's name of its type or `text`, and its shape, where a length that is free is a name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.dtype} of shape {_shape(self.shape)}"


def read_inputs(data: Any, inputs: Sequence[TensorInput]) -> "dict[str, np.ndarray[Any, Any]]":
    """The array of each input. One input takes the data itself, several take a mapping by name.

    Raises MalformedBody that says what an input expects and what it was given.
    """
    names = [one.name for one in inputs]
    if isinstance(data, Mapping):
        if set(data) != set(names):
            raise MalformedBody(f"the model's inputs are {_listed(names)}, but the body has {_listed(data)}.")
        arrays = {one.name: read_input(data[one.name], one) for one in inputs}
        _check_lengths(arrays, inputs)
        return arrays
    if len(inputs) != 1:
        raise MalformedBody(
            f"the model has {len(inputs)} inputs, but the body names none; expected an object with {_listed(names)}."
        )
    return {names[0]: read_input(data, inputs[0])}


def read_input(data: Any, expected: TensorInput) -> "np.ndarray[Any, Any]":
    """The array of one input. Raises MalformedBody."""
    import numpy as np  # noqa: PLC0415 - a server starts without it

    try:
        array = np.asarray(data)
    except ValueError:
        raise MalformedBody(f"input {expected.name!r} expects {expected}, but its rows differ in length.") from None
    if not _fits(array.shape, expected.shape):
        raise MalformedBody(f"input {expected.name!r} expects {expected}, but found shape {_shape(array.shape)}.")
    if expected.dtype == TEXT:
        return _as_text(array, expected)
    return array if array.dtype == expected.dtype else _cast(array, expected)


def _check_lengths(arrays: "Mapping[str, np.ndarray[Any, Any]]", inputs: Sequence[TensorInput]) -> None:
    """A free length that several inputs call by one name is the same in each."""
    found: dict[str, tuple[int, str]] = {}
    for one in inputs:
        for name, length in zip(one.shape, arrays[one.name].shape, strict=True):
            if isinstance(name, int) or name == ANY:
                continue
            first, other = found.setdefault(name, (length, one.name))
            if first != length:
                raise MalformedBody(
                    f"inputs {other!r} and {one.name!r} share the length {name!r}, but found {first} and {length}."
                )


def _fits(found: tuple[int, ...], expected: tuple[int | str, ...]) -> bool:
    return len(found) == len(expected) and all(
        isinstance(wanted, str) or have == wanted for have, wanted in zip(found, expected, strict=True)
    )


def _as_text(array: "np.ndarray[Any, Any]", expected: TensorInput) -> "np.ndarray[Any, Any]":
    if array.dtype.kind != "U":
        raise MalformedBody(f"input {expected.name!r} expects {expected}, but found {array.dtype}.")
    return array.astype(object)


def _cast(array: "np.ndarray[Any, Any]", expected: TensorInput) -> "np.ndarray[Any, Any]":
    """Another type of number, where none of them changes but by rounding to fewer digits."""
    import numpy as np  # noqa: PLC0415

    if array.dtype.kind not in "biuf":
        kind = "text" if array.dtype.kind in "US" else "other things than numbers"
        raise MalformedBody(f"input {expected.name!r} expects {expected}, but found {kind}.")
    with np.errstate(invalid="ignore", over="ignore"):
        cast = array.astype(expected.dtype)
    if cast.dtype.kind in "biu" and not np.array_equal(cast, array):
        strange = array[cast != array].flat[0]
        raise MalformedBody(f"input {expected.name!r} expects {expected}, but found {strange}.")
    return cast


def _shape(shape: Sequence[int | str]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names) or "none"
