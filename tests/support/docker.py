"""Plain `docker` commands against the real engine; every container carries a label and is removed."""

import json
import os
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from tests.support.http import Reply, request
from tests.support.opt_ml import OptMl
from tests.support.waiting import wait_until

# Of this run alone: another run's containers are not ours to remove, and in two containers both may be process 7.
RUN = uuid.uuid4().hex[:12]
LABEL_OF_ANY_RUN = "sagemaker-byoc-tests"
LABEL = f"{LABEL_OF_ANY_RUN}-{RUN}"


def docker(*arguments: str, seconds: float = 480, env: Mapping[str, str] | None = None, program: str = "docker") -> str:
    """Run a docker command; returns its standard output, asserts that it succeeds."""
    done = subprocess.run(
        [program, *arguments],
        capture_output=True,
        timeout=seconds,
        check=False,
        env={**os.environ, **(env or {})},
    )
    output = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {output[-3000:]}{done.stderr.decode()[-3000:]}"
    return output


def inspect(image: str) -> dict[str, Any]:
    """The Config of an image."""
    config: dict[str, Any] = json.loads(docker("image", "inspect", image))[0]["Config"]
    return config


ASKING = 0.2  # seconds between two docker commands that ask the same


@dataclass(frozen=True)
class Ran:
    """How a container ended."""

    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def log(self) -> str:
        """Both streams."""
        return (self.stdout + self.stderr).decode("utf-8", "replace")


def run(image: str, *command: str, options: Sequence[str] = (), seconds: float = 480) -> Ran:
    """`docker run` to the end."""
    name = f"{LABEL}-{uuid.uuid4().hex[:12]}"
    try:
        done = subprocess.run(
            ["docker", "run", "--rm", "--name", name, "--label", LABEL, *options, image, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        subprocess.run(["docker", "rm", "-f", name], capture_output=True, check=False)
        raise
    return Ran(done.returncode, done.stdout, done.stderr)


def mounted(tree: OptMl, read_only_model: bool = False) -> list[str]:
    """Options that put ``tree`` at /opt/ml, its model read-only where hosting mounts it."""
    options = ["-v", f"{tree.base}:/opt/ml"]
    return [*options, "-v", f"{tree.base / 'model'}:/opt/ml/model:ro"] if read_only_model else options


def open_to_everyone(tree: OptMl) -> None:
    """Let any user of a container read and write the tree."""
    for path in (tree.base, *tree.base.rglob("*")):
        path.chmod(0o777)
    for parent in tree.base.parents[:3]:
        parent.chmod(0o755)


class Running:
    """A container in the background; as a context manager it is removed at the end of its block."""

    def __init__(self, image: str, *command: str, options: Sequence[str] = ()) -> None:
        """Start it."""
        name = f"{LABEL}-{uuid.uuid4().hex[:12]}"
        self.id = docker("run", "-d", "--name", name, "--label", LABEL, *options, image, *command).strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        docker("rm", "-f", "-v", self.id)

    @property
    def log(self) -> str:
        """All it has written up to now."""
        done = subprocess.run(["docker", "logs", self.id], capture_output=True, check=False)
        return (done.stdout + done.stderr).decode("utf-8", "replace")

    @property
    def state(self) -> dict[str, Any]:
        """The engine's State of it."""
        state: dict[str, Any] = json.loads(docker("inspect", self.id))[0]["State"]
        return state

    @property
    def silence(self) -> float:
        """Seconds from its last line to its end."""
        lines = docker("logs", "--timestamps", self.id).splitlines()
        written, ended = lines[-1].partition(" ")[0], self.state["FinishedAt"]
        return (datetime.fromisoformat(ended) - datetime.fromisoformat(written)).total_seconds()

    @property
    def port(self) -> int:
        """The port of 127.0.0.1 that leads to its 8080."""
        return int(docker("port", self.id, "8080/tcp").split()[0].rpartition(":")[2])

    def execute(self, *command: str) -> str:
        """`docker exec`; returns standard output."""
        return docker("exec", self.id, *command)

    def stop(self, seconds: int) -> int:
        """`docker stop -t SECONDS`; returns the exit code."""
        docker("stop", "-t", str(seconds), self.id, seconds=seconds + 240)
        code: int = self.state["ExitCode"]
        return code

    def wait_for_line(self, text: str, seconds: float = 300) -> None:
        """Wait until ``text`` appears in the log; fails at once when the container ends without it."""
        wait_until(lambda: text in self.log, f"{text!r} in the container's log", seconds, self._ended, ASKING)

    def wait_until_ready(self, seconds: float = 300) -> "Running":
        """Wait until /ping answers 200 on the published port."""
        wait_until(lambda: self._ping() == 200, "/ping to answer 200", seconds, self._ended, ASKING)
        return self

    def wait_until_ready_inside(self, seconds: float = 300) -> "Running":
        """The same from within, for a container that has no network."""
        wait_until(lambda: self.ask_inside("/ping")[0] == 200, "/ping to answer 200", seconds, self._ended, ASKING)
        return self

    def invoke(self, body: bytes, content_type: str = "application/json") -> Reply:
        """Ask for a prediction on the published port."""
        return request(self.port, "POST", "/invocations", body, {"Content-Type": content_type})

    def ask_inside(self, path: str, body: str = "") -> tuple[int, str]:
        """One request from within: status and body; status 0 when nobody answers."""
        script = (
            "import sys,urllib.request as u,urllib.error as e\n"
            "r=u.Request('http://127.0.0.1:8080'+sys.argv[1],sys.argv[2].encode() or None,"
            "{'Content-Type':'application/json'})\n"
            "try: a=u.urlopen(r,timeout=20)\n"
            "except e.HTTPError as error: a=error\n"
            "except OSError: print(0); sys.exit()\n"
            "print(a.status); print(a.read().decode())"
        )
        status, _, text = self.execute("python3", "-c", script, path, body).partition("\n")
        return int(status), text.strip()

    def _ping(self) -> int | None:
        try:
            return request(self.port, "GET", "/ping", seconds=5).status
        except (OSError, AssertionError):
            return None

    def _ended(self) -> str | None:
        state = self.state
        return None if state["Running"] else f"the container ended with {state['ExitCode']}; its log:\n{self.log}"
