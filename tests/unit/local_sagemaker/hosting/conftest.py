"""Containers in this process, a router before them, and boto3 as its client."""

import http.client
import socket

import pytest
from local_sagemaker.hosting.open_files import allow_open_files
from local_sagemaker.hosting.router_thread import RouterThread
from local_sagemaker.hosting.routing import RoutingTable, Variant

from tests.unit.local_sagemaker.hosting.containers import Containers, echo


@pytest.fixture
def containers():
    started = Containers()
    yield started
    started.close()


@pytest.fixture(autouse=True, scope="session")
def _open_files():
    """As an endpoint's runner: the router and all its clients and containers are one process here."""
    allow_open_files()


class Endpoint:
    """A router and its port."""

    def __init__(self, router):
        self.router = router
        self.port = router.start()
        self.url = f"http://127.0.0.1:{self.port}"

    def boto3(self, **config):
        import boto3
        from botocore.config import Config

        return boto3.client(
            "sagemaker-runtime",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="nobody",
            aws_secret_access_key="nothing",
            config=Config(retries={"max_attempts": 0}, read_timeout=60, **config),
        )

    def post(self, path="/invocations", body=b"{}", **headers):
        """Status, headers and body of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request("POST", path, body, named)
            found = connection.getresponse()
            return found.status, found.headers, found.read()
        finally:
            connection.close()

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def metrics(self, variant="blue", fleet=""):
        return self.router.metrics()[variant, fleet]


@pytest.fixture
def make_endpoint():
    """An endpoint called `digits` by its variants (or a whole table)."""
    made = []

    def make(*variants, table=None, **options):
        endpoint = Endpoint(RouterThread("digits", table or RoutingTable(variants), **options))
        made.append(endpoint)
        return endpoint

    yield make
    for endpoint in made:
        endpoint.router.stop(0)


@pytest.fixture
def one(containers, make_endpoint):
    """An endpoint of one variant `blue` with one container, which answers as ``handler`` does."""

    def make(handler=echo, **options):
        container = containers.start(handler)
        return make_endpoint(Variant("blue", (container.instance(),)), **options), container

    return make
