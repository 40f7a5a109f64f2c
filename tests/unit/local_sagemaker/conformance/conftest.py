"""A stranger's server as a process of this machine, with the faults that a test names."""

import os
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest
from local_sagemaker.conformance.invocations import Server
from local_sagemaker.conformance.subject import Payload

from tests.support.places import REPOSITORY
from tests.support.ports import free_port
from tests.support.waiting import wait_until

STRANGER = REPOSITORY / "tests" / "images" / "stranger" / "serve"
NUMBERS = Payload(b"1,2,3\n", "text/csv")


def listens(address):
    """Whether somebody takes connections."""
    with socket.socket() as probe:
        return probe.connect_ex(address) == 0


@pytest.fixture
def stranger(tmp_path):
    """Start the server; its block gets what probes ask."""

    @contextmanager
    def serve(*faults, payload=NUMBERS):
        port = free_port()
        (tmp_path / "model.json").write_text("{}")
        told = {"FAULTS": ",".join(faults), "MODEL_DIR": str(tmp_path), "SAGEMAKER_BIND_TO_PORT": str(port)}
        with subprocess.Popen(
            [sys.executable, STRANGER], env={**os.environ, **told}, stderr=subprocess.DEVNULL
        ) as process:
            try:
                address = ("127.0.0.1", port)
                wait_until(lambda: listens(address), "the stranger", 60)
                yield Server(address, payload, lambda: process.poll() is None, lambda: "log: (not kept)")
            finally:
                process.kill()

    return serve
