"""``byoc shell``."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import uuid
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from local_sagemaker.archive import remove_tree
from local_sagemaker.cli.names_of_resources import complete_names, kind_option
from local_sagemaker.cli.options import project_option
from local_sagemaker.cli.verb import Verb
from local_sagemaker.engines import answering_engines, choose_engine
from local_sagemaker.errors import EngineMissingError, ResourceNotFoundError, UsageError
from local_sagemaker.image import image_exists
from local_sagemaker.progress import say
from local_sagemaker.project import read_project
from local_sagemaker.resources import containers_of, find_resource
from local_sagemaker.state.reconcile import reconcile
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import KIND_LABEL, NAME_LABEL, WORKSPACE_LABEL, Workspace
from local_sagemaker.training.job import plan_container, plan_training_job, prepare_job_directory

if TYPE_CHECKING:
    from local_sagemaker.engines import Engine
    from local_sagemaker.state.records import Record

SHELL = ("sh", "-c", "if command -v bash >/dev/null; then exec bash; else exec sh; fi")


@click.command(
    cls=Verb, examples=("byoc shell digits-1 --host algo-2", "byoc shell sagemaker-byoc:latest --project digits")
)
@click.argument("name", metavar="NAME|IMAGE", shell_complete=complete_names)
@kind_option
@project_option
@click.option("--host", help="The container, as algo-2 or a part of its name; by default the first.")
def shell(name: str, kind: str | None, project: Path, host: str | None) -> None:
    """Open a shell in a running container, or in a new one of an image with /opt/ml as a job of PROJECT has it."""
    workspace = Workspace.of(project)
    if not sys.stdin.isatty():
        raise UsageError(
            "standard input is no terminal", "a shell needs one", "run it in a terminal, or use `docker exec`"
        )
    if shutil.which("docker") is None:
        raise EngineMissingError(
            "there is no docker command on PATH", "it connects a terminal to a container", "apt-get install docker.io"
        )
    known = answering_engines()
    reconcile(workspace, known)
    try:
        record = find_resource(workspace, name, Kind(kind) if kind else None)
    except ResourceNotFoundError:
        if not image_exists(name):
            raise UsageError(
                f"{name} is neither a resource of {workspace.root} nor an image",
                "expected one or the other",
                "see `byoc ps --all` and `docker images`",
            ) from None
        sys.exit(shell_in_image(workspace, choose_engine("docker"), name))
    container = choose_container(workspace, record, known, host)
    say(f"a shell in {container}")
    sys.exit(subprocess.call(["docker", "exec", "--interactive", "--tty", container, *SHELL]))


def choose_container(workspace: Workspace, record: Record, known: list[Engine], host: str | None) -> str:
    """The name of a running container of a resource.

    Raises:
        UsageError: if none runs, or it is a plain process.
    """
    running = [placed for placed in containers_of(workspace, record, known) if placed.container.running]
    chosen = [placed for placed in running if host is None or _is_of_host(placed.container.name, host)]
    if not chosen:
        names = ", ".join(placed.container.name for placed in running)
        raise UsageError(
            f"no container of {record.kind.words} {record.name} runs" + (f" as {host}" if host else ""),
            f"running are {names}" if names else f"its status is {record.status}",
            "see `byoc ps`, or open one of an image: `byoc shell IMAGE`",
        )
    if chosen[0].engine.name != "docker":
        raise UsageError(
            f"{record.name} runs as plain processes",
            "a shell goes into a container",
            f"its files are in {workspace.directory_of(record.kind, record.name)}",
        )
    return chosen[0].container.name


def shell_in_image(workspace: Workspace, engine: Engine, image: str) -> int:
    """Run a shell in a new container with the mounts that a training job of the project has; its files go with it."""
    name = f"shell-{uuid.uuid4().hex[:8]}"
    now = datetime.now().astimezone()
    job = plan_training_job(read_project(workspace.root), {}, now, image=image, name=name, session=name)
    labels = {WORKSPACE_LABEL: workspace.identity, KIND_LABEL: "Shell", NAME_LABEL: name}
    first, *others = SHELL
    plan = plan_container(job, job.hosts[0])
    # Channels are read-only here, where a job's own changes would be laid over them.
    mounts = tuple(
        replace(one, read_only=one.read_only or one.changes is not None, changes=None) for one in plan.mounts
    )
    plan = replace(plan, labels=labels, mounts=mounts, entrypoint=(first,), arguments=tuple(others))
    try:
        prepare_job_directory(job, engine.network_interface)
        say(f"a shell in a new container of {image}; /opt/ml is as a job of {workspace.root} has it")
        docker, run, *words = shlex.split(engine.describe(plan))
        return subprocess.call([docker, run, "--rm", "--interactive", "--tty", *words])
    finally:
        engine.remove_all(dict(labels))
        engine.give_back(job.directory, image, labels)
        remove_tree(job.directory)


def _is_of_host(container: str, host: str) -> bool:
    # A name has its host at the end, or in front of the mark that makes it unique.
    return f"-{host}-" in f"-{container}-" or host in container.split(".")
