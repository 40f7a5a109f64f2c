"""The OpenAPI 3.1 document of this container: what may be sent, what comes back, and what an error looks like.

Source: SageMaker developer guide, "Custom Inference Code with Hosting Services"; the OpenAPI specification 3.1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sagemaker_byoc.serving import codecs
from sagemaker_byoc.serving.exchange import CUSTOM_ATTRIBUTES, INFERENCE_ID
from sagemaker_byoc.serving.handlers import Handler
from sagemaker_byoc.serving.typed import TypedInput, TypedOutput, typed_input, typed_output

_SCHEMAS = "#/components/schemas/"
_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
            "required": ["type", "message"],
        }
    },
    "required": ["error"],
}
_ERRORS = {
    "400": "The body is not what its content type says, or does not fit the schema; the message names what is wrong.",
    "406": "The prediction cannot be written in any type that Accept allows.",
    "413": "The body is larger than allowed.",
    "415": "Nothing reads this content type.",
    "500": "A function of inference.py failed; the message names it, its file and line.",
    "503": "The model is loading, or every place in the queue is taken.",
    "504": "The request's time ran out.",
}
_PING = {"200": {"description": "Ready."}, "503": {"description": "Not yet."}}
_EXECUTION_PARAMETERS = {
    "type": "object",
    "properties": {
        "MaxConcurrentTransforms": {"type": "integer", "minimum": 1},
        "BatchStrategy": {"type": "string", "enum": ["MULTI_RECORD", "SINGLE_RECORD"]},
        "MaxPayloadInMB": {"type": "integer", "minimum": 0},
    },
}


@dataclass(frozen=True)
class Interface:
    """What is known of the user's functions: the model's name, what bodies are checked against, and whether functions
    of the user's own (`input_fn`, `output_fn`, `transform_fn`) read or write, which may take any content type.
    """

    name: str
    typed_input: TypedInput | None = None
    typed_output: TypedOutput | None = None
    reads_anything: bool = False
    writes_anything: bool = False


def interface_of(handlers: Mapping[str, Handler]) -> Interface:
    """What the functions of an inference.py say of themselves."""
    own = set(handlers)
    predict_fn = handlers.get("predict_fn")
    reads, writes = bool(own & {"input_fn", "transform_fn"}), bool(own & {"output_fn", "transform_fn"})
    return Interface(
        name="model",
        typed_input=typed_input(predict_fn.function) if predict_fn and not reads else None,
        typed_output=typed_output(predict_fn.function) if predict_fn and not writes else None,
        reads_anything=reads,
        writes_anything=writes,
    )


def describe(interface: Interface) -> dict[str, Any]:
    """The document, as a dictionary that JSON can hold."""
    sent, returned, schemas = _schemas(interface)
    return {
        "openapi": "3.1.0",
        "info": {"title": interface.name, "version": "1"},
        "paths": {
            "/ping": {"get": _get("Whether the model is ready.", "ping", _PING)},
            "/invocations": {"post": _invocations(interface, sent, returned)},
            "/execution-parameters": {
                "get": _get(
                    "What a batch transform job should send.",
                    "executionParameters",
                    {"200": _content("Its settings.", {codecs.JSON: _EXECUTION_PARAMETERS})},
                )
            },
            "/metrics": {
                "get": _get(
                    "Metrics for Prometheus.",
                    "metrics",
                    {"200": _content("The metrics.", {"text/plain": {"type": "string"}})},
                )
            },
        },
        "components": {
            "schemas": {"ContainerError": _ERROR} | schemas,
            "responses": {
                status: _content(meaning, {codecs.JSON: {"$ref": f"{_SCHEMAS}ContainerError"}})
                for status, meaning in _ERRORS.items()
            },
        },
    }


def _invocations(interface: Interface, sent: Any, returned: Any) -> dict[str, Any]:
    readable = _types_of_requests(interface, sent)
    writable = _types_of_answers(interface, returned)
    return {
        "summary": "Predict.",
        "operationId": "invoke",
        "parameters": [
            _header(CUSTOM_ATTRIBUTES, "Handed to the functions of inference.py."),
            _header(INFERENCE_ID, "Comes back in the log, to find this request again."),
        ],
        "requestBody": {"required": True, "content": {name: {"schema": schema} for name, schema in readable.items()}},
        "responses": {"200": _content("The prediction.", writable)}
        | {status: {"$ref": f"#/components/responses/{status}"} for status in _ERRORS},
    }


def _types_of_requests(interface: Interface, sent: Any) -> dict[str, Any]:
    if interface.reads_anything:
        return {"*/*": {}}
    if interface.typed_input is None:
        return {codec.content_type: _any_value(codec) for codec in codecs.CODECS}
    fields = ", ".join(interface.typed_input.fields)
    record = interface.typed_input.name
    return {
        codecs.JSON: sent,
        codecs.JSON_LINES: {"type": "string", "description": f"One {record} a line."},
        codecs.CSV: {"type": "string", "description": f"One {record} a line: {fields}; or by a first line of names."},
        codecs.ARROW_STREAM: {"description": f"A table of {fields}."},
        codecs.ARROW_FILE: {"description": f"A table of {fields}."},
        codecs.PARQUET: {"description": f"A table of {fields}."},
    }


def _types_of_answers(interface: Interface, returned: Any) -> dict[str, Any]:
    if interface.writes_anything:
        return {"*/*": {}}
    written = {codec.content_type: _any_value(codec) for codec in codecs.CODECS if codec.encode}
    return written if returned is None else written | {codecs.JSON: returned}


def _schemas(interface: Interface) -> tuple[Any, Any, dict[str, Any]]:
    """The schema of what is sent, of what is returned, and the schemas that they refer to."""
    sides: dict[str, tuple[str, Any]] = {}
    if interface.typed_input and not interface.reads_anything:
        sides["sent"] = ("validation", interface.typed_input.adapter)
    if interface.typed_output and not interface.writes_anything:
        sides["returned"] = ("serialization", interface.typed_output.adapter)
    if not sides:
        return None, None, {}
    from pydantic import PydanticUserError, TypeAdapter  # noqa: PLC0415 - only for a handler that is typed

    try:
        wanted: Any = [(side, mode, adapter) for side, (mode, adapter) in sides.items()]
        found, definitions = TypeAdapter.json_schemas(wanted, ref_template=f"{_SCHEMAS}{{model}}")
    except PydanticUserError:  # a field of a type that JSON Schema has no word for; it is checked all the same
        return {}, {}, {}
    by_side = {side: schema for (side, _), schema in found.items()}
    return by_side.get("sent"), by_side.get("returned"), definitions.get("$defs", {})


def _any_value(codec: codecs.Codec) -> dict[str, Any]:
    return {"type": "string"} if codec.text and codec.content_type != codecs.JSON else {}


def _get(summary: str, name: str, responses: Mapping[str, Any]) -> dict[str, Any]:
    return {"summary": summary, "operationId": name, "responses": responses}


def _content(description: str, schemas: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {name: {"schema": schema} for name, schema in schemas.items()}}


def _header(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": description, "schema": {"type": "string"}}
