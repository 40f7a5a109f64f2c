"""What a verb prints: one document for a machine or lines for a person, and where containers' bytes go."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

from local_sagemaker.engines import EngineName, choose_engine
from local_sagemaker.errors import UsageError
from local_sagemaker.progress import say

if TYPE_CHECKING:
    from local_sagemaker.engines import Engine


def choose(engine: EngineName, network: str = "bridge") -> Engine:
    """Connect to an engine, and say what it cannot show."""
    chosen = choose_engine(engine)
    for sentence in chosen.leaves_out:
        say(f"{chosen.name} engine: {sentence}")
    if network == "none" and chosen.name == "process":
        raise UsageError(
            "--network none with the process engine", "a plain process cannot be isolated", "use --engine docker"
        )
    return chosen


def log_stream(as_json: bool) -> BinaryIO:
    """Where a container's bytes go: standard output belongs to the document where there is one."""
    return sys.stderr.buffer if as_json else sys.stdout.buffer


def emit(document: dict[str, Any], as_json: bool, *lines: str) -> None:
    """Print a result: the document for a machine, or the lines for a person."""
    print(json.dumps(document, indent=2) if as_json else "\n".join(lines), end="\n" if as_json or lines else "")
    sys.stdout.flush()


def json_ready(document: Any) -> Any:
    """Turn the paths of a plan into strings."""
    return json.loads(json.dumps(document, default=str))
