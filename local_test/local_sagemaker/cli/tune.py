"""``byoc tune``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from local_sagemaker.api.validation import validate
from local_sagemaker.cli.documents import read_document
from local_sagemaker.cli.names_of_resources import names_of
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
from local_sagemaker.cli.output import choose, emit
from local_sagemaker.cli.train import describe_training_job, said_options
from local_sagemaker.cli.train import want as want_training
from local_sagemaker.cli.tune_view import LiveTable, results_table
from local_sagemaker.cli.verb import Verb
from local_sagemaker.engines import EngineName
from local_sagemaker.errors import JobFailedError, UsageError
from local_sagemaker.names import parse_pairs
from local_sagemaker.progress import say
from local_sagemaker.state.reconcile import reconcile
from local_sagemaker.state.records import Kind
from local_sagemaker.state.runner import run, start_detached
from local_sagemaker.state.workspace import Workspace
from local_sagemaker.training.cluster import INSTANCE_TYPE
from local_sagemaker.training.local_options import LocalOptions
from local_sagemaker.training.plan import plan_from_request
from local_sagemaker.training.request import DEFAULT_MAX_RUNTIME_SECONDS
from local_sagemaker.tuning.definitions import read_definitions
from local_sagemaker.tuning.operations import check_tuning_job, create_tuning_job, described
from local_sagemaker.tuning.request import (
    TuningFlags,
    check_tuning_job_name,
    make_tuning_job_name,
    training_document,
    tuning_request,
)
from local_sagemaker.tuning.results import PLOT_FILE, rank
from local_sagemaker.tuning.shorthand import parse_objective, parse_ranges
from local_sagemaker.tuning.standing import summarize, training_jobs
from local_sagemaker.tuning.training_request import training_request

if TYPE_CHECKING:
    from local_sagemaker.training.plan import TrainingJob

STRATEGIES = click.Choice(["Bayesian", "Random", "Grid", "Hyperband"])
WARM_START_TYPES = click.Choice(["IdenticalDataAndAlgorithm", "TransferLearning"])
KIND = Kind.TUNING_JOB
# What `byoc train` has and a tuning job's training jobs do not: one cannot be told from another there.
NOT_OFFERED = (
    "distribution", "processes_per_host", "max_wait", "instance_groups", "checkpoints", "keep_alive", "after_failure",
)  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """A tuning job as the command line asks for it: the request, and what it cannot say."""

    workspace: Workspace
    request: dict[str, Any]
    options: LocalOptions

    @property
    def name(self) -> str:
        """The tuning job's name."""
        return str(self.request["HyperParameterTuningJobName"])

    def check(self) -> TrainingJob:
        """Its first training job on paper, with values of no meaning.

        Raises:
            ServiceError, UsageError: if the service or this machine would refuse it.
        """
        validate("CreateHyperParameterTuningJob", self.request)
        check_tuning_job(self.workspace, self.request)
        definition = read_definitions(self.request)[0]
        values = {one.name: f"<{one.name}>" for one in definition.ranges}
        request = training_request(definition, f"{self.name}-001-00000000", values)
        return plan_from_request(request, self.workspace, self.options)


