"""Whether an endpoint's state stays truthful while its process and its containers are killed at random moments.

Makes an endpoint of two variants in a project of its own, kills -9 either its process or one of its containers, checks
what `byoc` says next, brings it back, and does so ``--kills`` times. Ends with 1 if a record was lost, a container was
left behind, or the state was a lie.

    python benchmarks/endpoint_kills.py --engine docker --image sagemaker-byoc:latest --kills 20
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from local_sagemaker.engines import EngineName, choose_engine
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import Workspace

NAME = "digits"
CODE = "def model_fn(model_dir):\n    return 1\ndef predict_fn(data, model):\n    return model\n"
LIMIT_SECONDS = 120.0


class Broken(AssertionError):
    """A promise that was not kept."""


def _byoc(root: Path, *words: str, check: bool = True) -> str:
    command = [sys.executable, "-m", "local_sagemaker", "endpoint", *words, "--project", str(root)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and ran.returncode != 0:
        raise Broken(f"{' '.join(words)} ended with {ran.returncode}: {ran.stderr}")
    return ran.stdout


def _answers(root: Path) -> bool:
    try:
        described = json.loads(_byoc(root, "describe", "--json"))
        url = f"{described['Local']['Url']}/endpoints/{NAME}/invocations"
        request = urllib.request.Request(url, b"[1]", {"Content-Type": "application/json"})
        return urllib.request.urlopen(request, timeout=10).status == 200
    except (OSError, KeyError, ValueError):
        return False


def _wait(what: str, check: Callable[[], bool]) -> None:
    limit = time.monotonic() + LIMIT_SECONDS
    while not check():
        if time.monotonic() > limit:
            raise Broken(f"{what}: not within {LIMIT_SECONDS:g} s")
        time.sleep(0.2)


def _kill_process(workspace: Workspace, engine: EngineName, chance: random.Random) -> None:
    _kill_now(workspace, engine)
    if chance.random() < 0.5:  # and once more while it starts
        _byoc(workspace.root, "start", "--engine", engine, "--detach")
        time.sleep(chance.uniform(0, 3))
        _kill_now(workspace, engine)
    _byoc(workspace.root, "start", "--engine", engine)


def _kill_now(workspace: Workspace, engine: EngineName) -> None:
    runner = workspace.store.get(Kind.ENDPOINT, NAME).runner
    if runner is None:
        raise Broken("the endpoint has no process")
    os.kill(runner.pid, signal.SIGKILL)
    _wait("the process's end", lambda: not runner.is_alive)
    described = json.loads(_byoc(workspace.root, "describe", "--json"))
    if described["EndpointStatus"] != "Failed" or "was killed" not in described["FailureReason"]:
        raise Broken(f"the state is {described}")
    left = choose_engine(engine).find(workspace.labels(Kind.ENDPOINT, NAME))
    if left:
        raise Broken(f"{len(left)} containers are left")


def _kill_container(workspace: Workspace, engine: EngineName, chance: random.Random) -> None:
    connected = choose_engine(engine)
    found = [one for one in connected.find(workspace.labels(Kind.ENDPOINT, NAME)) if one.running]
    if found:
        connected.adopt(chance.choice(found).name).kill(signal.SIGKILL)


def main() -> int:
    """Exit code 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=["docker", "process"], default="docker")
    parser.add_argument("--image", default="sagemaker-byoc:latest")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)  # noqa: S311 - moments, not secrets
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="byoc-kills-") as folder:
        root = Path(folder)
        (root / "model" / "code").mkdir(parents=True)
        (root / "model" / "code" / "inference.py").write_text(CODE, encoding="utf-8")
        model = root / "model"
        options = ["--engine", arguments.engine, "--image", arguments.image]
        _byoc(root, "create", NAME, "--variant", f"blue={model}", "--variant", f"green={model}", *options)
        workspace = Workspace.of(root)
        for _ in range(arguments.kills):
            time.sleep(chance.uniform(0, 2))
            kill = chance.choice((_kill_process, _kill_container))
            kill(workspace, arguments.engine, chance)
            _wait("an answer", lambda: _answers(root))
            counts[kill.__name__] += 1
        _byoc(root, "delete")
        if choose_engine(arguments.engine).find(workspace.labels(Kind.ENDPOINT, NAME)):
            raise Broken("containers are left behind")
        if workspace.store.find(Kind.ENDPOINT):
            raise Broken("the record is left behind")
    print(json.dumps({"kills": dict(counts), "lost_records": 0, "orphans": 0}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
