"""What pip prints when it fails, in sentences that say what to do."""

import re
from dataclasses import dataclass
from pathlib import Path

_NO_NETWORK = (
    *("Failed to establish a new connection", "Temporary failure in name resolution", "Name or service not known"),
    *("Network is unreachable", "Connection refused", "ConnectTimeoutError", "Read timed out", "Could not connect"),
)
_NOT_FOUND = r"(?:No matching distribution found for|satisfies the requirement) (?P<what>[^\s(]+)"
_CONFLICT = r"The user requested (?:\(constraint\) )?(?P<what>\S+)"
_NO_RIGHT = ("Permission denied", "Read-only file system")


@dataclass(frozen=True)
class PipFailure:
    """What could not be installed, empty where pip does not say it, and why, from its colon or full stop on."""

    what: str
    reason: str


def explain(output_tail: str, folder: Path) -> PipFailure:
    """The cause in the end of pip's output; `folder` is where the packages were to go."""
    found = re.search(_NOT_FOUND, output_tail)
    what = found["what"].rstrip(".,;") if found else ""
    return PipFailure(what, _reason(output_tail, folder, found is not None))


def _reason(output: str, folder: Path, not_found: bool) -> str:
    at_build = "install the packages when the image is built"
    if "No module named pip" in output:
        reason = ": this image has no pip. Install the packages when the image is built."
    elif any(sign in output for sign in _NO_NETWORK):
        reason = (
            ": no package index answers, as under network isolation or in a VPC without a way out. Install the "
            "packages when the image is built (code/requirements.txt beside the code, then `byoc build`), put their "
            "wheels beside the file (`--no-index` and `--find-links wheels` in it), or set PIP_INDEX_URL to an index "
            "that this container reaches."
        )
    elif not_found:
        reason = ": the index has no such version for this Python. Mend the line, or name another index in it."
    elif "ResolutionImpossible" in output:
        asked = ", ".join(dict.fromkeys(re.findall(_CONFLICT, output)))
        reason = f": these cannot be had together: {asked}. Mend the lines so that they agree with what is installed."
    elif "No space left on device" in output:
        reason = f": there is no space left in {folder}. Make room, or {at_build}."
    elif any(sign in output for sign in _NO_RIGHT):
        reason = (
            f": {_error_line(output)}. The image has a package in another version, and cannot be written to: ask for "
            f"the version that it has, or {at_build}."
        )
    else:
        line = _error_line(output)
        told = f": {line}" if line else ""
        reason = f"{told}. The log has all of pip's output; mend the file, or {at_build}."
    return reason


def _error_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if "error" in line.lower()]
    return lines[0].removeprefix("ERROR: ")[:300].rstrip(".") if lines else ""
