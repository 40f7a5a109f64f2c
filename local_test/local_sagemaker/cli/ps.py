"""``byoc ps``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from local_sagemaker.cli.options import json_option, project_option
from local_sagemaker.cli.output import emit
from local_sagemaker.cli.verb import Verb
from local_sagemaker.engines import answering_engines
from local_sagemaker.resources import Placed, containers, is_running, sweep
from local_sagemaker.state.reconcile import reconcile
from local_sagemaker.state.workspace import KIND_LABEL, Workspace

if TYPE_CHECKING:
    from local_sagemaker.state.records import Record

WIDTH = 400
SECONDS_IN = {"d": 86400, "h": 3600, "m": 60, "s": 1}


@click.command(cls=Verb, examples=("byoc ps", "byoc ps --all --project digits", "byoc ps --json"))
@project_option
@click.option("--all", "show_all", is_flag=True, help="What has ended too, models and endpoint configurations.")
@json_option
def ps(project: Path, show_all: bool, as_json: bool) -> None:
    """List jobs and endpoints: those that have not ended, the newest first."""
    workspace = Workspace.of(project)
    known = answering_engines()
    reconcile(workspace, known)
    sweep(workspace, known)
    records = workspace.store.find() if workspace.database.exists() else []
    shown = [record for record in records if show_all or not record.is_final or is_running(record)]
    placed = containers(workspace, known) if shown else {}
    rows = [(record, _own(record, placed.get(record.name, []))) for record in shown]
    if as_json:
        emit({"resources": [_document(workspace, record, own) for record, own in rows]}, as_json=True)
    elif rows:
        _print_table(rows)
    else:
        hint = "" if show_all or not records else f" ({len(records)} with --all)"
        emit({}, False, f"nothing runs in {workspace.root}{hint}")


def age(seconds: float) -> str:
    """A length of time in its largest unit, as ``3h``."""
    for unit, length in SECONDS_IN.items():
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return "0s"


def _own(record: Record, placed: list[Placed]) -> list[Placed]:
    return [one for one in placed if one.container.labels.get(KIND_LABEL) == record.kind]


def _document(workspace: Workspace, record: Record, placed: list[Placed]) -> dict[str, Any]:
    return {
        "kind": record.kind,
        "name": record.name,
        "status": record.status,
        "secondary_status": record.description.get("SecondaryStatus"),
        "failure_reason": record.description.get("FailureReason"),
        "created_at": record.created_at,
        "modified_at": record.modified_at,
        "runner": record.runner.pid if record.runner else None,
        "directory": str(workspace.directory_of(record.kind, record.name)),
        "containers": [
            {
                "name": one.container.name,
                "engine": one.engine.name,
                "running": one.container.running,
                "port": one.container.port,
            }
            for one in placed
        ],
    }


def _print_table(rows: list[tuple[Record, list[Placed]]]) -> None:
    from rich.table import Table  # noqa: PLC0415 - only where a table is shown

    from local_sagemaker.console import plain_console  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    for heading in ("KIND", "NAME", "STATUS", "AGE", "CONTAINERS"):
        table.add_column(heading, overflow="fold")
    for record, placed in rows:
        secondary = record.description.get("SecondaryStatus")
        status = f"{record.status} ({secondary})" if secondary not in {None, record.status} else record.status
        where = ", ".join(sorted({one.engine.name for one in placed}))
        count = f"{len(placed)} on {where}" if placed else "-"
        table.add_row(record.kind.words, record.name, status or "-", age(time.time() - record.created_at), count)
    # As wide as it needs to be: a name is whole on its line, to be copied and to be read by programs.
    plain_console(sys.stdout, WIDTH).print(table, soft_wrap=True)
