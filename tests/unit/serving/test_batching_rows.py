"""Rows: what can be joined is joined along the first axis, and every answer goes back to whom it belongs."""

import re
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sagemaker_byoc.serving.rows import CannotSplitError, join, kind_of, measure, split


class Scores(NamedTuple):
    label: Any
    probability: Any


def plain(value: Any) -> Any:
    """Arrays and tensors as lists."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, tuple):
        return tuple(plain(part) for part in value)
    return value.tolist() if hasattr(value, "tolist") else value


def array(rows: int, width: int = 2, dtype: str = "float64") -> np.ndarray:
    return np.arange(rows * width, dtype=dtype).reshape(rows, width)


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        (array(3), 3),
        (np.arange(4), 4),
        (["a", "b"], 2),
        ([{"x": 1}], 1),
        ({"x": array(3), "y": [1, 2, 3]}, 3),
        ({"outer": {"inner": array(5)}}, 5),
    ],
)
def test_arrays_lists_and_dicts_of_them_have_rows(value: Any, rows: int) -> None:
    """Rows are counted, not requests."""
    kind, counted = measure(value)
    assert kind is not None
    assert counted == rows


@pytest.mark.parametrize(
    "value",
    [
        "text",
        b"bytes",
        7,
        None,
        np.float64(1.0),
        np.array(3),
        np.empty((0, 2)),
        [],
        {},
        {"x": array(2), "y": array(3)},
        {"x": array(2), "threshold": 0.5},
        {"x": [], "y": []},
        np.ma.masked_array([1, 2], mask=[True, False]),
        object(),
    ],
    ids=lambda value: re.sub(r" at 0x\w+", "", repr(value)),  # an address would be another name in each process
)
def test_any_other_value_is_one_thing_of_its_own(value: Any) -> None:
    """Also an empty one, one of two lengths, and an array of a kind that would lose something."""
    assert measure(value) == (None, 1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (array(1), array(1, dtype="float32")),
        (array(1), array(1, width=3)),
        (array(1), [[0.0, 1.0]]),
        (["a"], [b"a"]),
        ({"x": array(1)}, {"y": array(1)}),
        ({"x": array(1)}, {"x": array(1), "y": array(1)}),
        ({"x": array(1)}, {"x": [1]}),
    ],
    ids=lambda value: re.sub(r" at 0x\w+", "", repr(value)),  # an address would be another name in each process
)
def test_values_of_another_type_shape_or_keys_are_of_another_kind(one: Any, other: Any) -> None:
    """Joining them would fail, or silently change one of them."""
    assert kind_of(one) != kind_of(other)


def test_keys_may_come_in_any_order() -> None:
    """Two clients, two JSON writers."""
    one, other = {"x": array(1), "y": ["a"]}, {"y": ["b", "c"], "x": array(2)}
    assert kind_of(one) == kind_of(other)
    joined = join([one, other])
    assert plain(joined) == {"x": [[0.0, 1.0], [0.0, 1.0], [2.0, 3.0]], "y": ["a", "b", "c"]}


def test_tensors_are_joined_and_split_by_their_own_package() -> None:
    """Nothing here imports it."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    values = [torch.ones(1, 3), torch.zeros(2, 3)]
    assert kind_of(values[0]) == kind_of(values[1]) != kind_of(torch.ones(1, 3, dtype=torch.float64))
    joined = join(values)
    assert isinstance(joined, torch.Tensor)
    assert [plain(part) for part in split(joined, [1, 2])] == [plain(value) for value in values]


@pytest.mark.parametrize(
    ("result", "answers"),
    [
        (np.arange(3), [[0], [1, 2]]),
        (["a", "b", "c"], [["a"], ["b", "c"]]),
        ({"p": np.arange(3), "t": ["a", "b", "c"]}, [{"p": [0], "t": ["a"]}, {"p": [1, 2], "t": ["b", "c"]}]),
        ((np.arange(3), ["a", "b", "c"]), [([0], ["a"]), ([1, 2], ["b", "c"])]),
        (Scores(["a", "b", "c"], np.arange(3)), [Scores(["a"], [0]), Scores(["b", "c"], [1, 2])]),
        ({"outer": {"inner": np.arange(3)}}, [{"outer": {"inner": [0]}}, {"outer": {"inner": [1, 2]}}]),
    ],
    ids=lambda value: re.sub(r" at 0x\w+", "", repr(value)),  # an address would be another name in each process
)
def test_an_answer_is_split_by_rows(result: Any, answers: list[Any]) -> None:
    """A tuple is several answers at once, as a dict is."""
    made = split(result, [1, 2])
    assert [plain(part) for part in made] == answers
    assert [type(part) for part in made] == [type(result)] * 2


@pytest.mark.parametrize(
    "result",
    [
        np.arange(2),
        np.arange(4),
        ["a"],
        "abc",
        b"abc",
        3,
        None,
        (),
        {},
        np.float64(1.0),
        {"p": np.arange(3), "mean": 1.0},
        (np.arange(3), np.arange(2)),
        iter([1, 2, 3]),
    ],
    ids=lambda value: re.sub(r" at 0x\w+", "", repr(value)),  # an address would be another name in each process
)
def test_an_answer_of_other_rows_is_not_split(result: Any) -> None:
    """Nobody gets another's row by accident. The text says what was expected."""
    with pytest.raises(CannotSplitError, match="3"):
        split(result, [1, 2])


ELEMENTS = st.one_of(
    st.builds(array, st.integers(1, 4)),
    st.builds(array, st.integers(1, 4), st.just(3), st.just("int64")),
    st.lists(st.text(max_size=3), min_size=1, max_size=4),
    st.integers(1, 3).map(lambda rows: {"x": array(rows), "y": [str(row) for row in range(rows)]}),
)


@given(st.lists(ELEMENTS, min_size=1, max_size=6))
def test_what_was_joined_comes_apart_as_it_was(values: list[Any]) -> None:
    """For every kind, whatever the sizes."""
    for kind in {kind_of(value) for value in values}:
        alike = [value for value in values if kind_of(value) == kind]
        parts = split(join(alike), [measure(value)[1] for value in alike])
        assert [plain(part) for part in parts] == [plain(value) for value in alike]
