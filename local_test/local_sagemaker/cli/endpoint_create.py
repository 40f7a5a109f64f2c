"""``byoc endpoint create``, ``update`` and ``config``: from variants, or from the API's documents, to a fleet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from local_sagemaker.api.operations import call
from local_sagemaker.cli.documents import read_document
from local_sagemaker.cli.endpoint_common import (
    WAIT_SECONDS,
    describe_record,
    detach_option,
    endpoints,
    fail_unless_in_service,
    lines_of,
    name_argument,
    open_workspace,
    timeout_option,
    wait_until_settled,
    which,
)
from local_sagemaker.cli.names_of_resources import complete_alarms, names_of
from local_sagemaker.cli.number import Number
from local_sagemaker.cli.options import (
    dry_run_option,
    engine_option,
    env_option,
    image_option,
    json_option,
    project_option,
    request_option,
)
from local_sagemaker.cli.output import choose, emit
from local_sagemaker.cli.verb import Verb
from local_sagemaker.engines import EngineName
from local_sagemaker.errors import UsageError, ValidationError
from local_sagemaker.hosting.local_options import LocalOptions
from local_sagemaker.hosting.shorthand import (
    ModelPlan,
    capture_document,
    config_document,
    deployment_document,
    make_model,
    parse_numbers,
    parse_variant,
    plan_model,
)
from local_sagemaker.names import parse_pairs, parse_size
from local_sagemaker.state.records import Kind
from local_sagemaker.state.runner import start_detached

if TYPE_CHECKING:
    from local_sagemaker.state.workspace import Workspace

Document = dict[str, Any]


def variant_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say what an endpoint configuration consists of."""
    options = (
        click.option(
            "--variant", "variants", metavar="NAME=MODEL[:WEIGHT]", multiple=True, help="A production variant."
        ),
        click.option("--shadow", "shadows", metavar="NAME=MODEL[:SHARE]", multiple=True, help="A shadow variant."),
        click.option("--instances", multiple=True, metavar="[NAME=]COUNT", help="Of a variant, or of each; default 1."),
        click.option("--capture", type=click.IntRange(0, 100), metavar="PERCENT", help="Keep requests and answers."),
        image_option,
        env_option,
        request_option,
        project_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command(
    cls=Verb,
    examples=(
        "byoc endpoint create digits --variant blue=JOB:90 --variant green=other/model.tar.gz:10 --capture 100",
        "byoc endpoint create digits --request endpoint-config.yaml",
    ),
)
@click.argument("name")
@variant_options
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="Of 127.0.0.1; 0 = a free one."
)
@click.option("--seed", type=int, help="Of the choice among variants, so that it repeats.")
@click.option("--memory", help="Of each container, such as 2g; by default this machine's.")
@click.option("--cpus", type=Number(min=0, min_open=True), help="Of each container.")
@click.option("--gpus", help="Of each container, as Docker writes it.")
@engine_option
@detach_option
@timeout_option
@dry_run_option
@json_option
def create(  # noqa: PLR0917 - click passes each by name
    name: str,
    variants: tuple[str, ...],
    shadows: tuple[str, ...],
    instances: tuple[str, ...],
    capture: int | None,
    image: str,
    environment: tuple[str, ...],
    request_file: Path | None,
    project: Path,
    port: int,
    seed: int | None,
    memory: str | None,
    cpus: float | None,
    gpus: str | None,
    engine: EngineName,
    detach: bool,
    timeout: float,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Bring endpoint NAME into service, in the background.

    MODEL is a model's name, a training job's name, a folder, a model.tar.gz, or an s3:// address of the local buckets.
    """
    workspace = open_workspace(project)
    if name in {record.name for record in endpoints(workspace)}:
        raise ValidationError(f'Cannot create already existing endpoint "{name}".', "give another name, or delete it")
    models, document, rest = _documents(
        workspace, name, (variants, shadows, instances, capture, image, environment, request_file)
    )
    if dry_run:
        emit({**_planned(models, document), "CreateEndpoint": {**rest, "EndpointName": name}}, True)
        return
    chosen = choose(engine)
    options = LocalOptions(port, seed, None if memory is None else parse_size(memory, "--memory"), cpus, gpus)
    options.write(workspace.directory_of(Kind.ENDPOINT, name))
    config_name = _make_config(workspace, models, document)
    call(workspace, "CreateEndpoint", {**rest, "EndpointName": name, "EndpointConfigName": config_name})
    start_detached(workspace, engine if engine != "auto" else _named(chosen.name), Kind.ENDPOINT, name)
    _finish(workspace, name, detach, timeout, as_json)


@click.command(cls=Verb, examples=("byoc endpoint update --variant green=JOB --canary 10% --bake 30 --alarm errors",))
@name_argument
@variant_options
@click.option(
    "--config",
    "config_name",
    metavar="NAME",
    shell_complete=names_of("EndpointConfig"),
    help="An endpoint configuration that exists.",
)
@click.option("--canary", metavar="SIZE", help="First this much traffic, as 10% or 1 instance's; then all.")
@click.option("--linear", metavar="SIZE", help="This much traffic more at each step, as 25%.")
@click.option("--rolling", metavar="SIZE", help="This many instances at a time, as 50% or 1, without a second fleet.")
@click.option(
    "--bake", type=click.IntRange(0, 3600), default=0, show_default=True, help="Seconds that each step lasts."
)
@click.option(
    "--termination-wait",
    type=click.IntRange(0, 3600),
    default=0,
    show_default=True,
    help="Seconds the old fleet stays.",
)
@click.option(
    "--alarm",
    "alarms",
    metavar="NAME",
    multiple=True,
    shell_complete=complete_alarms,
    help="Rolls the update back when it fires.",
)
@click.option("--retain", is_flag=True, help="Keep the weights and counts that variants of the same name have.")
@detach_option
@timeout_option
@dry_run_option
@json_option
def update(  # noqa: PLR0917 - click passes each by name
    name: str | None,
    variants: tuple[str, ...],
    shadows: tuple[str, ...],
    instances: tuple[str, ...],
    capture: int | None,
    image: str,
    environment: tuple[str, ...],
    request_file: Path | None,
    project: Path,
    config_name: str | None,
    canary: str | None,
    linear: str | None,
    rolling: str | None,
    bake: int,
    termination_wait: int,
    alarms: tuple[str, ...],
    retain: bool,
    detach: bool,
    timeout: float,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Give endpoint NAME (default: the only one) another fleet; the old one answers until the new one does.

    Exit code 1 if the update was rolled back.
    """
    workspace = open_workspace(project)
    name = which(workspace, name)
    deployment = deployment_document(canary, linear, rolling, bake, termination_wait, alarms)
    request: Document = {"EndpointName": name, **({"DeploymentConfig": deployment} if deployment else {})}
    if retain:
        request["RetainAllVariantProperties"] = True
    if config_name is None:
        models, document, rest = _documents(
            workspace, name, (variants, shadows, instances, capture, image, environment, request_file)
        )
        if dry_run:
            emit({**_planned(models, document), "UpdateEndpoint": {**rest, **request}}, True)
            return
        config_name, request = _make_config(workspace, models, document), {**rest, **request}
    elif dry_run:
        emit({**request, "EndpointConfigName": config_name}, True)
        return
    call(workspace, "UpdateEndpoint", {**request, "EndpointConfigName": config_name})
    _finish(workspace, name, detach, timeout, as_json)


@click.command(cls=Verb, examples=("byoc endpoint config digits-green --variant green=JOB",))
@click.argument("name")
@variant_options
@dry_run_option
@json_option
def config(  # noqa: PLR0917 - click passes each by name
    name: str,
    variants: tuple[str, ...],
    shadows: tuple[str, ...],
    instances: tuple[str, ...],
    capture: int | None,
    image: str,
    environment: tuple[str, ...],
    request_file: Path | None,
    project: Path,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make the endpoint configuration NAME, which `byoc endpoint update --config NAME` takes."""
    workspace = open_workspace(project)
    models, document, _ = _documents(
        workspace, name, (variants, shadows, instances, capture, image, environment, request_file)
    )
    document["EndpointConfigName"] = name
    if dry_run:
        emit(_planned(models, document), True)
        return
    for model in models:
        make_model(workspace, model)
    answer = call(workspace, "CreateEndpointConfig", document)
    emit(answer, as_json, answer["EndpointConfigArn"])


def _documents(
    workspace: Workspace,
    name: str,
    given: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], int | None, str, tuple[str, ...], Path | None],
) -> tuple[list[ModelPlan], Document, Document]:
    """The models, the CreateEndpointConfig request, and what a --request document says of the endpoint itself."""
    variants, shadows, instances, capture, image, environment, request_file = given
    document: Document = read_document(request_file, "CreateEndpointConfig") or {}
    models = [ModelPlan(str(model.get("ModelName", "")), model) for model in document.pop("CreateModel", ())]
    rest = document.pop("CreateEndpoint", document.pop("UpdateEndpoint", {}))
    document = document.pop("CreateEndpointConfig", document)
    if not variants and "ProductionVariants" not in document:
        existing = rest.get("EndpointConfigName", document.get("EndpointConfigName"))
        if existing is None:
            raise UsageError(
                "no variant", "an endpoint has at least one", "write --variant blue=MODEL, or --request FILE"
            )
        return models, {"EndpointConfigName": existing}, {**document, **rest}
    if variants:
        production = [parse_variant(text, "--variant") for text in variants]
        shadow = [parse_variant(text, "--shadow") for text in shadows]
        env = parse_pairs(environment, "--env")
        chosen = {choice.name: plan_model(workspace, choice, name, image, env) for choice in (*production, *shadow)}
        models += chosen.values()
        counts = [text if "=" in text else f"={text}" for text in instances]
        made = config_document(
            name,
            production,
            shadow,
            parse_numbers(counts, "number of instances"),
            chosen,
            datetime.now().astimezone(),
        )
        document = {**document, **made}
    if capture is not None:
        document["DataCaptureConfig"] = capture_document(workspace, capture)
    return models, document, rest


def _planned(models: list[ModelPlan], document: Document) -> Document:
    """What would be asked of the API, as --request takes it."""
    requests = {model.name: model.request for model in models if model.request is not None}
    made = {"CreateEndpointConfig": document} if document.keys() != {"EndpointConfigName"} else document
    return {**({"CreateModel": list(requests.values())} if requests else {}), **made}


def _make_config(workspace: Workspace, models: list[ModelPlan], document: Document) -> str:
    """The name of the configuration, made with its models if the document says more than a name."""
    for model in models:
        make_model(workspace, model)
    if document.keys() != {"EndpointConfigName"}:
        call(workspace, "CreateEndpointConfig", document)
    return str(document["EndpointConfigName"])


def _finish(workspace: Workspace, name: str, detach: bool, timeout: float, as_json: bool) -> None:
    record = workspace.store.get(Kind.ENDPOINT, name)
    if not detach:
        settled = wait_until_settled(workspace, name, timeout or WAIT_SECONDS)
        if settled is None:
            raise UsageError(f"endpoint {name} was deleted meanwhile", "expected it in service", "create it again")
        record = settled
        fail_unless_in_service(record)
    emit(describe_record(workspace, record), as_json, *lines_of(workspace, record))


def _named(engine: str) -> EngineName:
    return "docker" if engine == "docker" else "process"
