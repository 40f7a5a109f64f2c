"""Running a resource, in the calling process or in one of its own, so that its record always tells the truth."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn, Protocol

from local_sagemaker.engines import EngineName, choose_engine
from local_sagemaker.errors import LocalSageMakerError, ResourceNotFoundError, ValidationError
from local_sagemaker.machine_faults import explain
from local_sagemaker.progress import say, silent
from local_sagemaker.state.records import Kind, Record, Runner, end, fail
from local_sagemaker.state.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from local_sagemaker.engines import Engine
    from local_sagemaker.state.store import Store

# What runs a resource of each kind: RunsResource below, imported when it is needed.
RUNS = {
    Kind.TRAINING_JOB: "local_sagemaker.training.runner:run_training_job_record",
    Kind.PROCESSING_JOB: "local_sagemaker.processing.runner:run_processing_job",
    Kind.TRANSFORM_JOB: "local_sagemaker.transform.runner:run_transform_job",
    Kind.TUNING_JOB: "local_sagemaker.tuning.runner:run_tuning_job",
    Kind.ENDPOINT: "local_sagemaker.hosting.runner:run_endpoint",
}


class RunsResource(Protocol):
    """Runs one resource to its end, and keeps its description up to date meanwhile."""

    def __call__(
        self,
        workspace: Workspace,
        engine: Engine,
        record: Record,
        output: BinaryIO | None,
        report: Callable[[str], None],
    ) -> None:
        """Run it. KeyboardInterrupt means: stop it as the platform does."""


def run(
    workspace: Workspace,
    engine: Engine,
    kind: Kind,
    name: str,
    output: BinaryIO | None = None,
    report: Callable[[str], None] = silent,
) -> Record:
    """Run a resource that has a record, in this process, to its end; returns the record as it is then.

    However the run ends, the record says so: what raises has Failed, what is interrupted has Stopped.

    Args:
        workspace: the project.
        engine: what runs containers.
        kind: of the resource.
        name: of the resource.
        output: where the containers' bytes go.
        report: called with one line per stage.

    Raises:
        LocalSageMakerError: what kept it from running; a container's failure is told by the record only.
    """
    store = workspace.store
    record = store.claim(kind, name)
    if kind.is_job and record.is_final:
        # Whoever started this process was killed, and another one has put the record right since.
        return store.release(kind, name)
    try:
        _function(kind)(workspace, engine, record, output, report)
    except KeyboardInterrupt:
        _end_as(workspace, record, None)
        raise
    except LocalSageMakerError as error:
        _end_as(workspace, record, f"ClientError: {error}")
        raise
    except BaseException as error:
        explained = explain(error)
        _end_as(workspace, record, f"InternalServerError: {explained or f'{type(error).__name__}: {error}'}")
        if explained is not None:
            raise explained from error
        raise
    finally:
        ended = _release(store, record)
    return ended


def start_detached(workspace: Workspace, engine: EngineName, kind: Kind, name: str) -> int:
    """Run a resource that has a record in a process of its own, which outlives this one; returns its number.

    Its own messages go to ``.byoc/runners/KIND-NAME.log``.
    """
    log = runner_log(workspace, kind, name)
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", "local_sagemaker.state.runner", str(workspace.root), kind, name]
    with log.open("ab") as file:
        process = subprocess.Popen(
            [*command, "--engine", engine, "--region", workspace.region],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    workspace.store.assign(kind, name, Runner.of(process.pid))
    return process.pid


def runner_log(workspace: Workspace, kind: Kind, name: str) -> Path:
    """Where a detached runner writes what it has to say."""
    return workspace.directory / "runners" / f"{kind}-{name}.log"


def _release(store: Store, record: Record) -> Record:
    """The record of a resource that nobody runs any more; as it was if it was deleted while it ran."""
    try:
        return store.release(record.kind, record.name)
    except (ResourceNotFoundError, ValidationError):
        return record


def _function(kind: Kind) -> RunsResource:
    module, _, attribute = RUNS[kind].partition(":")
    function: RunsResource = getattr(importlib.import_module(module), attribute)
    return function


def _end_as(workspace: Workspace, record: Record, reason: str | None) -> None:
    """Failed for a reason, or Stopped without one, unless the run has told its end already."""
    kind, name = record.kind, record.name
    current = workspace.store.find(kind, name)
    if not current or current[0].is_final:
        return
    if reason is None and kind.is_job:
        workspace.store.change(kind, name, lambda description: end(kind, description, "Stopped", time.time()))
    else:
        told = reason or "InternalServerError: its process was told to stop"
        workspace.store.change(kind, name, lambda description: fail(kind, description, told, time.time()))


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    """The detached process; returns its exit code."""
    parser = argparse.ArgumentParser(prog="sagemaker-byoc-runner")
    parser.add_argument("root", type=Path)
    parser.add_argument("kind", type=Kind)
    parser.add_argument("name")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--region", default="us-east-1")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    workspace = Workspace(arguments.root, arguments.region)
    try:
        run(workspace, choose_engine(arguments.engine), arguments.kind, arguments.name, None, say)
    except KeyboardInterrupt:
        return 130
    except LocalSageMakerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
