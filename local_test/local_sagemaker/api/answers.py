"""Answers in the shapes of the service model: descriptions without what the API does not have, and pages of lists."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from local_sagemaker.api.service_model import output_shape
from local_sagemaker.errors import ValidationError
from local_sagemaker.state.records import Kind, Record

PAGE = 10  # what the service gives where MaxResults is left out
# By what and how an operation sorts where the request says nothing, as its members are documented.
USUAL_ORDER = ("CreationTime", "Descending")
ORDERS = {
    "ListTrainingJobs": ("CreationTime", "Ascending"),
    "ListProcessingJobs": ("CreationTime", "Ascending"),
    "ListHyperParameterTuningJobs": ("Name", "Ascending"),
    "ListTrainingJobsForHyperParameterTuningJob": ("Name", "Ascending"),
}
TIMES = {"CreationTime": "created_at", "LastModifiedTime": "modified_at", "LastModified": "modified_at"}


def prune(operation: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """A document with just the members that the operation's answer has, at every depth; what is None is left out."""
    pruned: dict[str, Any] = _prune(output_shape(operation), document)
    return pruned


def _prune(shape: Any, value: Any) -> Any:
    if shape.type_name == "structure" and isinstance(value, Mapping):
        return {
            name: _prune(member, value[name]) for name, member in shape.members.items() if value.get(name) is not None
        }
    if shape.type_name == "list" and isinstance(value, list | tuple):
        return [_prune(shape.member, item) for item in value]
    if shape.type_name == "map" and isinstance(value, Mapping):
        return {key: _prune(shape.value, item) for key, item in value.items()}
    return value


def list_page(
    operation: str,
    kind: Kind,
    records: list[Record],
    request: Mapping[str, Any],
    summarize: Callable[[Record], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Answer a List operation: filter by name, status and times, sort, and cut a page.

    Without SortBy and SortOrder the order is the operation's own, as the service documents it: the newest first, but
    training and processing jobs the oldest first, and tuning jobs and their training jobs by name.

    Args:
        operation: such as ``ListTrainingJobs``.
        kind: of the resources.
        records: all that there are.
        request: the validated request.
        summarize: makes a summary of a record, of which the API's members are kept; by default its description.

    Raises:
        ValidationError: if NextToken is not one of ours.
    """
    wanted = [record for record in records if record.kind is kind and _matches(record, request)]
    by, order = ORDERS.get(operation, USUAL_ORDER)
    key = {"Name": lambda r: r.name, "Status": lambda r: r.status}.get(
        str(request.get("SortBy", by)), lambda r: r.created_at
    )
    wanted.sort(key=key, reverse=request.get("SortOrder", order) == "Descending")
    start = _read_token(request.get("NextToken"))
    page = wanted[start : start + int(request.get("MaxResults", PAGE))]
    member = next(name for name in output_shape(operation).members if name != "NextToken")
    answer: dict[str, Any] = {member: [(summarize or _describe)(record) for record in page]}
    if start + len(page) < len(wanted):
        answer["NextToken"] = base64.b64encode(json.dumps({"start": start + len(page)}).encode()).decode()
    return prune(operation, answer)


def _describe(record: Record) -> dict[str, Any]:
    return record.description


def _matches(record: Record, request: Mapping[str, Any]) -> bool:
    if request.get("NameContains", "").lower() not in record.name.lower():
        return False
    if request.get("StatusEquals", record.status) != record.status:
        return False
    for name, attribute in TIMES.items():
        at = getattr(record, attribute)
        after, before = request.get(f"{name}After"), request.get(f"{name}Before")
        if (after is not None and at <= _seconds(after)) or (before is not None and at >= _seconds(before)):
            return False
    return True


def _seconds(time: Any) -> float:
    """Seconds since the epoch of a time as a client or a document gives it; botocore reads it as its client does."""
    from botocore.utils import parse_to_aware_datetime  # noqa: PLC0415 - only who asks for times pays for it

    return float(parse_to_aware_datetime(time).timestamp())


def _read_token(token: str | None) -> int:
    if token is None:
        return 0
    try:
        return int(json.loads(base64.b64decode(token, validate=True))["start"])
    except (ValueError, KeyError, TypeError):
        raise ValidationError("The pagination token is invalid.", "leave NextToken out to begin anew") from None
