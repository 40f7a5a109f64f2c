"""From `docker run` to the first 200 that says ready and to the first right answer, all in one image.

The image has this project's serve; another server's packages are mounted from its environment at the same path, so
that nothing is built. The network is the machine's: what Docker does for one of its own would be added to all.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import LABEL, ask_docker
from benchmarks.serving.environments import site_packages
from benchmarks.serving.measure import Plan, note
from benchmarks.serving.peer import Case, Peer
from benchmarks.serving.peers import OURS
from benchmarks.serving.peers.ours import lay_out, settings
from benchmarks.serving.server import ask, asked, body_of, free_port, is_ready, same
from benchmarks.serving.workloads import INSIDE, Workload, expected, prepare

LIMIT = 90.0
POLL = 0.002
STAMP = re.compile(r"^(\S+Z) (.*)$")


@dataclass(frozen=True)
class Begun:
    """One start, in seconds since `docker run` was called.

    `ready` and `answered` are the first 200 and the first right answer; `settled` is when all of a burst of requests
    that began after them were answered, so that a server whose other workers still load shows it; `stages` is when
    each thing of ours was seen in its log.
    """

    server: str
    round: int
    ready: float
    answered: float
    settled: float
    stages: dict[str, float]


def measure_cold(plan: Plan, workload: Workload, image: str) -> tuple[list[Begun], list[str]]:
    """Every server once a round, in turns; the first round fills the caches and is not counted."""
    folder = prepare(workload, plan.cache / "models")
    predictions = expected(workload, folder)
    found: list[Begun] = []
    failures: dict[str, str] = {}
    for number in range(plan.rounds + 1):
        for peer in plan.peers:
            if peer.name in failures or not peer.in_image:
                continue
            try:
                begun = begin(plan, peer, workload, folder, image, number, predictions)
            except (RuntimeError, OSError, subprocess.CalledProcessError, http.client.HTTPException) as error:
                failures[peer.name] = f"{peer.title} in a container: {error}"
                note(f"FAILED {failures[peer.name]}")
                continue
            note(f"{peer.name}: ready {begun.ready:.2f} s after docker run, answered after {begun.answered:.2f} s")
            if number:
                found.append(begun)
    return found, list(failures.values())


def begin(
    plan: Plan, peer: Peer, workload: Workload, folder: Path, image: str, number: int, predictions: list[Any]
) -> Begun:
    """Start one container and remove it. Raises RuntimeError when it does not answer right in time."""
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as place:
        work = Path(place)
        work.chmod(0o755)
        case = Case(workload, "python3", folder, work, free_port(), plan.workers, 0, 0.0)
        arguments = ours(case, peer, image) if peer.name in OURS else theirs(plan, case, peer, image)
        name = f"{LABEL}-{case.port}"
        run = ["docker", "run", "--name", name, "--label", LABEL, "--network", "host", "--detach", *arguments]
        try:
            began, clock = time.monotonic(), time.time()
            with subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as starting:
                ready = wait_until_ready(starting, case, peer, name, began)
            answered = first_answer(case, peer, predictions, name, began)
            settled = burst(case, peer, began)
            stages = read_stages(name, clock) if peer.name in OURS else {}
        finally:
            subprocess.run(["docker", "rm", "--force", name], check=False, capture_output=True)
        return Begun(peer.name, number, ready, answered, settled, {**stages, "first 200 on /ping": ready})


def ours(case: Case, peer: Peer, image: str) -> list[str]:
    """The image as it is, with a model mounted."""
    base = lay_out(case)
    lane = "asgi" if peer.name.endswith("asgi") else "wsgi"
    environ = {
        "SAGEMAKER_BIND_TO_PORT": str(case.port),
        "BYOC_BIND_HOST": "127.0.0.1",
        "BENCH_WORKLOAD": case.workload.name,
        **settings(lane, case),
    }
    return [*variables(environ), "--volume", f"{base / 'model'}:/opt/ml/model:ro", image, "serve"]


def theirs(plan: Plan, case: Case, peer: Peer, image: str) -> list[str]:
    """The same image and Python with the server's own packages first."""
    packages = site_packages(peer, plan.cache)
    start = peer.start(case)
    path = {"PYTHONPATH": f"{INSIDE}:{packages}"}
    places = [(INSIDE, "ro"), (case.model, "rw"), (case.work, "rw"), (plan.cache / str(peer.requirements), "ro")]
    mounts = [part for place, mode in places for part in ("--volume", f"{place}:{place}:{mode}")]
    directory = ["--workdir", str(case.work), "--entrypoint", ""]
    return [*variables({**asked(case), **start.environ, **path}), *mounts, *directory, image, *start.command]


