"""Whether the records stay true while ``byoc``, its background processes and its containers are killed at random.

Each case runs a verb in a project of its own and kills -9 one of its processes at a moment drawn uniformly from the
length of an undisturbed run. Then ``byoc ps`` is asked what became of it, and everything that could be left behind is
looked for: containers, networks, volumes, processes, mounts, temporary files. Ends with 1 if a promise was broken.

    python benchmarks/kills.py --image sagemaker-byoc:latest --moments 20 --write
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local_sagemaker.engines import Engine, choose_engine
from local_sagemaker.state.records import Kind, Record, Runner
from local_sagemaker.state.workspace import WORKSPACE_LABEL, Workspace
from machine import describe_hardware, publish, table

REPORT = Path(__file__).with_name("kills.md")
NAME = "victim"
WORKS_SECONDS = 1.0
LIMIT_SECONDS = 120.0
LATE_SECONDS = 30.0
KILLED = "was killed"
HEADER = (
    "what runs: what is killed",
    "moments",
    "how it ended, as `byoc ps` says",
    "late",
    "broken",
    "measured",
    "load",
)
TRAIN = f"""
import os, pathlib, time
end = time.monotonic() + {WORKS_SECONDS}
while time.monotonic() < end:
    print("score=1", flush=True)
    time.sleep(0.05)
pathlib.Path(os.environ["SM_MODEL_DIR"], "model").write_bytes(os.urandom(1 << 20))
"""
PROCESS = f"""
import os, pathlib, time
time.sleep({WORKS_SECONDS})
base = pathlib.Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
(base / "processing/out/rows.csv").write_text("1\\n")
"""
INFERENCE = """
import time
def model_fn(model_dir):
    return 1
def predict_fn(data, model):
    time.sleep(0.02)
    return data
"""


@dataclass
class Bench:
    """What all cases share: how containers run, and the moments."""

    engine: str
    image: str
    chance: random.Random
    connected: Engine
    options: list[str] = field(init=False)

    def __post_init__(self) -> None:
        """The options that every verb gets."""
        self.options = ["--engine", self.engine, "--image", self.image]


@dataclass
class Tally:
    """What became of a case's kills."""

    case: str
    ends: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    late: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def moments(self) -> int:
        """How often something was killed."""
        return sum(self.ends.values())


