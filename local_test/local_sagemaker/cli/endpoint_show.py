"""``byoc endpoint describe``, ``ls`` and ``wait``."""

from __future__ import annotations

from pathlib import Path

import click

from local_sagemaker.api.operations import call
from local_sagemaker.cli.endpoint_common import (
    describe_record,
    endpoints,
    fail_unless_in_service,
    lines_of,
    name_argument,
    open_workspace,
    timeout_option,
    wait_until_settled,
    which,
)
from local_sagemaker.cli.options import json_option, project_option
from local_sagemaker.cli.output import emit
from local_sagemaker.cli.verb import Verb
from local_sagemaker.progress import say
from local_sagemaker.state.records import Kind


@click.command(cls=Verb, examples=("byoc endpoint describe digits --json",))
@name_argument
@project_option
@json_option
def describe(name: str | None, project: Path, as_json: bool) -> None:
    """Say how endpoint NAME (default: the only one) is: as the API does, and under Local what this machine adds."""
    workspace = open_workspace(project)
    name = which(workspace, name)
    record = workspace.store.get(Kind.ENDPOINT, name)
    emit(describe_record(workspace, record), as_json, *lines_of(workspace, record))


@click.command(cls=Verb, examples=("byoc endpoint ls",))
@project_option
@json_option
def ls(project: Path, as_json: bool) -> None:
    """List the project's endpoints, the newest first."""
    workspace = open_workspace(project)
    records = endpoints(workspace)
    lines = [line for record in records for line in lines_of(workspace, record)]
    listed = call(workspace, "ListEndpoints", {"MaxResults": 100}) if records else {"Endpoints": []}
    emit(listed, as_json, *lines)


@click.command(cls=Verb, examples=("byoc endpoint wait digits",))
@name_argument
@project_option
@timeout_option
@json_option
def wait(name: str | None, project: Path, timeout: float, as_json: bool) -> None:
    """Wait until nothing is under way with endpoint NAME (default: the only one).

    Exit code 1 if it is not in service then, or its update was rolled back; 5 if the time is over.
    """
    workspace = open_workspace(project)
    name = which(workspace, name)
    record = wait_until_settled(workspace, name, timeout)
    if record is None:
        say(f"endpoint {name} is deleted")
        emit({"EndpointName": name, "EndpointStatus": "Deleted"}, as_json)
    else:
        emit(describe_record(workspace, record), as_json)
        fail_unless_in_service(record)
