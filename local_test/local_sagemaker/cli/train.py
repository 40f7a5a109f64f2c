"""``byoc train``."""

from __future__ import annotations

import json
import threading
import uuid
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from local_sagemaker.api.validation import validate
from local_sagemaker.cli.documents import read_document
from local_sagemaker.cli.number import Number
from local_sagemaker.cli.options import (
    dry_run_option,
    engine_option,
    env_option,
    image_option,
    json_option,
    project_argument,
    request_option,
)
from local_sagemaker.cli.output import choose, emit, json_ready, log_stream
from local_sagemaker.cli.verb import Verb
from local_sagemaker.engines import EngineName, Limits
from local_sagemaker.errors import JobFailedError, LocalSageMakerError, UsageError
from local_sagemaker.names import check_environment_key, check_job_name, make_job_name, parse_pairs, parse_size
from local_sagemaker.progress import say
from local_sagemaker.project import read_project
from local_sagemaker.state.reconcile import reconcile
from local_sagemaker.state.records import Kind
from local_sagemaker.state.runner import run, start_detached
from local_sagemaker.state.workspace import Workspace
from local_sagemaker.training.chaos import parse_chaos
from local_sagemaker.training.checkpoints import check_store
from local_sagemaker.training.cluster import INSTANCE_TYPE, MAX_HOSTS, parse_groups
from local_sagemaker.training.distribution import SWITCH, distribution_hyperparameters
from local_sagemaker.training.local_options import AFTER_FAILURE_SECONDS, LocalOptions
from local_sagemaker.training.operations import check_stopping, create_training_job, delete_training_job
from local_sagemaker.training.plan import (
    TrainingJob,
    make_options,
    make_request,
    plan_containers,
    plan_from_request,
    plan_network,
)
from local_sagemaker.training.request import DEFAULT_MAX_RUNTIME_SECONDS, TrainingFlags, doubts
from local_sagemaker.training.result import read_result
from local_sagemaker.training.watch import GRACE_SECONDS, train_again_on_change

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_sagemaker.engines import Engine

DISTRIBUTIONS = click.Choice(["none", *SWITCH])
S3 = "s3://"


@dataclass(frozen=True)
class Wanted:
    """A job as the command line asks for it: the request, and what it cannot say."""

    workspace: Workspace
    request: dict[str, Any]
    options: LocalOptions

    @property
    def name(self) -> str:
        """The job's name."""
        return str(self.request["TrainingJobName"])

    def plan(self) -> TrainingJob:
        """The job on paper.

        Raises:
            ServiceError, UsageError: if the service or this machine would refuse it.
        """
        validate("CreateTrainingJob", self.request)
        check_stopping(self.request)
        return plan_from_request(self.request, self.workspace, self.options)


