"""What the answers of an endpoint were worth: captured answers joined with the truth by their inference ids."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_sagemaker.errors import UsageError

ID, LABEL = "inferenceId", "label"


@dataclass(frozen=True)
class Judged:
    """How many answers of a variant have a known truth, and how many agree with it."""

    judged: int = 0
    right: int = 0


def read_truth(path: Path) -> dict[str, str]:
    """The label of each inference id, of a CSV file with a header or of JSON Lines, both with inferenceId and label.

    Raises:
        UsageError: naming the line, if the file is neither.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            csv.field_size_limit(max(csv.field_size_limit(), path.stat().st_size))  # a column may hold whole texts
            rows: Iterator[Any] = (
                csv.DictReader(file) if path.suffix == ".csv" else map(json.loads, filter(str.strip, file))
            )
            truth = {}
            for number, row in enumerate(rows, 1):
                if not isinstance(row, dict) or row.get(ID) is None or row.get(LABEL) is None:
                    raise UsageError(
                        f"{path}: record {number} has no {ID} or no {LABEL}",
                        "expected a CSV with these two columns, or JSON Lines with these members",
                        "correct the file",
                    )
                truth[str(row[ID])] = normal(row[LABEL])
            return truth
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read: {error}", "expected CSV or JSON Lines", "correct the file") from error


def normal(value: Any) -> str:
    """A label in one spelling, so that 3, 3.0 and "3" are the same."""
    text = value.strip() if isinstance(value, str) else json.dumps(value, sort_keys=True)
    try:
        number = float(text)
    except ValueError:
        return text.strip('"')
    return str(int(number)) if number.is_integer() else repr(number)


@dataclass(frozen=True)
class Captures:
    """Where a variant's captured requests and answers are.

    Attributes:
        folder: ``DESTINATION/ENDPOINT/VARIANT``.
        staging: a folder of parts that are no objects yet, and what a part's name begins with.
    """

    folder: Path
    staging: tuple[Path, str] | None = None

    def files(self) -> Iterator[Path]:
        """Every file, parts first: one that becomes an object meanwhile is met again, and not missed."""
        if self.staging is not None:
            folder, beginning = self.staging
            yield from sorted(path for path in folder.glob("*.jsonl") if path.name.startswith(beginning))
        yield from sorted(self.folder.rglob("*.jsonl"))


def judge(captures: Captures, truth: Mapping[str, str], member: str | None = None) -> Judged:
    """Join a variant's captured answers with the truth.

    Args:
        captures: where they are.
        truth: by inference id.
        member: of an answer that is a JSON object; None for its ``label``, ``prediction`` or only member.
    """
    judged = right = 0
    for identity, answer in read_answers(captures):
        if identity in truth:
            judged += 1
            right += predicted(answer, member) == truth[identity]
    return Judged(judged, right)


def read_answers(captures: Captures) -> Iterator[tuple[str, str]]:
    """Inference id and text of each captured answer that has both, each event once."""
    seen = set()
    for document in _events(captures):
        event, output = document["eventMetadata"], document["captureData"].get("endpointOutput")
        if event["eventId"] not in seen and output is not None and event.get("inferenceId") is not None:
            seen.add(event["eventId"])
            yield event["inferenceId"], _text(output)


def _events(captures: Captures) -> Iterator[dict[str, Any]]:
    for file in captures.files():
        try:
            lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        except FileNotFoundError:  # it became an object
            continue
        yield from (json.loads(line) for line in lines if line.endswith("\n"))


def _text(side: Mapping[str, str]) -> str:
    if side["encoding"] == "BASE64":
        return base64.b64decode(side["data"]).decode(errors="replace")
    return side["data"]


def predicted(answer: str, member: str | None = None) -> str:
    """The label that an answer gives: of JSON its value, or the first of its list, or a member of its object."""
    try:
        value = json.loads(answer)
    except ValueError:
        return normal(answer.strip().splitlines()[0] if answer.strip() else "")
    while isinstance(value, dict | list) and value:
        value = value[0] if isinstance(value, list) else _of_object(value, member)
    return normal(value)


def _of_object(value: Mapping[str, Any], member: str | None) -> Any:
    names = (member,) if member is not None else ("label", "prediction", "predictions", *value)
    return next((value[name] for name in names if name in value), None)
