"""Typed handlers: where predict_fn's first parameter is annotated with what pydantic can check, bodies are checked
before the model sees them, and the caller reads which field is wrong.

pydantic is imported only for such a handler.
"""

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from sagemaker_byoc.errors import HandlerError, MalformedBody
from sagemaker_byoc.serving import codecs
from sagemaker_byoc.serving.annotations import field_names, is_list, record_type, type_of_input, type_of_output

MOST_ERRORS_TOLD = 5
_MOST_ERRORS_LISTED = 1000  # each is an object, and a body of megabytes may have millions
_MOST_CHARACTERS = 60
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TypedInput:
    """How bodies become what predict_fn is annotated with.

    `name` is the record's, for people; `fields` are its fields in order, for rows whose columns have no names; `many`
    says that predict_fn takes a list of records.
    """

    name: str
    many: bool
    fields: tuple[str, ...]
    optional: frozenset[str]
    adapter: Any

    def read(self, body: bytes, content_type: str, limit: int = codecs.DEFAULT_LIMIT) -> Any:
        """The checked value of a body of any content type: objects of JSON, rows of CSV, Arrow and Parquet.

        Raises UnsupportedContentType, MalformedBody that names the fields that do not fit, or HandlerError where a
        validator of the user's fails.
        """
        return self.check(codecs.decode_plain(body, content_type, limit))

    def check(self, value: Any) -> Any:
        """The same for a value that has been decoded already."""
        if isinstance(value, list):
            rows = self._with_names(value)
            value = rows if self.many or len(rows) != 1 else rows[0]  # a batch of one line is that one record
        try:
            return self.adapter.validate_python(value)
        except Exception as error:
            if not hasattr(error, "error_count"):
                text = f"a validator of {self.name} raised {type(error).__name__}: {error}"
                log.exception(text)
                raise HandlerError(text) from error
            raise MalformedBody(self._explain(error)) from None

    def _with_names(self, rows: list[Any]) -> list[Any]:
        """Rows of columns by the names of the fields: those of a first row that has nothing else, else in order."""
        if not self.fields or not rows or not all(isinstance(row, list) for row in rows):
            return rows
        names = self.fields
        head = rows[0]
        if (
            head
            and all(isinstance(cell, str) for cell in head)
            and len(set(head)) == len(head)
            and set(head) <= set(names)
        ):
            names, rows = tuple(head), rows[1:]
        for number, row in enumerate(rows, 1):
            if len(row) != len(names):
                raise MalformedBody(
                    f"row {number} of the body has {len(row)} columns; expected {len(names)}, for {self.name}: "
                    f"{', '.join(names)}."
                )
        return [
            {name: cell for name, cell in zip(names, row, strict=True) if cell != "" or name not in self.optional}
            for row in rows
        ]

    def _explain(self, error: Any) -> str:
        count = error.error_count()
        text = f"the body does not fit {self.name}"
        if count > _MOST_ERRORS_LISTED:
            return f"{text}: it has {count} errors."
        listed = error.errors(include_url=False, include_context=False)[:MOST_ERRORS_TOLD]
        more = f"; and {count - len(listed)} more" if count > len(listed) else ""
        return f"{text}: {'; '.join(map(_explain_one, listed))}{more}."


@dataclass(frozen=True)
class TypedOutput:
    """What predict_fn says that it returns. Answers are written by the codecs; this is for the document of the API."""

    name: str
    many: bool
    adapter: Any


def typed_input(predict_fn: Callable[..., Any]) -> TypedInput | None:
    """How the bodies of this function are checked, or None where its annotation says nothing."""
    annotation = type_of_input(predict_fn)
    adapter = _adapter(annotation, "checked")
    if adapter is None:
        return None
    record = record_type(annotation)
    fields = field_names(record)
    return TypedInput(_name(record), is_list(annotation), fields, _optional(record, fields), adapter)


def typed_output(predict_fn: Callable[..., Any]) -> TypedOutput | None:
    """What this function returns, or None where its annotation says nothing."""
    annotation = type_of_output(predict_fn)
    adapter = _adapter(annotation, "described")
    return None if adapter is None else TypedOutput(_name(record_type(annotation)), is_list(annotation), adapter)


def _adapter(annotation: Any, purpose: str) -> Any:
    if annotation is None:
        return None
    try:
        from pydantic import FailFast, TypeAdapter  # noqa: PLC0415 - only for a handler that is typed

        # The first record that does not fit ends a list: a body of megabytes may have millions.
        return TypeAdapter(Annotated[annotation, FailFast()] if is_list(annotation) else annotation)
    except Exception as error:  # noqa: BLE001 - the annotation is the user's, and may hold anything
        reason = str(error).partition("\n")[0]
        log.warning("predict_fn's annotation %s is not %s: %s", _name(record_type(annotation)), purpose, reason)
        return None


def _name(record: Any) -> str:
    return getattr(record, "__name__", None) or str(record)


def _optional(record: Any, fields: tuple[str, ...]) -> frozenset[str]:
    """The fields that a body may leave out."""
    if hasattr(record, "model_fields"):
        required = [field.is_required() for field in record.model_fields.values()]
        return frozenset(name for name, needed in zip(fields, required, strict=False) if not needed)
    if dataclasses.is_dataclass(record):
        nothing = dataclasses.MISSING
        given = [one for one in dataclasses.fields(record) if (one.default, one.default_factory) != (nothing, nothing)]
        return frozenset(one.name for one in given)
    return frozenset(getattr(record, "__optional_keys__", ()))


def _explain_one(error: dict[str, Any]) -> str:
    """`[3].age: input should be a valid integer; found 'old'`."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).removeprefix(".")
    message = error["msg"][:1].lower() + error["msg"][1:]
    found = "" if error["type"] == "missing" else f"; found {_short(error['input'])}"
    return f"{path or 'the whole body'}: {message}{found}"


def _short(value: Any) -> str:
    if not isinstance(value, str | int | float | None):
        return f"a {type(value).__name__}"
    text = repr(value[:_MOST_CHARACTERS] if isinstance(value, str) else value)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"
