"""Say why a job failed: the failure file, at most 1,024 characters, the reason first.

Source: SageMaker developer guide, "How Amazon SageMaker AI Signals Algorithm Success and Failure".
"""

import re
import signal
from dataclasses import replace
from pathlib import Path

from sagemaker_byoc.child import Outcome

LIMIT = 1024
_HEADLINE = 600
_FAREWELL_LINES = 5
_LEFT_THREAD = "terminate called without an active exception"
_TRACEBACK = "Traceback (most recent call last):"
_GROUP = "  + Exception Group Traceback (most recent call last):"
_GROUP_MARGIN = re.compile(r"^\s*[|+] ?", re.MULTILINE)
_RANK_PREFIX = re.compile(
    r"^\[rank\d+\]: ?", re.MULTILINE
)  # PyTorch's, on every line of a distributed script's traceback
_ERROR_LINE = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Warning)(: |$)")
_CHAINED = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)
_PYTHON = re.compile(r'File "[^"]*(/lib/python3[^"]*|<frozen [^"]*)"')


def write_failure(path: Path, text: str) -> None:
    """Write the reason, unless the user's script has written its own. An unwritable folder is told on stderr."""
    try:
        if path.exists() and path.stat().st_size > 0:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text[:LIMIT], encoding="utf-8", errors="replace")
    except OSError as error:
        print(f"sagemaker-byoc: the failure reason could not be written to {path}: {error}", flush=True)


def failure_reason(outcome: Outcome, script: str, out_of_memory: str | None = None) -> str:
    """The exception and the user's frames if a traceback was printed, else the exit and the last lines printed.

    `out_of_memory` is what the kernel says about memory, and comes first: it is the reason for all the rest.
    """
    if out_of_memory:
        rest = failure_reason(replace(outcome, stopped=True), script)
        return _clip(f"{_clip(out_of_memory, _HEADLINE)}\n{rest}", LIMIT)
    tail = _RANK_PREFIX.sub("", outcome.stderr_tail.decode("utf-8", errors="replace"))
    if 0 < outcome.exit_code <= 128 and _TRACEBACK in tail:
        return _from_traceback(tail)
    return _from_exit(outcome, script, tail)


def ends_in_traceback(stderr_tail: bytes) -> bool:
    """Whether an uncaught exception's traceback is the last thing printed, but for a few lines of farewell."""
    text = _RANK_PREFIX.sub("", stderr_tail.decode("utf-8", errors="replace"))
    _, found, last = text.rpartition(_TRACEBACK)
    return bool(found) and len(_split_traceback(last)[1].splitlines()) <= _FAREWELL_LINES


def _from_traceback(tail: str) -> str:
    before, _, last = tail.rpartition(_GROUP if _GROUP in tail else _TRACEBACK)
    if _GROUP in tail:
        last = _GROUP_MARGIN.sub("", last)
    frames, exception = _split_traceback(last)
    parts = [_clip(exception, _HEADLINE)]
    cause = _cause(before)
    if cause:
        parts.append(_clip(f"caused by {cause}", 150))
    return _clip("\n".join(parts + _fit(frames, LIMIT - sum(len(part) + 1 for part in parts))), LIMIT)


def _split_traceback(text: str) -> tuple[list[str], str]:
    """The frames of a traceback, each with its source line, and the exception's own text after them."""
    frames: list[str] = []
    lines = text.strip("\n").splitlines()
    for index, line in enumerate(lines):
        if line.startswith('  File "'):
            frames.append(line)
        elif line.startswith("    ") and frames:
            if not set(line.strip()) <= set("~^"):
                frames[-1] += "\n" + line
        elif line.strip() and not line.startswith(" "):
            return frames, "\n".join(lines[index:]).strip()
    return frames, "the script raised an exception whose text was not printed"


def _cause(before: str) -> str:
    """The headline of the exception that this one was raised from or while handling, if any."""
    if not before.rstrip().endswith(_CHAINED) or _TRACEBACK not in before:
        return ""
    _, exception = _split_traceback(before.rpartition(_TRACEBACK)[2])
    return exception.splitlines()[0]


def _fit(frames: list[str], room: int) -> list[str]:
    """As many of the user's own frames as fit, the innermost ones kept, in the order Python prints them."""
    own = [frame for frame in frames if not _PYTHON.search(frame)] or frames
    kept: list[str] = []
    for frame in reversed(own):
        if sum(len(line) + 1 for line in kept) + len(frame) + 1 > room:
            break
        kept.insert(0, frame)
    return kept


def _from_exit(outcome: Outcome, script: str, tail: str) -> str:
    lines = [line for line in tail.splitlines() if line.strip(" -=*")]  # rules around a message say nothing
    headline = f"{script} {_describe_exit(outcome)}"
    if outcome.exit_code == 128 + signal.SIGABRT and _LEFT_THREAD in tail:
        headline += (
            "; a thread was left running at its end, as PyTorch's is when the last line of a distributed script is not "
            "torch.distributed.destroy_process_group()"
        )
    if not lines:
        return headline
    if outcome.exit_code == 1 and _ERROR_LINE.match(lines[-1]):
        # A syntax error in the script itself is printed without the traceback's first line.
        return _clip("\n".join([_clip(lines[-1], _HEADLINE), *lines[-6:-1]]), LIMIT)
    # The last line is the likely reason: sys.exit("text"), a syntax error, a shell's complaint.
    earlier = lines[-16:-1]
    text = f"{headline}: {_clip(lines[-1], _HEADLINE)}"
    while earlier and len(text) + len("\n".join(earlier)) + 1 > LIMIT:
        earlier.pop(0)
    return _clip("\n".join([text, *earlier]), LIMIT)


def _describe_exit(outcome: Outcome) -> str:
    if outcome.exit_code <= 128:
        return f"ended with exit code {outcome.exit_code}"
    try:
        name = signal.Signals(outcome.exit_code - 128).name
    except ValueError:
        return f"ended with exit code {outcome.exit_code}"
    if name == "SIGKILL" and not outcome.stopped:
        return f"was killed by SIGKILL (exit code {outcome.exit_code}), as the kernel does when memory runs out"
    return f"was ended by {name} (exit code {outcome.exit_code})"


def _clip(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
