"""Options that several verbs share, each written once so that it reads the same everywhere."""

from __future__ import annotations

from pathlib import Path

import click

from local_sagemaker.image import DEFAULT_TAG

ENGINES = click.Choice(["auto", "docker", "process"])

project_argument = click.argument("project", type=click.Path(path_type=Path), default=".")
project_option = click.option(
    "--project",
    type=click.Path(path_type=Path),
    default=".",
    show_default=True,
    help="The project whose .byoc holds jobs, endpoints and buckets.",
)
engine_option = click.option(
    "--engine", type=ENGINES, default="auto", help="How containers run; auto is docker where it answers."
)
image_option = click.option("--image", default=DEFAULT_TAG, show_default=True, help="The image, for the docker engine.")
env_option = click.option("--env", "environment", metavar="KEY=VALUE", multiple=True, help="A variable for your code.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Print the plan and start nothing.")
request_option = click.option(
    "--request",
    "request_file",
    metavar="FILE|-",
    type=click.Path(path_type=Path, allow_dash=True),
    help="The API's request document, JSON or YAML; other options win over it.",
)
