"""Source that an SDK uploaded: a tarball in S3, a local tarball or a folder, staged before the start.

The download and the hardened extraction are sagemaker-training's, imported only when a job brings such source.
"""

import os
from pathlib import Path

from sagemaker_byoc.errors import PlatformInputError
from sagemaker_byoc.toolkit import import_toolkit


def stage_source(submit_directory: str | None, code: Path) -> Path | None:
    """The folder with the uploaded source, or None when the job brings none.

    A folder is used where it lies; a tarball is unpacked into an empty folder, so that code baked into the image
    never hides it: `code` (/opt/ml/code), where scripts expect it, if that is empty, else a temporary one. Raises
    PlatformInputError when the source cannot be had.
    """
    if not submit_directory or submit_directory == str(code):
        return None
    path = Path(submit_directory)
    if path.is_dir():
        return path
    import tarfile  # noqa: PLC0415 - only jobs with a tarball pay for it

    if not submit_directory.startswith("s3://") and not (path.is_file() and tarfile.is_tarfile(path)):
        raise PlatformInputError(
            f"sagemaker_submit_directory is {submit_directory!r}; expected an s3:// tarball, a folder or a tarball "
            "that exists in the container."
        )
    return _unpack(submit_directory, _empty_folder(code))


def _empty_folder(code: Path) -> Path:
    try:
        code.mkdir(parents=True, exist_ok=True)
        if not any(code.iterdir()) and os.access(code, os.W_OK):
            return code
    except OSError:
        pass  # a read-only or foreign folder is no place to unpack into
    import tempfile  # noqa: PLC0415 - only jobs with a tarball pay for it

    return Path(tempfile.mkdtemp(prefix="sagemaker-byoc-source-"))


def _unpack(uri: str, folder: Path) -> Path:
    try:
        import_toolkit("files").download_and_extract(uri=uri, path=str(folder))
    except Exception as error:
        raise PlatformInputError(
            f"source {uri!r} could not be fetched and unpacked: {type(error).__name__}: {error}. "
            "Check the address, the role's rights and, under network isolation, put the code into the image instead."
        ) from error
    return folder
