"""``byoc stop``."""

from __future__ import annotations

from pathlib import Path

import click

from local_sagemaker.cli.names_of_resources import kind_option, name_argument
from local_sagemaker.cli.options import json_option, project_option
from local_sagemaker.cli.output import emit
from local_sagemaker.cli.verb import Verb
from local_sagemaker.progress import say
from local_sagemaker.resources import ask_to_stop, find_resource, wait_for_end
from local_sagemaker.state.reconcile import reconcile
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import Workspace


@click.command(
    cls=Verb, examples=("byoc stop digits-1", "byoc stop digits --kind Endpoint", "byoc stop digits-1 --no-wait")
)
@name_argument
@kind_option
@project_option
@click.option("--wait/--no-wait", default=True, show_default=True, help="Until it has ended.")
@json_option
def stop(name: str, kind: str | None, project: Path, wait: bool, as_json: bool) -> None:
    """Stop a job as the platform does, or end an endpoint, which is then deleted."""
    workspace = Workspace.of(project)
    reconcile(workspace)
    record = find_resource(workspace, name, Kind(kind) if kind else None)
    ask_to_stop(workspace, record)
    if wait and not record.is_final:
        say(f"waiting for the end of {record.kind.words} {name}")
        ended = wait_for_end(workspace, record)
    else:
        ended = next(iter(workspace.store.find(record.kind, name)), None)
    status = "Deleted" if ended is None else ended.status
    emit({"kind": record.kind, "name": name, "status": status}, as_json, f"{name}: {status}")
