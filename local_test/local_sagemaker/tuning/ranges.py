"""The ranges that hyperparameters are searched in, as the API states them: numbers are strings there."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from local_sagemaker.errors import ValidationError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Scaling = Literal["Linear", "Logarithmic", "ReverseLogarithmic"]

MAX_RANGES = 30
# The service does not say how it chooses a scale by itself; here two decades or more are searched logarithmically.
AUTO_LOGARITHMIC_RATIO = 100.0
AUTO_HINT_RATIO = 10.0


@dataclass(frozen=True)
class NumberRange:
    """Numbers between two bounds, both included.

    Attributes:
        scaling: what ``Auto`` was resolved to.
        is_integer: whether only whole numbers are meant.
    """

    name: str
    low: float
    high: float
    scaling: Scaling
    is_integer: bool

    def distribution(self) -> BaseDistribution:
        """What Optuna draws from; with ReverseLogarithmic it draws the distance from 1."""
        from optuna.distributions import FloatDistribution, IntDistribution  # noqa: PLC0415 - slow to import

        logarithmic = self.scaling != "Linear"
        if self.is_integer:
            return IntDistribution(int(self.low), int(self.high), log=logarithmic)
        if self.scaling == "ReverseLogarithmic":
            return FloatDistribution(1 - self.high, 1 - self.low, log=True)
        return FloatDistribution(self.low, self.high, log=logarithmic)

    def text(self, drawn: Any) -> str:
        """What was drawn, as the hyperparameter's value."""
        if self.is_integer:
            return str(int(drawn))
        # The difference to 1 has an error in its last digit.
        number = float(f"{1 - float(drawn):.15g}") if self.scaling == "ReverseLogarithmic" else float(drawn)
        return repr(min(max(number, self.low), self.high))

    def drawn(self, text: str) -> float | int | None:
        """What would have to be drawn for a value, or None where it lies outside of the range."""
        try:
            number = int(text) if self.is_integer else float(text)
        except ValueError:
            return None
        if not self.low <= number <= self.high:
            return None
        return 1 - number if self.scaling == "ReverseLogarithmic" else number

    @property
    def size(self) -> float:
        """How many values there are."""
        if self.is_integer or self.low == self.high:
            return int(self.high) - int(self.low) + 1 if self.is_integer else 1
        return math.inf


@dataclass(frozen=True)
class CategoricalRange:
    """One of some texts."""

    name: str
    values: tuple[str, ...]

    def distribution(self) -> BaseDistribution:
        """What Optuna draws from."""
        from optuna.distributions import CategoricalDistribution  # noqa: PLC0415 - slow to import

        return CategoricalDistribution(self.values)

    def text(self, drawn: Any) -> str:
        """What was drawn, as given."""
        return str(drawn)

    def drawn(self, text: str) -> str | None:
        """The value itself, or None if it is none of these."""
        return text if text in self.values else None

    @property
    def size(self) -> float:
        """How many values there are."""
        return len(self.values)


Range = NumberRange | CategoricalRange


def read_ranges(document: Mapping[str, Any], where: str) -> tuple[Range, ...]:
    """The ranges of a ``ParameterRanges`` document.

    Args:
        document: the document, which the service's model has passed.
        where: its place in the request, for messages.

    Raises:
        ValidationError: naming the hyperparameter, if one is not what the service takes.
    """
    numbers = (("IntegerParameterRanges", True), ("ContinuousParameterRanges", False))
    ranges: list[Range] = [
        _number_range(entry, is_integer=is_integer, where=where)
        for key, is_integer in numbers
        for entry in document.get(key) or ()
    ]
    ranges += [_categorical_range(entry, where) for entry in document.get("CategoricalParameterRanges") or ()]
    ranges += [_hinted_range(entry) for entry in document.get("AutoParameters") or ()]
    names = [one.name for one in ranges]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValidationError(f"Hyperparameter {twice[0]} has more than one range in {where}.", "leave one of them")
    if len(ranges) > MAX_RANGES:
        raise ValidationError(
            f"{where} has {len(ranges)} ranges; at most {MAX_RANGES} hyperparameters can be searched.",
            "make some of them static",
        )
    return tuple(ranges)


def auto_scaling(low: float, high: float) -> Scaling:
    """What ``Auto`` means here: logarithmic for positive numbers over two decades or more, else linear."""
    return "Logarithmic" if low > 0 and high / low >= AUTO_LOGARITHMIC_RATIO else "Linear"


def _number_range(entry: Mapping[str, Any], *, is_integer: bool, where: str) -> NumberRange:
    name = entry["Name"]
    low, high = (_number(entry[key], f"{key} of {name} in {where}", is_integer) for key in ("MinValue", "MaxValue"))
    if low > high:
        raise ValidationError(
            f"MinValue {entry['MinValue']} of hyperparameter {name} is greater than its MaxValue {entry['MaxValue']}.",
            "exchange them",
        )
    if not math.isfinite(high - low):
        raise ValidationError(
            f"The range of hyperparameter {name} is wider than the largest number, {sys.float_info.max:g}.",
            "bring its bounds nearer",
        )
    scaling = entry.get("ScalingType", "Auto")
    if scaling == "Logarithmic" and low <= 0:
        raise ValidationError(
            f"Hyperparameter {name} has ScalingType Logarithmic and MinValue {entry['MinValue']}; "
            "logarithmic scaling works only for ranges of values greater than 0.",
            "raise MinValue, or take Linear",
        )
    if scaling == "ReverseLogarithmic" and (is_integer or low < 0 or high >= 1):
        raise ValidationError(
            f"Hyperparameter {name} has ScalingType ReverseLogarithmic; reverse logarithmic scaling works only for "
            "continuous ranges within 0 <= x < 1.0.",
            "correct the bounds, or take Linear",
        )
    return NumberRange(name, low, high, auto_scaling(low, high) if scaling == "Auto" else scaling, is_integer)


def _number(text: str, what: str, is_integer: bool) -> float:
    try:
        number: float = int(text) if is_integer else float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        kind = "an integer" if is_integer else "a finite number"
        raise ValidationError(f"{what} is {text!r}, which is not {kind}.", "write it as a string of digits")
    return number


def _categorical_range(entry: Mapping[str, Any], where: str) -> CategoricalRange:
    values = tuple(entry["Values"])
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValidationError(
            f"Values of hyperparameter {entry['Name']} in {where} has {twice[0]!r} more than once.", "leave one of them"
        )
    return CategoricalRange(entry["Name"], values)


def _hinted_range(entry: Mapping[str, Any]) -> Range:
    """A range around the hint of an ``AutoParameter``: a decade below and above; a hint that is no number stays."""
    name, hint = entry["Name"], entry["ValueHint"]
    try:
        number = float(hint)
    except ValueError:
        number = math.nan
    if not math.isfinite(number * AUTO_HINT_RATIO) or number == 0:
        return CategoricalRange(name, (hint,))
    low, high = sorted((number / AUTO_HINT_RATIO, number * AUTO_HINT_RATIO))
    is_integer = hint.lstrip("+-").isdigit()
    if is_integer:
        low, high = float(math.ceil(low)), float(math.floor(high))
    elif 0 < number < 1 <= high:
        high = number + (1 - number) / 2  # a share, such as a momentum, stays below 1
    return NumberRange(name, low, high, auto_scaling(low, high), is_integer)
