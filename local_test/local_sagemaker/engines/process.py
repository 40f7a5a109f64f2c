"""Plain processes of this machine in place of containers: the same runtime, with a folder standing for /opt/ml."""

from __future__ import annotations

import importlib.util
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from local_sagemaker.engines.base import BASE_DIR, Chunk, ContainerPlan, FoundContainer, Limits, Mount, NetworkPlan
from local_sagemaker.engines.gpus import gpu_variables
from local_sagemaker.engines.process_marks import find_trees, mark
from local_sagemaker.engines.process_temporary import content_of, find_temporary, make_temporary, remove_temporary
from local_sagemaker.engines.process_tree import session_and_descendants
from local_sagemaker.errors import EngineMissingError, UsageError

LOOPBACK = "127.0.0.1"
CHUNK_BYTES = 65536
# What the image has on PATH, and its CMD.
OWN_COMMANDS = {"train", "serve", "default"}
IMAGE_DEFAULT = "default"
# How long the output of a stopped tree may stay open before it is killed for good, in seconds.
REAP_SECONDS = 10.0
POLL_SECONDS = 0.02
# What a surrounding job or a user's shell may have set for itself, and must not leak into this job.
PRIVATE_PREFIXES = ("SM_", "SAGEMAKER_", "TRAINING_JOB_", "BYOC_")


