"""Metrics in a job's log."""

import pytest
from local_sagemaker.engines.base import Chunk
from local_sagemaker.errors import UsageError, ValidationError
from local_sagemaker.training.metrics import MetricLog, compile_definitions

from tests.support.waiting import wait_until


@pytest.fixture
def found():
    return []


@pytest.fixture
def log(found):
    definitions = {"loss": r"loss=([-+0-9.eEnainf]+);", "f1": r"f1: (\S+)"}
    return MetricLog(compile_definitions(definitions), found.extend)


def values(found):
    return [(point.metric, point.value, point.host) for point in found]


def test_group_1_of_each_match_is_a_value_of_its_host(log, found):
    """8.1; scientific notation and negative numbers too (8.2)."""
    log.sink("algo-1").write(Chunk("stdout", b"step 1 loss=0.5;\nstep 2 loss=-1e-3; f1: 0.25\n"))
    log.sink("algo-2").write(Chunk("stderr", b"loss=2;\n"))
    log.flush()
    assert values(found) == [
        ("loss", 0.5, "algo-1"),
        ("loss", -0.001, "algo-1"),
        ("f1", 0.25, "algo-1"),
        ("loss", 2.0, "algo-2"),
    ]
    assert log.last == {"loss": 2.0, "f1": 0.25}


def test_a_line_in_pieces_is_one_line_and_the_streams_are_told_apart(log, found):
    """8.1."""
    sink = log.sink("algo-1")
    for stream, data in (("stdout", b"loss=0."), ("stderr", b"a warning\n"), ("stdout", b"75;"), ("stdout", b"\n")):
        sink.write(Chunk(stream, data))
    log.flush()
    assert values(found) == [("loss", 0.75, "algo-1")]


def test_the_last_line_counts_without_its_end(log, found):
    sink = log.sink("algo-1")
    sink.write(Chunk("stdout", b"loss=3;"))
    sink.end()
    log.flush()
    assert values(found) == [("loss", 3.0, "algo-1")]


@pytest.mark.parametrize(
    ("expression", "line", "value"),
    [
        (r"loss=([0-9.]+)", b"loss=1 loss=2", 1.0),
        (r".*loss=([0-9.]+).*", b"epoch 3 loss=1 loss=2", 2.0),
        (r".*?loss=([0-9.]+)", b"epoch 3 loss=1 loss=2", 1.0),
        (r".*val|loss=([0-9.]+)", b"epoch 3 loss=1", 1.0),
        (r".*\bloss=([0-9.]+)$", b"val_loss=1 loss=2", 2.0),
    ],
)
def test_the_first_match_in_a_line_counts(found, expression, line, value):
    """8.1: a line is searched; what is greedy takes what it can."""
    log = MetricLog(compile_definitions({"loss": expression}), found.extend)
    log.search("algo-1", [line])
    log.flush()
    assert values(found) == [("loss", value, "algo-1")]


@pytest.mark.timeout(60)
def test_a_long_line_takes_no_minutes(found):
    """8.1: the guide's own expressions begin with .*, and a program may print its whole configuration in a line."""
    log = MetricLog(compile_definitions({"loss": r".*loss=([0-9.]+).*"}), found.extend)
    log.search("algo-1", [b"x" * 2**18] * 10)
    log.flush()
    assert found == []


@pytest.mark.parametrize("text", [b"f1: none\n", b"f1: nan\n", b"loss=inf;\n"])
def test_what_is_no_number_is_no_value(log, found, text):
    log.sink("algo-1").write(Chunk("stdout", text))
    log.flush()
    assert found == []


def test_values_that_cannot_be_written_down_now_are_written_later(found):
    """8.1."""
    refusals = [UsageError("the disk is full", "expected room", "make some")]

    def put(points):
        if refusals:
            raise refusals.pop()
        found.extend(points)

    log = MetricLog(compile_definitions({"loss": r"loss=(\S+)"}), put)
    with log.flushed():
        log.search("algo-1", [b"loss=0.5"])
        wait_until(lambda: not refusals, "a refusal")
        log.search("algo-1", [b"loss=0.25"])
    assert values(found) == [("loss", 0.5, "algo-1"), ("loss", 0.25, "algo-1")]


@pytest.mark.parametrize(("text", "words"), [("loss=(", "is invalid"), ("loss=.*", "has no group")])
def test_an_expression_that_cannot_find_a_value_is_refused(text, words):
    """8.1."""
    with pytest.raises(ValidationError, match=words):
        compile_definitions({"loss": text})
