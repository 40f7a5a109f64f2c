"""A model behind BentoML."""

from collections.abc import Generator
from typing import Any

import asked
import bentoml
import models

CASE = asked.read()
BATCHES = {"batchable": True, "max_batch_size": CASE.rows, "max_latency_ms": round(CASE.window * 1e3)}
TRAFFIC = {"timeout": 60, "max_concurrency": 100_000}

if CASE.streams:

    @bentoml.service(workers=CASE.workers, traffic=TRAFFIC, threads=32)
    class Bench:
        """Chunks as they are made."""

        @bentoml.api(route="/invocations")
        def predict(self, instances: list[Any]) -> Generator[str, None, None]:  # noqa: ARG002 - the request's field
            for chunk in models.stream():
                yield chunk.decode()

elif CASE.rows:

    @bentoml.service(workers=CASE.workers, traffic=TRAFFIC)
    class Bench:  # type: ignore[no-redef]  # one of the services is made
        """Many instances at once."""

        def __init__(self) -> None:
            self.model = models.load(CASE.workload, CASE.folder)

        @bentoml.api(route="/invocations", **BATCHES)
        def predict(self, instances: list[Any]) -> list[Any]:
            return self.model(instances)

else:

    @bentoml.service(workers=CASE.workers, traffic=TRAFFIC)
    class Bench:  # type: ignore[no-redef]
        """One request at a time."""

        def __init__(self) -> None:
            self.model = models.load(CASE.workload, CASE.folder)

        @bentoml.api(route="/invocations")
        def predict(self, instances: list[Any]) -> dict[str, list[Any]]:
            return {"predictions": self.model(instances)}
