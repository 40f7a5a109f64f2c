"""Find the differences between what the toolkit and ours gave to the same script."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.oracle.cases import Case

ABSENT = "(absent)"


@dataclass(frozen=True)
class Observed:
    """One difference. `field` is started, origin, cwd, argv0, argv[NAME], env[NAME] or training_env[KEY]."""

    case: Case
    field: str
    toolkit: Any
    ours: Any

    def __str__(self) -> str:
        return f"{self.case.name}: {self.field}: toolkit {self.toolkit!r}, ours {self.ours!r}"


def differences(case: Case, toolkit: dict[str, Any], ours: dict[str, Any]) -> list[Observed]:
    """All fields that are not equal; when one of the programs did not start the script, that alone."""
    a, b = toolkit["given"], ours["given"]
    if a is None or b is None:
        return [Observed(case, "started", a is not None, b is not None)]
    pairs = [*_pairs("argv", _options(a["argv"]), _options(b["argv"])), *_pairs("env", _variables(a), _variables(b))]
    pairs += [(name, a[name], b[name]) for name in ("origin", "cwd", "argv0")]
    return [Observed(case, *pair) for pair in pairs if pair[1] != pair[2]] + _of_training_env(case, a, b)


def _of_training_env(case: Case, a: dict[str, Any], b: dict[str, Any]) -> list[Observed]:
    texts = [given["environ"].get("SM_TRAINING_ENV", "{}") for given in (a, b)]
    pairs = _pairs("training_env", *map(json.loads, texts))
    found = [Observed(case, *pair) for pair in pairs if repr(pair[1]) != repr(pair[2])]
    # Equal contents must be equal texts as well.
    return found if found or texts[0] == texts[1] else [Observed(case, "env[SM_TRAINING_ENV]", *texts)]


def _variables(given: dict[str, Any]) -> dict[str, str]:
    """The environment, less the switch itself, what is compared by key, and SM_USER_ARGS where it repeats argv."""
    environ = {k: v for k, v in given["environ"].items() if k not in {"BYOC_COMPATIBILITY", "SM_TRAINING_ENV"}}
    if environ.get("SM_USER_ARGS") == json.dumps(given["argv"], separators=(",", ":")):
        del environ["SM_USER_ARGS"]
    return environ


def _pairs(kind: str, a: dict[str, Any], b: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in sorted({*a, *b}):
        yield f"{kind}[{name}]", a.get(name, ABSENT), b.get(name, ABSENT)


def _options(argv: list[str]) -> dict[str, str]:
    """Arguments stand in pairs; their order is part of what is compared."""
    pairs = zip(argv[::2], argv[1::2], strict=True)
    return {f"{number}:{option}": value for number, (option, value) in enumerate(pairs)}
