"""The containers of a transform job: each instance has all of the model's, started together and awaited one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO

import httpx

from local_sagemaker.archive import make_read_only, remove_tree, unpack
from local_sagemaker.code_folder import copy_code
from local_sagemaker.engines.base import Engine, Running
from local_sagemaker.hosting.endpoint import (
    LOG_DRAIN_SECONDS,
    STARTUP_SECONDS,
    STOP_GRACE_SECONDS,
    Endpoint,
    wait_until_ready,
)
from local_sagemaker.logs import CommonLog, LogPump, Sink, StreamSink
from local_sagemaker.progress import Progress, silent
from local_sagemaker.transform.plan import TransformPlan, plan_container

PARAMETERS_SECONDS = 10.0


@contextmanager
def serving(
    plan: TransformPlan,
    engine: Engine,
    log_stream: BinaryIO | None = None,
    report: Callable[[str], None] = silent,
    look: Callable[[Progress], None] = silent,
) -> Iterator[list[list[Endpoint]]]:
    """Start the containers of every instance, yield them once all are ready, and stop and remove them at the end.

    Args:
        plan: the job.
        engine: what runs it.
        log_stream: where the containers' output goes, besides their files.
        report: called with one line per stage.
        look: called again and again while /ping is awaited; what it raises ends the waiting.

    Raises:
        EngineMissingError, UsageError: if a container cannot be started.
        JobFailedError, TimedOutError: if one ends, or is not ready in time; carries its last lines.
    """
    names = [[plan_container(plan, host, place).hostname for place in places(plan)] for host in range(len(plan.hosts))]
    try:
        _prepare(plan)
        with ExitStack() as stack, _ended_together() as started:
            sinks = _sinks(plan, [name for host in names for name in host], log_stream, stack)
            instances = [
                [_start(plan, engine, host, place, sinks[names[host][place]], started) for place in places(plan)]
                for host in range(len(plan.hosts))
            ]
            for host, endpoints in enumerate(instances):
                for place, endpoint in enumerate(endpoints):
                    report(f"waiting for {names[host][place]} to answer /ping")
                    wait_until_ready(endpoint, STARTUP_SECONDS, look)
            yield instances
    finally:
        if plan.directory.exists():
            engine.give_back(plan.directory, plan.containers[0].image)
            for place in places(plan):
                remove_tree(plan.directory / f"model-{place + 1}")
            remove_tree(plan.directory / "code")


def places(plan: TransformPlan) -> range:
    """The model's containers by number."""
    return range(len(plan.containers))


def execution_parameters(endpoint: Endpoint) -> dict[str, Any]:
    """What a container says of how it wants to be asked; {} where it says nothing."""
    try:
        answer = httpx.get(f"{endpoint.url}/execution-parameters", timeout=PARAMETERS_SECONDS, trust_env=False)
        document = answer.json() if answer.status_code == 200 else {}
    except (httpx.HTTPError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _prepare(plan: TransformPlan) -> None:
    for place, container in enumerate(plan.containers, 1):
        model = plan.directory / f"model-{place}"
        model.mkdir(parents=True)
        if container.model_data is not None:
            unpack(container.model_data, model)
        make_read_only(model)
    if plan.code is not None:
        copy_code(plan.code, plan.directory / "code")


def _sinks(plan: TransformPlan, names: Sequence[str], stream: BinaryIO | None, stack: ExitStack) -> dict[str, Sink]:
    """Where each container's output goes: as it is from a single one, else line by line behind its name."""
    if len(names) == 1:
        return {names[0]: StreamSink(stream)}
    log = stack.enter_context(CommonLog(plan.directory / "logs.txt", stream, names))
    return {name: log.sink(name) for name in names}


def _start(
    plan: TransformPlan, engine: Engine, host: int, place: int, sink: Sink, started: list[tuple[Running, LogPump]]
) -> Endpoint:
    container = plan_container(plan, host, place)
    container.base_directory.mkdir(parents=True, exist_ok=True)
    running = engine.start(container)
    pump = LogPump(running.logs(), container.base_directory / "logs.txt", sink)
    started.append((running, pump))
    return Endpoint(_url(running), running, pump)


@contextmanager
def _ended_together() -> Iterator[list[tuple[Running, LogPump]]]:
    """A list of containers, all of which are stopped at the same time, and removed, at the block's end."""
    started: list[tuple[Running, LogPump]] = []
    try:
        try:
            yield started
        finally:
            if started:
                with ThreadPoolExecutor(len(started)) as pool:
                    ends = [pool.submit(running.stop, STOP_GRACE_SECONDS) for running, _ in started]
                for end in ends:
                    end.result()
            for _, pump in started:
                pump.join(LOG_DRAIN_SECONDS)
    finally:
        for running, _ in started:
            running.remove()


def _url(running: Running) -> str:
    host, port = running.address or ("127.0.0.1", running.port)
    return f"http://{host}:{port}"
