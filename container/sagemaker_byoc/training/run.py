"""`train`: read the job, plan the launch, run the user's script, report."""

import contextlib
import os
import sys
import traceback
from collections.abc import Mapping

from sagemaker_byoc.errors import EXIT_BUG, ByocError
from sagemaker_byoc.paths import MLPaths
from sagemaker_byoc.settings import TrainSettings, read_paths
from sagemaker_byoc.training.entry_point import code_folders, find_entry_point
from sagemaker_byoc.training.environment import derive_environment, split_too_long, user_arguments
from sagemaker_byoc.training.job import TrainingJob
from sagemaker_byoc.training.launch import LaunchPlan, execute
from sagemaker_byoc.training.report import failure_reason, write_failure
from sagemaker_byoc.training.source import stage_source


def main() -> int:
    """Run the training job; returns the exit code of the container."""
    paths = read_paths(os.environ)
    try:
        return train(TrainSettings.read(os.environ), os.environ)
    except ByocError as error:
        print(f"sagemaker-byoc: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        write_failure(paths.failure, f"{type(error).__name__}: {error}")
        return error.exit_code
    except Exception:  # noqa: BLE001 - the last line of defence: the platform must learn the reason
        trace = traceback.format_exc()
        print(trace, file=sys.stderr, flush=True)
        write_failure(paths.failure, f"sagemaker-byoc has a bug, please report it: {trace[-900:]}")
        return EXIT_BUG


def train(settings: TrainSettings, environ: Mapping[str, str]) -> int:
    """Plan and run one job; returns the script's exit code. Raises ByocError before the script has started."""
    job = TrainingJob.read(settings.paths, environ)
    plan = plan_launch(job, settings, environ)
    _make_folders(settings.paths)
    if plan.omitted:
        print(
            f"sagemaker-byoc: longer than a variable may be and left out: {', '.join(plan.omitted)}; "
            f"read {settings.paths.config / 'hyperparameters.json'} instead",
            file=sys.stderr,
        )
    outcome = execute(plan)
    if outcome.exit_code != 0:
        write_failure(settings.paths.failure, failure_reason(outcome, plan.script))
    return outcome.exit_code


def plan_launch(job: TrainingJob, settings: TrainSettings, environ: Mapping[str, str]) -> LaunchPlan:
    """What to run for this job. Raises UserCodeError or PlatformInputError."""
    submitted = settings.submit_directory or job.value("sagemaker_submit_directory")
    staged = stage_source(submitted, settings.paths.code)
    program = settings.program or job.value("sagemaker_program")
    entry = find_entry_point(program, code_folders(settings.paths, staged))
    variables, omitted = split_too_long(derive_environment(job, entry, environ))
    return LaunchPlan(
        script=entry.name,
        command=(*entry.command, *user_arguments(job)),
        environ=variables,
        folder=entry.folder,
        stop_grace_seconds=settings.stop_grace_seconds,
        omitted=omitted,
    )


def _make_folders(paths: MLPaths) -> None:
    """The folders that a script may write to; one that cannot be made is the script's to complain about."""
    for folder in (paths.model, paths.output_data):
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
