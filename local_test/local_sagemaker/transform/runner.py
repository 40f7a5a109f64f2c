"""Running a transform job that has a record: containers, objects, and a description that tells the truth throughout."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from local_sagemaker.archive import remove_tree
from local_sagemaker.engines.base import Engine
from local_sagemaker.errors import JobFailedError, TimedOutError
from local_sagemaker.hosting.endpoint import Endpoint
from local_sagemaker.state.records import Kind, Record, end, fail
from local_sagemaker.state.store import Store
from local_sagemaker.state.workspace import Workspace
from local_sagemaker.transform.client import Caller
from local_sagemaker.transform.event_loop import run_in_loop
from local_sagemaker.transform.failure import ObjectFailed
from local_sagemaker.transform.pace import Pace, agree
from local_sagemaker.transform.plan import InputObject, TransformPlan, plan_transform_job
from local_sagemaker.transform.serving import execution_parameters, serving
from local_sagemaker.transform.transformation import InstanceTransform, Tally

KIND = Kind.TRANSFORM_JOB
LOOK_SECONDS = 0.2
REPORT_SECONDS = 10.0
Failures = list[tuple[InputObject, ObjectFailed]]


class StopRequestedError(Exception):
    """Another process asked for the job's end."""


def run_transform_job(
    workspace: Workspace, engine: Engine, record: Record, output: BinaryIO | None, report: Callable[[str], None]
) -> None:
    """Run the job to its end; see ``state.runner.run``, whose table names this function."""
    plan = plan_transform_job(workspace, record)
    report(f"transform job {plan.name} on the {engine.name} engine{_instances(plan)}")
    if "DataCaptureConfig" in record.request:
        report("DataCaptureConfig has no effect on transform jobs here")

    def look(_: object) -> None:
        stop_if_asked(workspace.store, plan.name)

    tally = Tally()
    try:
        with serving(plan, engine, output, report, look) as instances:
            pace = agree(plan.demands, execution_parameters(instances[0][0]))
            report(str(pace))
            began = time.time()
            clock = time.monotonic()
            workspace.store.change(KIND, plan.name, lambda told: told.update(TransformStartTime=began))
            failures = run_in_loop(transform(workspace, plan, instances, pace, tally, report))
            report(_summary(tally, len(failures), time.monotonic() - clock))
    except StopRequestedError:
        workspace.store.change(KIND, plan.name, lambda told: end(KIND, told, "Stopped", time.time()))
        return
    except (JobFailedError, TimedOutError) as error:
        reason = f"AlgorithmError: {error}"
        workspace.store.change(KIND, plan.name, lambda told: fail(KIND, told, reason, time.time()))
        return
    finally:
        remove_tree(plan.directory / "partial")
    _tell_end(workspace.store, plan.name, failures, report)


async def transform(
    workspace: Workspace,
    plan: TransformPlan,
    instances: Sequence[Sequence[Endpoint]],
    pace: Pace,
    tally: Tally,
    report: Callable[[str], None],
) -> Failures:
    """Transform all objects, every instance its own, and put the complete outputs into their bucket.

    Returns:
        The objects that failed and why.

    Raises:
        StopRequestedError: if the record says so meanwhile.
    """

    def commit(item: InputObject, complete: Path) -> None:
        workspace.buckets.put(item.output_uri, complete)

    works = [
        InstanceTransform(
            plan,
            objects,
            [_caller(plan, endpoint) for endpoint in endpoints],
            pace,
            plan.directory / "partial" / str(number),
            commit,
            tally,
        )
        for number, (objects, endpoints) in enumerate(zip(plan.hosts, instances, strict=True))
    ]
    watching = asyncio.create_task(_watch(workspace.store, plan, tally, report))
    working = [asyncio.create_task(work.run()) for work in works]
    try:
        # Whichever ends first: the watch ends only for a stop, an instance early only for a fault of ours.
        for done in asyncio.as_completed([watching, *working]):
            await done
            if all(task.done() for task in working):
                break
        return [failure for task in working for failure in task.result()]
    finally:
        for task in (watching, *working):
            task.cancel()
        await asyncio.gather(watching, *working, return_exceptions=True)


async def _watch(store: Store, plan: TransformPlan, tally: Tally, report: Callable[[str], None]) -> None:
    """Say now and then how far the job is, until its record says that it is to stop."""
    seen, told_at = -1, time.monotonic()
    began, total = told_at, sum(item.size for item in plan.objects)
    while True:
        version = store.data_version()
        if version != seen:
            stop_if_asked(store, plan.name)
        seen = version
        if time.monotonic() - told_at >= REPORT_SECONDS:
            told_at = time.monotonic()
            report(f"{_progress(tally, told_at - began)}, of {total / 1e6:,.1f} MB in all")
        await asyncio.sleep(LOOK_SECONDS)


def stop_if_asked(store: Store, name: str) -> None:
    """Raise StopRequestedError if the job's record says that it is to stop."""
    if store.get(KIND, name).status == "Stopping":
        raise StopRequestedError


def _caller(plan: TransformPlan, endpoint: Endpoint) -> Caller:
    where = urlsplit(endpoint.url)
    return Caller(
        (where.hostname or "", where.port or 80),
        plan.headers,
        plan.timeout_seconds,
        plan.retries,
        plan.pause_seconds,
        lambda: _how_it_ended(endpoint),
    )


def _how_it_ended(endpoint: Endpoint) -> str | None:
    try:
        code = endpoint.running.wait(0)
    except TimeoutError:
        return None
    return f"the container ended with exit code {code}; the last lines of its log:\n{endpoint.last_lines()}"


def _tell_end(store: Store, name: str, failures: Failures, report: Callable[[str], None]) -> None:
    for item, failure in failures:
        report(f"FAILED {item.uri}: {failure.what}")
    if not failures:
        store.change(KIND, name, lambda told: end(KIND, told, "Completed", time.time()))
        return
    item, failure = failures[0]
    more = f" (and {len(failures) - 1} more failed)" if len(failures) > 1 else ""
    reason = f"{failure.blame}: {item.uri}{more}: {failure.what}"
    store.change(KIND, name, lambda told: fail(KIND, told, reason, time.time()))


def _instances(plan: TransformPlan) -> str:
    return f", {len(plan.hosts)} instances" if len(plan.hosts) > 1 else ""


def _summary(tally: Tally, failed: int, seconds: float) -> str:
    ended = f", {failed} failed" if failed else ""
    return f"{_progress(tally, seconds)}: {tally.objects} objects written{ended}"


def _progress(tally: Tally, seconds: float) -> str:
    speed = tally.sent_bytes / 1e6 / seconds if seconds > 0 else 0.0
    records = f"{tally.records:,} records, " if tally.records else ""  # an object that travels whole has no count
    return f"{records}{tally.sent_bytes / 1e6:,.1f} MB in {seconds:.1f} s ({speed:,.1f} MB/s)"
