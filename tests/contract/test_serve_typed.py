"""A typed handler over HTTP: checked bodies, errors that name the field, and a document that keeps its word."""

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tests.support.http import Reply, request
from tests.support.opt_ml import OptMl
from tests.support.serving import Endpoint

PASSENGERS = b'[{"age": 9, "fare": 50}, {"age": 40}]'


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """One endpoint whose predict_fn is annotated with a list of pydantic models."""
    folder = tmp_path_factory.mktemp("typed")
    tree = OptMl.make(folder / "opt_ml")
    tree.model_code("typed_passengers")
    with Endpoint(tree, folder / "serve.log") as endpoint:
        yield endpoint.wait_until_ready()


def document(endpoint: Endpoint) -> dict[str, Any]:
    reply = request(endpoint.port, "GET", "/openapi.json")
    assert reply.status == 200, reply
    assert reply.content_type == "application/json"
    found: dict[str, Any] = reply.json
    return found


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (PASSENGERS, "application/json"),
        (b'{"age": 9, "fare": 50}\n{"age": 40}\n', "application/jsonlines"),
        (b"9,50\n40,\n", "text/csv"),
        (b"fare,age\n50,9\n,40\n", "text/csv; charset=utf-8"),
    ],
)
def test_records_are_taken_in_every_format_that_has_them(typed: Endpoint, body: bytes, content_type: str) -> None:
    """15.1, 15.7."""
    reply = typed.invoke(body, content_type)
    assert reply.status == 200, reply
    assert reply.json == [{"probability": 0.5, "minor": True}, {"probability": 0.0, "minor": False}]


def test_answers_have_a_record_for_each_that_was_sent(typed: Endpoint) -> None:
    """15.37."""
    assert typed.invoke(PASSENGERS, accept="text/csv").body == b"0.5,True\n0.0,False\n"
    assert typed.invoke(PASSENGERS, accept="application/jsonlines").body.count(b"\n") == 2


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b'[{"age": 1}, {"age": "old"}]', "application/json", "[1].age: input should be a valid number"),
        (b'[{"age": 200}]', "application/json", "[0].age: input should be less than or equal to 150; found 200"),
        (b'{"age": 1}', "application/json", "input should be a valid list; found a dict"),
        (b"[[]]", "application/json", "row 1 of the body has 0 columns; expected 2, for Passenger: age, fare"),
        (b"1\n2\n", "text/csv", "row 1 of the body has 1 columns; expected 2, for Passenger: age, fare"),
        (b'{"fare": 1}\n', "application/jsonlines", "[0].age: field required"),
        (b"hello", "text/plain", "found 'hello'"),
    ],
)
def test_body_that_does_not_fit_is_400_and_the_field_is_named(
    typed: Endpoint, body: bytes, content_type: str, message: str
) -> None:
    """15.5."""
    reply = typed.invoke(body, content_type)
    assert reply.status == 400, reply
    assert reply.error["type"] == "MalformedBody"
    assert message in reply.error["message"]


def test_document_is_valid_and_describes_both_sides(typed: Endpoint) -> None:
    """15.1: by the specification's own schema."""
    found = document(typed)
    schemathesis.openapi.from_dict(found).validate()
    assert {"Passenger", "Survival"} <= {*found["components"]["schemas"]}


def test_document_of_an_untyped_handler_is_valid(echoing: Endpoint) -> None:
    """15.1."""
    schemathesis.openapi.from_dict(document(echoing)).validate()


def takes_conversion(body: Any) -> bool:
    """Whether there is a value that pydantic makes a number of, as its users know it: true is 1, and "7" is 7."""
    records = [record for record in (body if isinstance(body, list) else [body]) if isinstance(record, dict)]
    return any(isinstance(value, bool | str) for record in records for value in record.values())


@pytest.mark.parametrize("mode", schemathesis.GenerationMode)
def test_container_keeps_what_its_document_promises(typed: Endpoint, mode: schemathesis.GenerationMode) -> None:
    """15.5: bodies made from it, right and wrong ones, are answered as it says, and never with 500."""
    schema = schemathesis.openapi.from_dict(document(typed))
    operation = schema["/invocations"]["POST"]
    seen: set[int] = set()

    @hypothesis.settings(max_examples=300, deadline=None, derandomize=True, database=None)
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        response = case.call(base_url=f"http://127.0.0.1:{typed.port}", timeout=30)
        seen.add(response.status_code)
        assert response.status_code < 500, response.content
        # What a line of CSV holds, a schema cannot say: such bodies are right for it and wrong for us.
        inexpressible = [] if case.media_type == "application/json" else [positive_data_acceptance]
        converted = [negative_data_rejection] if takes_conversion(case.body) else []
        case.validate_response(response, excluded_checks=[*inexpressible, *converted])

    ask()
    assert (200 if mode is schemathesis.GenerationMode.POSITIVE else 400) in seen


def test_nothing_of_all_this_was_an_alarm_for_the_log(typed: Endpoint) -> None:
    """What a caller does not fit is told to the caller."""
    reply: Reply = typed.invoke(b"[{}]")
    assert reply.status == 400
    assert "Traceback" not in typed.log
