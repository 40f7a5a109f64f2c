"""A container of the Docker engine that was started: its output, its end, its address, its removal."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from http import HTTPStatus
from ipaddress import ip_address, ip_network
from typing import Any

import docker.errors
from requests.exceptions import RequestException
from urllib3.exceptions import MaxRetryError

from local_sagemaker.engines.base import SERVING_PORT, Chunk
from local_sagemaker.engines.docker_command import LOOPBACK
from local_sagemaker.engines.docker_log import BROKEN, ENGINE_PAUSE_SECONDS, ENGINE_SECONDS, Stream, rest_of_log
from local_sagemaker.errors import EngineMissingError

# What is busy for a moment is removed later; and another may be removing it.
REMOVAL_SECONDS = 30.0
# From the last byte of a container's output to its end; a connection that breaks earlier has not told all.
END_SECONDS = 5.0
KILLED = 137


class DockerContainer:
    """A started container, with a thread that waits for its end."""

    def __init__(
        self,
        container: Any,
        chunks: Iterator[tuple[bytes | None, bytes | None]],
        container_port: int,
        network_settings: Mapping[str, Any],
    ) -> None:
        self._container = container
        self._container_port = container_port
        self._network_settings = network_settings
        self._chunks = chunks
        self._was_away = False
        self._ended = threading.Event()
        self._exit_code = KILLED
        self._lost: EngineMissingError | None = None
        self.name = str(container.name)
        self.port = published_port(network_settings, container_port)
        threading.Thread(target=self._await_end, name=f"wait-{container.name}", daemon=True).start()

    def _await_end(self) -> None:
        try:
            self._exit_code = self._ask_for_end()
        except docker.errors.NotFound:
            self._exit_code = KILLED  # removed behind our back; nobody can tell how it ended
        except (docker.errors.DockerException, RequestException) as error:
            self._lost = EngineMissingError(
                f"the Docker engine has not answered for {ENGINE_SECONDS:g} s: {error}",
                f"nobody can tell how the container {self.name} ended, or whether it has",
                "see that the engine runs (`docker version`), and run this again: `byoc ps` removes what is left",
            )
        finally:
            self._ended.set()

    def _ask_for_end(self) -> int:
        """Wait for the end, also while the engine is started again; it knows then how the container ended."""
        limit: float | None = None
        while True:
            asked = time.monotonic()
            try:
                return int(self._container.wait(timeout=None)["StatusCode"])
            except docker.errors.NotFound:
                raise
            except (docker.errors.DockerException, RequestException) as error:
                self._was_away = True
                if time.monotonic() - asked > ENGINE_SECONDS and _had_answered(error):
                    limit = None  # it is not away since the last time, but again
                limit = limit or time.monotonic() + ENGINE_SECONDS
                if time.monotonic() > limit:
                    raise
                time.sleep(ENGINE_PAUSE_SECONDS)

    def logs(self) -> Iterator[Chunk]:
        """Yield the raw bytes of both streams until the container ends, also while the engine is started again."""
        seen: dict[Stream, int] = {"stdout": 0, "stderr": 0}
        broken = False
        try:
            for stdout, stderr in self._chunks:
                if stdout:
                    seen["stdout"] += len(stdout)
                    yield Chunk("stdout", stdout)
                if stderr:
                    seen["stderr"] += len(stderr)
                    yield Chunk("stderr", stderr)
        except BROKEN:
            broken = True
        if not self._ended.wait(END_SECONDS) or self._was_away or broken:
            yield from rest_of_log(self._container, seen, self._ended)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; see ``Running.wait``."""
        if not self._ended.wait(timeout):
            raise TimeoutError
        if self._lost is not None:
            raise self._lost
        return self._exit_code

    def stop(self, grace_seconds: float) -> int:
        """SIGTERM, after the grace SIGKILL, as ``docker stop`` does."""
        if not self._ended.is_set():
            with suppress(docker.errors.APIError, RequestException):  # it may end by itself meanwhile
                self._container.kill(signal="SIGTERM")
            if not self._ended.wait(grace_seconds):
                with suppress(docker.errors.APIError, RequestException):
                    self._container.kill(signal="SIGKILL")
        return self.wait()

    @cached_property
    def address(self) -> tuple[str, int] | None:
        """Its own address where this machine is on its network, else the published port; see ``Running.address``."""
        for network in self._network_settings["Networks"].values():
            if is_on_link(network["IPAddress"], network["IPPrefixLen"]):
                return network["IPAddress"], self._container_port
        return None if self.port is None else (LOOPBACK, self.port)

    def kill(self, number: int) -> None:
        """Send a signal to process 1; see ``Running.kill``."""
        with suppress(docker.errors.APIError):  # it may have ended
            self._container.kill(signal=number)

    def remove(self) -> None:
        """Kill it if it runs, and delete it with its anonymous volumes."""
        remove_container(self._container)


def _had_answered(error: Exception) -> bool:
    """Whether the engine went away in the middle of an answer; it was not even reached where all tries failed."""
    return not (error.args and isinstance(error.args[0], MaxRetryError))


def is_on_link(address: str, prefix: int) -> bool:
    """Whether this machine has an address of its own in the network of ``address``, so that no gateway is between.

    It has on a bridge of the local engine; it has not where the engine runs in a virtual machine or without root.
    """
    if not address:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))  # sends nothing: the system chooses the way
        except OSError:
            return False
        own = str(probe.getsockname()[0])
    return ip_address(own) in ip_network(f"{address}/{prefix}", strict=False)


def remove_container(container: Any) -> None:
    """Kill it if it runs, and delete it with its anonymous volumes; fine if it is gone.

    Raises:
        EngineMissingError: if the engine has not done it after ``REMOVAL_SECONDS``.
    """
    limit = time.monotonic() + REMOVAL_SECONDS
    while True:
        try:
            container.remove(force=True, v=True)
        except docker.errors.NotFound:
            return
        except (docker.errors.APIError, RequestException) as error:
            if getattr(error, "status_code", None) == HTTPStatus.CONFLICT:  # another removes it at this moment
                with suppress(docker.errors.DockerException, RequestException):
                    container.wait(condition="removed", timeout=REMOVAL_SECONDS)
                return
            if time.monotonic() > limit:
                raise EngineMissingError(
                    f"the Docker engine does not remove the container {container.name}: {error}",
                    f"expected it to be gone within {REMOVAL_SECONDS:g} s",
                    f"see that the engine runs (`docker version`), then `docker rm --force {container.name}`",
                ) from error
            time.sleep(ENGINE_PAUSE_SECONDS)
        else:
            return


def main_port(settings: Mapping[str, Any]) -> int:
    published = [int(key.partition("/")[0]) for key, bindings in (settings["Ports"] or {}).items() if bindings]
    return SERVING_PORT if SERVING_PORT in published else min(published, default=SERVING_PORT)


def published_port(settings: Mapping[str, Any], container_port: int) -> int | None:
    bindings = (settings["Ports"] or {}).get(f"{container_port}/tcp")
    return int(bindings[0]["HostPort"]) if bindings else None
