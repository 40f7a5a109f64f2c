"""Folders of any name: a container's sockets and configuration are put where they work."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from tests.support.serving import Endpoint


def test_the_name_of_the_temporary_directory_does_not_matter(
    serve: Callable[..., AbstractContextManager[Endpoint]], tmp_path: Path
) -> None:
    """13.11: a long name is too long for sockets, and a blank or a semicolon would mean something to nginx."""
    temporary = tmp_path / ("a blank; and " + "long" * 30)
    temporary.mkdir()
    with serve("echoes", {"TMPDIR": str(temporary)}) as endpoint:
        endpoint.wait_until_ready()
        assert endpoint.invoke(b"[1]").status == 200
        endpoint.terminate()
        assert endpoint.wait() == 0
    assert list(temporary.iterdir()) == []
