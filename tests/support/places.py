"""Where things lie in this checkout."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CONTAINER = REPOSITORY / "container"
RUNTIME = CONTAINER / "sagemaker_byoc"
HARNESS = REPOSITORY / "local_test" / "local_sagemaker"
PROGRAMS = REPOSITORY / "tests" / "programs"
GOLDEN = REPOSITORY / "tests" / "contract" / "golden"


def program(name: str) -> Path:
    """The folder of the user program called ``name``.

    Raises:
        FileNotFoundError: no such program; the message lists those there are.
    """
    folder = PROGRAMS / name
    if not folder.is_dir():
        known = ", ".join(sorted(entry.name for entry in PROGRAMS.iterdir() if entry.is_dir()))
        raise FileNotFoundError(f"no user program {name!r} in {PROGRAMS}; there are: {known}")
    return folder
