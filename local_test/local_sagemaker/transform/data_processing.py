"""Input filter, join and output filter: which part of a record the container sees, and what is kept of its answer.

Records are lines in CSV and JSON Lines, and wherever objects are split by line; else an object is one JSON document.
A row's cells may be quoted; a line break within a cell is not known, here as on the platform.

Source: SageMaker developer guide, "Associate Prediction Results with Input Records"; API reference, DataProcessing.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from local_sagemaker.transform.failure import ObjectFailed, records_in_words
from local_sagemaker.transform.jsonpath import JsonPath, NothingSelectedError, choose

Format = Literal["csv", "json", "json lines"]

FORMATS: dict[str, Format] = {
    "text/csv": "csv",
    "application/json": "json",
    "application/jsonlines": "json lines",
    "application/x-jsonlines": "json lines",
    "application/jsonl": "json lines",
    "application/x-ndjson": "json lines",
}
OUTPUT_MEMBER = "SageMakerOutput"
INPUT_MEMBER = "SageMakerInput"


def format_of(content_type: str | None) -> Format | None:
    """The format of a content type, None if data processing does not know it."""
    return FORMATS.get((content_type or "").partition(";")[0].strip().lower())


@dataclass(frozen=True)
class DataProcessing:
    """What is done to records on their way to the container, and to its answers.

    Attributes:
        input_filter: selects what the container sees.
        output_filter: selects what is kept of the answer, or of record and answer where they are joined.
        joins: whether the answer is joined to the record as it was before the input filter.
        input_format: of the records; None where nothing is processed.
        output_format: of the answers; the same where they are joined.
        by_line: whether each line is a record.
    """

    input_filter: JsonPath
    output_filter: JsonPath
    joins: bool = False
    input_format: Format | None = None
    output_format: Format | None = None
    by_line: bool = False

    @property
    def changes_input(self) -> bool:
        """Whether the container sees something else than the records."""
        return not self.input_filter.is_whole

    @property
    def changes_output(self) -> bool:
        """Whether something else than the answers is kept."""
        return self.joins or not self.output_filter.is_whole

    def filter_input(self, records: bytes, first: int) -> bytes:
        """What the container sees of these records; ``first`` is the number of the first.

        Raises:
            ObjectFailed: naming the record that is not as the filter expects.
        """
        if self.input_format == "csv":
            return self._each(records, first, lambda line: _select_columns(line, self.input_filter))
        return self._each(records, first, lambda line: _dump(self.input_filter.select(json.loads(line))))

    def output(self, records: bytes, answer: bytes, first: int) -> bytes:
        """What is kept of an answer to these records; every line of it is ended.

        Args:
            records: as they were before the input filter; not looked at unless they are joined.
            answer: the body of the container's answer.
            first: the number of the first record.

        Raises:
            ObjectFailed: if there are not as many answers as records, or one is not in its format.
        """
        if not self.joins:
            select = self._select_output
            return self._each(answer, first, select, self.output_format)
        inputs = self._split(records, self.input_format)
        outputs = self._split(answer, self.output_format) if len(inputs) != 1 else [answer.strip(b"\r\n")]
        if len(inputs) != len(outputs):
            raise ObjectFailed(
                f"{records_in_words(first, len(inputs))}: the container answered {len(outputs)} records for "
                f"{len(inputs)}, and a join needs one answer for each record",
                "AlgorithmError",
            )
        join = self._join_row if self.output_format == "csv" else self._join_document
        joined = [
            _at(number, join, record, output)
            for number, (record, output) in enumerate(zip(inputs, outputs, strict=True), first)
        ]
        return self._together(joined, self.output_format)

    def _select_output(self, line: bytes) -> bytes:
        if self.output_format == "csv":
            return _select_columns(line, self.output_filter)
        return _dump(self.output_filter.select(json.loads(line)))

    def _join_row(self, record: bytes, output: bytes) -> bytes:
        row = record + b"," + output
        return row if self.output_filter.is_whole else _select_columns(row, self.output_filter)

    def _join_document(self, record: bytes, output: bytes) -> bytes:
        document, answer = json.loads(record), json.loads(output)
        joined = {**document} if isinstance(document, dict) else {INPUT_MEMBER: document}
        return _dump(self.output_filter.select({**joined, OUTPUT_MEMBER: answer}))

    def _each(self, data: bytes, first: int, change: Callable[[bytes], bytes], form: Format | None = None) -> bytes:
        form = form or self.input_format
        changed = [_at(number, change, record) for number, record in enumerate(self._split(data, form), first)]
        return self._together(changed, form)

    def _split(self, data: bytes, form: Format | None) -> list[bytes]:
        if not self.by_line and form == "json":
            return [data]
        *lines, last = data.split(b"\n")
        if last:
            lines.append(last)
        return [line.removesuffix(b"\r") for line in lines]

    def _together(self, records: list[bytes], form: Format | None) -> bytes:
        if not self.by_line and form == "json":
            return b"".join(records)
        return b"".join(record + b"\n" for record in records)


def _at(number: int, change: Callable[..., bytes], *records: bytes) -> bytes:
    """Change a record, and name it where that fails."""
    try:
        return change(*records)
    except NothingSelectedError as error:
        raise ObjectFailed(f"record {number}: {error.args[0]}") from error
    except (ValueError, RecursionError, csv.Error) as error:
        raise ObjectFailed(f"record {number} or its answer is not in its format: {error}") from error


def _dump(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _select_columns(line: bytes, path: JsonPath) -> bytes:
    """The columns of a row. Where no cell is quoted its bytes are not looked into."""
    items = path.columns or (slice(None),)
    if b'"' not in line:
        return b",".join(_some(choose(line.split(b","), items)))
    csv.field_size_limit(max(csv.field_size_limit(), len(line)))  # a cell may be as long as its record
    row = next(csv.reader([line.decode()], strict=True))
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(_some(choose(row, items)))
    return text.getvalue().encode()


def _some(cells: list[Any]) -> list[Any]:
    if not cells:
        raise NothingSelectedError("no column is selected")
    return cells
