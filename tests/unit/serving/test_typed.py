"""Typed handlers: which annotations say something, what the model gets then, and what a caller reads otherwise."""

import functools
import io
import json
import logging
import subprocess
import sys
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Optional

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydantic
import pytest
import typing_extensions
from hypothesis import given
from hypothesis import strategies as st
from sagemaker_byoc.errors import HandlerError, MalformedBody, RequestError
from sagemaker_byoc.serving.codecs import CODECS, decode_plain
from sagemaker_byoc.serving.typed import TypedInput, typed_input, typed_output

if TYPE_CHECKING:
    import tensors_of_somebody  # type: ignore[import-not-found]  # what only a checker would import


class Passenger(pydantic.BaseModel):
    age: int
    name: str = "unknown"


@dataclass
class House:
    rooms: int
    zip_code: str
    tags: list[str] = field(default_factory=list)


class Point(typing.TypedDict):
    x: float
    y: typing.NotRequired[float]


class NewPoint(typing_extensions.TypedDict):
    x: float


class Line(typing.TypedDict):
    points: list[Point]


def predict(kind: Any) -> Callable[..., Any]:
    """A predict_fn whose first parameter is annotated so."""

    def predict_fn(data: Any, model: Any) -> None: ...

    predict_fn.__annotations__ = {"data": kind}
    return predict_fn


def read(kind: Any, value: object, content_type: str = "application/json") -> Any:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    found = typed_input(predict(kind))
    assert found is not None
    return found.read(body, content_type)


@pytest.mark.parametrize(
    ("kind", "sent", "expected"),
    [
        (Passenger, {"age": 3}, Passenger(age=3)),
        (list[Passenger], [{"age": 3, "name": "a"}], [Passenger(age=3, name="a")]),
        (list[House], [{"rooms": 3, "zip_code": "01"}], [House(3, "01")]),
        (Point, {"x": 1}, {"x": 1.0}),
        (NewPoint, {"x": "1"}, {"x": 1.0}),
        (Line, {"points": [{"x": 1, "y": 2}]}, {"points": [{"x": 1.0, "y": 2.0}]}),
        (Annotated[list[Point], "of a line"], [{"x": 1}], [{"x": 1.0}]),
        (Optional[Passenger], {"age": 3}, Passenger(age=3)),  # noqa: UP045 - scripts are written so
        (list[Passenger] | None, [], []),
        ("list[Passenger]", [{"age": 3}], [Passenger(age=3)]),
        (Passenger | House, {"rooms": 1, "zip_code": "1"}, House(1, "1")),
        (list[Passenger | House], [{"age": 1}], [Passenger(age=1)]),
    ],
    ids=str,
)
def test_body_becomes_what_the_annotation_says(kind: Any, sent: object, expected: object) -> None:
    assert read(kind, sent) == expected


@pytest.mark.parametrize(
    "kind",
    [np.ndarray, bytes, str, dict, list, list[float], dict[str, Any], Any, None, int | None, "torch.Tensor", object,
     "tensors_of_somebody.Tensor", "not python", "Passenger[", io.BytesIO, Callable[..., Any], typing.TypeVar("T")],
    ids=str,
)  # fmt: skip
def test_every_other_annotation_changes_nothing(kind: Any) -> None:
    """Scripts written for AWS's images have them, some only for a checker."""
    assert typed_input(predict(kind)) is None


def test_function_of_no_parameters_or_none_at_all_is_left_alone() -> None:
    for function in (lambda: 1, lambda *rows: rows, print, lambda data, model: data, dict):
        assert typed_input(function) is None
        assert typed_output(function) is None


def test_answer_that_cannot_be_resolved_does_not_hide_the_input() -> None:
    """Each annotation stands for itself."""

    def predict_fn(data: "list[Passenger]", model: "tensors_of_somebody.Model") -> "tensors_of_somebody.Tensor":
        return None

    found = typed_input(predict_fn)
    assert found is not None
    assert found.many
    assert typed_output(predict_fn) is None


def test_decorated_function_is_read_by_its_own_annotation() -> None:
    def predict_fn(data: "Passenger", model: Any) -> "list[House]":
        return []

    @functools.wraps(predict_fn)
    def wrapped(*arguments: Any) -> Any:
        return predict_fn(*arguments)

    for function in (wrapped, functools.partial(predict_fn)):
        found, returned = typed_input(function), typed_output(function)
        assert found is not None
        assert returned is not None
        assert (found.name, found.many, returned.name, returned.many) == ("Passenger", False, "House", True)


@dataclass
class Undescribed:
    pixels: np.ndarray


def test_record_that_pydantic_cannot_check_is_said_once_and_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert typed_input(predict(list[Undescribed])) is None
    assert "Undescribed" in caplog.text
    assert "ndarray" in caplog.text


