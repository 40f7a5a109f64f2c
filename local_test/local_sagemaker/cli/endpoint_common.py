"""What the verbs of ``byoc endpoint`` share: which endpoint is meant, and waiting for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from local_sagemaker.cli.names_of_resources import names_of
from local_sagemaker.cli.number import SECONDS
from local_sagemaker.errors import JobFailedError, TimedOutError, UsageError, ValidationError
from local_sagemaker.hosting.journal import read_running
from local_sagemaker.progress import Progress, TerminalProgress, say
from local_sagemaker.resources import tell_halted
from local_sagemaker.state.reconcile import reconcile
from local_sagemaker.state.records import Kind, Record
from local_sagemaker.state.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path

POLL_SECONDS = 0.1
WAIT_SECONDS = 900.0
UNDER_WAY = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})

name_argument = click.argument("name", required=False, shell_complete=names_of("Endpoint"))
detach_option = click.option("--detach", is_flag=True, help="Do not wait until it is done.")
timeout_option = click.option(
    "--timeout", type=SECONDS, default=WAIT_SECONDS, show_default=True, help="Seconds to wait at most."
)


def open_workspace(project: Path) -> Workspace:
    """A project's workspace, with the records put right first."""
    workspace = Workspace.of(project)
    for record in reconcile(workspace):
        say(f"{record.kind.words} {record.name}: {record.description.get('FailureReason', 'its process was gone')}")
    return workspace


def endpoints(workspace: Workspace) -> list[Record]:
    """The project's endpoints, the newest first; a project where nothing was done yet is left as it is."""
    return workspace.store.find(Kind.ENDPOINT) if workspace.database.exists() else []


def which(workspace: Workspace, name: str | None) -> str:
    """The endpoint of a name, or the only one.

    Raises:
        UsageError, ValidationError: if it is not clear which, or there is none.
    """
    found = [record.name for record in endpoints(workspace)]
    if name in found:
        return name
    if name is not None:
        raise ValidationError(f'Could not find endpoint "{name}".', "see `byoc endpoint ls`, or give --project")
    if len(found) != 1:
        raise UsageError(
            f"the project has {len(found)} endpoints{': ' if found else ''}{', '.join(sorted(found))}",
            "without a name the only one is meant",
            "name one of them" if found else "make one: `byoc endpoint create NAME --variant blue=MODEL`",
        )
    return found[0]


def split_name(words: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """An endpoint's name, where the first word is no ``VARIANT=NUMBER``, and the other words."""
    return (words[0], words[1:]) if words and "=" not in words[0] else (None, words)


def wait_until_settled(workspace: Workspace, name: str, limit_seconds: float = WAIT_SECONDS) -> Record | None:
    """Wait until nothing is under way; None if the endpoint was deleted.

    Raises:
        TimedOutError: if that takes longer than the limit.
    """
    start = time.monotonic()
    told = False
    try:
        with TerminalProgress() as report:
            while True:
                reconcile(workspace)
                found = workspace.store.find(Kind.ENDPOINT, name)
                if not found or found[0].status not in UNDER_WAY:
                    return found[0] if found else None
                told = told or tell_halted(found[0])
                elapsed = time.monotonic() - start
                if elapsed > limit_seconds:
                    raise TimedOutError(
                        f"endpoint {name} is still {found[0].status} after {limit_seconds:g} s",
                        "it goes on in the background",
                        f"wait longer: `byoc endpoint wait {name} --timeout SECONDS`",
                    )
                report(Progress(f"endpoint {name} ({found[0].status})", elapsed, limit_seconds))
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        say(f"endpoint {name} goes on in the background: `byoc endpoint wait {name}`, `byoc endpoint delete {name}`")
        raise


def fail_unless_in_service(record: Record) -> None:
    """Raise JobFailedError for an endpoint that failed, or whose update was rolled back."""
    reason = record.description.get("FailureReason")
    if record.status != "InService" or reason:
        raise JobFailedError(
            f"endpoint {record.name} is {record.status}: {reason or 'no reason is known'}",
            "expected it in service as asked",
            "see its events.log and logs in .byoc/endpoints",
        )


def describe_record(workspace: Workspace, record: Record) -> dict[str, Any]:
    """What the API describes, and where the endpoint listens here."""
    running = _running(workspace, record)
    return {**record.description, **({"Local": running} if running else {})}


def _running(workspace: Workspace, record: Record) -> dict[str, Any]:
    """What the endpoint's process says of itself; nothing of one that is gone."""
    if record.runner is None or not record.runner.is_alive:
        return {}
    return read_running(workspace.directory_of(Kind.ENDPOINT, record.name))


def lines_of(workspace: Workspace, record: Record) -> list[str]:
    """An endpoint for people: its address and its variants."""
    running = _running(workspace, record)
    lines = [f"{record.name}  {record.status}  {running.get('Url', '')}".rstrip()]
    if record.description.get("FailureReason"):
        lines.append(f"  {record.description['FailureReason']}")
    if record.status == "Failed":
        return lines
    for member, words in (("ProductionVariants", ""), ("ShadowProductionVariants", " (shadow)")):
        lines += [
            f"  {variant['VariantName']}{words}: weight {variant['CurrentWeight']:g}, "
            f"{variant['CurrentInstanceCount']} of {variant['DesiredInstanceCount']} instances"
            for variant in record.description.get(member, ())
        ]
    return lines