@click.command(
    cls=Verb,
    examples=(
        "byoc tune . --objective accuracy:Maximize --range lr=0.001..0.1:log --range hidden=16..256 --parallel 2",
        "byoc tune . --objective loss --strategy Grid --range activation=relu,tanh --range layers=1,2,3",
    ),
)
@project_argument
@request_option
@click.option("--objective", metavar="NAME[:Minimize|:Maximize]", help="The metric to improve; minimized if unsaid.")
@click.option(
    "--metric",
    "metrics",
    metavar="NAME=REGEX",
    multiple=True,
    help="Searched in the log; group 1 counts. By default the objective is expected as NAME=VALUE.",
)
@click.option(
    "--range",
    "ranges",
    metavar="NAME=LOW..HIGH[:SCALE]|NAME=A,B",
    multiple=True,
    help="What to search: scale auto, linear, log or reverse-log.",
)
@click.option("--static", "hyperparameters", metavar="NAME=VALUE", multiple=True, help="For all; wins over the file.")
@click.option("--strategy", type=STRATEGIES, default="Bayesian", show_default=True, help="How to search.")
@click.option("--max-jobs", "jobs", type=click.IntRange(min=1), help="Training jobs; 12 if unsaid, Grid runs all.")
@click.option("--parallel", type=click.IntRange(min=1), default=1, show_default=True, help="Training jobs at a time.")
@click.option("--early-stopping", is_flag=True, help="Stop jobs that are behind the median of earlier ones.")
@click.option("--seed", type=click.IntRange(min=0), help="Makes the same proposals again.")
@click.option("--max-time", "max_seconds", type=click.IntRange(120), help="Seconds for the whole tuning job.")
@click.option("--target", type=Number(), help="End when the objective is as good as this.")
@click.option("--patience", type=click.IntRange(min=3), help="End after so many jobs without a better objective.")
@click.option("--min-epochs", "least_epochs", type=click.IntRange(min=1), help="Of a job under Hyperband, at least.")
@click.option("--max-epochs", "most_epochs", type=click.IntRange(min=1), help="Of a job under Hyperband, at most.")
@click.option(
    "--warm-start",
    "parents",
    metavar="NAME",
    multiple=True,
    shell_complete=names_of("HyperParameterTuningJob"),
    help="An earlier tuning job to learn from.",
)
@click.option("--warm-start-type", type=WARM_START_TYPES, default="IdenticalDataAndAlgorithm", show_default=True)
@click.option("--job-name", help="By default made of the project's name and the time.")
@image_option
@engine_option
@click.option("--channel", "channels", metavar="NAME=DIR|s3://...", multiple=True, help="Data of every training job.")
@click.option("--input-mode", type=click.Choice(["File", "FastFile", "Pipe"]), help="How channels come.")
@env_option
@click.option(
    "--max-runtime", type=Number(), default=DEFAULT_MAX_RUNTIME_SECONDS, show_default=True, help="Seconds, of each job."
)
@click.option("--network", type=click.Choice(["none", "bridge"]), default="bridge", show_default=True)
@click.option("--hosts", type=click.IntRange(min=1), default=1, show_default=True, help="Of each training job.")
@click.option("--instance-type", default=INSTANCE_TYPE, show_default=True, help="What resourceconfig.json says.")
@click.option("--shm-size", default="64m", show_default=True, help="Of each host's /dev/shm.")
@click.option("--memory", help="Of each host, such as 2g; by default this machine's.")
@click.option("--cpus", type=Number(min=0, min_open=True), help="Of each host; by default this machine's.")
@click.option("--gpus", help="Of each host: all, a number, or device=0,1.")
@click.option("--detach", is_flag=True, help="Print the tuning job's name and let it run on.")
@dry_run_option
@json_option
@click.pass_context
def tune(context: click.Context, /, project: Path, **given: Any) -> None:
    """Search for the best hyperparameters of PROJECT by many training jobs."""
    engine_name: EngineName = given["engine"]
    as_json: bool = given["as_json"]
    document = read_document(given["request_file"], "CreateHyperParameterTuningJob")
    wanted = want(project, given if document is None else said_options(context, given), document)
    first = wanted.check()
    chosen = choose(engine_name, first.network)
    if given["dry_run"]:
        commands = describe_training_job(first, chosen)
        emit({"engine": chosen.name, "request": wanted.request, "commands": commands}, as_json, *commands)
        return
    reconcile(wanted.workspace)
    create_tuning_job(wanted.workspace, wanted.request, wanted.options)
    if given["detach"]:
        start_detached(wanted.workspace, engine_name, KIND, wanted.name)
        arn = wanted.workspace.arn(KIND, wanted.name)
        emit({"HyperParameterTuningJobName": wanted.name, "HyperParameterTuningJobArn": arn}, as_json, wanted.name)
        return
    try:
        with LiveTable(wanted.workspace, wanted.name) as report:
            run(wanted.workspace, chosen, KIND, wanted.name, None, report)
    except KeyboardInterrupt:
        tell(wanted.workspace, wanted.name, as_json)
        raise
    tell(wanted.workspace, wanted.name, as_json)


