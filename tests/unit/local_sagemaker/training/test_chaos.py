"""Faults on demand."""

import pytest
from local_sagemaker.errors import UsageError
from local_sagemaker.training.chaos import Interruption, parse_chaos


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("spot-after=30s", Interruption(30.0)),
        ("spot-after=0.5", Interruption(0.5)),
        ("spot-after=5s:kill", Interruption(5.0, kill=True)),
        ("spot-after=5s:kill:wait=10s", Interruption(5.0, kill=True, wait_seconds=10.0)),
        ("spot-after=5s:wait=1", Interruption(5.0, wait_seconds=1.0)),
    ],
)
def test_an_interruption_is_read(text, expected):
    assert parse_chaos((text,)) == (expected,)


@pytest.mark.parametrize("text", ["", "spot", "spot-after=", "spot-after=-1s", "spot-after=5s:term", "ping-fail"])
def test_what_cannot_be_read_is_refused(text):
    with pytest.raises(UsageError, match="cannot be read"):
        parse_chaos((text,))
