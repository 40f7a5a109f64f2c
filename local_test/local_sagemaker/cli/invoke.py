"""``byoc invoke``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from local_sagemaker.errors import JobFailedError, UsageError
from local_sagemaker.hosting.endpoint import INVOCATION_SECONDS
from local_sagemaker.hosting.endpoint import invoke as invoke_endpoint

CONTENT_TYPES = {
    ".json": "application/json",
    ".jsonl": "application/jsonlines",
    ".csv": "text/csv",
    ".npy": "application/x-npy",
}


@click.command()
@click.argument("payload", metavar="FILE|-", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="The endpoint.")
@click.option("--content-type", help="By default guessed from the file's suffix: .json .jsonl .csv .npy.")
@click.option("--accept", help="The content type wanted back.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the answer to a file.")
@click.option("--timeout", type=float, default=INVOCATION_SECONDS, show_default=True, help="Seconds.")
def invoke(
    payload: Path, url: str, content_type: str | None, accept: str | None, output: Path | None, timeout: float
) -> None:
    """Send FILE (- is standard input) to an endpoint; the answer comes out byte for byte."""
    body = read_payload(payload)
    reply = invoke_endpoint(url, body, content_type or guess_content_type(payload), accept, timeout)
    if not reply.ok:
        text = reply.body.decode(errors="replace").strip()
        raise JobFailedError(f"the endpoint answered with status {reply.status}", text, "see the endpoint's log")
    if output is not None:
        output.write_bytes(reply.body)
    else:
        sys.stdout.buffer.write(reply.body)
        sys.stdout.buffer.flush()


def read_payload(payload: Path) -> bytes:
    """Read a file, or standard input for ``-``.

    Raises:
        UsageError: if it cannot be read.
    """
    if str(payload) == "-":
        return sys.stdin.buffer.read()
    try:
        return payload.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{payload} cannot be read: {error.strerror}", "expected a payload", "correct the path"
        ) from error


def guess_content_type(payload: Path) -> str:
    """The content type of a file's suffix.

    Raises:
        UsageError: if the suffix says nothing.
    """
    try:
        return CONTENT_TYPES[payload.suffix.lower()]
    except KeyError:
        raise UsageError(
            f"the content type of {payload} cannot be guessed",
            f"expected one of the suffixes {' '.join(CONTENT_TYPES)}",
            "say it with --content-type",
        ) from None