@dataclass(frozen=True)
class ProcessEngine:
    """Runs plans with this Python and this machine's installed packages."""

    name: str = "process"
    network_interface: str = "lo"
    leaves_out: tuple[str, ...] = (
        "no container: the job sees this machine's files, network and processes",
        "not the image: this Python and its packages run, and nginx only if it is on PATH",
        "/opt/ml is a folder named by SAGEMAKER_BASE_DIR, and channels are links to your own folders",
    )

    def has_image(self, reference: str) -> bool:  # noqa: ARG002 - the protocol has it
        """True: no image is needed."""
        return True

    def describe(self, plan: ContainerPlan) -> str:
        """The ``env ... python train`` command that ``start`` amounts to."""
        _refuse_isolation(plan)
        ours = _own_environment(plan, plan.port or 0)
        return shlex.join(["env", *(f"{key}={value}" for key, value in sorted(ours.items())), *_argv(plan)])

    def describe_network(self, plan: NetworkPlan) -> str:
        """Raises UsageError: hosts with names and addresses of their own are containers."""
        raise _no_network(plan)

    def network(self, plan: NetworkPlan) -> AbstractContextManager[Mapping[str, str]]:
        """Raises UsageError, as ``describe_network`` does."""
        raise _no_network(plan)

    def start(self, plan: ContainerPlan) -> RunningProcess:
        """Link the mounts below the base directory and start the runtime in a session of its own.

        Raises:
            EngineMissingError: if the runtime is not installed, or there is no GPU and the plan wants one.
            UsageError: if the port is taken, the plan asks for what only a container has, or its entrypoint cannot
                be executed.
        """
        _refuse_isolation(plan)
        argv = _argv(plan)
        for mount in plan.mounts:
            _link(mount, plan.base_directory)
        port = None if plan.port is None else free_port(plan.port)
        # As a container's /tmp it ends with it, also with one that is killed.
        temporary = make_temporary(plan.labels)
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(PRIVATE_PREFIXES)}
        try:
            process = subprocess.Popen(
                argv,
                cwd=plan.base_directory,
                env=inherited | _own_environment(plan, port, temporary),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            remove_temporary(temporary)
            raise UsageError(
                f"{argv[0]} cannot be executed: {error.strerror}",
                "the process engine finds an entrypoint on this machine, not in the image",
                "install it here, or use --engine docker",
            ) from error
        return RunningProcess(process, plan.name, port, plan.labels, temporary)

    def find(self, labels: Mapping[str, str | None]) -> list[FoundContainer]:
        """The trees that carry the labels; see ``Engine.find``. An ended process leaves nothing to be found."""
        return [FoundContainer(tree.name, tree.labels, True, None, tree.port) for tree in find_trees(labels)]

    def labels_of_all(self, labels: Mapping[str, str | None]) -> list[dict[str, str]]:
        """Those of the trees, for there are no networks; see ``Engine.labels_of_all``."""
        return [dict(tree.labels) for tree in find_trees(labels)]

    def remove_all(self, labels: Mapping[str, str | None]) -> int:
        """Kill the trees that carry the labels, until none is left; see ``Engine.remove_all``."""
        if not labels:
            raise ValueError("no labels")
        names: set[str] = set()
        temporary: set[Path] = set()
        limit = time.monotonic() + REAP_SECONDS
        while (trees := find_trees(labels)) and time.monotonic() < limit:
            for tree in trees:
                names.add(tree.name)
                for pid in tree.pids:
                    _signal(pid, signal.SIGKILL)
                if tree.temporary is not None:
                    temporary.add(tree.temporary)
            time.sleep(POLL_SECONDS)
        # A tree that ended by itself after its tool had been killed has left its folder too.
        for folder in {*temporary, *find_temporary(labels)}:
            remove_temporary(folder)
        return len(names)

    def give_back(self, directory: Path, image: str, labels: Mapping[str, str] | None = None) -> None:
        """Nothing to do: the process runs as the invoking user."""


class RunningProcess:
    """The runtime and every process below it."""

    def __init__(
        self, process: subprocess.Popen[bytes], name: str, port: int | None, labels: Mapping[str, str], temporary: Path
    ) -> None:
        self._process = process
        self._labels = dict(labels)
        self._temporary = temporary
        self.name = name
        self.port = port
        self.address = None if port is None else (LOOPBACK, port)
        self._ended = threading.Event()
        threading.Thread(target=self._await_end, name=f"wait-{process.pid}", daemon=True).start()

    def _await_end(self) -> None:
        self._process.wait()
        try:
            # A container ends with its first process; whatever that left behind ends now, or the log stays open.
            # A daemon has left the session and its parents: the mark tells whose it is.
            daemons = [pid for tree in find_trees(self._labels) if tree.name == self.name for pid in tree.pids]
            for pid in {*session_and_descendants(self._process.pid), *daemons}:
                _signal(pid, signal.SIGKILL)
            remove_temporary(self._temporary)
        finally:
            self._ended.set()

    def logs(self) -> Iterator[Chunk]:
        """Yield the raw bytes of both streams, which are one here, until the last process has closed them."""
        stream = self._process.stdout
        if stream is None:
            return
        with stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield Chunk("stdout", chunk)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; see ``Running.wait``."""
        if not self._ended.wait(timeout):
            raise TimeoutError
        code = self._process.returncode
        return 128 - code if code < 0 else code

    def stop(self, grace_seconds: float) -> int:
        """SIGTERM to the runtime, as to process 1 of a container; after the grace SIGKILL to its whole tree."""
        if not self._ended.is_set():
            _signal(self._process.pid, signal.SIGTERM)
            if not self._ended.wait(grace_seconds):
                _kill_tree(self._process.pid)
        return self.wait()

    def kill(self, number: int) -> None:
        """Send the signal to the runtime; SIGKILL goes to the whole tree, as it ends a whole container."""
        if not self._ended.is_set():
            _signal_first(self._process.pid, number)

    def remove(self) -> None:
        """Kill the tree if it runs."""
        if not self._ended.is_set():
            _kill_tree(self._process.pid)
        self._ended.wait(REAP_SECONDS)


def _signal_first(pid: int, number: int) -> None:
    if number == signal.SIGKILL:
        _kill_tree(pid)
    else:
        _signal(pid, number)


def _kill_tree(leader: int) -> None:
    tree = session_and_descendants(leader)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
    for pid in tree:
        _signal(pid, signal.SIGKILL)


def free_port(port: int) -> int:
    """Return ``port`` if it is free on 127.0.0.1, or any free one for 0.

    Raises:
        UsageError: if it is taken.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise UsageError(
                f"port {port} of {LOOPBACK} cannot be used: {error.strerror}",
                "an endpoint needs a free port",
                "choose another, or --port 0",
            ) from error
        return int(probe.getsockname()[1])


def runtime_directory() -> Path:
    """Where the package that runs inside of the image is installed on this machine.

    Raises:
        EngineMissingError: if it is not.
    """
    spec = importlib.util.find_spec("sagemaker_byoc")
    if spec is None or not spec.submodule_search_locations:
        raise EngineMissingError(
            "the package sagemaker_byoc is not installed in this Python",
            f"the process engine runs it with {sys.executable}",
            "run `pip install -e .` in the checkout, or use --engine docker",
        )
    return Path(spec.submodule_search_locations[0])


def _no_network(plan: NetworkPlan) -> UsageError:
    return UsageError(
        f"the process engine cannot make {plan.name}, the network of several hosts",
        "each host is a container with a name and an address of its own: that needs Docker",
        "use --engine docker, or --hosts 1",
    )


def _refuse_isolation(plan: ContainerPlan) -> None:
    if replace(plan.limits, gpus=None) != Limits():
        raise UsageError(
            "--shm-size, --memory or --cpus with the process engine",
            "a plain process has this machine's memory and cores",
            "use --engine docker, or leave them out",
        )
    if plan.read_only_root or plan.tmpfs or plan.user is not None or plan.publish:
        raise UsageError(
            "a read-only root, folders in memory, a user or further ports with the process engine",
            "a plain process has this machine's files and ports, and your rights",
            "use --engine docker, or leave them out",
        )


def _argv(plan: ContainerPlan) -> list[str]:
    words = [*plan.entrypoint[:1], *plan.words]
    first, *others = (_place(plan, word) for word in words or [IMAGE_DEFAULT])
    if not plan.entrypoint and first in OWN_COMMANDS:
        return [sys.executable, str(runtime_directory() / first), *others]
    return [sys.executable if first in {"python", "python3"} else first, *others]


def _place(plan: ContainerPlan, word: str) -> str:
    """The word, or the path on this machine if it is one below /opt/ml."""
    return str(plan.base_directory) + word.removeprefix(BASE_DIR) if f"{word}/".startswith(f"{BASE_DIR}/") else word


def _own_environment(plan: ContainerPlan, port: int | None, temporary: Path | None = None) -> dict[str, str]:
    # The runtime's folder leads PYTHONPATH, because a checkout may be used without being installed.
    python_path = [str(runtime_directory().parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"PYTHONPATH": os.pathsep.join(python_path), "PYTHONUNBUFFERED": "1", **plan.environment}
    environment |= mark(plan.name, plan.labels, temporary) | gpu_variables(plan.limits.gpus)
    environment["SAGEMAKER_BASE_DIR"] = str(plan.base_directory)
    if temporary is not None:
        environment["TMPDIR"] = plan.environment.get("TMPDIR", str(content_of(temporary)))
    if port is not None:
        environment["SAGEMAKER_BIND_TO_PORT"] = str(port)
        environment["BYOC_BIND_HOST"] = LOOPBACK
    return environment


def _link(mount: Mount, base_directory: Path) -> None:
    place = base_directory / PurePosixPath(mount.target).relative_to(BASE_DIR)
    if place.resolve() == mount.source.resolve():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(mount.source, target_is_directory=True)


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