def test_untyped_handler_does_not_import_pydantic() -> None:
    """Start-up time is every container's."""
    code = (
        "import sys; from sagemaker_byoc.serving.typed import typed_input, typed_output\n"
        "def predict_fn(data: list[float], model) -> dict: ...\n"
        "assert typed_input(predict_fn) is typed_output(predict_fn) is None\n"
        "assert not {'pydantic', 'numpy', 'pyarrow', 'PIL', 'google.protobuf'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# What a caller reads


@pytest.mark.parametrize(
    ("kind", "sent", "message"),
    [
        (Passenger, {"age": "old"}, r"Passenger: age: input should be a valid integer.*; found 'old'\."),
        (Passenger, {}, r"Passenger: age: field required\."),
        (list[Passenger], [{"age": 1}, {"name": 5}], r"\[1\]\.age: field required; \[1\]\.name: .*string; found 5\."),
        (list[Passenger], {"age": 1}, r"the whole body: input should be a valid list; found a dict\."),
        (list[Passenger], [[1, 2, 3]], r"row 1 of the body has 3 columns; expected 2, for Passenger: age, name\."),
        (list[Passenger], ["x"], r"\[0\]: .*Passenger; found 'x'\."),
        (Passenger, 7, r"the whole body: .*found 7\."),
        (Line, {"points": [{"x": 0}, {"x": "far"}]}, r"Line: points\[1\]\.x: .*number.*; found 'far'"),
        (Passenger, {"age": "x" * 1000}, r"found 'x{59}…\."),
    ],
)
def test_error_names_the_field_what_was_found_and_what_was_expected(kind: Any, sent: object, message: str) -> None:
    """15.5."""
    with pytest.raises(MalformedBody, match=message):
        read(kind, sent)


def test_only_the_first_errors_are_told() -> None:
    """15.5: a body of megabytes may be wrong everywhere, and the platform passes on 2 kilobytes."""
    wide = pydantic.create_model("Wide", **{f"x{at}": (int, ...) for at in range(9)})  # type: ignore[call-overload]
    with pytest.raises(MalformedBody, match=r"x0: field required; .*x4: field required; and 4 more\.$"):
        read(wide, {})
    with pytest.raises(MalformedBody, match=r"\[0\]\.age") as caught:
        read(list[Passenger], [{}] * 100_000)
    assert "[1]" not in str(caught.value)
    with pytest.raises(MalformedBody, match="it has 2000 errors"):
        read(Line, {"points": [{}] * 2000})


class Strict(pydantic.BaseModel):
    age: int

    @pydantic.field_validator("age")
    @classmethod
    def check(cls, age: int) -> int:
        if age == 0:
            raise KeyError("no such age")
        if age < 0:
            raise ValueError("nobody is that young")
        return age


def test_validators_of_the_user_speak_for_themselves() -> None:
    """15.5: what they refuse is the caller's mistake, what breaks in them is the handler's."""
    with pytest.raises(MalformedBody, match="age: value error, nobody is that young; found -1"):
        read(Strict, {"age": -1})
    with pytest.raises(HandlerError, match="Strict raised KeyError: 'no such age'"):
        read(Strict, {"age": 0})


# Formats with and without names


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"3,01234\n4,05678\n", [House(3, "01234"), House(4, "05678")]),
        (b"zip_code,rooms\n01234,3\n", [House(3, "01234")]),
        (b"rooms,zip_code\n", []),
    ],
)
def test_csv_is_read_by_a_first_line_of_names_or_in_the_order_of_the_fields(body: bytes, expected: list[House]) -> None:
    """Text stays text: a code with a zero in front is no number."""

    @dataclass
    class Row:
        rooms: int
        zip_code: str

    rows = read(list[Row], body, "text/csv")
    assert [(row.rooms, row.zip_code) for row in rows] == [(one.rooms, one.zip_code) for one in expected]


def test_empty_field_of_csv_is_left_out_where_it_may_be() -> None:
    assert read(list[Passenger], b"3,\n", "text/csv") == [Passenger(age=3)]
    with pytest.raises(MalformedBody, match=r"\[0\]\.age: .*integer.*found ''"):
        read(list[Passenger], b",a\n", "text/csv")


def test_aliases_are_the_names_of_bodies() -> None:
    class Aliased(pydantic.BaseModel):
        age: int = pydantic.Field(alias="passenger age")

    assert read(list[Aliased], b"passenger age\n3\n", "text/csv")[0].age == 3


def test_json_lines_are_records_and_one_line_is_one() -> None:
    """15.37: batch transform with the strategy SINGLE_RECORD sends a line at a time."""
    body = b'{"age": 3}\n'
    assert read(list[Passenger], body * 2, "application/jsonlines") == [Passenger(age=3)] * 2
    assert read(Passenger, body, "application/jsonlines") == Passenger(age=3)
    with pytest.raises(MalformedBody, match="found a list"):
        read(Passenger, body * 2, "application/jsonlines")


def test_tables_are_read_by_the_names_of_their_columns() -> None:
    """Whatever order they are in."""
    body = io.BytesIO()
    pq.write_table(pa.table({"name": ["a", "b"], "age": [1, 2]}), body)
    read_in = read(list[Passenger], body.getvalue(), "application/vnd.apache.parquet")
    assert read_in == [Passenger(age=1, name="a"), Passenger(age=2, name="b")]


@given(
    st.sampled_from([Passenger, list[Passenger], list[House], Point, Line]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["age", "name", "rooms", "zip_code", "x", "points"]), inner)
        ),
        max_leaves=8,
    ),
)
def test_any_json_value_is_taken_or_a_request_error(kind: Any, value: object) -> None:
    """15.5."""
    try:
        read(kind, value)
    except RequestError as error:
        assert str(error)  # noqa: PT017 - being taken is as right


@given(st.binary(min_size=1, max_size=60), st.sampled_from([codec.content_type for codec in CODECS]))
def test_any_bytes_are_taken_or_a_request_error(body: bytes, content_type: str) -> None:
    """15.5."""
    try:
        decode_plain(body, content_type)
        PASSENGERS.read(body, content_type)
    except RequestError as error:
        assert str(error)  # noqa: PT017 - being taken is as right


def _passengers() -> TypedInput:
    found = typed_input(predict(list[Passenger]))
    assert found is not None
    return found


PASSENGERS = _passengers()
