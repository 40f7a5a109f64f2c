"""What this container answers, whatever server asks: one method a route, an Answer for every outcome.

The Flask app, the shortcut in front of it and the ASGI lane all call this, so their answers are the same.
"""

import json
import logging
import time
from collections.abc import Callable

from sagemaker_byoc.errors import ByocError
from sagemaker_byoc.serving.answers import JSON, error_answer
from sagemaker_byoc.serving.exchange import Answer, Request
from sagemaker_byoc.serving.model import Gate, LoadingModel
from sagemaker_byoc.serving.readiness import Readiness
from sagemaker_byoc.serving.settings import ServeSettings

log = logging.getLogger(__name__)


class Service:
    """The routes of one worker over a model that may still be loading."""

    def __init__(self, model: LoadingModel, readiness: Readiness, settings: ServeSettings, gate: Gate | None) -> None:
        self.settings = settings
        self.model = model
        self._readiness = readiness
        self._gate = gate

    def ping(self) -> Answer:
        """Whether requests may be sent here."""
        return Answer(b"", "text/plain", 200 if self._readiness.is_ready() else 503)

    def execution_parameters(self) -> Answer:
        """How a transform job may use this container, where the request for the job does not say."""
        settings = self.settings
        parameters = {
            "MaxConcurrentTransforms": settings.max_concurrent_transforms or settings.workers,
            "BatchStrategy": settings.batch_strategy,
            "MaxPayloadInMB": settings.max_payload_mb,
        }
        return Answer(json.dumps(parameters).encode() + b"\n", JSON)

    def invoke(self, read: Callable[[float], Request]) -> Answer:
        """One invocation: `read` gets the deadline and returns the request with its body. Never raises."""
        deadline = time.monotonic() + self.settings.timeout
        try:
            # While other workers answer, a new one's callers wait for its model; before that, they are told at once.
            loaded = self.model.get(self.settings.timeout if self._readiness.is_ready() else 0)
            request = read(deadline)
            if self._gate is None:
                return loaded.invoke(request)
            with self._gate:
                return loaded.invoke(request)
        except ByocError as error:
            return error_answer(error)
        except Exception as error:
            log.exception("the runtime failed")
            return error_answer(error)
