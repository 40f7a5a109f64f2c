"""`train`: read the job, plan the launch, run the user's script, report."""

import contextlib
import os
import sys
from collections.abc import Mapping
from dataclasses import replace

from sagemaker_byoc import processes
from sagemaker_byoc.child import Outcome
from sagemaker_byoc.errors import EXIT_BUG, ByocError, Stopped
from sagemaker_byoc.memory import describe_out_of_memory, read_memory
from sagemaker_byoc.paths import MLPaths
from sagemaker_byoc.settings import TrainSettings, read_paths
from sagemaker_byoc.training.distribution import Distribution, choose_distribution
from sagemaker_byoc.training.entry_point import code_folders, find_entry_point, module_entry_point
from sagemaker_byoc.training.environment import collisions, derive_environment, split_too_long, user_arguments
from sagemaker_byoc.training.job import TrainingJob
from sagemaker_byoc.training.launch import LaunchPlan, execute, heed_stop
from sagemaker_byoc.training.report import failure_reason, write_failure
from sagemaker_byoc.training.secrets import mask, secret_values
from sagemaker_byoc.training.source import stage_source


def main() -> int:
    """Run the training job; returns the exit code of the container."""
    paths = read_paths(os.environ)
    try:
        settings = TrainSettings.read(os.environ)
        with processes.blocked_signals():
            return train(settings, TrainingJob.read(settings.paths, os.environ), os.environ)
    except ByocError as error:
        text = mask(f"{type(error).__name__}: {error}", _secrets(paths))
        print(f"sagemaker-byoc: {text}", file=sys.stderr, flush=True)
        if not isinstance(error, Stopped):
            write_failure(paths.failure, text)
        return error.exit_code
    except Exception:  # noqa: BLE001 - the last line of defence: the platform must learn the reason
        import traceback  # noqa: PLC0415 - a job without a bug of ours does not pay for it

        trace = mask(traceback.format_exc(), _secrets(paths))
        print(trace, file=sys.stderr, flush=True)
        write_failure(paths.failure, f"sagemaker-byoc has a bug, please report it: {trace[-900:]}")
        return EXIT_BUG


def train(settings: TrainSettings, job: TrainingJob, environ: Mapping[str, str]) -> int:
    """Plan and run one job; returns the exit code for the container. Raises ByocError before the script has started."""
    distribution = choose_distribution(job)
    try:
        plan = prepare(job, settings, environ)
    except ByocError as error:
        _excuse(distribution, settings, error, secret_values(job, environ))
        raise
    if distribution.kind != "none":
        return _train_distributed(distribution, plan, settings, job, environ)
    _find_other_hosts(job, settings)
    before = read_memory()
    outcome = execute(plan)
    if outcome.exit_code != 0:
        out_of_memory = describe_out_of_memory(before, read_memory())
        reason = failure_reason(outcome, plan.script, out_of_memory)
        _report(reason, out_of_memory, settings.paths, secret_values(job, environ))
    return outcome.exit_code


def prepare(job: TrainingJob, settings: TrainSettings, environ: Mapping[str, str]) -> LaunchPlan:
    """Plan the launch and provide for it: folders, requirements. Raises ByocError."""
    plan = plan_launch(job, settings, environ)
    _make_folders(settings.paths)
    for warning in (*_omissions(plan, settings), *collisions(job)):
        print(f"sagemaker-byoc: {warning}", file=sys.stderr, flush=True)
    heed_stop()
    if settings.install_requirements and plan.command[0] == sys.executable:  # a shell script sees to its own
        return _install_requirements(plan)
    return plan


def plan_launch(job: TrainingJob, settings: TrainSettings, environ: Mapping[str, str]) -> LaunchPlan:
    """What to run for this job. Raises UserCodeError or PlatformInputError."""
    submitted = settings.submit_directory or job.value("sagemaker_submit_directory")
    folders = code_folders(settings.paths, stage_source(submitted, settings.paths.code))
    if settings.training_module:
        entry = module_entry_point(settings.training_module, folders)
    else:
        entry = find_entry_point(settings.program or job.value("sagemaker_program"), folders)
    compatible = settings.toolkit_compatible
    variables, omitted = split_too_long(derive_environment(job, entry, environ, compatible))
    return LaunchPlan(
        script=entry.name,
        command=(*entry.command, *user_arguments(job, compatible)),
        environ=variables,
        folder=entry.folder,
        stop_grace_seconds=settings.stop_grace_seconds,
        omitted=omitted,
    )


def _train_distributed(
    distribution: Distribution, plan: LaunchPlan, settings: TrainSettings, job: TrainingJob, environ: Mapping[str, str]
) -> int:
    from sagemaker_byoc.training.host import run_distributed  # noqa: PLC0415 - jobs of one process do not pay for it

    verdict = run_distributed(distribution, plan, settings)
    if verdict.exit_code != 0:
        _report(verdict.reason, verdict.reason.partition("\n")[0], settings.paths, secret_values(job, environ))
    return verdict.exit_code


def _excuse(distribution: Distribution, settings: TrainSettings, error: ByocError, secrets: tuple[str, ...]) -> None:
    """Tell the other hosts of a distributed job why this one will not come: they would wait for it."""
    if distribution.kind != "none" and len(distribution.hosts) > 1:
        from sagemaker_byoc.training.host import excuse  # noqa: PLC0415 - jobs of one process do not pay for it

        excuse(distribution, settings, error.exit_code, mask(f"{type(error).__name__}: {error}", secrets))


def _install_requirements(plan: LaunchPlan) -> LaunchPlan:
    """Have pip install what the code folder's requirements.txt names and the image lacks. Raises UserCodeError."""
    if not any((plan.folder / name).is_file() for name in ("requirements.txt", "setup.py")):
        return plan
    from sagemaker_byoc.packages import InstallPlan, install, plan_packages  # noqa: PLC0415 - see above

    wanted = plan_packages(plan.folder, with_setup=True)
    if wanted is None:
        return plan

    def run(wanted: InstallPlan) -> Outcome:
        return execute(replace(plan, script="pip", command=wanted.command, environ=wanted.environ(plan.environ)))

    install(wanted, run)
    return replace(plan, environ=wanted.place.environ(plan.environ))


def _find_other_hosts(job: TrainingJob, settings: TrainSettings) -> None:
    """A script that meets its peers by itself shall find their names. Raises HostLostError."""
    if len(job.hosts) > 1 and settings.wait_for_hosts:
        from sagemaker_byoc.training.hosts import wait_for_names  # noqa: PLC0415 - a single host has nobody to find

        wait_for_names(job.hosts, settings.dns_timeout_seconds, heed_stop)


def _omissions(plan: LaunchPlan, settings: TrainSettings) -> list[str]:
    names, source = ", ".join(plan.omitted), settings.paths.config / "hyperparameters.json"
    return [f"longer than a variable may be and left out: {names}; read {source} instead"] if names else []


def _report(reason: str, line: str | None, paths: MLPaths, secrets: tuple[str, ...]) -> None:
    if line:
        print(f"sagemaker-byoc: {mask(line, secrets)}", file=sys.stderr, flush=True)
    write_failure(paths.failure, mask(reason, secrets))


def _secrets(paths: MLPaths) -> tuple[str, ...]:
    """What must not be shown, as far as the job can be read."""
    with contextlib.suppress(Exception):
        return secret_values(TrainingJob.read(paths, os.environ), os.environ)
    return ()


def _make_folders(paths: MLPaths) -> None:
    """The folders that a script may write to; one that cannot be made is the script's to complain about."""
    for folder in (paths.model, paths.output_data):
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
