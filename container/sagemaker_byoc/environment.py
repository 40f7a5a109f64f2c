"""Readers of single environment variables. Each raises PlatformInputError with a sentence that names the variable."""

import re
from collections.abc import Mapping

from sagemaker_byoc.errors import PlatformInputError

# What nginx, the kernel and Python's locks all take.
LARGEST = 2**31 - 1
MOST_SECONDS = 10**9


def first_set(environ: Mapping[str, str], *names: str) -> str:
    """The first of several names for one setting that is set, else the first."""
    return next((name for name in names if environ.get(name)), names[0])


def read_integer(environ: Mapping[str, str], name: str, default: int, minimum: int, maximum: int | None = None) -> int:
    text = environ.get(name, "").strip()
    if not text:
        return default
    most = LARGEST if maximum is None else maximum
    expected = f"a whole number of at least {minimum}" + (f" and at most {most}" if len(text) > 9 or maximum else "")
    try:
        value = int(text)
    except ValueError:
        raise PlatformInputError(_wrong(name, text, expected)) from None
    if not minimum <= value <= most:
        raise PlatformInputError(_wrong(name, text, expected))
    return value


def read_seconds(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= MOST_SECONDS:  # not-a-number is not either
        raise PlatformInputError(_wrong(name, text, f"a number of seconds above 0 and at most {MOST_SECONDS}"))
    return value


def read_choice(environ: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    text = environ.get(name, "").strip().lower()
    if not text:
        return choices[0]
    if text not in choices:
        raise PlatformInputError(_wrong(name, text, "one of " + ", ".join(choices)))
    return text


def read_module_name(environ: Mapping[str, str], name: str) -> str | None:
    text = environ.get(name, "").strip()
    dotted = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
    if text and not re.fullmatch(rf"{dotted}(:{dotted})?", text):
        raise PlatformInputError(_wrong(name, text, "module:object, such as my_package.app:app"))
    return text or None


def read_media_type(environ: Mapping[str, str], name: str, default: str) -> str:
    text = environ.get(name, "").strip()
    if text and not re.fullmatch(r"[\w.+*-]+/[\w.+*-]+( *;.*)?", text):
        raise PlatformInputError(_wrong(name, text, f"a content type such as {default}"))
    return text or default


def _wrong(name: str, value: str, expected: str) -> str:
    return f"environment variable {name} is {value!r}; expected {expected}. Set it right or leave it out."


def read_flag(environ: Mapping[str, str], name: str) -> bool:
    """Whether a variable says true; the platform writes `true`, its SDK `True`."""
    return read_choice(environ, name, ("false", "true", "0", "1", "off", "on")) in ("true", "1", "on")


def read_names(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    """A list with commas between."""
    return tuple(part.strip() for part in environ.get(name, "").split(",") if part.strip())


def read_text(environ: Mapping[str, str], name: str, default: str) -> str:
    """Any text."""
    return environ.get(name, "").strip() or default
