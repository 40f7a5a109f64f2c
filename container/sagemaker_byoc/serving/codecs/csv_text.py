"""CSV: rows of as many fields each. Numbers are an array, a missing one NaN; everything else is text."""

import csv
import io
import itertools
from typing import Any

from sagemaker_byoc.errors import MalformedBody
from sagemaker_byoc.serving.codecs.json_text import read_json, write_json
from sagemaker_byoc.serving.codecs.plain import as_plain, as_rows, is_array
from sagemaker_byoc.serving.codecs.reading import as_text

_OF_NUMBERS = b"0123456789+-.eE, \n"


def read_csv(body: bytes, charset: str, _limit: int) -> Any:
    """An array of numbers, or rows of text. Raises MalformedBody that names the row."""
    numbers = _read_plain_numbers(body) if charset == "utf-8" else None
    return read_any(body, charset) if numbers is None else numbers


def _read_plain_numbers(body: bytes) -> Any:
    """The array of a body that holds nothing but numbers as JSON has them, four times as fast, else None."""
    lines = body.replace(b"\r\n", b"\n").strip(b"\n")
    if lines.translate(None, _OF_NUMBERS):
        return None
    try:
        rows = read_json(b"[[" + lines.replace(b"\n", b"],[") + b"]]", "utf-8", 0)
    except MalformedBody:
        return None  # a field is empty, or a date
    return rows if is_array(rows) and rows.size else None


def read_any(body: bytes, charset: str) -> Any:
    """The same for any body."""
    rows = read_fields(body, charset)
    fields = list(itertools.chain.from_iterable(rows))
    # Python reads 2021_01 as a number; here it is somebody's name for a month.
    numbers = None if b"_" in body or not fields else _as_numbers(fields)
    return rows if numbers is None else numbers.reshape(len(rows), -1)


def read_fields(body: bytes, charset: str) -> list[list[str]]:
    """The fields as they stand. Raises MalformedBody that names the row."""
    text = as_text(body, charset, "CSV")
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a field may be a whole document
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error as error:
        raise MalformedBody(f"the body is not valid CSV: {error}.") from None
    width = len(rows[0]) if rows else 0
    for number, row in enumerate(rows, 1):
        if len(row) != width:
            raise MalformedBody(f"the body is not valid CSV: row {number} has {len(row)} columns, row 1 has {width}.")
    return rows


def _as_numbers(fields: list[str]) -> Any:
    """An array of integers, else of floats, or None where a field is no number."""
    import numpy as np  # noqa: PLC0415 - not before numbers come: `serve` starts sooner

    try:
        return np.array(list(map(int, fields)), dtype=np.int64)
    except (ValueError, OverflowError):
        pass
    try:
        return np.array(list(map(float, fields)))
    except ValueError:
        pass
    try:
        return np.array([float(field) if field and not field.isspace() else np.nan for field in fields])
    except ValueError:
        return None


def write_csv(value: Any) -> bytes:
    """A row for each record. Raises TypeError for what a field cannot hold."""
    if is_array(value) and value.dtype.kind in "iuf" and value.ndim in (1, 2) and value.size:
        text = write_json(value)  # twenty times faster than csv.writer
        if b"null" not in text:
            return (text[2:-2].replace(b"],[", b"\n") if value.ndim == 2 else text[1:-1].replace(b",", b"\n")) + b"\n"
    out = io.StringIO()
    plain = csv.writer(out, lineterminator="\n")
    # Python before 3.13 does not quote a carriage return, and readers would end the row there.
    quoting = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    for row in map(_row, as_rows(value)):
        (quoting if any(isinstance(field, str) and "\r" in field for field in row) else plain).writerow(row)
    return out.getvalue().encode()


def _row(record: Any) -> list[Any]:
    if not isinstance(record, str | int | float | list | tuple | dict | None):
        record = as_plain(record)
        record = list(record.values()) if isinstance(record, dict) else record
    row = list(record) if isinstance(record, list | tuple) else [record]
    row = [as_plain(field) if is_array(field) else field for field in row]
    strange = next((field for field in row if not isinstance(field, str | int | float | None)), None)
    if strange is not None:
        raise TypeError(f"a CSV row holds text and numbers, not a {type(strange).__name__}")
    return row