@click.command(
    cls=Verb,
    examples=(
        "byoc train",
        "byoc train digits --hosts 2 --distribution torchrun --hyperparameter epochs=3",
        "byoc train --request job.yaml --chaos spot-after=30s",
    ),
)
@project_argument
@request_option
@image_option
@engine_option
@click.option("--hyperparameter", "hyperparameters", metavar="NAME=VALUE", multiple=True, help="Wins over the file.")
@click.option(
    "--channel",
    "channels",
    metavar="NAME=DIR|s3://...",
    multiple=True,
    help="A folder of data, or a prefix of the local buckets; wins over the project's.",
)
@click.option(
    "--input-mode", type=click.Choice(["File", "FastFile", "Pipe"]), help="How channels come; File if unsaid."
)
@click.option("--metric", "metrics", metavar="NAME=REGEX", multiple=True, help="Searched in the log; group 1 counts.")
@click.option("--job-name", help="By default made of the project's name and the time.")
@env_option
@click.option("--max-runtime", type=Number(), default=DEFAULT_MAX_RUNTIME_SECONDS, show_default=True, help="Seconds.")
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
@click.option("--spot", is_flag=True, help="On spot instances, which --chaos takes away.")
@click.option("--max-wait", type=click.IntRange(min=1), help="Seconds for a spot job with all its interruptions.")
@click.option(
    "--chaos",
    metavar="spot-after=SECONDS[:kill][:wait=SECONDS]",
    multiple=True,
    help="Take the spot instances away; once more for the next attempt.",
)
@click.option("--keep-alive", type=click.IntRange(0, 21600), help="Seconds that the warm pool's cache is kept.")
@click.option(
    "--after-failure",
    type=Number(),
    default=AFTER_FAILURE_SECONDS,
    show_default=True,
    help="Seconds that the other hosts get.",
)
@click.option("--shm-size", default="64m", show_default=True, help="Of each host's /dev/shm; the platform has 64m.")
@click.option("--memory", help="Of each host, such as 2g; by default this machine's.")
@click.option("--cpus", type=Number(min=0, min_open=True), help="Of each host; by default this machine's.")
@click.option("--gpus", help="Of each host: all, a number, or device=0,1.")
@click.option("--detach", is_flag=True, help="Print the job's name and let it run on.")
@click.option("--watch", is_flag=True, help="Train again whenever the code changes, until Ctrl-C.")
@dry_run_option
@json_option
@click.pass_context
def train(context: click.Context, /, project: Path, **given: Any) -> None:
    """Run one training job of PROJECT; its files go to PROJECT/.byoc/jobs/JOB."""
    engine_name: EngineName = given["engine"]
    as_json: bool = given["as_json"]
    if given["watch"] and (given["detach"] or given["dry_run"]):
        raise UsageError("--watch with --detach or --dry-run", "watching is done in the foreground", "leave one out")
    document = read_document(given["request_file"], "CreateTrainingJob")
    said = given if document is None else said_options(context, given)
    wanted = want(project, said, document)
    job = wanted.plan()
    for sentence in doubts(wanted.request):
        say(f"WARNING {sentence}")
    chosen = choose(engine_name, job.network)
    if given["dry_run"]:
        commands = describe_training_job(job, chosen)
        plan = {"engine": chosen.name, "request": wanted.request, "job": json_ready(asdict(job)), "commands": commands}
        emit(plan, as_json, *commands)
        return
    reconcile(wanted.workspace)
    if given["watch"]:
        if job.code is None:
            raise UsageError(f"--watch, and {project} has no code folder", "its files are watched", "leave out --watch")

        def start(number: int) -> JobInTurn:
            turn = wanted if number == 1 else want(project, _next_name(said, job.name, number), document)
            return JobInTurn(turn, chosen, as_json)

        train_again_on_change(job.code, start)
        return
    create_training_job(wanted.workspace, wanted.request, wanted.options)
    if given["detach"]:
        start_detached(wanted.workspace, engine_name, Kind.TRAINING_JOB, wanted.name)
        document = {"TrainingJobName": wanted.name, "TrainingJobArn": wanted.workspace.arn(Kind.TRAINING_JOB, job.name)}
        emit(document, as_json, wanted.name)
        return
    run(wanted.workspace, chosen, Kind.TRAINING_JOB, wanted.name, log_stream(as_json), say)
    tell(job, wanted, as_json)


def want(project: Path, said: Mapping[str, Any], document: Mapping[str, Any] | None) -> Wanted:
    """The job that a project and flags, or a request document and flags, amount to.

    Raises:
        UsageError: if a flag or a file of the project cannot be read.
    """
    places = parse_pairs(said["channels"], "--channel")
    remote = {name: place for name, place in places.items() if place.startswith(S3)}
    folders = {name: Path(place) for name, place in places.items() if name not in remote}
    interruptions = parse_chaos(said["chaos"])
    flags = _flags(said, is_interrupted=bool(interruptions))
    workspace = Workspace.of(project)
    # A document says all about its job; without one the project does.
    own = read_project(project, flags.hyperparameters if document is None else {}, folders)
    code = None
    channels: dict[str, Path | str] = {**{name: own.channels[name] for name in folders}, **remote}
    if document is None:
        code = own.code
        if code is None:
            say(f"{own.root} has no code folder, so the image's own code runs")
        flags = replace(flags, hyperparameters=own.hyperparameters)
        channels = {**own.channels, **remote}
    flags = replace(flags, channels=channels)
    name = said["job_name"] or (document or {}).get("TrainingJobName")
    job_name = check_job_name(name) if name else make_job_name(workspace.root.name, datetime.now().astimezone())
    options = LocalOptions(
        code,
        after_failure_seconds=AFTER_FAILURE_SECONDS if said["after_failure"] is None else said["after_failure"],
        interruptions=interruptions,
        session=uuid.uuid4().hex,
    )
    return Wanted(
        workspace, make_request(flags, workspace, job_name, document), make_options(flags, options, _limits(said))
    )


