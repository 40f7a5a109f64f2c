"""The routes of /models, as the platform asks them of a multi-model endpoint: an Answer for every outcome."""

import base64
import binascii
import bisect
import json
import logging
from collections.abc import Callable
from typing import Any

from sagemaker_byoc.errors import ByocError, MalformedBody
from sagemaker_byoc.serving.answers import JSON, error_answer
from sagemaker_byoc.serving.exchange import Answer
from sagemaker_byoc.serving.many_models import ManyModels
from sagemaker_byoc.serving.model_registry import ModelRecord

PAGE = 100
log = logging.getLogger(__name__)


class ModelRoutes:
    """What /models answers. Nothing here raises."""

    def __init__(self, models: ManyModels) -> None:
        self._models = models

    def load(self, body: bytes) -> Answer:
        """POST /models"""
        return _answered(lambda: self._load(body))

    def list(self, token: str) -> Answer:
        """GET /models"""
        return _answered(lambda: self._page(token))

    def describe(self, name: str) -> Answer:
        """GET /models/NAME"""
        return _answered(lambda: _shown(self._models.describe(name)))

    def unload(self, name: str) -> Answer:
        """DELETE /models/NAME"""
        return _answered(lambda: self._unload(name))

    def _load(self, body: bytes) -> dict[str, str]:
        name, url = _read_model(body)
        self._models.load(name, url)
        return _shown(self._models.describe(name))

    def _unload(self, name: str) -> dict[str, str]:
        shown = _shown(self._models.describe(name))
        self._models.unload(name)
        return shown

    def _page(self, token: str) -> dict[str, Any]:
        """At most a hundred models after the one that the token names, which may be gone by now."""
        records = self._models.listed()
        first = bisect.bisect_right([record.name for record in records], _read_token(token)) if token else 0
        page = records[first : first + PAGE]
        shown: dict[str, Any] = {"models": [_shown(record) for record in page]}
        if first + PAGE < len(records):
            shown["nextPageToken"] = base64.urlsafe_b64encode(page[-1].name.encode("utf-8", "surrogatepass")).decode()
        return shown


def _answered(work: Callable[[], Any]) -> Answer:
    try:
        return Answer(json.dumps(work()).encode() + b"\n", JSON)
    except ByocError as error:
        return error_answer(error)
    except Exception as error:
        log.exception("the runtime failed")
        return error_answer(error)


def _shown(record: ModelRecord) -> dict[str, str]:
    return {"modelName": record.name, "modelUrl": record.url}


def _read_model(body: bytes) -> tuple[str, str]:
    """The name and the folder that a POST names. Raises MalformedBody."""
    try:
        document = json.loads(body)
    except ValueError as error:
        raise MalformedBody(f"the body is not JSON: {error}.") from None
    found = [document.get(key) if isinstance(document, dict) else None for key in ("model_name", "url")]
    if not all(isinstance(value, str) and value for value in found):
        raise MalformedBody('expected {"model_name": "...", "url": "..."}, both strings that are not empty.')
    return str(found[0]), str(found[1])


def _read_token(token: str) -> str:
    try:
        return base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True).decode("utf-8", "surrogatepass")
    except (binascii.Error, UnicodeError):
        raise MalformedBody(f"next_page_token {token!r} is none that this container has given.") from None
