"""The platform's limits on invocations: sizes, times, and what a header may hold."""

from __future__ import annotations

import re
from dataclasses import dataclass

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class InvocationLimits:
    """Limits that the router keeps; bytes and seconds. 0 bytes is no limit.

    Attributes:
        payload_bytes: of a request or an answer in real time.
        hop_bytes: of what one container of a pipeline hands to the next.
        inline_bytes: of an asynchronous request's own body.
        invocation_seconds: until a container has answered in full.
        stream_seconds: until a streamed answer has ended.
        bidirectional_seconds: until a bidirectional stream is closed.
        connect_seconds: until a container has accepted a connection; a full backlog is asked again after 1 and 3 s.
        load_seconds: how long a request waits for its model to be loaded.
        connections: to one container at a time; more requests wait for a free one.
        shadows: copies in flight at a time; more are left out.
        original_message_bytes: of a container's error that a ModelError repeats.
    """

    payload_bytes: int = 25 * MEBIBYTE
    hop_bytes: int = 5 * MEBIBYTE
    inline_bytes: int = 128_000
    invocation_seconds: float = 60.0
    stream_seconds: float = 480.0
    bidirectional_seconds: float = 1800.0
    connect_seconds: float = 10.0
    load_seconds: float = 60.0
    connections: int = 1024
    shadows: int = 256
    original_message_bytes: int = 2048


@dataclass(frozen=True)
class HeaderRule:
    """A header of the API: the member's name, its length, and the pattern of its value."""

    member: str
    longest: int
    pattern: re.Pattern[str]
    words: str
    shortest: int = 0

    def objection(self, value: str) -> str | None:
        """What is wrong with a value, in the service's words, or None."""
        shown = f"1 validation error detected: Value '{value[:256]}' at '{self.member}' failed to satisfy constraint: "
        if len(value) > self.longest:
            return f"{shown}Member must have length less than or equal to {self.longest}"
        if len(value) < self.shortest:
            return f"{shown}Member must have length greater than or equal to {self.shortest}"
        if not self.pattern.fullmatch(value):
            return f"{shown}Member must satisfy regular expression pattern: {self.words}"
        return None


@dataclass(frozen=True)
class NumberRule:
    """A header of the API that is a whole number: the member's name, and its bounds."""

    member: str
    least: int
    most: int

    def objection(self, value: str) -> str | None:
        """What is wrong with a value, in the service's words, or None."""
        shown = f"1 validation error detected: Value '{value[:256]}' at '{self.member}' failed to satisfy constraint: "
        if not _DIGITS.fullmatch(value):
            return f"{shown}Member must be an integer"
        if int(value) < self.least:
            return f"{shown}Member must have value greater than or equal to {self.least}"
        if int(value) > self.most:
            return f"{shown}Member must have value less than or equal to {self.most}"
        return None


_DIGITS = re.compile(r"[+-]?[0-9]{1,18}")
_ASCII = (re.compile(r"[\x00-\x7f]*"), r"\p{ASCII}*")
_VISIBLE = (re.compile(r"[\x20-\x7e\t]*"), r"\p{ASCII}*")
_PRINT = (re.compile(r"[^\s\x00-\x1f\x7f][\x20-\x7e]*"), r"\A\S[\p{Print}]*\z")
_NAME = (re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*"), "^[a-zA-Z0-9](-*[a-zA-Z0-9])*")
_SESSION = (
    re.compile(r"NEW_SESSION|[a-zA-Z0-9](-*[a-zA-Z0-9])*"),
    "^(NEW_SESSION)$|^[a-zA-Z0-9](-*[a-zA-Z0-9])*$",
)
_ANY = (re.compile(r".*"), ".*")
_LOCATION = (re.compile(r"(https|s3)://([^/]+)/?(.*)"), "^(https|s3)://([^/]+)/?(.*)$")
_FOLDER = (re.compile(r"(?!s3:|https:)[a-zA-Z0-9!_.*'()/-]+"), "^(?!s3:|https:)[a-zA-Z0-9!_.*'()/-]+$")
_FILE = (re.compile(r"(?!.*\..*\.)[a-zA-Z0-9][a-zA-Z0-9-_.]*"), r"^(?!.*\..*\.)[a-zA-Z0-9][a-zA-Z0-9-_\.]*$")

HEADER_RULES = {
    b"content-type": HeaderRule("contentType", 1024, *_ASCII),
    b"accept": HeaderRule("accept", 1024, *_ASCII),
    b"x-amzn-sagemaker-content-type": HeaderRule("contentType", 1024, *_ASCII),
    b"x-amzn-sagemaker-accept": HeaderRule("accept", 1024, *_ASCII),
    b"x-amzn-sagemaker-custom-attributes": HeaderRule("customAttributes", 1024, *_VISIBLE),
    b"x-amzn-sagemaker-target-model": HeaderRule("targetModel", 1024, *_PRINT, shortest=1),
    b"x-amzn-sagemaker-target-variant": HeaderRule("targetVariant", 63, *_NAME),
    b"x-amzn-sagemaker-target-container-hostname": HeaderRule("targetContainerHostname", 63, *_NAME),
    b"x-amzn-sagemaker-inference-id": HeaderRule("inferenceId", 64, *_PRINT, shortest=1),
    b"x-amzn-sagemaker-enable-explanations": HeaderRule("enableExplanations", 64, *_ANY, shortest=1),
    b"x-amzn-sagemaker-inference-component": HeaderRule("inferenceComponentName", 63, *_NAME),
    b"x-amzn-sagemaker-session-id": HeaderRule("sessionId", 256, *_SESSION),
    b"x-amzn-sagemaker-prefix-aware-id": HeaderRule("prefixAwareId", 64, *_PRINT, shortest=1),
}
"""The headers of the API that mean something to the router or to a container, in lower case; all others are dropped."""

ASYNC_RULES: dict[str, HeaderRule | NumberRule] = {
    "x-amzn-sagemaker-inputlocation": HeaderRule("inputLocation", 1024, *_LOCATION, shortest=1),
    "x-amzn-sagemaker-s3outputpathextension": HeaderRule("s3OutputPathExtension", 512, *_FOLDER, shortest=1),
    "x-amzn-sagemaker-filename": HeaderRule("filename", 32, *_FILE, shortest=1),
    "x-amzn-sagemaker-invocationtimeoutseconds": NumberRule("invocationTimeoutSeconds", 1, 3600),
    "x-amzn-sagemaker-requestttlseconds": NumberRule("requestTTLSeconds", 60, 21_600),
}
"""The headers of InvokeEndpointAsync alone, in lower case."""
