"""``byoc build``."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from local_sagemaker.cli.options import dry_run_option, json_option
from local_sagemaker.cli.output import emit, log_stream
from local_sagemaker.cli.verb import Verb
from local_sagemaker.image import (
    DEFAULT_TAG,
    HOROVOD_FLAVOURS,
    build_image,
    likely_base_image,
    plan_image,
    require_docker,
)
from local_sagemaker.progress import say


@click.command(
    context_settings={"ignore_unknown_options": False},
    cls=Verb,
    examples=("byoc build", "byoc build --tag digits:1 --with-horovod mpi", "byoc build --dry-run"),
)
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
@dry_run_option
@json_option
def build(
    tag: str,
    base: str | None,
    code: Path | None,
    torch_index_url: str | None,
    with_horovod: str,
    builder_args: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Build the image, for training and serving."""
    if dry_run:
        require_docker()
        plan = plan_image(
            likely_base_image(base),
            tag=tag,
            code=code,
            torch_index_url=torch_index_url,
            with_horovod=with_horovod,
            builder_args=builder_args,
        )
        document = {"tag": tag, "base_image": plan.base_image, "command": list(plan.command), "files": [*plan.files]}
        emit(document, as_json, shlex.join(plan.command))
        return
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
