"""``byoc check``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from local_sagemaker.cli.invoke import guess_content_type, read_payload
from local_sagemaker.cli.options import env_option, json_option
from local_sagemaker.cli.verb import Verb
from local_sagemaker.conformance.containers import Containers
from local_sagemaker.conformance.findings import Report
from local_sagemaker.conformance.report import list_rules, reference, show, write_junit
from local_sagemaker.conformance.rule import GROUPS, ROLES, Role, Rule
from local_sagemaker.conformance.rules import choose_rules
from local_sagemaker.conformance.subject import STARTUP_SECONDS, TRAINING_SECONDS, Payload, Subject
from local_sagemaker.conformance.suite import check_image, plan_for
from local_sagemaker.console import plain_console
from local_sagemaker.errors import ContractViolationError, UsageError
from local_sagemaker.names import check_environment_key, parse_pairs
from local_sagemaker.progress import say
from local_sagemaker.project import read_project


@click.command(
    cls=Verb,
    examples=(
        "byoc check sagemaker-byoc:latest",
        "byoc check my-image:1 --model-data model.tar.gz --payload rows.csv --junit contract.xml",
        "byoc check my-image:1 --only train --strict",
    ),
)
@click.argument("image", required=False)
@click.option(
    "--project",
    type=click.Path(path_type=Path),
    default=".",
    show_default=True,
    help="A folder with input/config/hyperparameters.json and input/data/CHANNEL for training.",
)
@click.option("--hyperparameter", "hyperparameters", metavar="NAME=VALUE", multiple=True, help="Wins over the file.")
@click.option(
    "--channel", "channels", metavar="NAME=DIR", multiple=True, help="A folder of data; wins over the project's."
)
@click.option(
    "--model-data", type=click.Path(path_type=Path), help="model.tar.gz or a directory; default: what training leaves."
)
@click.option("--payload", type=click.Path(path_type=Path), help="A file that /invocations understands.")
@click.option("--content-type", help="Of the payload; by default guessed from its suffix: .json .jsonl .csv .npy.")
@click.option(
    "--code", type=click.Path(path_type=Path), help="A folder for /opt/ml/code; default: the image's own code."
)
@env_option
@click.option("--only", metavar="GROUP,...", help=f"Some of {', '.join(GROUPS)}.")
@click.option(
    "--rule", "rule_ids", metavar="ID", multiple=True, help="This rule only, as S015; several times for more."
)
@click.option(
    "--skip", "skipped_ids", metavar="ID", multiple=True, help="All but this rule, as S024; several times for more."
)
@click.option("--gpus", help="Of each container: all, a number, or device=0,1.")
@click.option("--strict", is_flag=True, help="Warnings count too, and memory is 1 GB.")
@click.option(
    "--startup-timeout",
    type=float,
    default=STARTUP_SECONDS,
    show_default=True,
    help="Seconds until /ping is 200.",
)
@click.option(
    "--training-timeout",
    type=float,
    default=TRAINING_SECONDS,
    show_default=True,
    help="Seconds that one training has.",
)
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write a JUnit report.")
@click.option("--list", "lists", is_flag=True, help="Print the rules and start nothing.")
@click.option("--markdown", is_flag=True, help="With --list: as the reference has them.")
@click.option("--dry-run", is_flag=True, help="Print what would be done and start nothing.")
@json_option
def check(  # noqa: PLR0917 - click passes each by name
    image: str | None,
    project: Path,
    hyperparameters: tuple[str, ...],
    channels: tuple[str, ...],
    model_data: Path | None,
    payload: Path | None,
    content_type: str | None,
    code: Path | None,
    environment: tuple[str, ...],
    only: str | None,
    rule_ids: tuple[str, ...],
    skipped_ids: tuple[str, ...],
    gpus: str | None,
    strict: bool,
    startup_timeout: float,
    training_timeout: float,
    junit: Path | None,
    lists: bool,
    markdown: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Hold IMAGE, ours or not, to SageMaker's contract, and say what the platform would have said."""
    groups = [group.strip() for group in only.split(",")] if only else []
    rules = choose_rules(groups, rule_ids, skipped_ids)
    if lists:
        _list(rules, markdown, as_json)
        return
    if image is None:
        raise UsageError("there is no image", "expected the reference of an image", "write `byoc check IMAGE`")
    folders = {name: Path(folder) for name, folder in parse_pairs(channels, "--channel").items()}
    read = read_project(project, parse_pairs(hyperparameters, "--hyperparameter"), folders)
    subject = Subject(
        image=image,
        hyperparameters=read.hyperparameters,
        channels=read.channels,
        environment={check_environment_key(key): value for key, value in parse_pairs(environment, "--env").items()},
        code=_folder(code, "--code"),
        model_data=_existing(model_data, "--model-data"),
        payload=_payload(payload, content_type),
        strict=strict,
        roles=_roles(groups, rules if rule_ids else ()),
        gpus=gpus,
        startup_seconds=startup_timeout,
        training_seconds=training_timeout,
    )
    _check_place(junit)
    report = _examine(subject, rules, dry_run, as_json)
    if report is None:
        return
    if junit is not None:
        write_junit(report, junit)
    if report.failures:
        broken = ", ".join(finding.rule.id for finding in report.failures)
        counted = "errors and warnings count" if strict else "errors count, warnings with --strict"
        raise ContractViolationError(
            f"{image} breaks the contract: {broken}",
            f"expected every rule to be kept; {counted}",
            "do what the report says, and look at one rule again with --rule ID",
        )


