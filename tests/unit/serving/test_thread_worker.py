"""gunicorn's answers as the worker with threads writes them."""

from types import SimpleNamespace

import pytest
from sagemaker_byoc.serving.thread_worker import JOINED_BYTES, WholeResponse


class Connection(list[bytes]):
    """Remembers each sending."""

    def sendall(self, piece: bytes) -> None:
        self.append(piece)


def answering(*headers: tuple[str, str]) -> tuple[WholeResponse, Connection]:
    request = SimpleNamespace(version=(1, 1), method="POST", should_close=lambda: False)
    connection = Connection()
    response = WholeResponse(request, connection, SimpleNamespace(protocol="http", sendfile=None, is_ssl=False))
    response.start_response("200 OK", list(headers))
    return response, connection


def test_head_and_body_of_an_answer_leave_together() -> None:
    """13.3: a worker that is killed has answered or has not."""
    response, connection = answering(("Content-Type", "text/plain"), ("Content-Length", "2"))
    response.write(b"ok")
    response.close()
    (sent,) = connection
    assert sent.startswith(b"HTTP/1.1 200 OK\r\n")
    assert sent.endswith(b"\r\n\r\nok")
    assert b"Server:" not in sent


def test_pieces_of_a_stream_leave_one_by_one() -> None:
    """15.11: the head with the first one."""
    response, connection = answering(("Content-Type", "text/plain"))
    for piece in (b"one", b"two"):
        response.write(piece)
    response.close()
    assert len(connection) == 3
    assert connection[0].endswith(b"\r\n\r\n3\r\none\r\n")
    assert connection[1] == b"3\r\ntwo\r\n"
    assert connection[-1] == b"0\r\n\r\n"


def test_head_without_a_body_leaves_too() -> None:
    """15.5."""
    response, connection = answering(("Content-Length", "0"))
    response.close()
    assert b"".join(connection).endswith(b"Content-Length: 0\r\n\r\n")


def test_large_body_is_not_copied_for_it() -> None:
    """15.10: it is sent as it is, after the head."""
    body = bytes(JOINED_BYTES + 1)
    response, connection = answering(("Content-Length", str(len(body))))
    response.write(body)
    assert len(connection) == 2
    assert connection[1] is body


def test_what_is_no_body_is_an_error_after_the_head() -> None:
    """15.4: as gunicorn has it."""
    response, connection = answering(("Content-Length", "2"))
    with pytest.raises(TypeError):
        response.write("ok")  # type: ignore[arg-type]  # what an application may do
    assert len(connection) == 1
    assert response.sock is connection
