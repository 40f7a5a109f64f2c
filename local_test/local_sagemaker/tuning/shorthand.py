"""Ranges and objectives as a command line has them: ``lr=0.001..0.1:log``, ``act=relu,tanh``, ``accuracy:Maximize``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from local_sagemaker.errors import UsageError

SCALES = {"auto": "Auto", "linear": "Linear", "log": "Logarithmic", "reverse-log": "ReverseLogarithmic"}
BOUNDS = re.compile(r"(?P<low>[^.,]+(?:\.[^.,]+)?|\.[^.,]+)\.\.(?P<high>[^:,]+)(?::(?P<scale>[a-z-]+))?")
INTEGER = re.compile(r"[-+]?[0-9]+")
DIRECTIONS = ("Minimize", "Maximize")
# A number as a program prints it; the platform's own examples end a value with a semicolon.
NUMBER = r"([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)"


def parse_ranges(texts: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """The ``ParameterRanges`` of arguments such as ``lr=0.001..0.1:log``, ``layers=1..4`` and ``act=relu,tanh``.

    Bounds without a point are those of an integer.

    Raises:
        UsageError: if one cannot be read.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for text in texts:
        name, separator, values = text.partition("=")
        if not separator or not name or not values:
            raise _unreadable(text)
        if ".." in values:
            key, entry = _bounds(text, name, values)
        else:
            key, entry = "CategoricalParameterRanges", {"Name": name, "Values": values.split(",")}
        found.setdefault(key, []).append(entry)
    return found


def parse_objective(text: str) -> dict[str, str]:
    """The objective of ``NAME``, ``NAME:Minimize`` or ``NAME:Maximize``; to be minimized where nothing is said."""
    name, separator, direction = text.rpartition(":")
    if separator and direction.capitalize() in DIRECTIONS:
        return {"Type": direction.capitalize(), "MetricName": name}
    return {"Type": "Minimize", "MetricName": text}


def expression_of(metric: str) -> str:
    """What finds a metric that is printed as ``name=value;``."""
    return rf"(?:^|[\s;,]){re.escape(metric)}\s*[=:]\s*{NUMBER}"


def _bounds(text: str, name: str, values: str) -> tuple[str, dict[str, Any]]:
    match = BOUNDS.fullmatch(values)
    if match is None or ".." in match["high"] or (match["scale"] or "auto") not in SCALES:
        raise _unreadable(text)
    low, high = match["low"], match["high"]
    kind = "Integer" if INTEGER.fullmatch(low) and INTEGER.fullmatch(high) else "Continuous"
    entry = {"Name": name, "MinValue": low, "MaxValue": high, "ScalingType": SCALES[match["scale"] or "auto"]}
    return f"{kind}ParameterRanges", entry


def _unreadable(text: str) -> UsageError:
    return UsageError(
        f"--range {text!r} cannot be read",
        f"expected NAME=LOW..HIGH[:SCALE] with a scale of {', '.join(SCALES)}, or NAME=VALUE,VALUE,...",
        "write for example --range lr=0.001..0.1:log --range layers=1..4 --range act=relu,tanh",
    )
