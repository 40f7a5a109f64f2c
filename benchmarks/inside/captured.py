"""The way AWS's framework packages start a script with sagemaker-training: standard output and error captured.

For `SAGEMAKER_TRAINING_MODULE=captured:main`, the hook that those packages use. BENCH_RUNNER names the runner.
"""

import os

from sagemaker_training import entry_point, environment, runner


def main() -> None:
    job = environment.Environment()
    entry_point.run(
        uri=job.module_dir,
        user_entry_point=job.user_entry_point,
        args=job.to_cmd_args(),
        env_vars=job.to_env_vars(),
        capture_error=True,
        runner_type=runner.RunnerType[os.environ.get("BENCH_RUNNER", "Process")],
    )
