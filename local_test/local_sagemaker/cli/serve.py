"""``byoc serve``."""

from __future__ import annotations

import uuid
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from local_sagemaker.cli.number import SECONDS
from local_sagemaker.cli.options import (
    dry_run_option,
    engine_option,
    env_option,
    image_option,
    json_option,
    project_argument,
)
from local_sagemaker.cli.output import choose, emit, json_ready, log_stream
from local_sagemaker.cli.verb import Verb
from local_sagemaker.engines import EngineName
from local_sagemaker.errors import UsageError
from local_sagemaker.hosting.endpoint import (
    POLL_SECONDS,
    STARTUP_SECONDS,
    fail_if_ended,
    plan_container,
    plan_endpoint,
    running_endpoint,
)
from local_sagemaker.hosting.watch import LOOK_SECONDS, CodeWatch, reload_workers
from local_sagemaker.model_choice import newest_model
from local_sagemaker.names import parse_pairs
from local_sagemaker.progress import TerminalProgress, say
from local_sagemaker.project import read_project

if TYPE_CHECKING:
    from local_sagemaker.engines import Engine
    from local_sagemaker.hosting.endpoint import Endpoint, EndpointPlan


@click.command(cls=Verb, examples=("byoc serve", "byoc serve --model-data model.tar.gz --port 0", "byoc serve --watch"))
@project_argument
@click.option(
    "--model-data", type=click.Path(path_type=Path), help="model.tar.gz or a directory; default: the newest job's."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Of 127.0.0.1; 0 = a free one."
)
@image_option
@engine_option
@env_option
@click.option(
    "--startup-timeout",
    type=SECONDS,
    default=STARTUP_SECONDS,
    show_default=True,
    help="Seconds until /ping is 200.",
)
@click.option("--watch", is_flag=True, help="Give changes in the code folder to the model server at once.")
@dry_run_option
@json_option
def serve(  # noqa: PLR0917 - click passes each by name
    project: Path,
    model_data: Path | None,
    port: int,
    image: str,
    engine: EngineName,
    environment: tuple[str, ...],
    startup_timeout: float,
    watch: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Serve a model in the foreground until Ctrl-C; with --json, one document once it is ready."""
    read = read_project(project)
    plan = plan_endpoint(
        read.work_dir,
        model_data or newest_model(read.root),
        image,
        code=read.code,
        environment=parse_pairs(environment, "--env"),
        port=port,
        startup_seconds=startup_timeout,
        session=uuid.uuid4().hex,
    )
    if watch and read.code is None:
        raise UsageError(
            f"--watch, but there is no {read.root / 'code'}", "expected a code folder to watch", "leave out --watch"
        )
    chosen = choose(engine)
    if dry_run:
        command = chosen.describe(plan_container(plan))
        emit({"engine": chosen.name, "endpoint": json_ready(asdict(plan)), "command": command}, as_json, command)
        return
    serve_until_stopped(plan, chosen, as_json, watch=watch)


def serve_until_stopped(plan: EndpointPlan, engine: Engine, as_json: bool, *, watch: bool = False) -> None:
    """Run the endpoint until the user ends it, which is its good end, or it ends by itself, which is a failure.

    Raises:
        KeyboardInterrupt: if the user ends it before it served.
    """
    told = False
    try:
        while True:
            with running_endpoint(plan, engine, log_stream(as_json), TerminalProgress()) as endpoint:
                if not told:
                    emit({"url": endpoint.url, "model_data": str(plan.model_data), "engine": engine.name}, as_json)
                    say(f"serving {plan.model_data} at {endpoint.url} (Ctrl-C ends it)")
                told = True
                attend(plan, endpoint, watch=watch)
                plan = replace(plan, port=endpoint.running.port or plan.port)
            say("this model server does not reload its code, so it is started again")
    except KeyboardInterrupt:
        if not told:
            raise
        say("stopped")


def attend(plan: EndpointPlan, endpoint: Endpoint, *, watch: bool) -> None:
    """Watch the container, and the code if wanted; returns when only another container can have the new code.

    Raises:
        JobFailedError: if the container ends by itself.
    """
    code = CodeWatch(plan.code, plan.directory / "code") if watch and plan.code is not None else None
    while True:
        fail_if_ended(endpoint, POLL_SECONDS if code is None else LOOK_SECONDS)
        if code is not None and code.has_changed():
            say("the code has changed")
            if not reload_workers(endpoint):
                return
