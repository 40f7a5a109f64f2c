"""``byoc rm``."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from local_sagemaker.cli.names_of_resources import complete_names, kind_option
from local_sagemaker.cli.options import json_option, project_option
from local_sagemaker.cli.output import emit
from local_sagemaker.cli.verb import Verb
from local_sagemaker.engines import answering_engines
from local_sagemaker.errors import LocalSageMakerError, UsageError
from local_sagemaker.resources import check_removable, find_resource, is_running, remove, sweep
from local_sagemaker.state.reconcile import reconcile
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import Workspace


@click.command(cls=Verb, examples=("byoc rm digits-1 digits-2", "byoc rm --all --dry-run", "byoc rm digits-1 --force"))
@click.argument("names", nargs=-1, shell_complete=complete_names)
@kind_option
@project_option
@click.option("--all", "everything", is_flag=True, help="Everything that does not run; with --force everything.")
@click.option("--force", is_flag=True, help="What runs too: its process and containers are killed.")
@click.option("--dry-run", is_flag=True, help="Print what would be removed and remove nothing.")
@json_option
def rm(
    names: tuple[str, ...],
    kind: str | None,
    project: Path,
    everything: bool,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Remove resources: records, containers and directories; never your own folders, nor what is in the buckets."""
    if bool(names) == everything:
        raise UsageError(
            "no names, or names and --all", "expected names of resources, or --all", "write `byoc rm NAME` or --all"
        )
    workspace = Workspace.of(project)
    known = answering_engines()
    with suppress(LocalSageMakerError):  # on a full disk it cannot be noted; what is removed makes room
        reconcile(workspace, known)
    sweep(workspace, known)
    if everything:
        all_records = workspace.store.find() if workspace.database.exists() else []
        wanted = [record for record in all_records if kind in {None, record.kind}]
        records = [record for record in wanted if force or not is_running(record)]
    else:
        records = [find_resource(workspace, name, Kind(kind) if kind else None) for name in names]
    for record in records:  # either all can be removed, or nothing is
        check_removable(record, force)
    told = [{"kind": record.kind, "name": record.name} for record in records]
    if dry_run:
        lines = (f"would remove {record.kind.words} {record.name}" for record in records)
        emit({"would_remove": told}, as_json, *lines)
        return
    for record in records:
        remove(workspace, record, known, force)
    emit({"removed": told}, as_json, *(f"removed {record.kind.words} {record.name}" for record in records))
