"""Horovod's key-value server, where Gloo ranks exchange their addresses; one process, on the leader."""

import sys
from typing import Any


def main() -> int:
    """Serve until ended by a signal: `python -m … PORT HOST:SLOTS,HOST:SLOTS`."""
    port, listed = int(sys.argv[1]), sys.argv[2]
    server = make_server(port, listed)
    server.serve_forever()
    return 0


def make_server(port: int, listed: str) -> Any:
    """The server with the plan of ranks in it. Raises OSError when the port is taken."""
    from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts  # noqa: PLC0415
    from horovod.runner.http.http_server import RendezvousHandler, RendezvousHTTPServer  # noqa: PLC0415

    hosts = parse_hosts(listed)
    server = RendezvousHTTPServer(("0.0.0.0", port), RendezvousHandler, False)  # noqa: S104 - the job's own network
    server.init(get_host_assignments(hosts, sum(host.slots for host in hosts)))
    return server


if __name__ == "__main__":
    raise SystemExit(main())
