"""``byoc demo``."""

from __future__ import annotations

from pathlib import Path

import click

from local_sagemaker.cli.options import engine_option, image_option, json_option
from local_sagemaker.cli.output import choose, emit, log_stream
from local_sagemaker.cli.verb import Verb
from local_sagemaker.demo import run_demo
from local_sagemaker.engines import EngineName
from local_sagemaker.progress import say


@click.command(cls=Verb, examples=("byoc demo", "byoc demo --engine process"))
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
