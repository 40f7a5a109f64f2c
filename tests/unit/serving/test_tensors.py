"""What a request brings becomes the arrays that a model declares, or is told by name what does not fit."""

from typing import Any

import numpy as np
import pytest
from sagemaker_byoc.errors import MalformedBody
from sagemaker_byoc.serving.tensors import TEXT, TensorInput, read_inputs

ROWS = TensorInput("rows", "float32", ("batch", 2))
TOKENS = TensorInput("tokens", "int64", ("batch", "length"))


def read(data: Any, *inputs: TensorInput) -> Any:
    arrays = read_inputs(data, inputs)
    return arrays[inputs[0].name] if len(inputs) == 1 else arrays


@pytest.mark.parametrize("data", [[[1, 2]], [[1.0, 2.0]], np.array([[1, 2]], np.int8), np.array([[1.0, 2.0]])])
def test_numbers_become_the_models_type(data: Any) -> None:
    array = read(data, ROWS)
    assert array.dtype == np.float32
    assert array.tolist() == [[1.0, 2.0]]


def test_an_array_that_fits_is_not_copied() -> None:
    array = np.ones((3, 2), np.float32)
    assert read(array, ROWS) is array


def test_whole_numbers_may_come_as_floats() -> None:
    """CSV and JSON do not tell 1 from 1.0."""
    assert read([[1.0, 2.0, 3.0]], TOKENS).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("data", "expected", "told"),
    [
        ([1, 2], ROWS, r"'rows' expects float32 of shape \(batch, 2\), but found shape \(2,\)"),
        ([[1, 2, 3]], ROWS, r"found shape \(1, 3\)"),
        ([[1, 2], [3]], ROWS, "its rows differ in length"),
        ([["a", "b"]], ROWS, "found text"),
        ([[None, 1]], ROWS, "found other things than numbers"),
        ([[1.5, 2]], TOKENS, r"'tokens' expects int64 of shape \(batch, length\), but found 1\.5"),
        ([[float("nan")]], TOKENS, "found nan"),
        ([[300, 1]], TensorInput("rows", "uint8", ("batch", 2)), "found 300"),
        ([[-1, 1]], TensorInput("rows", "uint8", ("batch", 2)), "found -1"),
        ([2], TensorInput("flags", "bool", (1,)), r"expects bool of shape \(1,\), but found 2"),
        ([1], TensorInput("words", TEXT, ("batch",)), "expects text of shape .* but found int64"),
    ],
)
def test_what_does_not_fit_is_told(data: Any, expected: TensorInput, told: str) -> None:
    with pytest.raises(MalformedBody, match=told):
        read(data, expected)


def test_text_is_given_as_objects() -> None:
    array = read(["a", "bc"], TensorInput("words", TEXT, ("batch",)))
    assert (array.dtype, array.tolist()) == (np.dtype(object), ["a", "bc"])


def test_several_inputs_come_by_name() -> None:
    arrays = read({"tokens": [[1, 2]], "rows": [[1, 2]]}, ROWS, TOKENS)
    assert {name: str(array.dtype) for name, array in arrays.items()} == {"rows": "float32", "tokens": "int64"}


def test_one_input_may_come_by_name_too() -> None:
    assert read({"rows": [[1, 2]]}, ROWS).shape == (1, 2)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ([[1, 2]], "the model has 2 inputs, but the body names none; expected an object with 'rows', 'tokens'"),
        ({"rows": [[1, 2]]}, "the model's inputs are 'rows', 'tokens', but the body has 'rows'"),
        ({}, "but the body has none"),
        ({"rows": [[1, 2]], "tokens": [[1]], "more": 1}, "but the body has 'rows', 'tokens', 'more'"),
    ],
)
def test_missing_and_unknown_inputs_are_named(data: Any, told: str) -> None:
    with pytest.raises(MalformedBody, match=told):
        read(data, ROWS, TOKENS)
