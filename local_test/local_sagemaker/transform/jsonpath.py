"""The JSONPath that data processing knows: names, indexes, slices and the wildcard, from the root on.

A library was not taken: jsonpath-ng takes much that the service refuses, does not parse ``$[0,5:]``, which the service
documents, and is silent about an index that is not there, which the service calls an error. It is the tests' oracle.

Source: SageMaker developer guide, "Associate Prediction Results with Input Records"; API reference, DataProcessing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

STEP = re.compile(
    r"""\.(?P<wild>\*)|\[\s*(?P<star>\*)\s*\]
    |\.(?P<name>[^\s.\[\]'",:*?@()$]+)
    |\[\s*(?P<names>'[^']*'(?:\s*,\s*'[^']*')*|"[^"]*"(?:\s*,\s*"[^"]*")*)\s*\]
    |\[\s*(?P<items>-?\d+(?!\s*:)(?:\s*,.*?)?|-?\d*\s*:.*?)\s*\]""",
    re.VERBOSE,
)
ITEM = re.compile(r"(?P<index>-?\d+)|(?P<start>-?\d+)?\s*:\s*(?P<end>-?\d+)?")


class JsonPathSyntaxError(ValueError):
    """The expression is none that data processing knows."""


class NothingSelectedError(LookupError):
    """A document lacks what the expression names."""


@dataclass(frozen=True)
class Names:
    """One member of an object, or several of them as an object of their own."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Items:
    """Elements of an array by index, from the end where negative, and by slice."""

    items: tuple[int | slice, ...]


class Every:
    """All elements of an array, or all values of an object."""


Step = Names | Items | Every


@dataclass(frozen=True)
class JsonPath:
    """An expression that was read once and is applied to many documents."""

    expression: str
    steps: tuple[Step, ...]

    @property
    def is_whole(self) -> bool:
        """Whether it selects the document itself: ``$``."""
        return not self.steps

    @cached_property
    def columns(self) -> tuple[int | slice, ...] | None:
        """Which columns of a row it selects, None if it is no expression for rows."""
        if len(self.steps) != 1:
            return None
        step = self.steps[0]
        if isinstance(step, Every):
            return (slice(None),)
        return step.items if isinstance(step, Items) else None

    def select(self, document: Any) -> Any:
        """What the expression selects: a value, or an array where it can select several.

        Raises:
            NothingSelectedError: if a member or an element that it names is not there.
        """
        found, several = [document], False
        for step in self.steps:
            if isinstance(step, Names):
                found = [_members(value, step.names) for value in found]
            elif isinstance(step, Items):
                found = [chosen for value in found for chosen in _elements(value, step.items)]
                several = several or len(step.items) > 1 or isinstance(step.items[0], slice)
            else:
                found = [chosen for value in found for chosen in _all(value)]
                several = True
        return found if several else found[0]


def parse(expression: str) -> JsonPath:
    """Read an expression such as ``$``, ``$.features``, ``$[1:]``, ``$[0,5:]`` or ``$['id','SageMakerOutput']``.

    Raises:
        JsonPathSyntaxError: naming the place from which on it is not understood.
    """
    if not expression.startswith("$"):
        raise JsonPathSyntaxError(f"{expression!r} does not begin with $")
    steps: list[Step] = []
    place = 1
    while place < len(expression):
        match = STEP.match(expression, place)
        if match is None:
            raise JsonPathSyntaxError(f"{expression!r} is not understood from {expression[place:]!r} on")
        steps.append(_step(expression, match))
        place = match.end()
    return JsonPath(expression, tuple(steps))


def _step(expression: str, match: re.Match[str]) -> Step:
    if match["name"]:
        return Names((match["name"],))
    if match["names"]:
        quote = match["names"][0]
        return Names(tuple(re.findall(f"{quote}([^{quote}]*){quote}", match["names"])))
    if match["items"]:
        return Items(tuple(_item(expression, text.strip()) for text in match["items"].split(",")))
    return Every()


def _item(expression: str, text: str) -> int | slice:
    match = ITEM.fullmatch(text)
    if match is None:
        raise JsonPathSyntaxError(f"{expression!r}: {text!r} is neither an index nor a slice START:END")
    if match["index"]:
        return int(match["index"])
    return slice(*(int(match[edge]) if match[edge] else None for edge in ("start", "end")))


def _members(value: Any, names: tuple[str, ...]) -> Any:
    if not isinstance(value, dict):
        raise NothingSelectedError(f"a {type(value).__name__} has no member {names[0]!r}")
    for name in names:
        if name not in value:
            raise NothingSelectedError(f"there is no member {name!r}, only {', '.join(map(repr, value)) or 'none'}")
    return value[names[0]] if len(names) == 1 else {name: value[name] for name in names}


def _elements(value: Any, items: tuple[int | slice, ...]) -> list[Any]:
    if not isinstance(value, list):
        raise NothingSelectedError(f"a {type(value).__name__} has no elements")
    return choose(value, items)


def _all(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list):
        return value
    raise NothingSelectedError(f"a {type(value).__name__} has neither members nor elements")


def choose(row: list[Any], items: tuple[int | slice, ...]) -> list[Any]:
    """The elements that indexes and slices name, in their order.

    Raises:
        NothingSelectedError: if there is no element of an index.
    """
    chosen: list[Any] = []
    for item in items:
        if isinstance(item, slice):
            chosen += row[item]
        elif -len(row) <= item < len(row):
            chosen.append(row[item])
        else:
            raise NothingSelectedError(f"there is no element {item} among {len(row)}")
    return chosen
