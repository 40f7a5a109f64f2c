"""The ``byoc`` command: reads arguments, calls the rooms that do the work, prints, and chooses the exit code."""

from __future__ import annotations

import json
import os
import signal
import sys
import uuid
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import click

from local_sagemaker import doctor as doctor_checks
from local_sagemaker.base_image import BASE_IMAGE_TAG, build_base_image
from local_sagemaker.cluster import INSTANCE_TYPE, MAX_HOSTS, parse_groups
from local_sagemaker.demo import run_demo
from local_sagemaker.distribution import SWITCH, Distribution, distribution_hyperparameters
from local_sagemaker.endpoint import (
    INVOCATION_SECONDS,
    POLL_SECONDS,
    STARTUP_SECONDS,
    fail_if_ended,
    plan_endpoint,
    running_endpoint,
)
from local_sagemaker.endpoint import invoke as invoke_endpoint
from local_sagemaker.endpoint import plan_container as plan_endpoint_container
from local_sagemaker.engines import EngineName, Limits, choose_engine
from local_sagemaker.errors import EngineMissingError, JobFailedError, LocalSageMakerError, UsageError
from local_sagemaker.image import DEFAULT_TAG, HOROVOD_FLAVOURS, build_image
from local_sagemaker.names import parse_pairs, parse_size
from local_sagemaker.progress import TerminalProgress, say
from local_sagemaker.project import read_project
from local_sagemaker.template import init_project
from local_sagemaker.training_job import (
    AFTER_FAILURE_SECONDS,
    DEFAULT_MAX_RUNTIME_SECONDS,
    newest_model,
    plan_containers,
    plan_network,
    plan_training_job,
    run_training_job,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from local_sagemaker.endpoint import EndpointPlan
    from local_sagemaker.engines import Engine
    from local_sagemaker.training_job import TrainingJob

INTERRUPTED = 130
CONTENT_TYPES = {
    ".json": "application/json",
    ".jsonl": "application/jsonlines",
    ".csv": "text/csv",
    ".npy": "application/x-npy",
}
DISTRIBUTIONS = click.Choice(["none", *SWITCH])
ENGINES = click.Choice(["auto", "docker", "process"])

project_argument = click.argument("project", type=click.Path(path_type=Path), default=".")
engine_option = click.option(
    "--engine", type=ENGINES, default="auto", help="How containers run; auto is docker where it answers."
)
image_option = click.option("--image", default=DEFAULT_TAG, show_default=True, help="The image, for the docker engine.")
env_option = click.option("--env", "environment", metavar="KEY=VALUE", multiple=True, help="A variable for your code.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Print the plan and start nothing.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def byoc() -> None:
    """Train and serve on this machine as Amazon SageMaker does: same folders, same files, same signals."""


@byoc.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Copy into a directory that is not empty.")
@json_option
def init(directory: Path, force: bool, as_json: bool) -> None:
    """Start a project in DIRECTORY from the template."""
    made = init_project(directory, force=force)
    lines = (f"made {made}", "next: write your code in code/, then", f"  byoc build && byoc train {directory}")
    emit({"project": str(made)}, as_json, *lines)


@byoc.command("base-image")
@click.option("--tag", default=BASE_IMAGE_TAG, show_default=True, help="The image to make.")
@json_option
def base_image(tag: str, as_json: bool) -> None:
    """Make a base image from Debian packages, for machines without a registry."""
    emit({"tag": build_base_image(tag, report=say)}, as_json, tag)


@byoc.command(context_settings={"ignore_unknown_options": False})
@click.option("--tag", default=DEFAULT_TAG, show_default=True, help="The image to make.")
@click.option("--base-image", "base", help="What to begin with; by default what this machine can get.")
@click.option("--code", type=click.Path(path_type=Path), help="A code folder to bake in instead of the template's.")
@click.option("--torch-index-url", help="The package index that has torch.")
@click.option(
    "--with-horovod",
    type=click.Choice(HOROVOD_FLAVOURS),
    default="none",
    show_default=True,
    help="The Horovod to compile into the image; minutes.",
)
@click.option("--builder-arg", "builder_args", multiple=True, help="One more argument of docker build.")
@json_option
def build(
    tag: str,
    base: str | None,
    code: Path | None,
    torch_index_url: str | None,
    with_horovod: str,
    builder_args: tuple[str, ...],
    as_json: bool,
) -> None:
    """Build the image, for training and serving."""
    identity = build_image(
        tag,
        base_image=base,
        code=code,
        torch_index_url=torch_index_url,
        with_horovod=with_horovod,
        builder_args=builder_args,
        output=log_stream(as_json),
        report=say,
    )
    emit({"tag": tag, "id": identity}, as_json, f"built {tag} ({identity[:19]})")


@byoc.command()
@project_argument
@image_option
@engine_option
@click.option("--hyperparameter", "hyperparameters", metavar="NAME=VALUE", multiple=True, help="Wins over the file.")
@click.option(
    "--channel", "channels", metavar="NAME=DIR", multiple=True, help="A folder of data; wins over the project's."
)
@click.option("--job-name", help="By default made of the project's name and the time.")
@env_option
@click.option("--max-runtime", type=float, default=DEFAULT_MAX_RUNTIME_SECONDS, show_default=True, help="Seconds.")
@click.option(
    "--network",
    type=click.Choice(["none", "bridge"]),
    default="bridge",
    show_default=True,
    help="none isolates the job.",
)
@click.option(
    "--hosts", type=click.IntRange(1, MAX_HOSTS), default=1, show_default=True, help="Containers named algo-N."
)
@click.option("--distribution", type=DISTRIBUTIONS, default="none", help="As an SDK asks for it, by hyperparameters.")
@click.option("--processes-per-host", type=click.IntRange(min=1), help="By default the launcher's choice.")
@click.option("--instance-type", default=INSTANCE_TYPE, show_default=True, help="What resourceconfig.json says.")
@click.option(
    "--instance-groups", metavar="NAME=HOSTS[:TYPE],...", help="A heterogeneous cluster, in place of --hosts."
)
@click.option(
    "--checkpoints", type=click.Path(path_type=Path), metavar="DIR", help="Plays the checkpoints' place in S3."
)
@click.option(
    "--after-failure",
    type=float,
    default=AFTER_FAILURE_SECONDS,
    show_default=True,
    help="Seconds that the other hosts get.",
)
@click.option("--shm-size", default="64m", show_default=True, help="Of each host's /dev/shm; the platform has 64m.")
@click.option("--memory", help="Of each host, such as 2g; by default this machine's.")
@click.option("--cpus", type=click.FloatRange(min=0, min_open=True), help="Of each host; by default this machine's.")
@dry_run_option
@json_option
def train(  # noqa: PLR0917 - click passes each by name
    project: Path,
    image: str,
    engine: EngineName,
    hyperparameters: tuple[str, ...],
    channels: tuple[str, ...],
    job_name: str | None,
    environment: tuple[str, ...],
    max_runtime: float,
    network: str,
    hosts: int,
    distribution: Distribution,
    processes_per_host: int | None,
    instance_type: str,
    instance_groups: str | None,
    checkpoints: Path | None,
    after_failure: float,
    shm_size: str,
    memory: str | None,
    cpus: float | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Run one training job of PROJECT; its files go to PROJECT/.byoc/jobs/JOB."""
    folders = {name: Path(folder) for name, folder in parse_pairs(channels, "--channel").items()}
    chosen_by_user = parse_pairs(hyperparameters, "--hyperparameter")
    sent = distribution_hyperparameters(distribution, processes_per_host) | chosen_by_user
    memory_bytes = None if memory is None else parse_size(memory, "--memory")
    job = plan_training_job(
        read_project(project, sent, folders),
        os.environ,
        datetime.now().astimezone(),
        image=image,
        name=job_name,
        environment=parse_pairs(environment, "--env"),
        max_runtime_seconds=max_runtime,
        after_failure_seconds=after_failure,
        network=network,
        session=uuid.uuid4().hex,
        hosts=hosts,
        instance_type=instance_type,
        instance_groups=parse_groups(instance_groups) if instance_groups is not None else (),
        limits=Limits(parse_size(shm_size, "--shm-size"), memory_bytes, cpus),
        checkpoints=checkpoints,
    )
    chosen = choose(engine, network)
    if dry_run:
        commands = describe_training_job(job, chosen)
        emit({"engine": chosen.name, "job": json_ready(asdict(job)), "commands": commands}, as_json, *commands)
        return
    result = run_training_job(job, chosen, log_stream(as_json), say)
    if as_json:
        print(json.dumps(result.document(), indent=2))
    say(f"{result.job_name}: {result.secondary_status} after {result.training_seconds:.1f} s, see {result.directory}")
    if result.status == "Failed":
        raise JobFailedError(
            f"training job {result.job_name} failed: {result.failure_reason}",
            f"exit code {result.exit_code}",
            f"the log is {result.log_file}",
        )


@byoc.command()
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
    "--startup-timeout", type=float, default=STARTUP_SECONDS, show_default=True, help="Seconds until /ping is 200."
)
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
    chosen = choose(engine)
    if dry_run:
        command = chosen.describe(plan_endpoint_container(plan))
        emit({"engine": chosen.name, "endpoint": json_ready(asdict(plan)), "command": command}, as_json, command)
        return
    serve_until_stopped(plan, chosen, as_json)


def describe_training_job(job: TrainingJob, engine: Engine) -> list[str]:
    """The shell commands that a job amounts to: one for its network, where it has one, and one for each host."""
    network = plan_network(job)
    made = [engine.describe_network(network)] if network is not None else []
    return [*made, *(engine.describe(plan) for plan in plan_containers(job).values())]


def serve_until_stopped(plan: EndpointPlan, engine: Engine, as_json: bool) -> None:
    """Run the endpoint until the user ends it or it ends by itself, which is a failure."""
    try:
        with running_endpoint(plan, engine, log_stream(as_json), TerminalProgress()) as endpoint:
            emit({"url": endpoint.url, "model_data": str(plan.model_data), "engine": engine.name}, as_json)
            say(f"serving {plan.model_data} at {endpoint.url} (Ctrl-C ends it)")
            while True:
                fail_if_ended(endpoint, POLL_SECONDS)
    except KeyboardInterrupt:
        say("stopped")


@byoc.command()
@click.argument("payload", metavar="FILE|-", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="The endpoint.")
@click.option("--content-type", help="By default guessed from the file's suffix: .json .jsonl .csv .npy.")
@click.option("--accept", help="The content type wanted back.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the answer to a file.")
@click.option("--timeout", type=float, default=INVOCATION_SECONDS, show_default=True, help="Seconds.")
def invoke(
    payload: Path, url: str, content_type: str | None, accept: str | None, output: Path | None, timeout: float
) -> None:
    """Send FILE (- is standard input) to an endpoint; the answer comes out byte for byte."""
    body = read_payload(payload)
    reply = invoke_endpoint(url, body, content_type or guess_content_type(payload), accept, timeout)
    if not reply.ok:
        text = reply.body.decode(errors="replace").strip()
        raise JobFailedError(f"the endpoint answered with status {reply.status}", text, "see the endpoint's log")
    if output is not None:
        output.write_bytes(reply.body)
    else:
        sys.stdout.buffer.write(reply.body)
        sys.stdout.buffer.flush()


@byoc.command()
@json_option
def doctor(as_json: bool) -> None:
    """Say what this machine has and lacks."""
    checks = doctor_checks.examine()
    engines = doctor_checks.usable_engines(checks)
    lines = [f"{'ok     ' if c.ok else 'MISSING'} {c.name:15} {c.found}" for c in checks]
    lines += [f"to do: {c.name} ({c.needed_for}): {c.next_step}" for c in checks if not c.ok]
    emit(
        {"usable_engines": engines, "checks": [asdict(c) for c in checks]},
        as_json,
        *lines,
        f"usable engines: {', '.join(engines) or 'none'}",
    )
    if not engines:
        raise EngineMissingError(
            "no engine can run here", "expected docker or process to be usable", "see `byoc doctor`"
        )


@byoc.command()
@engine_option
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    default=Path("byoc-demo"),
    show_default=True,
    help="The project to make.",
)
@image_option
@click.option("--no-build", is_flag=True, help="Use the image as it is, without building it from this checkout.")
@json_option
def demo(engine: EngineName, directory: Path, image: str, no_build: bool, as_json: bool) -> None:
    """Train, serve and question a model of handwritten digits, start to end."""
    outcome = run_demo(directory, choose(engine), image, build=not no_build, output=log_stream(as_json), report=say)
    emit(outcome.document(), as_json, outcome.text())
    outcome.require_accuracy()


def choose(engine: EngineName, network: str = "bridge") -> Engine:
    """Connect to an engine, and say what it cannot show."""
    chosen = choose_engine(engine)
    for sentence in chosen.leaves_out:
        say(f"{chosen.name} engine: {sentence}")
    if network == "none" and chosen.name == "process":
        raise UsageError(
            "--network none with the process engine", "a plain process cannot be isolated", "use --engine docker"
        )
    return chosen


def log_stream(as_json: bool) -> BinaryIO:
    """Where a container's bytes go: standard output belongs to the document where there is one."""
    return sys.stderr.buffer if as_json else sys.stdout.buffer


def emit(document: dict[str, Any], as_json: bool, *lines: str) -> None:
    """Print a result: the document for a machine, or the lines for a person."""
    print(json.dumps(document, indent=2) if as_json else "\n".join(lines), end="\n" if as_json or lines else "")
    sys.stdout.flush()


def json_ready(document: Any) -> Any:
    """Turn the paths of a plan into strings."""
    return json.loads(json.dumps(document, default=str))


def read_payload(payload: Path) -> bytes:
    """Read a file, or standard input for ``-``.

    Raises:
        UsageError: if it cannot be read.
    """
    if str(payload) == "-":
        return sys.stdin.buffer.read()
    try:
        return payload.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{payload} cannot be read: {error.strerror}", "expected a payload", "correct the path"
        ) from error


def guess_content_type(payload: Path) -> str:
    """The content type of a file's suffix.

    Raises:
        UsageError: if the suffix says nothing.
    """
    try:
        return CONTENT_TYPES[payload.suffix.lower()]
    except KeyError:
        raise UsageError(
            f"the content type of {payload} cannot be guessed",
            f"expected one of the suffixes {' '.join(CONTENT_TYPES)}",
            "say it with --content-type",
        ) from None


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run ``byoc`` and exit: 0, or the exit code of what went wrong; a user's mistake shows no traceback."""
    signal.signal(signal.SIGTERM, _interrupt)  # a supervisor's stop cleans up exactly as Ctrl-C does
    signal.signal(signal.SIGINT, _interrupt)  # a shell's background job is started with SIGINT ignored
    try:
        byoc.main(args=arguments, prog_name="byoc", standalone_mode=False)
    except LocalSageMakerError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        sys.exit(0)
    except click.ClickException as error:
        print(f"error: {error.format_message()}", file=sys.stderr)
        sys.exit(UsageError.exit_code)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(INTERRUPTED)
    sys.exit(0)
