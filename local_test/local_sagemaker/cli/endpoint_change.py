"""``byoc endpoint weights``, ``scale``, ``start`` and ``delete``."""

from __future__ import annotations

from pathlib import Path

import click

from local_sagemaker.api.operations import call
from local_sagemaker.cli.endpoint_common import (
    describe_record,
    detach_option,
    fail_unless_in_service,
    lines_of,
    name_argument,
    open_workspace,
    split_name,
    timeout_option,
    wait_until_settled,
    which,
)
from local_sagemaker.cli.options import dry_run_option, engine_option, json_option, project_option
from local_sagemaker.cli.output import choose, emit
from local_sagemaker.cli.verb import Verb
from local_sagemaker.engines import EngineName
from local_sagemaker.errors import UsageError
from local_sagemaker.hosting.shorthand import parse_numbers
from local_sagemaker.progress import say
from local_sagemaker.state.records import Kind
from local_sagemaker.state.runner import start_detached


@click.command(cls=Verb, examples=("byoc endpoint weights blue=90 green=10",))
@click.argument("words", metavar="[NAME] VARIANT=WEIGHT...", nargs=-1, required=True)
@project_option
@detach_option
@timeout_option
@dry_run_option
@json_option
def weights(words: tuple[str, ...], project: Path, detach: bool, timeout: float, dry_run: bool, as_json: bool) -> None:
    """Change the variants' parts of the traffic of endpoint NAME (default: the only one); no request is lost."""
    _change(words, "DesiredWeight", "weight", (project, detach, timeout, dry_run, as_json))


@click.command(cls=Verb, examples=("byoc endpoint scale blue=2",))
@click.argument("words", metavar="[NAME] VARIANT=COUNT...", nargs=-1, required=True)
@project_option
@detach_option
@timeout_option
@dry_run_option
@json_option
def scale(words: tuple[str, ...], project: Path, detach: bool, timeout: float, dry_run: bool, as_json: bool) -> None:
    """Change the variants' numbers of instances of endpoint NAME (default: the only one).

    What leaves answers what it has first, and has 30 s after SIGTERM.
    """
    _change(words, "DesiredInstanceCount", "number of instances", (project, detach, timeout, dry_run, as_json))


def _change(words: tuple[str, ...], member: str, what: str, options: tuple[Path, bool, float, bool, bool]) -> None:
    project, detach, timeout, dry_run, as_json = options
    given, pairs = split_name(words)
    if not pairs:
        raise UsageError(f"no {what}", "expected VARIANT=NUMBER", "write for example blue=2")
    workspace = open_workspace(project)
    name = which(workspace, given)
    whole = member == "DesiredInstanceCount"
    desired = [
        {"VariantName": variant, member: int(number) if whole else number}
        for variant, number in parse_numbers(pairs, what).items()
    ]
    request = {"EndpointName": name, "DesiredWeightsAndCapacities": desired}
    if dry_run:
        emit({"UpdateEndpointWeightsAndCapacities": request}, True)
        return
    call(workspace, "UpdateEndpointWeightsAndCapacities", request)
    record = workspace.store.get(Kind.ENDPOINT, name)
    if not detach:
        record = wait_until_settled(workspace, name, timeout) or record
        fail_unless_in_service(record)
    emit(describe_record(workspace, record), as_json, *lines_of(workspace, record))


@click.command(cls=Verb, examples=("byoc endpoint start digits",))
@name_argument
@project_option
@engine_option
@detach_option
@timeout_option
@json_option
def start(name: str | None, project: Path, engine: EngineName, detach: bool, timeout: float, as_json: bool) -> None:
    """Start endpoint NAME (default: the only one) again, whose process was killed or could not bring it into service.

    Its configuration, metrics, and asynchronous invocations that wait are as they were.
    """
    workspace = open_workspace(project)
    name = which(workspace, name)
    record = workspace.store.get(Kind.ENDPOINT, name)
    if record.runner is not None and record.runner.is_alive:
        raise UsageError(f"endpoint {name} is {record.status}", "expected one whose process is gone", "nothing to do")
    chosen = choose(engine)
    if not workspace.store.take_over(record):
        raise UsageError(f"endpoint {name} is being started already", "expected one start", "see `byoc endpoint ls`")

    def begin(description: dict[str, object]) -> None:
        description.pop("FailureReason", None)
        description.pop("PendingDeploymentSummary", None)
        description["EndpointStatus"] = "Creating"

    workspace.store.change(Kind.ENDPOINT, name, begin)
    start_detached(workspace, "docker" if chosen.name == "docker" else "process", Kind.ENDPOINT, name)
    if not detach:
        record = wait_until_settled(workspace, name, timeout) or record
        fail_unless_in_service(record)
    emit(describe_record(workspace, record), as_json, *lines_of(workspace, record))


@click.command(cls=Verb, examples=("byoc endpoint delete digits",))
@name_argument
@project_option
@detach_option
@timeout_option
@json_option
def delete(name: str | None, project: Path, detach: bool, timeout: float, as_json: bool) -> None:
    """Remove endpoint NAME (default: the only one); its configuration, models, logs and captured data stay."""
    workspace = open_workspace(project)
    name = which(workspace, name)
    call(workspace, "DeleteEndpoint", {"EndpointName": name})
    if not detach:
        wait_until_settled(workspace, name, timeout)
        say(f"endpoint {name} is deleted")
    emit({"EndpointName": name, "EndpointStatus": "Deleting" if detach else "Deleted"}, as_json)
