"""The folder of a running server: sockets, marks and nginx's configuration, all gone at its end."""

import re
import tempfile
from pathlib import Path

from sagemaker_byoc.errors import PlatformInputError

# The kernel takes 107 bytes for a socket's path, and the longest name here is "/slot-127.999999.hidden".
LONGEST_PATH = 84
# Any other character would mean something to nginx's configuration, or to its addresses of sockets.
_PLAIN = re.compile(r"[\w./+~-]+", re.ASCII)
_OTHER_PLACES = ("/tmp", "/dev/shm")  # noqa: S108 - a read-only container may have nothing else


def make_run_folder() -> Path:
    """A new folder for sockets: in the temporary directory, unless its path suits none; else in /tmp or /dev/shm.

    Raises:
        PlatformInputError: where no folder can be made at all.
    """
    reasons = []
    for place in (None, *_OTHER_PLACES):
        try:
            folder = Path(tempfile.mkdtemp(prefix="sagemaker-byoc-", dir=place))
        except OSError as error:
            reasons.append(str(error))
            continue
        if suits_sockets(folder):
            return folder
        folder.rmdir()
        reasons.append(f"{folder} has over {LONGEST_PATH} bytes, or other characters than letters, digits and ._/+~-")
    raise PlatformInputError(
        f"no folder for sockets can be made in the temporary directory, in /tmp or in /dev/shm: {'; '.join(reasons)}; "
        "expected one of the three to be writable; mount a tmpfs on /tmp."
    )


def suits_sockets(folder: Path) -> bool:
    """Whether sockets with names of ours can be made in the folder, and nginx can be told of them."""
    return len(bytes(folder)) <= LONGEST_PATH and _PLAIN.fullmatch(str(folder)) is not None
