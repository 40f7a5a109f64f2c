"""Data capture: requests and answers as JSON Lines below an S3 prefix, written away from the requests' path.

Lines are written at once to a part file, outside the prefix, and a part becomes an object when it is old or large
enough, or when capturing stops. So whoever reads the prefix sees whole lines only, whatever happens to this process;
what a killed process left is completed by the next one.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from local_sagemaker.progress import silent
from local_sagemaker.state.buckets import Buckets

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class CaptureConfig:
    """What is captured, and where.

    Attributes:
        destination: the folder of DestinationS3Uri.
        staging: a folder of the endpoint's own for parts, on the same file system if possible.
        percentage: of the requests.
        captures_input: whether CaptureOptions has Input; ``captures_output`` likewise.
        csv_types: content types whose data is kept as text in CSV encoding; ``json_types`` likewise in JSON.
        object_seconds: a part becomes an object after this time at the latest, or at ``object_bytes``.
        waiting_bytes: not yet written; beyond that captures are left out and counted.
    """

    destination: Path
    staging: Path
    percentage: float = 100.0
    captures_input: bool = True
    captures_output: bool = True
    csv_types: tuple[str, ...] = ()
    json_types: tuple[str, ...] = ()
    object_seconds: float = 10.0
    object_bytes: int = 64 * MEBIBYTE
    waiting_bytes: int = 64 * MEBIBYTE


@dataclass(frozen=True, slots=True)
class Captured:
    """One request and its answer; ``at`` is in seconds of the epoch."""

    variant: str
    inference_id: str
    at: float
    input_type: str
    input: bytes
    output_type: str
    output: bytes


@dataclass
class _Part:
    path: Path
    file: BinaryIO
    began: float
    size: int = 0


def capture_config(wanted: Mapping[str, Any], buckets: Buckets, staging: Path) -> CaptureConfig:
    """The API's DataCaptureConfig as a Capture takes it."""
    modes = {option["CaptureMode"] for option in wanted["CaptureOptions"]}
    types = wanted.get("CaptureContentTypeHeader", {})
    return CaptureConfig(
        buckets.path(wanted["DestinationS3Uri"].rstrip("/")),
        staging,
        float(wanted["InitialSamplingPercentage"]),
        bool(modes & {"Input", "InputAndOutput"}),
        bool(modes & {"Output", "InputAndOutput"}),
        tuple(types.get("CsvContentTypes", ())),
        tuple(types.get("JsonContentTypes", ())),
    )


def capture_line(config: CaptureConfig, captured: Captured) -> bytes:
    """One line of a capture object."""
    data: dict[str, Any] = {}
    if config.captures_input:
        data["endpointInput"] = _side(config, captured.input_type, "INPUT", captured.input)
    if config.captures_output:
        data["endpointOutput"] = _side(config, captured.output_type, "OUTPUT", captured.output)
    when = datetime.fromtimestamp(captured.at, UTC)
    event = {"eventId": str(uuid.uuid4()), "inferenceTime": f"{when:%Y-%m-%dT%H:%M:%SZ}"}
    if captured.inference_id:
        event["inferenceId"] = captured.inference_id
    line = {"captureData": data, "eventMetadata": event, "eventVersion": "0"}
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def _side(config: CaptureConfig, content_type: str, mode: str, data: bytes) -> dict[str, str]:
    encoding = encoding_of(config, content_type)
    text = None
    if encoding != "BASE64":
        try:
            text = data.decode()
        except UnicodeDecodeError:
            encoding = "BASE64"
    if text is None:
        text = base64.b64encode(data).decode()
    return {"observedContentType": content_type, "mode": mode, "data": text, "encoding": encoding}


def encoding_of(config: CaptureConfig, content_type: str) -> str:
    """How data of a content type is written: CSV and JSON where the configuration lists the type, else BASE64."""
    media = content_type.partition(";")[0].strip().lower()
    if media in {one.lower() for one in config.csv_types}:
        return "CSV"
    if media in {one.lower() for one in config.json_types}:
        return "JSON"
    return "BASE64"