def _flags(said: Mapping[str, Any], is_interrupted: bool) -> TrainingFlags:
    """What options say of a request; its channels are not among them."""
    distribution = distribution_hyperparameters(said["distribution"] or "none", said["processes_per_host"])
    return TrainingFlags(
        image=said["image"],
        hyperparameters=distribution | parse_pairs(said["hyperparameters"], "--hyperparameter"),
        environment={
            check_environment_key(key): value for key, value in parse_pairs(said["environment"], "--env").items()
        },
        metrics=parse_pairs(said["metrics"], "--metric"),
        input_mode=said["input_mode"],
        max_runtime_seconds=said["max_runtime"],
        max_wait_seconds=said["max_wait"],
        network=said["network"],
        hosts=said["hosts"],
        instance_type=said["instance_type"],
        instance_groups=parse_groups(said["instance_groups"]) if said["instance_groups"] is not None else (),
        checkpoints=None if said["checkpoints"] is None else check_store(said["checkpoints"]),
        keep_alive_seconds=said["keep_alive"],
        is_spot=said["spot"] or is_interrupted,
    )


def _limits(said: Mapping[str, Any]) -> Limits:
    memory = said["memory"]
    return Limits(
        parse_size(said["shm_size"] or "64m", "--shm-size"),
        None if memory is None else parse_size(memory, "--memory"),
        said["cpus"],
        said["gpus"],
    )


def tell(job: TrainingJob, wanted: Wanted, as_json: bool) -> None:
    """Print how a job ended.

    Raises:
        JobFailedError: if it failed.
    """
    result = read_result(job.directory)
    if result is None:  # it failed before its start
        reason = wanted.workspace.store.get(Kind.TRAINING_JOB, job.name).description.get("FailureReason", "")
        raise JobFailedError(
            f"training job {job.name} failed: {reason}", "", f"correct that; `byoc rm {job.name}` frees the name"
        )
    if as_json:
        print(json.dumps(result, indent=2))
    if result["metrics"]:
        say(", ".join(f"{name} {value:g}" for name, value in sorted(result["metrics"].items())))
    attempts = f", {result['attempts']} attempts" if result["attempts"] > 1 else ""
    ended = f"{result['secondary_status']} after {result['training_seconds']:.1f} s{attempts}"
    say(f"{job.name}: {ended}, see {job.directory}")
    if result["status"] == "Failed":
        raise JobFailedError(
            f"training job {job.name} failed: {result['failure_reason']}",
            f"exit code {result['exit_code']}",
            f"the log is {result['log_file']}",
        )


def describe_training_job(job: TrainingJob, engine: Engine) -> list[str]:
    """The shell commands that a job amounts to: one for its network, where it has one, and one for each host."""
    network = plan_network(job)
    made = [engine.describe_network(network)] if network is not None else []
    return [*made, *(engine.describe(plan) for plan in plan_containers(job).values())]


class JobInTurn:
    """One of the jobs of ``--watch``, which runs in a thread until it ends or the code changes."""

    def __init__(self, wanted: Wanted, engine: Engine, as_json: bool) -> None:
        options = replace(wanted.options, stop_grace_seconds=GRACE_SECONDS)
        self._wanted = wanted
        self._job = wanted.plan()
        create_training_job(wanted.workspace, wanted.request, options)
        self._thread = threading.Thread(target=self._run, args=(engine, as_json), name=wanted.name)
        self._thread.start()

    def _run(self, engine: Engine, as_json: bool) -> None:
        workspace, name = self._wanted.workspace, self._wanted.name
        try:
            run(workspace, engine, Kind.TRAINING_JOB, name, log_stream(as_json), say)
            tell(self._job, self._wanted, as_json)
        except LocalSageMakerError as error:
            say(str(error))
        say("waiting for a change of the code")

    def stop(self) -> None:
        """Stop it; of one that was cut short nothing is kept."""
        workspace, name = self._wanted.workspace, self._wanted.name
        cut_short = self._thread.is_alive()
        if cut_short:
            workspace.store.request_stop(Kind.TRAINING_JOB, name)
        self._thread.join()
        if cut_short and workspace.store.get(Kind.TRAINING_JOB, name).is_final:
            delete_training_job(workspace, {"TrainingJobName": name})


def _next_name(said: Mapping[str, Any], first: str, number: int) -> dict[str, Any]:
    return {**said, "job_name": f"{said['job_name'] or first}-{number}"}


def said_options(context: click.Context, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were written; the others are None, or empty, so that a document is not overruled by defaults."""

    def unsaid(value: Any) -> Any:
        return () if isinstance(value, tuple) else False if isinstance(value, bool) else None

    return {
        name: value if context.get_parameter_source(name) is ParameterSource.COMMANDLINE else unsaid(value)
        for name, value in given.items()
    }
