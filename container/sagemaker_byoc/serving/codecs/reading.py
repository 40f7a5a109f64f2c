"""What all readers of strangers' bytes share: what a library raises is the body's fault, and memory has a limit."""

import contextlib
import re
from collections.abc import Iterator

from sagemaker_byoc.errors import MalformedBody, RequestError

_ADDRESS = re.compile(" at 0x[0-9a-f]+")
DEFAULT_LIMIT = 512 * 2**20


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """A block in which a library reads the body; whatever it raises becomes MalformedBody."""
    try:
        yield
    except (RequestError, ModuleNotFoundError):
        raise
    except Exception as error:  # noqa: BLE001 - a library may raise anything over bytes made up to break it
        text = _ADDRESS.sub("", str(error)).rstrip(".") or type(error).__name__
        raise MalformedBody(f"the body is not {what} that may be loaded: {text}.") from None


def check_size(size: int, limit: int, what: str) -> None:
    """Raises MalformedBody where the body would take more than `limit` bytes of memory."""
    if size > limit:
        raise MalformedBody(
            f"the body is {what} that would take {size} bytes of memory; expected at most {limit}. Send it in parts."
        )


def as_text(body: bytes, charset: str, what: str) -> str:
    """The body as text, without a byte order mark. Raises MalformedBody."""
    try:
        return body.decode(charset).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise MalformedBody(f"the body is not valid {what}: not {charset} at byte {error.start}.") from None
    except (UnicodeError, ValueError) as error:
        raise MalformedBody(f"the body is not valid {what}: not {charset}: {error}.") from None
