"""What the annotations of a user's function say: the type of its first argument, or of its answer, where pydantic can
check or describe it: a model, a data class, a TypedDict, a list of one of these, or one of several.

Every other annotation, `np.ndarray` or `str` or a name that cannot be found, says nothing, as everywhere in Python.
"""

import dataclasses
import functools
import inspect
import operator
import sys
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, NotRequired, Required, Union, get_args, get_origin

_UNIONS = (Union, types.UnionType)


def type_of_input(function: Callable[..., Any]) -> Any | None:
    """The annotation of the first parameter, or None where it says nothing."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    if not parameters or parameters[0].kind not in (inspect.Parameter.POSITIONAL_ONLY, _EITHER):
        return None
    return _resolve(function, parameters[0].annotation)


def type_of_output(function: Callable[..., Any]) -> Any | None:
    """The annotation of what is returned, or None where it says nothing."""
    try:
        return _resolve(function, inspect.signature(function).return_annotation)
    except (TypeError, ValueError):
        return None


def record_type(annotation: Any) -> Any:
    """What each record is: the element of a list, and the type itself, without what surrounds it."""
    annotation = _bare(annotation)
    return _bare(get_args(annotation)[0]) if get_origin(annotation) is list else annotation


def is_list(annotation: Any) -> bool:
    """Whether it stands for a list of records."""
    return get_origin(_bare(annotation)) is list


def field_names(record: Any) -> tuple[str, ...]:
    """The names that bodies have for the fields of a record, in order; none where there are several kinds of record."""
    if hasattr(record, "__pydantic_root_model__") and record.__pydantic_root_model__:
        return ()
    if hasattr(record, "model_fields"):
        found = ((field.validation_alias or field.alias, name) for name, field in record.model_fields.items())
        return tuple(alias if isinstance(alias, str) else name for alias, name in found)
    if dataclasses.is_dataclass(record):
        return tuple(field.name for field in dataclasses.fields(record) if field.init)
    return tuple(getattr(record, "__annotations__", ()))


_EITHER = inspect.Parameter.POSITIONAL_OR_KEYWORD


def _resolve(function: Callable[..., Any], annotation: Any) -> Any | None:
    """The annotation as a type, also where it was postponed, if it says something about a body."""

    def holder() -> None: ...

    holder.__annotations__ = {"value": annotation}
    inner = inspect.unwrap(function)
    inner = inner.func if isinstance(inner, functools.partial) else inner
    names = getattr(inner, "__globals__", None) or vars(sys.modules.get(inner.__class__.__module__, types))
    try:
        found = typing.get_type_hints(holder, globalns=names, include_extras=True)["value"]
    except Exception:  # noqa: BLE001 - it is an expression of the user's, and may name what only a checker imports
        return None
    return _for_pydantic(found) if _says_something(found) else None


def _says_something(annotation: Any) -> bool:
    annotation = _bare(annotation)
    if get_origin(annotation) is list:
        return _is_record(_bare(get_args(annotation)[0]))
    return _is_record(annotation)


def _is_record(annotation: Any) -> bool:
    if get_origin(annotation) in _UNIONS:
        return all(_is_record(_bare(kind)) for kind in get_args(annotation))
    if not isinstance(annotation, type) or get_origin(annotation) is list:
        return False
    return (
        hasattr(annotation, "__pydantic_core_schema__")
        or dataclasses.is_dataclass(annotation)
        or hasattr(annotation, "__required_keys__")
    )


def _bare(annotation: Any) -> Any:
    """Without Annotated around it, and without the None of Optional."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in _UNIONS:
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return _bare(kinds[0]) if len(kinds) == 1 else functools.reduce(operator.or_, kinds)
    return annotation


def _for_pydantic(annotation: Any) -> Any:
    """With the TypedDicts of typing_extensions: pydantic takes those of typing from Python 3.12 on."""
    if sys.version_info >= (3, 12):
        return annotation
    if getattr(annotation, "__class__", None) is typing._TypedDictMeta:  # type: ignore[attr-defined]  # noqa: SLF001 - the only way to tell them
        return _rebuild(annotation)
    arguments = get_args(annotation)
    changed = tuple(_for_pydantic(argument) for argument in arguments)
    if all(new is old for new, old in zip(changed, arguments, strict=True)):
        return annotation
    if get_origin(annotation) is Annotated:
        return Annotated[changed]
    if get_origin(annotation) in _UNIONS:
        return functools.reduce(operator.or_, changed)
    return get_origin(annotation)[changed]


def _rebuild(kind: Any) -> Any:
    import typing_extensions  # noqa: PLC0415 - comes with pydantic

    fields = {}
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        bare = get_args(hint)[0] if get_origin(hint) in (Required, NotRequired) else hint
        wrap = typing_extensions.Required if name in kind.__required_keys__ else typing_extensions.NotRequired
        fields[name] = wrap[_for_pydantic(bare)]
    return typing_extensions.TypedDict(kind.__name__, fields)  # type: ignore[operator]  # its fields are made here
