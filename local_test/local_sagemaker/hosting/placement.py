"""Where a request goes: the variant, the instance and the container that it names, is bound to, or gets by chance."""

from __future__ import annotations

from collections.abc import Collection
from random import Random
from typing import Protocol

from local_sagemaker.hosting.container_request import Headers, Request
from local_sagemaker.hosting.invocation_errors import invalid, throttled
from local_sagemaker.hosting.routing import InvocationMode
from local_sagemaker.hosting.sessions import NEW_SESSION, Sessions
from local_sagemaker.hosting.traffic import InstanceTraffic, Traffic, VariantTraffic

COMPONENT = b"x-amzn-sagemaker-inference-component"
CONTAINER = b"x-amzn-sagemaker-target-container-hostname"
EXPLANATIONS = b"x-amzn-sagemaker-enable-explanations"
FOR_SOME = frozenset({COMPONENT, CONTAINER, EXPLANATIONS})
"""The API's headers that endpoints of one kind take, and all others refuse."""


class Chooser(Protocol):
    """What a choice is made by."""

    endpoint: str
    random: Random
    sessions: Sessions


def choose_variant(
    chooser: Chooser, traffic: Traffic, headers: Headers
) -> tuple[VariantTraffic, InstanceTraffic | None]:
    """The variant, and the instance if a session is bound to one.

    Raises:
        InvocationError: ValidationError, no such variant or session; ServiceUnavailable, no variant has traffic.
    """
    session = headers.get(b"x-amzn-sagemaker-session-id")
    if session is None or session == NEW_SESSION:
        target = headers.get(b"x-amzn-sagemaker-target-variant")
        return traffic.variant(chooser.random, chooser.endpoint, target), None
    name = chooser.sessions.find(session.decode())
    variant = None if name is None else traffic.variant_of(name)
    if variant is None:
        raise invalid(f"Session {session.decode()} not found: it is unknown, closed or expired.")
    return variant, next(one for one in variant.instances if one.instance.name == name)


def choose_instance(
    chooser: Chooser,
    variant: VariantTraffic,
    request: Request,
    bound: InstanceTraffic | None = None,
    tried: Collection[InstanceTraffic] = (),
) -> InstanceTraffic:
    """The instance that the request is bound to, or one of those not tried yet.

    Raises:
        InvocationError: the variant does not take the request, or no instance is left.
    """
    if not tried:
        if not FOR_SOME.isdisjoint(request.headers):
            check_support(chooser.endpoint, variant, request.headers)
        _check_room(variant, request)
    key = model_key(chooser.endpoint, variant, request.headers)
    return bound or variant.choose(chooser.random, tried, key)


def check_support(endpoint: str, variant: VariantTraffic, headers: Headers) -> None:
    """Refuse a header of the API that the variant has no use for.

    Raises:
        InvocationError: naming the header.
    """
    if COMPONENT in headers:  # they are not played here, so no endpoint has any
        lacks = "has no inference components and does not support inference component name header"
    elif CONTAINER in headers and variant.variant.mode is not InvocationMode.DIRECT:
        lacks = "does not invoke containers directly and does not support target container hostname header"
    elif EXPLANATIONS in headers and not variant.variant.explained:
        lacks = "has no explainer and does not support enable explanations header"
    else:
        return
    raise invalid(f"Endpoint {endpoint} {lacks}.")


def _check_room(variant: VariantTraffic, request: Request) -> None:
    limit = variant.variant.max_concurrency
    if limit is not None and variant.counter.in_flight >= limit:
        raise throttled(f"Variant {variant.variant.name} has {limit} requests in flight, its MaxConcurrency.")
    largest = variant.variant.payload_bytes
    if largest is not None and request.length > largest:
        raise invalid(f"Request {request.length} bytes exceeds the limit of {largest} bytes.", 413)


def model_key(endpoint: str, variant: VariantTraffic, headers: Headers) -> str:
    """The TargetModel, or nothing where there is one model only.

    Raises:
        InvocationError: it is missing, or out of place.
    """
    target = headers.get(b"x-amzn-sagemaker-target-model")
    multi = variant.variant.mode is InvocationMode.MULTI_MODEL
    if target is None:
        if multi:
            raise invalid(f"Endpoint {endpoint} is a multi-model endpoint and needs a target model header.")
        return ""
    if not multi:
        raise invalid(f"Endpoint {endpoint} is not a multi-model endpoint and does not support target model header.")
    return target.decode()


def named_container(endpoint: str, place: InstanceTraffic, headers: Headers) -> int:
    """The position of the container that a direct invocation names.

    Raises:
        InvocationError: it names none, or one that is not there.
    """
    wanted = headers.get(CONTAINER, b"").decode()
    names = [one.hostname for one in place.instance.containers]
    if wanted in names:
        return names.index(wanted)
    known = ", ".join(names)
    if not wanted:
        raise invalid(f"A target container hostname is needed to invoke a container directly, one of: {known}.")
    raise invalid(f"Container {wanted} not found for endpoint {endpoint}; there are: {known}.")
