"""A model behind FastAPI: one function, whose request and answer are pydantic's."""

from typing import Any

import asked
import models
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import BaseModel

CASE = asked.read()
model = models.load(CASE.workload, CASE.folder)
app = FastAPI()


class Question(BaseModel):
    instances: list[Any]


class Answer(BaseModel):
    predictions: list[Any]


@app.get("/ping")
async def ping() -> PlainTextResponse:
    return PlainTextResponse("")


if CASE.streams:

    @app.post("/invocations")
    async def stream(_question: Question) -> StreamingResponse:
        return StreamingResponse(models.stream(), media_type="text/plain")

elif CASE.waits:

    @app.post("/invocations")
    def wait(question: Question) -> Answer:
        """In a thread, as FastAPI's manual asks of what blocks."""
        return Answer(predictions=model(question.instances))

else:

    @app.post("/invocations")
    async def compute(question: Question) -> Answer:
        """In the event loop: a worker has one core, and the way to a thread and back costs more than it gains."""
        return Answer(predictions=model(question.instances))
