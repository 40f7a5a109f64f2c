"""``byoc base-image``."""

from __future__ import annotations

import click

from local_sagemaker.base_image import BASE_IMAGE_TAG, build_base_image
from local_sagemaker.cli.options import json_option
from local_sagemaker.cli.output import emit
from local_sagemaker.cli.verb import Verb
from local_sagemaker.progress import say


@click.command("base-image", cls=Verb, examples=("byoc base-image",))
@click.option("--tag", default=BASE_IMAGE_TAG, show_default=True, help="The image to make.")
@json_option
def base_image(tag: str, as_json: bool) -> None:
    """Make a base image from Debian packages, for machines without a registry."""
    emit({"tag": build_base_image(tag, report=say)}, as_json, tag)
