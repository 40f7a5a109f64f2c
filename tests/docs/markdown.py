"""Read what the tests need from Markdown: command blocks with their markers, links and headings."""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
_MARKER = re.compile(r"<!-- not run: (?P<reason>[^>]+) -->\s*\Z")
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(?P<text>.+?) *$", re.MULTILINE)


@dataclass(frozen=True)
class CommandBlock:
    """A fenced block of commands: its line in the file, its shell script, and why it is not run, if it is not."""

    line: int
    script: str
    not_run: str | None


def command_blocks(text: str) -> list[CommandBlock]:
    """Every ```console and ```bash block. In a console block only the lines after `$` are typed by the reader."""
    blocks = []
    for match in _FENCE.finditer(text):
        if match["language"] not in ("console", "bash"):
            continue
        marker = _MARKER.search(text[: match.start()])
        script = _typed(match["text"]) if match["language"] == "console" else match["text"]
        line = text.count("\n", 0, match.start()) + 1
        blocks.append(CommandBlock(line, script, marker["reason"] if marker else None))
    return blocks


def links(text: str) -> list[str]:
    """The targets of all links outside of fenced blocks."""
    return [match["target"] for match in _LINK.finditer(_FENCE.sub("", text))]


def anchors(path: Path) -> set[str]:
    """The anchors that a document's headings have."""
    headings = (match["text"] for match in _HEADING.finditer(_FENCE.sub("", path.read_text(encoding="utf-8"))))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _typed(text: str) -> str:
    """What stands after `$`, and the lines that a backslash or an open quotation mark carries on."""
    lines: list[str] = []
    command, continued = "", False
    for raw in textwrap.dedent(text).splitlines():
        if raw.startswith("$ ") or continued:
            lines.append(raw if continued else raw.removeprefix("$ "))
            command = lines[-1] if not continued else command + "\n" + raw
            continued = command.endswith("\\") or command.count('"') % 2 == 1
    return "\n".join(lines) + "\n"
