"""How fast a transform job is beside what its container gives a direct client.

Run it from anywhere, with a Docker engine, wrk on PATH and the image built (`byoc build`):

    python benchmarks/transform.py           # prints the report
    python benchmarks/transform.py --write   # and makes it benchmarks/transform.md

One container of the image serves a function that gives each body back, so that next to nothing hides the job's own
work. The job and the direct client ask it in turns, with the same number of connections and the same bodies; a round
before them is not counted. For records that travel alone the client is wrk, whose own work for a request is a fraction
of any Python program's and which always sends the same record; for mini-batches it is a thread for each connection,
with http.client, and the mini-batches lie cut in memory. The job reads a file, cuts it, and writes the output.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from local_sagemaker.api.operations import call
from local_sagemaker.engines import DockerEngine
from local_sagemaker.hosting.endpoint import Endpoint
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import Workspace
from local_sagemaker.transform.event_loop import run_in_loop
from local_sagemaker.transform.pace import agree
from local_sagemaker.transform.plan import TransformPlan, plan_transform_job
from local_sagemaker.transform.runner import transform
from local_sagemaker.transform.serving import serving
from local_sagemaker.transform.splitting import batches
from local_sagemaker.transform.transformation import Tally
from machine import describe_machine, publish, spread, table

HERE = Path(__file__).resolve().parent
REPORT = HERE / "transform.md"
GOAL = 0.9
CODE = """
def model_fn(model_dir):
    return None

def transform_fn(model, body, content_type, accept):
    return body, "text/csv"
"""
ROW = ",".join(str(number % 17) for number in range(64))
WRK_SECONDS = 3


@dataclass(frozen=True)
class Case:
    """What is asked: how many rows of 64 numbers, and how."""

    title: str
    rows: int
    strategy: str
    concurrent: int
    payload_mb: int


CASES = (
    Case("mini-batches of 6 MB, one at a time", 800_000, "MultiRecord", 1, 6),
    Case("mini-batches of 6 MB, 4 at a time", 800_000, "MultiRecord", 4, 6),
    Case("single records, one at a time", 5_000, "SingleRecord", 1, 6),
    Case("single records, 8 at a time", 10_000, "SingleRecord", 8, 6),
    Case("single records, 16 at a time", 10_000, "SingleRecord", 16, 6),
)


def make_workspace(root: Path, image: str) -> Workspace:
    (root / "code").mkdir(parents=True)
    (root / "code" / "inference.py").write_text(CODE)
    workspace = Workspace(root)
    call(workspace, "CreateModel", {"ModelName": "echo", "PrimaryContainer": {"Image": image}})
    return workspace


def plan_case(workspace: Workspace, number: int, case: Case) -> TransformPlan:
    workspace.buckets.put_bytes(f"s3://bench/{number}/rows.csv", f"{ROW}\n".encode() * case.rows)
    name = f"bench-{os.getpid()}-{number}"
    request = {
        "TransformJobName": name,
        "ModelName": "echo",
        "MaxConcurrentTransforms": case.concurrent,
        "MaxPayloadInMB": case.payload_mb,
        "BatchStrategy": case.strategy,
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://bench/{number}/"}},
            "ContentType": "text/csv",
            "SplitType": "Line",
        },
        "TransformOutput": {"S3OutputPath": f"s3://bench/out/{number}"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    }
    call(workspace, "CreateTransformJob", request)
    return plan_transform_job(workspace, workspace.store.get(Kind.TRANSFORM_JOB, name))


@dataclass
class Measured:
    """Of each round: records in a second of the job and of the client, the job's own processor time in µs a record."""

    job: list[float] = field(default_factory=list)
    client: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)


def measure_job(workspace: Workspace, plan: TransformPlan, endpoint: Endpoint) -> tuple[float, float]:
    """Records in a second, and this process's µs of processor time for each."""
    tally = Tally()
    began, own = time.perf_counter(), time.process_time()
    failures = run_in_loop(transform(workspace, plan, [[endpoint]], agree(plan.demands, {}), tally, lambda _: None))
    seconds = time.perf_counter() - began
    if failures:
        raise SystemExit(str(failures))
    return tally.records / seconds, (time.process_time() - own) * 1e6 / tally.records


