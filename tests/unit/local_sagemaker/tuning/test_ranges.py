"""Ranges of hyperparameters: what the service takes, on which scale values are drawn, and how they are written."""

import pytest
from local_sagemaker.errors import ValidationError
from local_sagemaker.tuning.ranges import read_ranges


def number(name="x", low="0", high="1", scaling=None, kind="Continuous"):
    entry = {"Name": name, "MinValue": low, "MaxValue": high}
    return {f"{kind}ParameterRanges": [entry | ({"ScalingType": scaling} if scaling else {})]}


def one(document):
    (found,) = read_ranges(document, "here")
    return found


def test_a_hint_that_leaves_no_room_for_a_decade_above_it_stays():
    """24.2."""
    assert one({"AutoParameters": [{"Name": "x", "ValueHint": "1e308"}]}).values == ("1e308",)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (number(low="2", high="1"), "MinValue 2 of hyperparameter x is greater than its MaxValue 1"),
        (number(low="a"), "'a', which is not a finite number"),
        (number(high="inf"), "'inf', which is not a finite number"),
        (number(low="0.5", kind="Integer"), "'0.5', which is not an integer"),
        (number(low="-1.7e308", high="1.7e308"), "wider than the largest number"),
        (number(low="0", scaling="Logarithmic"), "only for ranges of values greater than 0"),
        (number(low="0", high="1", scaling="ReverseLogarithmic"), "0 <= x < 1.0"),
        (number(low="-0.1", high="0.9", scaling="ReverseLogarithmic"), "0 <= x < 1.0"),
        (number(low="0", high="0", scaling="ReverseLogarithmic", kind="Integer"), "only for continuous ranges"),
        ({"CategoricalParameterRanges": [{"Name": "x", "Values": ["a", "b", "a"]}]}, "'a' more than once"),
        (number() | number(kind="Integer"), "x has more than one range"),
        (
            {"CategoricalParameterRanges": [{"Name": f"x{i}", "Values": ["a"]} for i in range(31)]},
            "at most 30 hyperparameters",
        ),
    ],
)
def test_what_the_service_refuses_is_refused_by_name(document, message):
    """24.4."""
    with pytest.raises(ValidationError) as error:
        read_ranges(document, "here")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("low", "high", "scaling"),
    [("0.001", "0.1", "Logarithmic"), ("0.1", "0.9", "Linear"), ("0", "1000", "Linear"), ("-5", "-1", "Linear")],
)
def test_auto_is_logarithmic_for_positive_numbers_over_two_decades(low, high, scaling):
    """24.4."""
    assert one(number(low=low, high=high, scaling="Auto")).scaling == scaling


def test_a_range_without_a_scale_has_auto():
    """24.4."""
    assert one(number(low="1", high="1000", kind="Integer")).scaling == "Logarithmic"


def test_reverse_logarithmic_draws_the_distance_from_one():
    """24.4."""
    momentum = one(number(low="0.5", high="0.999", scaling="ReverseLogarithmic"))
    distribution = momentum.distribution()
    assert distribution.log
    assert (distribution.low, distribution.high) == pytest.approx((0.001, 0.5))
    assert momentum.text(0.001) == "0.999"
    assert float(momentum.text(0.1)) == pytest.approx(0.9)


@pytest.mark.parametrize("scaling", ["Linear", "Logarithmic", "ReverseLogarithmic"])
def test_no_value_leaves_its_range_by_rounding(scaling):
    """24.4."""
    share = one(number(low="0.3", high="0.9", scaling=scaling))
    distribution = share.distribution()
    texts = [share.text(bound) for bound in (distribution.low, distribution.high)]
    assert all(0.3 <= float(text) <= 0.9 for text in texts)
    assert {float(text) for text in texts} == {0.3, 0.9}


def test_an_integer_is_written_without_a_point_and_a_category_as_given():
    """24.4."""
    assert one(number(low="1", high="8", kind="Integer")).text(3.0) == "3"
    assert one({"CategoricalParameterRanges": [{"Name": "x", "Values": ['"relu"', "tanh"]}]}).text('"relu"') == '"relu"'


def test_a_value_outside_of_a_range_has_no_place_in_it():
    layers = one(number(low="1", high="4", kind="Integer"))
    assert [layers.drawn(text) for text in ("1", "4", "5", "2.5", "two")] == [1, 4, None, None, None]


@pytest.mark.parametrize(
    ("hint", "low", "high", "is_integer"),
    [("0.01", 0.001, 0.1, False), ("32", 4, 320, True), ("0.9", 0.09, 0.95, False)],
)
def test_the_hint_of_an_auto_parameter_is_searched_around(hint, low, high, is_integer):
    """24.7."""
    found = one({"AutoParameters": [{"Name": "x", "ValueHint": hint}]})
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.is_integer == is_integer
