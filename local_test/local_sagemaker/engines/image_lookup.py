"""Which of this machine's images a request means: documents name images of ECR, which this machine has by tag only."""

from __future__ import annotations

from collections.abc import Callable

from local_sagemaker.errors import EngineMissingError


def find_image(reference: str, has_image: Callable[[str], bool]) -> str:
    """The image of exactly this reference, else the one of the same name without the registry's host.

    Raises:
        EngineMissingError: if there is neither.
    """
    candidates = [reference]
    host, slash, name = reference.partition("/")
    if slash and ("." in host or ":" in host or host == "localhost"):
        candidates.append(name)
    for candidate in candidates:
        if has_image(candidate):
            return candidate
    raise EngineMissingError(
        f"there is no image {' nor '.join(candidates)}",
        "a job runs in an image that this machine has; nothing is pulled",
        f"build it: `byoc build --tag {candidates[-1]}`, or pull it: `docker pull {reference}`",
    )