def want(project: Path, said: Mapping[str, Any], document: Mapping[str, Any] | None) -> Wanted:
    """The tuning job that a project and flags, or a request document and flags, amount to.

    Raises:
        UsageError: if a flag or a file of the project cannot be read.
    """
    flags = TuningFlags(
        objective=None if said["objective"] is None else parse_objective(said["objective"]),
        ranges=parse_ranges(said["ranges"]),
        warm_start_type=said["warm_start_type"] or TuningFlags.warm_start_type,
        early_stopping=bool(said["early_stopping"]),
        **{
            name: said[name]
            for name in ("strategy", "jobs", "parallel", "seed", "max_seconds", "target", "patience", "least_epochs")
        },
        most_epochs=said["most_epochs"],
        parents=tuple(said["parents"]),
    )
    workspace = Workspace.of(project)
    name = said["job_name"] or (document or {}).get("HyperParameterTuningJobName")
    now = datetime.now().astimezone()
    name = check_tuning_job_name(name) if name else make_tuning_job_name(workspace.root.name, now)
    both = sorted(
        parse_pairs(said["hyperparameters"], "--static").keys()
        & {entry["Name"] for entries in flags.ranges.values() for entry in entries}
    )
    if both:
        raise UsageError(f"--static {both[0]} and --range {both[0]}", "it can be only one of these", "leave one out")
    if document is not None and "TrainingJobDefinitions" in document:
        return Wanted(workspace, tuning_request(flags, name, None, document), LocalOptions())
    known = None if document is None else training_document(document.get("TrainingJobDefinition", {}))
    training = want_training(project, _training_options(said, workspace), known)
    request = tuning_request(flags, name, training.request, document)
    definition = request["TrainingJobDefinition"]
    if document is None and "CheckpointConfig" in definition:
        definition["CheckpointConfig"] = {"S3Uri": f"s3://{workspace.default_bucket}/{name}/checkpoints"}
    return Wanted(workspace, request, replace(training.options, session="local"))


def _training_options(said: Mapping[str, Any], workspace: Workspace) -> dict[str, Any]:
    """The options of ``byoc train``, under a name that is the same for the same data, as its addresses in S3 are."""
    data = json.dumps([str(workspace.root), sorted(said["channels"])])
    name = f"tuning-{hashlib.sha256(data.encode()).hexdigest()[:8]}"
    return {**dict.fromkeys(NOT_OFFERED), **said, "job_name": name, "chaos": (), "spot": False}


def tell(workspace: Workspace, name: str, as_json: bool) -> None:
    """Print how a tuning job ended: its training jobs, the best first, and what to do with the best.

    Raises:
        JobFailedError: if it failed.
    """
    record = workspace.store.get(KIND, name)
    definitions = read_definitions(record.request)
    summaries = rank([summarize(one, definitions) for one in training_jobs(workspace, name)], definitions)
    answer = described(workspace, record)
    directory = workspace.directory_of(KIND, name)
    if as_json:
        print(json.dumps({**answer, "TrainingJobSummaries": summaries, "directory": str(directory)}, indent=2))
    elif summaries:
        results_table(summaries, definitions)
    best = answer.get("BestTrainingJob")
    if best is not None:
        job = best["TrainingJobName"]
        where = "" if workspace.root == Path.cwd() else f" --project {workspace.root}"
        say(f"the best is {job}; serve it: byoc endpoint create {name} --variant best={job}{where}")
    picture = directory / PLOT_FILE
    say(f"{name}: {record.status}, see {picture if picture.exists() else directory}")
    if record.status == "Failed":
        raise JobFailedError(
            f"tuning job {name} failed: {record.description.get('FailureReason', '')}",
            "",
            f"the training jobs' logs are in {workspace.directory_of(Kind.TRAINING_JOB, name)}-*",
        )
