"""Several containers that are the hosts of one training job: a network of their own, a tree for each."""

import json
import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.support.docker import LABEL, LABEL_OF_ANY_RUN, Running, docker
from tests.support.opt_ml import ONE_HOST, OptMl


@dataclass
class Host:
    """One host: its tree, and its container once started."""

    name: str
    tree: OptMl
    container: Running | None = None

    @property
    def running(self) -> Running:
        """The container; asserts that it was started."""
        assert self.container is not None, f"{self.name} was not started"
        return self.container

    @property
    def log(self) -> str:
        """All it has written up to now."""
        return self.running.log

    @property
    def exit_code(self) -> int | None:
        """Its exit code, or None while it runs."""
        state = self.running.state
        return None if state["Running"] else int(state["ExitCode"])


class Hosts:
    """A job's hosts; as a context manager nothing of them outlives its block."""

    def __init__(
        self, image: str, folder: Path, count: int, hyperparameters: Mapping[str, str], options: Sequence[str] = ()
    ) -> None:
        """Lay out the trees of algo-1 … algo-N below ``folder``; nothing is started yet."""
        self._image = image
        self._options = options
        names = sorted(f"algo-{number}" for number in range(1, count + 1))
        self.all = [Host(name, OptMl.make(folder / name)) for name in names]
        for host in self.all:
            host.tree.hyperparameters(**hyperparameters)
            groups = [{"instance_group_name": "homogeneousCluster", "instance_type": "ml.m5.xlarge", "hosts": names}]
            host.tree.config(
                "resourceconfig.json",
                {**ONE_HOST, "current_host": host.name, "hosts": names, "instance_groups": groups},
            )
        self._network = f"{LABEL}-{uuid.uuid4().hex[:12]}"

    def __enter__(self) -> Self:
        docker("network", "create", "--label", LABEL, "--label", LABEL_OF_ANY_RUN, self._network)
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.all:
            if host.container is not None:
                docker("rm", "-f", "-v", host.container.id)
        docker("network", "rm", self._network)

    def __getitem__(self, name: str) -> Host:
        return next(host for host in self.all if host.name == name)

    @property
    def leader(self) -> Host:
        """The first host."""
        return self.all[0]

    def code(self, source: Path) -> None:
        """Put the files of a folder into the code folder of every host."""
        for host in self.all:
            shutil.copytree(source, host.tree.base / "code", dirs_exist_ok=True)

    def channel(self, name: str, folder: Path) -> None:
        """Give every host the same channel."""
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for host in self.all:
            host.tree.channel(name, files)

    def start(self, *names: str, env: Mapping[str, str] | None = None, options: Sequence[str] = ()) -> None:
        """Start the named hosts, or all of them."""
        for host in self.all:
            if not names or host.name in names:
                variables = [part for name, value in (env or {}).items() for part in ("-e", f"{name}={value}")]
                host.container = Running(
                    self._image,
                    "train",
                    options=[
                        *("--network", self._network, "--network-alias", host.name, "--hostname", host.name),
                        *("-v", f"{host.tree.base}:/opt/ml", "-e", "TRAINING_JOB_NAME=job-1"),
                        *variables,
                        *self._options,
                        *options,
                    ],
                )

    def run(self, seconds: float = 480, env: Mapping[str, str] | None = None) -> list[int | None]:
        """Start all, wait for all, return the exit codes in the order of names."""
        self.start(env=env)
        return self.wait(seconds)

    def wait(self, seconds: float = 480) -> list[int | None]:
        """Wait until every host has ended; the exit codes in the order of names."""
        try:
            docker("wait", *(host.running.id for host in self.all), seconds=seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not all hosts have ended within {seconds:g} s\n{self.log}") from None
        return [host.exit_code for host in self.all]

    def wait_for_line(self, name: str, text: str, seconds: float = 300) -> None:
        """Wait until a line appears in one host's log."""
        self[name].running.wait_for_line(text, seconds)

    def terminate(self, *names: str) -> None:
        """SIGTERM, as the platform stops a job."""
        for host in self.all:
            if not names or host.name in names:
                docker("kill", "--signal", "TERM", host.running.id)

    def kill(self, name: str) -> None:
        """A host that is gone at once."""
        docker("kill", "--signal", "KILL", self[name].running.id)

    @property
    def log(self) -> str:
        """Every host's log, for messages."""
        return "\n".join(f"--- {host.name} ({host.exit_code})\n{host.log}" for host in self.all)

    def document(self, name: str, path: str) -> object:
        """A JSON file that a host's script wrote."""
        return json.loads((self[name].tree.base / path).read_text(encoding="utf-8"))
