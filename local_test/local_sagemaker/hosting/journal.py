"""What a person may ask about an endpoint beyond the API: its address, its instances, and what happened to it.

``running.json`` says how it is now; ``events.log`` has a line for each thing that happened.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_sagemaker.errors import UsageError
from local_sagemaker.files import write_whole

if TYPE_CHECKING:  # verbs that only read pay for neither
    from local_sagemaker.hosting.fleet import Fleet
    from local_sagemaker.hosting.update import Update

RUNNING_FILE = "running.json"
EVENTS_FILE = "events.log"
# Captured requests and answers that are no objects yet.
CAPTURE_FOLDER = "capture"


@dataclass
class Journal:
    """An endpoint's ``running.json`` and ``events.log``; ``report`` is told each event too."""

    directory: Path
    report: Callable[[str], None]
    _written: dict[str, Any] | None = None

    def event(self, text: str) -> None:
        """Note what happened, with the time; a disk that is full ends nothing."""
        self.report(text)
        when = datetime.now().astimezone().isoformat(timespec="milliseconds")
        with suppress(OSError):
            self.directory.mkdir(parents=True, exist_ok=True)
            with (self.directory / EVENTS_FILE).open("a", encoding="utf-8") as file:
                file.write(f"{when} {text}\n")

    def now(self, document: dict[str, Any]) -> None:
        """Say how the endpoint is; written only where it changed."""
        if document != self._written:
            write_whole(self.directory / RUNNING_FILE, json.dumps(document, indent=2) + "\n")
            self._written = document

    def end(self) -> None:
        """Nothing runs any more."""
        (self.directory / RUNNING_FILE).unlink(missing_ok=True)


def running_document(url: str, engine: str, fleets: Iterable[Fleet], update: Update | None) -> dict[str, Any]:
    """How an endpoint is now: its address, its fleets, and the update under way."""
    document: dict[str, Any] = {"Url": url, "Engine": engine}
    document["Fleets"] = [
        {
            "Fleet": fleet.tag,
            "EndpointConfigName": fleet.config_name,
            "Variants": [
                {
                    "VariantName": variant.plan.name,
                    "ModelName": variant.plan.model_name,
                    "Instances": [
                        {"Instance": one.name, "State": str(one.state), "Log": str(one.log_file)}
                        for one in variant.instances
                    ],
                }
                for variant in fleet
            ],
        }
        for fleet in fleets
    ]
    if update is not None:
        document["Update"] = {"Phase": str(update.phase), "NewTrafficShare": update.share}
    return document


def read_running(directory: Path) -> dict[str, Any]:
    """How an endpoint is now; {} if it does not run."""
    try:
        document: dict[str, Any] = json.loads((directory / RUNNING_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return document


def read_url(directory: Path, name: str) -> str:
    """The address that an endpoint listens at.

    Raises:
        UsageError: if it does not.
    """
    url = read_running(directory).get("Url")
    if not url:
        raise UsageError(
            f"endpoint {name} does not answer requests now",
            "expected one in service",
            f"see `byoc endpoint describe {name}`",
        )
    return str(url)
