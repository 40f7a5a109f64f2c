"""``byoc base-image``."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from local_sagemaker.base_image import BASE_IMAGE_TAG, build_base_image, plan_for_this_machine
from local_sagemaker.cli.options import dry_run_option, json_option
from local_sagemaker.cli.output import emit
from local_sagemaker.cli.verb import Verb
from local_sagemaker.progress import say


@click.command("base-image", cls=Verb, examples=("byoc base-image", "byoc base-image --dry-run"))
@click.option("--tag", default=BASE_IMAGE_TAG, show_default=True, help="The image to make.")
@dry_run_option
@json_option
def base_image(tag: str, dry_run: bool, as_json: bool) -> None:
    """Make a base image from Debian packages, for machines without a registry."""
    if dry_run:
        plan = plan_for_this_machine(Path("pip.conf"), tag)
        document = {"tag": tag, "bootstrap": list(plan.bootstrap), "import": list(plan.import_)}
        emit(document, as_json, f"{shlex.join(plan.bootstrap)} | {shlex.join(plan.import_)}")
        return
    emit({"tag": build_base_image(tag, report=say)}, as_json, tag)
