"""The OpenAPI document: valid, and true of what the codecs read and write."""

import json
from typing import Any

import numpy as np
import pydantic
import pytest
import schemathesis
from sagemaker_byoc.serving.codecs import CODECS
from sagemaker_byoc.serving.openapi import Interface, describe
from sagemaker_byoc.serving.typed import typed_input, typed_output


class Passenger(pydantic.BaseModel):
    age: int
    name: str = "unknown"


class Survival(pydantic.BaseModel):
    probability: float
    passenger: Passenger


def predict_fn(data: list[Passenger], model: Any) -> list[Survival]:
    return [Survival(probability=0.5, passenger=one) for one in data]


TYPED = Interface("titanic", typed_input(predict_fn), typed_output(predict_fn))
INTERFACES = [
    Interface("untyped"),
    TYPED,
    Interface("own", TYPED.typed_input, TYPED.typed_output, reads_anything=True, writes_anything=True),
]


@pytest.mark.parametrize("interface", INTERFACES, ids=lambda interface: interface.name)
def test_document_is_valid_openapi(interface: Interface) -> None:
    """By the specification's own schema, which schemathesis brings; and JSON can hold it."""
    document = json.loads(json.dumps(describe(interface)))
    schema = schemathesis.openapi.from_dict(document)
    schema.validate()
    assert sorted(f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods) == [
        "GET /execution-parameters",
        "GET /metrics",
        "GET /ping",
        "POST /invocations",
    ]


@pytest.mark.parametrize("interface", INTERFACES, ids=lambda interface: interface.name)
def test_every_reference_leads_somewhere(interface: Interface) -> None:
    document = describe(interface)

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if "$ref" in value else []
            return own + [found for inner in value.values() for found in references(inner)]
        return [found for inner in value for found in references(inner)] if isinstance(value, list) else []

    assert references(document)
    for reference in references(document):
        value = document
        for part in reference.removeprefix("#/").split("/"):
            value = value[part]


def invocations(interface: Interface) -> tuple[dict[str, Any], dict[str, Any]]:
    """The content types of requests and of answers."""
    post = describe(interface)["paths"]["/invocations"]["post"]
    return post["requestBody"]["content"], post["responses"]["200"]["content"]


def test_untyped_document_lists_what_the_codecs_read_and_write() -> None:
    """15.5."""
    sent, returned = invocations(INTERFACES[0])
    assert list(sent) == [codec.content_type for codec in CODECS]
    assert list(returned) == [codec.content_type for codec in CODECS if codec.encode]


def test_typed_document_describes_the_records() -> None:
    sent, returned = invocations(TYPED)
    schemas = describe(TYPED)["components"]["schemas"]
    (request,) = (name for name in schemas if "Passenger" in name and schemas[name]["required"] == ["age"])
    assert sent["application/json"]["schema"]["items"] == {"$ref": f"#/components/schemas/{request}"}
    assert returned["application/json"]["schema"]["items"] == {"$ref": "#/components/schemas/Survival"}
    assert "age, name" in sent["text/csv"]["schema"]["description"]
    assert "image/png" not in sent


def test_functions_of_the_user_may_read_and_write_anything() -> None:
    sent, returned = invocations(INTERFACES[2])
    assert list(sent) == list(returned) == ["*/*"]


class Pixels(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    values: np.ndarray


def test_field_that_json_schema_has_no_word_for_leaves_the_document_valid() -> None:
    def predict_pixels(data: Pixels, model: Any) -> Any: ...

    document = describe(Interface("pixels", typed_input(predict_pixels)))
    schemathesis.openapi.from_dict(document).validate()
    assert document["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"] == {"schema": {}}
