"""The ``byoc`` command: a table of verbs, each in a room of its own, and the exit codes."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

import click

from local_sagemaker.cli.lazy import LazyGroup
from local_sagemaker.cli.surroundings import (
    flush_or_forget,
    forget_output,
    reader_is_gone,
    stops_as_interrupts,
    usable_streams,
)
from local_sagemaker.errors import LocalSageMakerError, UsageError
from local_sagemaker.machine_faults import explain

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED = 130
NOBODY_READS = 141  # what a shell says of a program that SIGPIPE has ended, as behind `| head`
ROOMS = "local_sagemaker.cli"
VERBS = {
    "init": (f"{ROOMS}.init:init", "Start a project from the template."),
    "base-image": (f"{ROOMS}.base_image:base_image", "Make a base image, for machines without a registry."),
    "build": (f"{ROOMS}.build:build", "Build the image, for training and serving."),
    "train": (f"{ROOMS}.train:train", "Run one training job."),
    "tune": (f"{ROOMS}.tune:tune", "Search for the best hyperparameters by many training jobs."),
    "process": (f"{ROOMS}.process:process", "Run one processing job."),
    "serve": (f"{ROOMS}.serve:serve", "Serve a model in the foreground."),
    "endpoint": (f"{ROOMS}.endpoint:endpoint", "Endpoints that stay, with several variants."),
    "invoke": (f"{ROOMS}.invoke:invoke", "Send a request to an endpoint."),
    "check": (f"{ROOMS}.check:check", "Hold any image to SageMaker's contract."),
    "transform": (f"{ROOMS}.transform:transform", "Send every record of a file or folder through a model."),
    "push": (f"{ROOMS}.push:push", "Push the image to Amazon ECR."),
    "ps": (f"{ROOMS}.ps:ps", "List jobs and endpoints."),
    "logs": (f"{ROOMS}.logs:logs", "Print the log of a job or an endpoint."),
    "stop": (f"{ROOMS}.stop:stop", "Stop a job, or end an endpoint."),
    "shell": (f"{ROOMS}.shell:shell", "Open a shell in a container."),
    "rm": (f"{ROOMS}.rm:rm", "Remove what has ended."),
    "doctor": (f"{ROOMS}.doctor:doctor", "Say what this machine has and lacks."),
    "demo": (f"{ROOMS}.demo:demo", "Train, serve and question a model, start to end."),
}


@click.group(
    cls=LazyGroup,
    verbs=VERBS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
def byoc() -> None:
    """Train and serve on this machine as Amazon SageMaker does: same folders, same files, same signals."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run ``byoc`` and exit: 0, or the exit code of what went wrong; a user's mistake shows no traceback."""
    with usable_streams(), stops_as_interrupts():
        code = _run(arguments)
    sys.exit(code)


def _run(arguments: Sequence[str] | None) -> int:
    """Run a command line; returns its exit code."""
    try:
        _call(arguments)
        return 0 if flush_or_forget() else NOBODY_READS
    except click.ClickException as error:
        verb = getattr(getattr(error, "ctx", None), "command_path", "byoc")
        return _tell(UsageError(error.format_message(), "", f"see `{verb} --help`"))
    except (KeyboardInterrupt, click.Abort):
        code = INTERRUPTED
    except SystemExit as ended:
        # How click and rich say that nobody reads; rich has led the output elsewhere by then.
        if ended.code != 1 or not (reader_is_gone() or isinstance(ended.__context__, BrokenPipeError)):
            raise
        code = NOBODY_READS
    except Exception as error:
        explained = explain(error)
        if explained is not None:
            return _tell(explained)
        if not isinstance(error, BrokenPipeError) or not reader_is_gone():
            raise
        code = NOBODY_READS
    forget_output()
    return code


def _call(arguments: Sequence[str] | None) -> None:
    try:
        byoc.main(args=arguments, prog_name="byoc", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())


def _tell(error: LocalSageMakerError) -> int:
    """Print what went wrong, behind what was printed before; returns the exit code."""
    with suppress(OSError):  # it may be standard output itself that is full or has no reader
        flush_or_forget()
    with suppress(OSError):
        print(f"error: {error}", file=sys.stderr, flush=True)
    return error.exit_code
