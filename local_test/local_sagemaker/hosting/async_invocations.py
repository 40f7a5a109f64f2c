"""Asynchronous inference: requests wait in files, take their turns, and their answers become objects.

A request is on disk before it is accepted, and is removed when its answer is, so one that a killed process had begun is
begun again. Source: SageMaker developer guide, "Asynchronous inference".
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from local_sagemaker.errors import UsageError
from local_sagemaker.files import write_whole
from local_sagemaker.hosting.hooks import AsyncAccepted, AsyncInvocation
from local_sagemaker.hosting.invocation_errors import InvocationError, invalid
from local_sagemaker.hosting.limits import ASYNC_RULES
from local_sagemaker.hosting.router import Forward, Forwarded
from local_sagemaker.state.buckets import Buckets, split_uri

DEFAULT_CONCURRENCY = 4
MOST_AT_A_TIME = 256
TIMEOUT_SECONDS = 900.0
TTL_SECONDS = 21_600.0
INPUT_BYTES = 1 << 30
ERROR_BYTES = 2048
LOOK_SECONDS = 0.2
STOP_SECONDS = 30.0
PREFIX = "x-amzn-sagemaker-"
# What the container gets, by what the caller sends.
PASSED_ON = {
    "content-type": "content-type",
    f"{PREFIX}content-type": "content-type",
    f"{PREFIX}accept": "accept",
    f"{PREFIX}custom-attributes": f"{PREFIX}custom-attributes",
    f"{PREFIX}inference-id": f"{PREFIX}inference-id",
}

Forwards = Callable[[Forward, BinaryIO], Forwarded]


class Unanswered(Exception):
    """Why an invocation has no answer; asking again would not help."""


class AsyncQueue:
    """An endpoint's asynchronous requests.

    Args:
        directory: where they wait.
        buckets: where inputs and outputs are.
        config: the API's AsyncInferenceConfig.
        default_output: where answers go if the configuration names no place.
        note: told what a person may want to know.
    """

    def __init__(
        self,
        directory: Path,
        buckets: Buckets,
        config: Mapping[str, Any],
        default_output: str,
        note: Callable[[str], None],
    ) -> None:
        self._directory = directory
        self._buckets = buckets
        self._note = note
        output = config["OutputConfig"]
        self._output = output.get("S3OutputPath", default_output).rstrip("/")
        self._failures = output.get("S3FailurePath", "").rstrip("/")
        client = config.get("ClientConfig", {})
        self._each = client.get("MaxConcurrentInvocationsPerInstance", DEFAULT_CONCURRENCY)
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._under_way: dict[str, threading.Thread] = {}
        self._dispatcher: threading.Thread | None = None
        directory.mkdir(parents=True, exist_ok=True)

    async def enqueue(self, invocation: AsyncInvocation) -> AsyncAccepted:
        """Accept a request: it is on disk when this returns.

        Raises:
            InvocationError: if it has neither or both of an InputLocation and a body, or a header that cannot be.
        """
        return await asyncio.to_thread(self.accept, invocation)

    def accept(self, invocation: AsyncInvocation) -> AsyncAccepted:
        """See ``enqueue``."""
        headers = invocation.headers
        for name, rule in ASYNC_RULES.items():
            objection = rule.objection(headers[name]) if name in headers else None
            if objection is not None:
                raise invalid(objection)
        location = headers.get(f"{PREFIX}inputlocation", "")
        if bool(location) == bool(invocation.body):
            raise invalid("Exactly one of InputLocation and Body must be given.")
        if location:
            check_address("InputLocation", location)
        own = uuid.uuid4()
        inference_id = headers.get(f"{PREFIX}inference-id") or str(own)
        folder = headers.get(f"{PREFIX}s3outputpathextension", "").strip("/")
        file = headers.get(f"{PREFIX}filename") or f"{own}.out"
        output = "/".join(filter(None, (self._output, folder, file)))
        failure = "/".join(filter(None, (self._failures, folder, f"{own}-error.out"))) if self._failures else ""
        check_address("OutputLocation", output)
        document = {
            "InferenceId": inference_id,
            "InputLocation": location,
            "Headers": {passed: headers[sent] for sent, passed in PASSED_ON.items() if sent in headers},
            "Seconds": float(headers.get(f"{PREFIX}invocationtimeoutseconds", TIMEOUT_SECONDS)),
            "Until": time.time() + float(headers.get(f"{PREFIX}requestttlseconds", TTL_SECONDS)),
            "OutputLocation": output,
            "FailureLocation": failure,
        }
        name = f"{time.time_ns():020}-{own}"
        body = self._directory / f"{name}.body"
        try:
            if not location:
                body.write_bytes(invocation.body)
            write_whole(self._directory / f"{name}.json", json.dumps(document))
        except OSError:
            body.unlink(missing_ok=True)
            raise
        self._wake.set()
        return AsyncAccepted(inference_id, output, failure)

    def start(self, forward: Forwards, instances: Callable[[], int]) -> None:
        """Begin to give them their turns, those of an earlier process first.

        Args:
            forward: sends a request to an instance; from any thread.
            instances: how many are in service.
        """
        self._dispatcher = threading.Thread(
            target=self._dispatch, args=(forward, instances), name="async-invocations", daemon=True
        )
        self._dispatcher.start()

    def stop(self, limit_seconds: float = STOP_SECONDS) -> None:
        """Begin no more, and wait for those under way; the others wait on disk."""
        self._stopping.set()
        self._wake.set()
        until = time.monotonic() + limit_seconds
        for thread in (self._dispatcher, *self._under_way.values()):
            if thread is not None:
                thread.join(max(0.0, until - time.monotonic()))

    def _dispatch(self, forward: Forwards, instances: Callable[[], int]) -> None:
        trouble = ""
        while not self._stopping.is_set():
            try:
                self._give_turns(forward, instances())
            except (OSError, RuntimeError) as error:  # this machine has no more threads just now, say
                if str(error) != trouble:
                    trouble = str(error)
                    self._note(f"asynchronous invocations have to wait: {error}")
            self._wake.wait(LOOK_SECONDS)
            self._wake.clear()

    def _give_turns(self, forward: Forwards, instances: int) -> None:
        self._under_way = {name: thread for name, thread in self._under_way.items() if thread.is_alive()}
        room = min(self._each * instances, MOST_AT_A_TIME) - len(self._under_way)
        waiting = [path for path in sorted(self._directory.glob("[0-9]*.json")) if path.stem not in self._under_way]
        for path in waiting[: max(room, 0)]:
            thread = threading.Thread(target=self._take_turn, args=(path, forward), name=path.stem, daemon=True)
            thread.start()
            self._under_way[path.stem] = thread

    def _take_turn(self, path: Path, forward: Forwards) -> None:
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        answer = path.with_suffix(".answer")
        try:
            content_type = self._ask(document, self._find_input(path, document), answer, forward)
            self._keep(document, answer, content_type)
        except Unanswered as error:
            self._tell(document, str(error))
        except InvocationError:  # no instance at the moment: it keeps its place
            return
        finally:
            answer.unlink(missing_ok=True)
        path.unlink()
        path.with_suffix(".body").unlink(missing_ok=True)
        self._wake.set()

    def _tell(self, document: Mapping[str, Any], failure: str) -> None:
        """Say why there is no answer, where the caller looks if it can be said there."""
        self._note(f"asynchronous invocation {document['InferenceId']} failed: {failure}")
        if document["FailureLocation"]:
            try:
                self._buckets.put_bytes(document["FailureLocation"], failure.encode())
            except (UsageError, OSError) as error:
                self._note(f"this cannot be kept at {document['FailureLocation']}: {error}")

    def _keep(self, document: Mapping[str, Any], answer: Path, content_type: str) -> None:
        """Make the answer an object."""
        try:
            self._buckets.put(document["OutputLocation"], answer, content_type)
        except (UsageError, OSError) as error:
            raise Unanswered(f"the answer cannot be kept at {document['OutputLocation']}: {error}") from error

    def _find_input(self, path: Path, document: Mapping[str, Any]) -> Path:
        location = document["InputLocation"]
        if time.time() > document["Until"]:
            raise Unanswered("the request waited longer than its RequestTTLSeconds")
        try:
            body = path.with_suffix(".body")
            if location:
                body = self._buckets.path(location)
                self._buckets.open(location).close()
            size = body.stat().st_size
        except (UsageError, OSError) as error:
            raise Unanswered(f"the input {location} cannot be read: {error}") from error
        if size > INPUT_BYTES:
            raise Unanswered(f"the input {location} has {size} bytes, and at most {INPUT_BYTES} are allowed")
        return body

    def _ask(self, document: Mapping[str, Any], body: Path, answer: Path, forward: Forwards) -> str:
        """Have the container's answer in a file; its content type.

        Raises:
            Unanswered: if there is none.
            InvocationError: if no instance takes the request now.
        """
        try:
            with answer.open("wb") as file:
                said = forward(Forward(body, self._headers(document), document["Seconds"]), file)
        except InvocationError as error:
            if error.code == "ServiceUnavailable":
                raise
            raise Unanswered(error.message) from error
        except OSError as error:
            raise Unanswered(f"the answer cannot be stored: {error}") from error
        if not 200 <= said.status < 300:
            with answer.open("rb") as read:
                original = read.read(ERROR_BYTES).decode(errors="replace")
            side = "client" if said.status < 500 else "server"
            raise Unanswered(f'Received {side} error ({said.status}) from model with message "{original}"')
        return said.content_type

    def _headers(self, document: Mapping[str, Any]) -> dict[str, str]:
        """The container's: an input that the caller gives no type has that of its object, as SDKs rely on."""
        headers: dict[str, str] = document["Headers"]
        if "content-type" in headers or not document["InputLocation"]:
            return headers
        content_type = self._buckets.content_type(document["InputLocation"])
        return {**headers, "content-type": content_type} if content_type else headers


def check_address(member: str, uri: str) -> None:
    """Refuse what is no object's address.

    Raises:
        InvocationError: naming the member and its value.
    """
    try:
        split_uri(uri)
    except UsageError as error:
        raise invalid(f"{member} is not usable: {error.happened}; {error.expected}.") from error
