"""A model behind LitServe.

The functions at the edge have no annotations, as in its manual: it would check what is asked and answered by them.
"""

from collections.abc import Iterator
from typing import Any

import asked
import litserve
import models

CASE = asked.read()


class Bench(litserve.LitAPI):
    """One instance a request; lists of them where batches are asked for."""

    def setup(self, _device: str) -> None:
        self.answers = models.load(CASE.workload, CASE.folder)

    def decode_request(self, request):  # noqa: ANN001, ANN201
        return request["instances"][0]

    def predict(self, instance: Any) -> Any:
        return self.answers(instance if CASE.rows else [instance])

    def unbatch(self, output: list[Any]) -> list[Any]:
        return [[prediction] for prediction in output]

    def encode_response(self, output):  # noqa: ANN001, ANN201
        return {"predictions": output}


class Streamed(litserve.LitAPI):
    """Chunks as they are made."""

    def setup(self, _device: str) -> None:
        """Nothing to load."""

    def predict(self, _request: dict[str, Any]) -> Iterator[str]:
        for chunk in models.stream():
            yield chunk.decode()

    def encode_response(self, output):  # noqa: ANN001, ANN201
        yield from output


def main() -> None:
    if CASE.streams:
        api: litserve.LitAPI = Streamed(api_path="/invocations", stream=True)
    elif CASE.rows:
        api = Bench(api_path="/invocations", max_batch_size=CASE.rows, batch_timeout=CASE.window)
    else:
        api = Bench(api_path="/invocations")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=CASE.workers, healthcheck_path="/ping")
    server.run(host="127.0.0.1", port=CASE.port, generate_client_file=False)


if __name__ == "__main__":
    main()