def byoc(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a verb to its end."""
    return subprocess.run(_command(words), capture_output=True, text=True, check=False, env=_environment(root))


def _command(words: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-P", "-m", "local_sagemaker", *words]


def _environment(root: Path) -> dict[str, str]:
    temporary = root / "tmp"
    temporary.mkdir(exist_ok=True)
    return {**os.environ, "TMPDIR": str(temporary)}


def _make_project(root: Path) -> None:
    code = root / "model" / "code"
    code.mkdir(parents=True)
    (code / "inference.py").write_text(INFERENCE, encoding="utf-8")
    (root / "data" / "train").mkdir(parents=True)  # a channel, over which the engine lays the job's changes
    (root / "data" / "train" / "rows.csv").write_text("1\n" * 1000, encoding="utf-8")
    (root / "code").mkdir()
    (root / "code" / "train.py").write_text(TRAIN, encoding="utf-8")
    (root / "rows").mkdir()
    (root / "rows" / "run.py").write_text(PROCESS, encoding="utf-8")
    with tarfile.open(root / "model.tar.gz", "w:gz") as archive:
        archive.add(code, "code")
    (root / "rows.jsonl").write_text("[1]\n" * 60, encoding="utf-8")


def _settle(root: Path) -> list[dict[str, Any]]:
    """What ``byoc ps`` says next, which puts right what is wrong."""
    ran = byoc(root, "ps", "--all", "--json", "--project", str(root))
    if ran.returncode != 0:
        raise AssertionError(f"byoc ps ended with {ran.returncode}: {ran.stderr}")
    resources: list[dict[str, Any]] = json.loads(ran.stdout)["resources"]
    return resources


def left_behind(bench: Bench, workspace: Workspace) -> list[str]:
    """Everything of a project that is still there although nothing runs."""
    root = str(workspace.root)
    found = [str(labels) for labels in bench.connected.labels_of_all({WORKSPACE_LABEL: workspace.identity})]
    with suppress(OSError):
        found += [line for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines() if root in line]
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            if root.encode() in words and int(process.name) != os.getpid():
                found.append(f"process {process.name}: {words[:120]!r}")
    patterns = (".byoc-unfinished-*", "*.tmp", "*.part", "tmp/*")
    found += [str(path) for pattern in patterns for path in workspace.root.rglob(pattern)]
    if bench.engine == "docker":
        found += [f"volume {name}" for name in _volumes_of(root)]
    return found


def _volumes_of(root: str) -> Iterator[str]:
    listed = subprocess.run(["docker", "volume", "ls", "-q"], capture_output=True, text=True, check=True).stdout.split()
    for name in listed:
        shown = subprocess.run(
            ["docker", "volume", "inspect", "--format", "{{json .Options}}", name],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        if root in shown:
            yield name


def _expect_nothing_left(bench: Bench, workspace: Workspace, tally: Tally) -> None:
    limit = time.monotonic() + LATE_SECONDS
    found = left_behind(bench, workspace)
    tally.late += bool(found)
    while found and time.monotonic() < limit:
        # The engine may still be making what it was asked for when the tool was killed.
        time.sleep(0.5)
        _settle(workspace.root)
        found = left_behind(bench, workspace)
    tally.broken += [f"left behind: {one}" for one in found]


# Jobs whose tool, or one of whose containers, is killed


Words = Callable[[Path], list[str]]
JOBS: Mapping[str, tuple[Kind, Words]] = {
    "train": (Kind.TRAINING_JOB, lambda root: ["train", str(root)]),
    "train --hosts 2": (Kind.TRAINING_JOB, lambda root: ["train", str(root), "--hosts", "2"]),
    "tune": (
        Kind.TUNING_JOB,
        lambda root: [
            "tune",
            str(root),
            *("--objective", "score", "--range", "rate=0.1..1", "--max-jobs", "2", "--parallel", "2"),
        ],
    ),
    "transform": (
        Kind.TRANSFORM_JOB,
        lambda root: [
            *("transform", "--project", str(root), "--model", str(root / "model.tar.gz")),
            *(
                "--input",
                str(root / "rows.jsonl"),
                "--content-type",
                "application/json",
                "--split-type",
                "Line",
                "--strategy",
                "SingleRecord",
            ),
        ],
    ),
    "process": (
        Kind.PROCESSING_JOB,
        lambda root: [
            *("process", "--project", str(root), "--entrypoint", "python3 /opt/ml/processing/in/run.py"),
            *("--input", f"in={root / 'rows'}:/opt/ml/processing/in", "--output", "out=/opt/ml/processing/out"),
        ],
    ),
}


def _start_job(bench: Bench, root: Path, words: list[str]) -> subprocess.Popen[str]:
    command = _command((*words, "--job-name", NAME, *bench.options))
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(root),
        start_new_session=True,
    )


def kill_job(bench: Bench, job: str, victim: str, moments: int) -> Tally:
    """Kill the tool or a container of a job."""
    tally = Tally(f"{job}: {victim}")
    began = time.monotonic()
    _one_job(bench, job, None, 0, tally)
    span = time.monotonic() - began
    if tally.ends != {"Completed": 1}:
        raise SystemExit(f"{job}: an undisturbed run does not complete: {dict(tally.ends)} {tally.broken}")
    tally.ends.clear()
    while tally.moments < moments and len(tally.broken) < moments:
        _one_job(bench, job, victim, bench.chance.uniform(0, span), tally)
    return tally


def _one_job(bench: Bench, job: str, victim: str | None, moment: float, tally: Tally) -> None:
    kind, words = JOBS[job]
    with tempfile.TemporaryDirectory(prefix="byoc-kills-") as folder:
        root = Path(folder).resolve()
        _make_project(root)
        workspace = Workspace.of(root)
        tool = _start_job(bench, root, words(root))
        killed = victim is None
        if victim == "byoc":
            time.sleep(moment)
            killed = tool.poll() is None
            tool.kill()
        elif victim == "container":
            killed = _kill_a_container(bench, workspace, tool, moment)
        errors = tool.communicate()[1]
        records = {(one["kind"], one["name"]): one for one in _settle(root)}
        before = len(tally.broken)
        _judge_job(workspace, kind, victim, killed, tool.returncode, records, tally)
        if len(tally.broken) > before and errors:
            tally.broken[-1] += f" (it said: {errors[-300:]!r})"
        _expect_nothing_left(bench, workspace, tally)


def _kill_a_container(bench: Bench, workspace: Workspace, tool: subprocess.Popen[str], moment: float) -> bool:
    """Kill a random one of those that run, as soon as there is one after the moment."""
    time.sleep(moment * 0.7)
    while tool.poll() is None:
        running = [one for one in bench.connected.find({WORKSPACE_LABEL: workspace.identity}) if one.running]
        if running:
            with suppress(Exception):  # it may end by itself meanwhile
                bench.connected.adopt(bench.chance.choice(running).name).kill(signal.SIGKILL)
                return True
        time.sleep(0.05)
    return False


def _judge_job(
    workspace: Workspace,
    kind: Kind,
    victim: str | None,
    killed: bool,
    code: int | None,
    records: Mapping[tuple[str, str], dict[str, Any]],
    tally: Tally,
) -> None:
    """Count the end of a job, or say what is untrue."""
    record = records.get((kind, NAME))
    for one in records.values():
        if one["status"] not in {None, "", "Completed", "Failed", "Stopped"}:
            tally.broken.append(f"{one['kind']} is said to be {one['status']}")
    if record is None:
        tally.ends["no record yet"] += 1
        if workspace.directory_of(kind, NAME).exists() and any(workspace.directory_of(kind, NAME).glob("logs*")):
            tally.broken.append("a lost record: the job has logs")
        return
    status, reason = record["status"], record["failure_reason"] or ""
    if status == "Completed":
        if code == 0 or victim == "byoc" or kind is Kind.TUNING_JOB:
            tally.ends["Completed"] += killed or victim is None
        else:
            tally.broken.append(f"Completed, but the tool ended with {code}")
    elif victim == "byoc":
        if status == "Failed" and KILLED in reason:
            tally.ends["Failed: it was killed"] += 1
        else:
            tally.broken.append(f"{status}: {reason}")
    elif victim == "container" and status == "Failed" and ("137" in reason or kind is Kind.TUNING_JOB):
        tally.ends["Failed: 137" if "137" in reason else "Failed"] += 1
    else:
        tally.broken.append(f"{status} with exit code {code}: {reason}")


# An endpoint whose process is killed while something is asked of it


def _endpoint(bench: Bench, root: Path, verb: str, *words: str) -> subprocess.CompletedProcess[str]:
    engine = ["--engine", bench.engine] if verb in {"create", "start"} else []
    image = ["--image", bench.image] if verb in {"create", "config"} else []
    return byoc(root, "endpoint", verb, *words, *engine, *image, "--project", str(root))


def _described(workspace: Workspace) -> Record | None:
    found = workspace.store.find(Kind.ENDPOINT, NAME)
    return found[0] if found else None


def _create(bench: Bench, root: Path, instances: int = 1) -> None:
    model = root / "model"
    variants = ["--variant", f"blue={model}", *(["--variant", f"green={model}"] if instances == 1 else [])]
    ran = _endpoint(bench, root, "create", NAME, *variants, "--instances", str(instances))
    if ran.returncode != 0:
        raise AssertionError(f"create ended with {ran.returncode}: {ran.stderr}")
    second = _endpoint(bench, root, "config", "second", "--variant", f"blue={model}", "--variant", f"green={model}")
    if second.returncode != 0:
        raise AssertionError(f"config ended with {second.returncode}: {second.stderr}")


CHANGES: Mapping[str, tuple[str, ...]] = {
    "create": ("start", NAME, "--detach"),
    "update": ("update", NAME, "--config", "second", "--detach"),
    "weights": ("weights", NAME, "blue=3", "--detach"),
    "traffic": (),
    "delete": ("delete", NAME, "--detach"),
}


def kill_endpoint(bench: Bench, change: str, moments: int) -> Tally:
    """Kill the endpoint's process during a change."""
    tally = Tally(f"endpoint {change}: its process")
    with tempfile.TemporaryDirectory(prefix="byoc-kills-") as folder:
        root = Path(folder).resolve()
        _make_project(root)
        workspace = Workspace.of(root)
        _create(bench, root)
        while tally.moments < moments and len(tally.broken) < moments:
            _one_endpoint(bench, workspace, change, tally)
            if _described(workspace) is None:
                shutil.rmtree(workspace.directory)
                workspace = Workspace.of(root)
                _create(bench, root)
        _endpoint(bench, root, "delete", NAME)
        _expect_nothing_left(bench, workspace, tally)
    return tally


def _one_endpoint(bench: Bench, workspace: Workspace, change: str, tally: Tally) -> None:
    root = workspace.root
    if change == "create":
        _kill_runner(workspace)
        _settle(root)
    if CHANGES[change]:
        ran = _endpoint(bench, root, *CHANGES[change])
        if ran.returncode != 0:
            tally.broken.append(f"{change} ended with {ran.returncode}: {ran.stderr}")
    else:
        _ask_until(workspace, time.monotonic() + bench.chance.uniform(0.1, 0.5))
    time.sleep(bench.chance.uniform(0, 0.3 if change in {"delete", "weights"} else 3))
    was_killed = _kill_runner(workspace)
    _settle(root)
    record = _described(workspace)
    if record is None:
        if change == "delete":
            tally.ends["deleted" if was_killed else "deleted before"] += 1
        else:
            tally.broken.append("a lost record")
        _expect_nothing_left(bench, workspace, tally)
        return
    if record.status != "Failed" or KILLED not in record.description.get("FailureReason", ""):
        tally.broken.append(f"the endpoint is said to be {record.status}: {record.description.get('FailureReason')}")
    tally.ends["Failed: it was killed"] += 1
    _expect_nothing_left(bench, workspace, tally)
    ran = _endpoint(bench, root, "start", NAME)
    if ran.returncode != 0:
        tally.broken.append(f"start ended with {ran.returncode}: {ran.stderr}")
    if _ask(workspace) != 200:
        tally.broken.append("it does not answer once started again")


def _kill_runner(workspace: Workspace) -> bool:
    record = _described(workspace)
    runner: Runner | None = record.runner if record else None
    if runner is None or not runner.is_alive:
        return False
    os.kill(runner.pid, signal.SIGKILL)
    limit = time.monotonic() + LIMIT_SECONDS
    while runner.is_alive and time.monotonic() < limit:
        time.sleep(0.02)
    return True


def _ask(workspace: Workspace) -> int:
    record = _described(workspace)
    if record is None:
        return 0
    options = json.loads((workspace.directory_of(Kind.ENDPOINT, NAME) / "local.json").read_text(encoding="utf-8"))
    url = f"http://127.0.0.1:{options['port']}/endpoints/{NAME}/invocations"
    request = urllib.request.Request(url, b"[1]", {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def _ask_until(workspace: Workspace, end: float) -> Counter[int]:
    statuses: Counter[int] = Counter()
    while time.monotonic() < end:
        statuses[_ask(workspace)] += 1
    return statuses


# An endpoint one of whose containers is killed under traffic

CALLERS = 4


def kill_instance(bench: Bench, moments: int) -> Tally:
    """Kill an instance's container while callers ask: only what it had in flight may fail."""
    tally = Tally("endpoint under traffic: a container")
    with tempfile.TemporaryDirectory(prefix="byoc-kills-") as folder:
        root = Path(folder).resolve()
        _make_project(root)
        workspace = Workspace.of(root)
        _create(bench, root, instances=2)
        statuses: Counter[int] = Counter()
        stop = threading.Event()

        def call() -> None:
            own = Workspace.of(root)
            while not stop.is_set():
                statuses[_ask(own)] += 1

        callers = [threading.Thread(target=call) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        gaps: list[float] = []
        try:
            for _ in range(moments):
                time.sleep(bench.chance.uniform(0, 1))
                failed = _failures(statuses)
                gaps.append(_replace_one(bench, workspace, tally))
                lost = _failures(statuses) - failed
                tally.ends["replaced"] += 1
                if lost > CALLERS:
                    tally.broken.append(f"{lost} requests failed with one container, {CALLERS} were in flight at most")
        finally:
            stop.set()
            for caller in callers:
                caller.join()
        gaps.sort()
        tally.notes.append(
            f"{statuses[200]} answered, {_failures(statuses)} failed ({dict(statuses)}); replaced after "
            f"{gaps[len(gaps) // 2]:.1f} s in the median, {gaps[-1]:.1f} s at most"
        )
        _endpoint(bench, root, "delete", NAME)
        _expect_nothing_left(bench, workspace, tally)
    return tally


def _failures(statuses: Counter[int]) -> int:
    return sum(count for status, count in statuses.items() if status != 200)


def _replace_one(bench: Bench, workspace: Workspace, tally: Tally) -> float:
    """Kill a container; returns the seconds until another one of its variant is in service."""
    labels: dict[str, str | None] = dict(workspace.labels(Kind.ENDPOINT, NAME))
    before = [one for one in bench.connected.find(labels) if one.running]
    victim = bench.chance.choice(before)
    began = time.monotonic()
    bench.connected.adopt(victim.name).kill(signal.SIGKILL)
    while time.monotonic() - began < LIMIT_SECONDS:
        now = {one.name for one in bench.connected.find(labels) if one.running}
        record = _described(workspace)
        counts = sum(one["CurrentInstanceCount"] for one in record.description["ProductionVariants"]) if record else 0
        if victim.name not in now and len(now) == len(before) == counts:
            return time.monotonic() - began
        time.sleep(0.1)
    tally.broken.append(f"{victim.name} was not replaced within {LIMIT_SECONDS:g} s")
    return LIMIT_SECONDS


def cases(bench: Bench, moments: int) -> dict[str, Callable[[], Tally]]:
    """All cases by name."""
    found: dict[str, Callable[[], Tally]] = {}
    for job in JOBS:
        if bench.engine == "docker" or "--hosts" not in job:
            for victim in ("byoc", "container"):
                found[f"{job}: {victim}"] = lambda job=job, victim=victim: kill_job(bench, job, victim, moments)  # type: ignore[misc]
    for change in CHANGES:
        found[f"endpoint {change}"] = lambda change=change: kill_endpoint(bench, change, moments)  # type: ignore[misc]
    found["endpoint container"] = lambda: kill_instance(bench, moments)
    return found


def show(kept: list[dict[str, Any]]) -> str:
    """For each machine and engine a table, and what a case has to say beyond it."""
    parts = ["# Kills at random moments"]
    for setting in dict.fromkeys((one["machine"], one["engine"]) for one in kept):
        tallies = [tally for one in kept if (one["machine"], one["engine"]) == setting for tally in one["tallies"]]
        parts.append(f"On {setting[0]}. Engine: {setting[1]}. The load is the average before and after a case.")
        parts.append(table(HEADER, map(_row, tallies)))
        parts += [f"{tally['case']}: {note}." for tally in tallies for note in tally["notes"]]
    return "\n\n".join(parts)


def _row(tally: dict[str, Any]) -> tuple[str, ...]:
    ends = ", ".join(f"{count} {end}" for end, count in sorted(tally["ends"].items()) if count)
    load = " to ".join(f"{load:.1f}" for load in tally["load"])
    figures = (sum(tally["ends"].values()), ends, tally["late"], len(tally["broken"]), tally["measured"], load)
    return (tally["case"], *map(str, figures))


def main() -> int:
    """Exit code 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["docker", "process"], default="docker")
    parser.add_argument("--image", default="sagemaker-byoc:latest")
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--case", action="append", help="Only cases whose name contains this.")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="Where the result is kept, as JSON.")
    parser.add_argument("--report", type=Path, nargs="+", metavar="FILE", help="Run nothing; show what was kept.")
    parser.add_argument("--write", action="store_true", help=f"Write {REPORT.name}.")
    arguments = parser.parse_args()
    kept = [json.loads(file.read_text(encoding="utf-8")) for file in arguments.report or ()] or [_measure(arguments)]
    publish(show(kept), REPORT, write=arguments.write)
    return 1 if any(tally["broken"] for one in kept for tally in one["tallies"]) else 0


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    engine = choose_engine(arguments.engine)
    bench = Bench(arguments.engine, arguments.image, random.Random(arguments.seed), engine)  # noqa: S311 - moments
    tallies: list[dict[str, Any]] = []
    for name, case in cases(bench, arguments.moments).items():
        if arguments.case and not any(part in name for part in arguments.case):
            continue
        load = os.getloadavg()[0]
        counted = vars(case())
        measured = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        tallies.append({**counted, "measured": measured, "load": (load, os.getloadavg()[0])})
        print(json.dumps(tallies[-1]), file=sys.stderr, flush=True)
        kept = {"machine": describe_hardware(), "engine": arguments.engine, "tallies": tallies}
        if arguments.keep:
            arguments.keep.write_text(json.dumps(kept), encoding="utf-8")
    return kept


if __name__ == "__main__":
    sys.exit(main())
