"""What the machine refuses while something runs: a full disk, a right that lacks, an engine that went away."""

from __future__ import annotations

import errno

from local_sagemaker.errors import EngineMissingError, LocalSageMakerError, UsageError

# What an operation on a file can end with although the program is right, and what to do then.
REFUSALS = {
    errno.ENOSPC: "make room on that disk, and run it again",
    errno.EDQUOT: "make room within your quota, and run it again",
    errno.EACCES: "give yourself the right to it: `ls -ld` shows whose it is",
    errno.EPERM: "give yourself the right to it: `ls -ld` shows whose it is",
    errno.EROFS: "use a project on a file system that can be written",
    errno.ENAMETOOLONG: "use shorter names",
    errno.EFBIG: "use a file system, or a `ulimit -f`, that takes files of this size",
    errno.EIO: "look at that disk: the system's log says more",
    errno.EMFILE: "allow more open files: `ulimit -n 4096`, and run it again",
    errno.ENFILE: "end programs that hold many files open, and run it again",
}
OF_THE_ENGINE = ("docker.", "requests.", "urllib3.")
BAD_REFERENCE = "invalid reference format"
OURS = "/.byoc/"


def explain(error: BaseException) -> LocalSageMakerError | None:
    """The error for the user where the machine is the cause; None where it may be a fault of the program."""
    if isinstance(error, LocalSageMakerError):
        return error
    if type(error).__module__.startswith(OF_THE_ENGINE):
        return _of_the_engine(error)
    if not isinstance(error, OSError) or error.errno is None:
        return None
    place = error.filename2 or error.filename
    if error.errno in REFUSALS:
        return UsageError(
            f"{place or 'a file'} cannot be read or written: {error.strerror}",
            "expected room for, and the right to, the files of the project",
            REFUSALS[error.errno],
        )
    if error.errno == errno.ENOENT and OURS in f"{place}":
        return UsageError(
            f"{place} is gone",
            "expected the project's .byoc to stay while something runs",
            "put the project back, or run it again",
        )
    return None


def _of_the_engine(error: BaseException) -> LocalSageMakerError:
    happened = f"the Docker engine failed: {error}"
    if BAD_REFERENCE in str(error):
        return UsageError(happened, "expected the reference of an image", "write NAME:TAG, in small letters")
    return EngineMissingError(
        happened,
        "expected it to answer as long as something runs",
        "see that it runs (`docker version`), and run this again: `byoc ps` puts right what is left",
    )