def measure_client(plan: TransformPlan, case: Case, endpoint: Endpoint) -> float:
    """Records in a second."""
    if case.strategy == "SingleRecord":
        return measure_wrk(endpoint.url, case.concurrent)
    with next(iter(plan.objects)).path.open("rb") as stream:
        cut = list(batches(stream, "Line", single=False, limit=case.payload_mb << 20))
    waiting = iter(cut)
    lock = threading.Lock()
    where = urlsplit(endpoint.url)

    def ask() -> None:
        connection = http.client.HTTPConnection(where.hostname or "", where.port)
        while True:
            with lock:
                batch = next(waiting, None)
            if batch is None:
                return
            assert isinstance(batch.body, bytes)  # noqa: S101 - of batches with a limit
            connection.request("POST", "/invocations", batch.body, {"Content-Type": "text/csv"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise SystemExit(f"status {answer.status}")

    threads = [threading.Thread(target=ask) for _ in range(case.concurrent)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(batch.records for batch in cut) / (time.perf_counter() - began)


def measure_wrk(url: str, connections: int) -> float:
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as folder:
        body, script = Path(folder, "body"), Path(folder, "post.lua")
        body.write_text(f"{ROW}\n")
        script.write_text((HERE / "serving" / "post.lua").read_text().replace("application/json", "text/csv"))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{WRK_SECONDS}s", "-s", str(script), f"{url}/invocations"]
        ran = subprocess.run(
            command, env={**os.environ, "BENCH_BODY": str(body)}, check=True, capture_output=True, text=True
        )
    found = json.loads(ran.stdout.splitlines()[-1])
    if found["refused"] or found["broken"]:
        raise SystemExit(f"wrk: {found}")
    return float(found["requests"] / found["seconds"])


@contextmanager
def one_container(plan: TransformPlan) -> Iterator[Endpoint]:
    """The container of a plan, made so that each of its settings is the request's business."""
    with serving(replace(plan, name=f"{plan.name}-container"), DockerEngine.connect()) as instances:
        yield instances[0][0]


def measure_all(image: str, rounds: int) -> dict[Case, Measured]:
    measured: dict[Case, Measured] = {case: Measured() for case in CASES}
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as folder:
        workspace = make_workspace(Path(folder) / "project", image)
        plans = [plan_case(workspace, number, case) for number, case in enumerate(CASES)]
        with one_container(plans[0]) as endpoint:
            for number in range(rounds + 1):
                for case, plan in zip(CASES, plans, strict=True):
                    job, own = measure_job(workspace, plan, endpoint)
                    client = measure_client(plan, case, endpoint)
                    if number:
                        measured[case].job.append(job)
                        measured[case].client.append(client)
                        measured[case].own.append(own)
    return measured


def report(measured: dict[Case, Measured], load_before: float, rounds: int) -> str:
    goals, figures = [], []
    for case, found in measured.items():
        share = median(ours / direct for ours, direct in zip(found.job, found.client, strict=True))
        goals.append([case.title, f"{share:.0%}", "yes" if share >= GOAL else "**no**"])
        figures.append([case.title, *spread(found.job, 0), *spread(found.client, 0), f"{median(found.own):.1f}"])
    return "\n".join(
        [
            "# Batch transform beside a direct client",
            "",
            "Made by `python benchmarks/transform.py --write`; do not edit.",
            "",
            f"{describe_machine(load_before)} Job and client in turns, {rounds} rounds after one that is not counted.",
            "",
            f"## Goal: at least {GOAL:.0%} of what the container gives a direct client",
            "",
            table(["requests", "the job's share, median of rounds", "reached"], goals),
            "",
            "## Records a second",
            "",
            "Rows of 64 numbers; the container gives each body back. The start of the container counts for neither.",
            "The job reads its file, cuts it and writes the output; the client has its bodies in memory, reads each",
            "answer to its end and drops it: wrk for single records, http.client in threads for mini-batches. Both",
            "share the cores with the container. The last column is the processor time for a record of the job's own",
            "process.",
            "",
            table(
                ["requests", "job, least", "median", "most", "client, least", "median", "most", "job's own CPU, µs"],
                figures,
            ),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", default="sagemaker-byoc:latest")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", action="store_true", help=f"make the report {REPORT.name}")
    arguments = parser.parse_args()
    load_before = os.getloadavg()[0]
    measured = measure_all(arguments.image, arguments.repeats)
    publish(report(measured, load_before, arguments.repeats), REPORT, write=arguments.write)


if __name__ == "__main__":
    main()
