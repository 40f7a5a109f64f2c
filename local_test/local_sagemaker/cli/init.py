"""``byoc init``."""

from __future__ import annotations

from pathlib import Path

import click

from local_sagemaker.cli.options import json_option
from local_sagemaker.cli.output import emit
from local_sagemaker.cli.verb import Verb
from local_sagemaker.template import init_project


@click.command(cls=Verb, examples=("byoc init digits",))
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Copy into a directory that is not empty.")
@json_option
def init(directory: Path, force: bool, as_json: bool) -> None:
    """Start a project in DIRECTORY from the template."""
    made = init_project(directory, force=force)
    lines = (f"made {made}", "next: write your code in code/, then", f"  byoc build && byoc train {directory}")
    emit({"project": str(made)}, as_json, *lines)
