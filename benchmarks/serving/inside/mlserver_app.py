"""A model behind MLServer."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asked
import models
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

CASE = asked.read()
KINDS = {int: "INT64", float: "FP64"}


class Bench(MLModel):
    """Rows of the first input in, rows of one output back."""

    async def load(self) -> bool:
        self.answers = models.load(CASE.workload, CASE.folder)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        instances = rows(payload)
        if CASE.waits:
            predictions = await asyncio.to_thread(self.answers, instances)
        else:
            predictions = self.answers(instances)
        return response(self.name, predictions)

    async def predict_stream(self, payloads: AsyncIterator[InferenceRequest]) -> AsyncIterator[InferenceResponse]:
        async for _ in payloads:
            chunks = models.stream()
            while chunk := await asyncio.to_thread(next, chunks, None):
                output = ResponseOutput(name="predictions", shape=[1, 1], datatype="BYTES", data=[chunk.decode()])
                yield InferenceResponse(model_name=self.name, outputs=[output])


def rows(payload: InferenceRequest) -> list[Any]:
    first = payload.inputs[0]
    values: list[Any] = list(first.data)
    if len(first.shape) < 2 or first.shape[1] == 1:
        return [value.decode() if isinstance(value, bytes) else value for value in values]
    width = first.shape[1]
    if values and isinstance(values[0], list):
        return values
    return [values[place : place + width] for place in range(0, len(values), width)]


def response(name: str, predictions: list[Any]) -> InferenceResponse:
    nested = isinstance(predictions[0], list)
    width = len(predictions[0]) if nested else 1
    values = [value for row in predictions for value in row] if nested else predictions
    kind = KINDS[type(values[0])]
    output = ResponseOutput(name="predictions", shape=[len(predictions), width], datatype=kind, data=values)
    return InferenceResponse(model_name=name, outputs=[output])