def _examine(subject: Subject, rules: tuple[Rule, ...], dry_run: bool, as_json: bool) -> Report | None:
    """Run the check and print its report; with ``dry_run`` print the plan."""
    with Containers.connect(subject.image) as containers:
        if dry_run:
            plan = plan_for(containers, subject, rules)
            document = {"image": subject.image, "rules": [rule.id for rule in rules], "plan": plan.lines()}
            print(json.dumps(document, indent=2) if as_json else "\n".join(plan.lines()))
            return None
        report = check_image(containers, subject, rules, say)
    if as_json:
        print(json.dumps(report.document(), indent=2))
    else:
        show(report, plain_console(sys.stdout))
    return report


def _roles(groups: list[str], named: tuple[Rule, ...]) -> frozenset[Role] | None:
    """What the image is for, where groups or rules that were named say so; None where the image itself has to."""
    said = {role for role in ROLES if role in groups} or {rule.role for rule in named if rule.role is not None}
    return frozenset(said) or None


def _list(rules: tuple[Rule, ...], markdown: bool, as_json: bool) -> None:
    if as_json:
        print(
            json.dumps(
                [{"id": rule.id, "severity": rule.severity, "sentence": rule.sentence} for rule in rules], indent=2
            )
        )
    elif markdown:
        print(reference(rules), end="")
    else:
        list_rules(rules, plain_console(sys.stdout))


def _payload(payload: Path | None, content_type: str | None) -> Payload | None:
    if payload is None:
        return None
    return Payload(read_payload(payload), content_type or guess_content_type(payload))


def _check_place(report: Path | None) -> None:
    """Raise UsageError where no report can be written, before minutes go by; folders that lack are made later."""
    if report is None:
        return
    there = next(folder for folder in report.absolute().parents if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UsageError(
            f"--junit {report}: nothing can be written in {there}", "expected a folder of your own", "name another"
        )


def _existing(path: Path | None, option: str) -> Path | None:
    if path is not None and not path.exists():
        raise UsageError(f"{option} {path}: there is no such file", "expected a path that exists", "correct the path")
    return None if path is None else path.expanduser().resolve()


def _folder(path: Path | None, option: str) -> Path | None:
    found = _existing(path, option)
    if found is not None and not found.is_dir():
        raise UsageError(f"{option} {path} is no folder", "expected a folder of code", "correct the path")
    return found