class Capture:
    """A thread that writes what it is offered.

    Args:
        endpoint: its name, the first folder below the destination.
        config: what is captured, and where.
        note: told, from a thread of the capture's own, when captures begin to be lost, and how many were.

    Attributes:
        left_out: how many captures found no room.
        failed: how many could not be written, and ``failure`` why the last one could not.
    """

    def __init__(self, endpoint: str, config: CaptureConfig, note: Callable[[str], None] = silent) -> None:
        self.config = config
        self.left_out = 0
        self.failed = 0
        self.failure = ""
        self._note = note
        self._endpoint = endpoint
        self._waiting: deque[Captured] = deque()
        self._bytes = 0
        self._wake = threading.Condition()
        self._stopping = False
        self._parts: dict[str, _Part] = {}
        config.staging.mkdir(parents=True, exist_ok=True)
        recover(config)
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._thread.start()

    def offer(self, captured: Captured) -> None:
        """Have it written soon; never waits."""
        size = len(captured.input) + len(captured.output)
        with self._wake:
            if self._stopping or self._bytes + size > self.config.waiting_bytes:
                self.left_out += 1
                return
            self._waiting.append(captured)
            self._bytes += size
            if len(self._waiting) == 1:
                self._wake.notify()

    def close(self) -> None:
        """Write all that was offered, and make objects of it; blocks."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                if not self._waiting and not self._stopping:
                    self._wake.wait(self._until_due())
                taken, self._waiting = self._waiting, deque()
                stopping = self._stopping
            for captured in taken:
                self._write(captured)
                with self._wake:
                    self._bytes -= len(captured.input) + len(captured.output)
            self._publish(everything=stopping and not taken)
            if stopping and not taken:
                if self.left_out or self.failed:
                    self._note(f"data capture: {self.left_out} left out for want of room, {self.failed} not written")
                return

    def _until_due(self) -> float | None:
        if not self._parts:
            return None
        oldest = min(part.began for part in self._parts.values())
        return max(0.01, oldest + self.config.object_seconds - time.monotonic())

    def _write(self, captured: Captured) -> None:
        try:
            line = capture_line(self.config, captured)
            part = self._parts.get(captured.variant) or self._new_part(captured)
            append(part, line)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.failed += 1
        if str(error) != self.failure:
            self.failure = str(error)
            self._note(f"data capture: a capture cannot be written, requests go on: {error}")

    def _new_part(self, captured: Captured) -> _Part:
        name = object_name(self._endpoint, captured.variant, captured.at)
        path = self.config.staging / name.replace("/", "%2F")
        part = self._parts[captured.variant] = _Part(path, path.open("ab", buffering=0), time.monotonic())
        return part

    def _publish(self, *, everything: bool) -> None:
        now = time.monotonic()
        for variant, part in list(self._parts.items()):
            due = part.size >= self.config.object_bytes or now - part.began >= self.config.object_seconds
            if everything or due:
                del self._parts[variant]
                part.file.close()
                try:
                    publish(self.config, part.path)
                except OSError as error:
                    self._fail(error)


def append(part: _Part, line: bytes) -> None:
    """Write a whole line or, where the disk is full, nothing."""
    left = memoryview(line)
    try:
        while left:
            left = left[part.file.write(left) :]
    except OSError:
        os.truncate(part.file.fileno(), part.size)
        raise
    part.size += len(line)


def object_name(endpoint: str, variant: str, at: float) -> str:
    """The key below the destination: endpoint, variant, hour, and a name of its own."""
    when = datetime.fromtimestamp(at, UTC)
    return f"{endpoint}/{variant}/{when:%Y/%m/%d/%H}/{when:%M-%S}-{when.microsecond // 1000:03}-{uuid.uuid4()}.jsonl"


def publish(config: CaptureConfig, part: Path) -> None:
    """Make an object of a part, at once and whole."""
    target = config.destination / part.name.replace("%2F", "/")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        part.replace(target)
    except OSError:  # another file system
        between = target.with_name(f".{target.name}.part")
        shutil.copyfile(part, between)
        between.replace(target)
        part.unlink()


def recover(config: CaptureConfig) -> None:
    """Make objects of the parts that a killed process left, without a line that it did not end."""
    for part in sorted(config.staging.glob("*.jsonl")):
        with part.open("r+b") as file:
            whole = _end_of_last_line(file)
            os.truncate(file.fileno(), whole)
        if whole:
            publish(config, part)
        else:
            part.unlink()


def _end_of_last_line(file: BinaryIO) -> int:
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 65536)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
