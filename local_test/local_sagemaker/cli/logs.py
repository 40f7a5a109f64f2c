"""``byoc logs``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from local_sagemaker.cli.names_of_resources import kind_option, name_argument
from local_sagemaker.cli.options import project_option
from local_sagemaker.cli.verb import Verb
from local_sagemaker.errors import UsageError
from local_sagemaker.log_files import Follower, find_logs
from local_sagemaker.resources import find_resource, is_running
from local_sagemaker.state.reconcile import reconcile
from local_sagemaker.state.records import Kind, Record
from local_sagemaker.state.runner import runner_log
from local_sagemaker.state.workspace import Workspace


@click.command(cls=Verb, examples=("byoc logs digits-1 -f", "byoc logs digits-1 --host algo-2 --tail 20"))
@name_argument
@kind_option
@project_option
@click.option("-f", "--follow", is_flag=True, help="Go on until the resource has ended.")
@click.option("--host", help="Of one host or container, as algo-2; by default of all.")
@click.option("--tail", type=click.IntRange(min=0), metavar="LINES", help="Begin with the last lines of each log.")
def logs(name: str, kind: str | None, project: Path, follow: bool, host: str | None, tail: int | None) -> None:
    """Print the log of a job or an endpoint, from the files that its containers' output goes to."""
    workspace = Workspace.of(project)
    reconcile(workspace)
    record = find_resource(workspace, name, Kind(kind) if kind else None)
    directory = workspace.directory_of(record.kind, record.name)
    output = sys.stdout.buffer

    def has_ended() -> bool:
        now = workspace.store.find(record.kind, record.name)
        if now and now[0].is_abandoned:
            reconcile(workspace)
        return not now or (now[0].is_final and not is_running(now[0])) or now[0].is_abandoned

    if not follow and not find_logs(directory, host):
        # Nothing of a container: what its runner had to say is the next best thing.
        directory = runner_log(workspace, record.kind, record.name)
        if not directory.is_file():
            raise UsageError(
                f"{record.kind.words} {name} has no log",
                _standing(record),
                f"see {workspace.directory_of(record.kind, record.name)}",
            )
        output.write(directory.read_bytes())
        output.flush()
        return
    follower = Follower(directory, host, output, tail)
    if follow:
        follower.follow(has_ended)
    else:
        follower.finish()


def _standing(record: Record) -> str:
    reason = record.description.get("FailureReason")
    return f"its status is {record.status or 'not one of a thing that runs'}" + (f": {reason}" if reason else "")
