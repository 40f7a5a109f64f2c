"""A caller's side of the runtime API: requests to an endpoint of this machine, with the API's headers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import httpx

from local_sagemaker.errors import TimedOutError, UsageError

MARGIN_SECONDS = 5.0


@dataclass(frozen=True)
class InvocationOptions:
    """What a request of InvokeEndpoint and its relatives may say besides its body."""

    content_type: str | None = None
    accept: str | None = None
    custom_attributes: str | None = None
    target_variant: str | None = None
    target_model: str | None = None
    target_container_hostname: str | None = None
    inference_id: str | None = None
    session_id: str | None = None

    def headers(self, *, prefixed: bool = False) -> dict[str, str]:
        """The API's headers; asynchronous and streaming requests have the content type and accept prefixed too."""
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        plain = () if prefixed else ("content_type", "accept")
        return {_header(name, plain=name in plain): value for name, value in given.items() if value is not None}


def _header(name: str, *, plain: bool) -> str:
    words = "-".join(word.capitalize() for word in name.split("_"))
    return words if plain else f"X-Amzn-SageMaker-{words}"


@dataclass(frozen=True)
class InvocationReply:
    """An endpoint's answer: its status, its headers (names in lower case), and its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the request succeeded."""
        return 200 <= self.status < 300


def invoke_endpoint(
    url: str, endpoint: str, body: bytes, options: InvocationOptions, timeout_seconds: float
) -> InvocationReply:
    """InvokeEndpoint; returns the answer, whatever its status.

    Raises:
        UsageError: if nothing listens at ``url``.
        TimedOutError: if there is no answer within ``timeout_seconds`` and a margin for the router's own answer.
    """
    return _post(f"{url}/endpoints/{endpoint}/invocations", body, options.headers(), timeout_seconds)


def invoke_endpoint_async(
    url: str, endpoint: str, body: bytes, location: str | None, options: InvocationOptions, timeout_seconds: float
) -> InvocationReply:
    """InvokeEndpointAsync, with an inline body or the address of an input in S3; see ``invoke_endpoint``."""
    headers = options.headers(prefixed=True)
    if location is not None:
        headers["X-Amzn-SageMaker-InputLocation"] = location
    return _post(f"{url}/endpoints/{endpoint}/async-invocations", body, headers, timeout_seconds)


def _post(address: str, body: bytes, headers: Mapping[str, str], timeout_seconds: float) -> InvocationReply:
    try:
        limit = timeout_seconds + MARGIN_SECONDS
        answer = httpx.post(address, content=body, headers=dict(headers), timeout=limit, trust_env=False)
    except httpx.TimeoutException as error:
        raise TimedOutError(
            f"{address} did not answer within {timeout_seconds:g} s",
            "the platform gives an invocation 60 s",
            "see the endpoint's log",
        ) from error
    except httpx.TransportError as error:
        raise UsageError(
            f"{address} cannot be reached: {error}", "expected an endpoint in service", "see `byoc endpoint ls`"
        ) from error
    return InvocationReply(answer.status_code, dict(answer.headers), answer.content)