def variables(environ: dict[str, str]) -> list[str]:
    return [part for key, value in environ.items() for part in ("--env", f"{key}={value}")]


def wait_until_ready(starting: subprocess.Popen[str], case: Case, peer: Peer, name: str, began: float) -> float:
    looked = began
    while not is_ready(case.port, peer.ready_path):
        if starting.poll() not in (None, 0):
            raise RuntimeError(f"docker run failed: {starting.stderr.read() if starting.stderr else ''}")
        if starting.poll() == 0 and time.monotonic() - looked > 5:
            looked = time.monotonic()
            if ask_docker("inspect", "--format", "{{.State.Running}}", name) != "true":
                raise RuntimeError(f"the container ended; its log ends:\n{tail(name)}")
        if time.monotonic() - began > LIMIT:
            raise RuntimeError(f"no 200 on {peer.ready_path} after {LIMIT:.0f} s; its log ends:\n{tail(name)}")
        time.sleep(POLL)
    return time.monotonic() - began


def first_answer(case: Case, peer: Peer, predictions: list[Any], name: str, began: float) -> float:
    body, status, answer = body_of(peer, case.workload), 0, b""
    while time.monotonic() - began < LIMIT:
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, answer = ask(case.port, "POST", peer.invoke_path, body)
            if status == 200 and same(peer.unwrap(json.loads(answer)), predictions):
                return time.monotonic() - began
        time.sleep(POLL)
    raise RuntimeError(f"answered {status} {answer[:300]!r}; its log ends:\n{tail(name)}")


def burst(case: Case, peer: Peer, began: float) -> float:
    """When as many requests at once as four for each worker were answered."""
    body = body_of(peer, case.workload)
    with ThreadPoolExecutor(4 * case.workers) as pool:
        asking = [pool.submit(ask, case.port, "POST", peer.invoke_path, body) for _ in range(4 * case.workers)]
        statuses = [one.result()[0] for one in asking]
    if set(statuses) != {200}:
        raise RuntimeError(f"a burst was answered {statuses}")
    return time.monotonic() - began


def tail(name: str) -> str:
    ran = subprocess.run(["docker", "logs", "--tail", "25", name], check=False, capture_output=True, text=True)
    return ran.stdout + ran.stderr


MARKS = {
    "serving on port": "serve has read its settings",
    "bench: imported": "a worker imports inference.py",
    "bench: torch": "torch is imported",
    "bench: loaded": "the model is loaded",
    "ready": "serve says ready",
}


def read_stages(name: str, clock: float) -> dict[str, float]:
    """Seconds from `docker run` to Docker's start of the first process, and to the first line with each mark."""
    started = ask_docker("inspect", "--format", "{{.State.StartedAt}}", name)
    stages = {"Docker has started the container": seconds_of(started) - clock}
    logs = subprocess.run(["docker", "logs", "--timestamps", name], check=True, capture_output=True, text=True)
    lines = sorted(match.groups() for line in (logs.stdout + logs.stderr).splitlines() if (match := STAMP.match(line)))
    for mark, title in MARKS.items():
        stamp = next((stamp for stamp, text in lines if mark in text), None)
        if stamp:
            stages[title] = seconds_of(stamp) - clock
    return stages


def seconds_of(stamp: str) -> float:
    """Docker's time stamps have nine digits of a second, which Python does not read."""
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")
