"""The ``byoc`` command: a table of verbs, each in a room of its own, and the exit codes."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from local_sagemaker.cli.lazy import LazyGroup
from local_sagemaker.errors import LocalSageMakerError, UsageError
from local_sagemaker.machine_faults import explain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

INTERRUPTED = 130
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


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run ``byoc`` and exit: 0, or the exit code of what went wrong; a user's mistake shows no traceback."""
    signal.signal(signal.SIGTERM, _interrupt)  # a supervisor's stop cleans up exactly as Ctrl-C does
    signal.signal(signal.SIGINT, _interrupt)  # a shell's background job is started with SIGINT ignored
    try:
        byoc.main(args=arguments, prog_name="byoc", standalone_mode=False)
    except LocalSageMakerError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        sys.exit(0)
    except click.ClickException as error:
        print(f"error: {error.format_message()}", file=sys.stderr)
        sys.exit(UsageError.exit_code)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(INTERRUPTED)
    except Exception as error:
        explained = explain(error)
        if explained is None:
            raise
        print(f"error: {explained}", file=sys.stderr)
        sys.exit(explained.exit_code)
    sys.exit(0)
