"""Ports for servers that tests start."""

import socket


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on, and that nobody who asks for any port is given for a minute.

    What is merely free is given away again in one of 14,000 cases, by the test beside this one, before its server
    listens. What a connection has just ended on is not, and yet servers may listen there: they set SO_REUSEADDR.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            listener.accept()[0].close()
    return port
