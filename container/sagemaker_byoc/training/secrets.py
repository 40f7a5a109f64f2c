"""Which values of a job are secrets, by the names they go under, and how to keep them out of texts that others read."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from sagemaker_byoc.credentials import IN_URL, MASK
from sagemaker_byoc.training.job import TrainingJob

SHORTEST = 4  # a shorter value is found in every text
# Values that say nothing, under whatever name: use_auth_token is true in many a job.
_PLAIN = frozenset({"true", "false", "none", "null", "auto", "default"})
_WORDS = r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+"
_ALWAYS = frozenset(
    {
        *("password", "passwords", "passwd", "passphrase", "pwd", "secret", "secrets", "credential", "credentials"),
        *("authorization", "webhook", "apikey", "apikeys", "apitoken", "accesskey", "accesstoken", "authkey"),
        *("authtoken", "bearertoken", "privatekey", "refreshtoken", "secretkey", "sessiontoken", "hftoken"),
    }
)
_KEYS = frozenset(
    {
        *("access", "account", "api", "app", "auth", "client", "consumer", "decryption", "deploy", "encryption"),
        *("hmac", "license", "licence", "master", "private", "secret", "service", "shared", "signing", "ssh"),
        *("storage", "subscription"),
    }
)
# `token` and `pass` are words of language models and of loops as well; these before them make a secret of neither.
_NO_SECRET_TOKEN = frozenset(
    {
        *("begin", "bos", "by", "class", "cls", "each", "end", "eos", "first", "image", "last", "mask", "max", "min"),
        *("new", "next", "num", "number", "pad", "padding", "per", "sep", "separator", "special", "start", "stop"),
        *("target", "unk", "unknown", "video", "audio", "prompt", "response", "instruction", "trigger", "placeholder"),
    }
)
_PASS_OF = frozenset(
    {
        *("admin", "basic", "database", "db", "email", "ftp", "ldap", "login", "mail", "mongo", "mysql", "pg"),
        *("postgres", "proxy", "redis", "root", "smtp", "ssh", "user"),
    }
)
# A name that ends so says where a secret lies or what it is like, and holds none.
_ABOUT = frozenset(
    {
        *("arn", "column", "count", "dim", "dir", "directory", "embedding", "enabled", "field", "file", "folder"),
        *("format", "index", "len", "length", "limit", "location", "max", "min", "name", "path", "policy", "prefix"),
        *("required", "size", "timeout", "ttl", "type"),
    }
)
_SHORTEST_USER_TOKEN = 16  # https://TOKEN@host has no password; a plain user name is shorter


def secret_values(job: TrainingJob, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Every secret of the job in the forms in which a log or a traceback may show it, longest first."""
    found: set[str] = set()
    for hyperparameter in job.hyperparameters.values():
        found.update(_of(hyperparameter.name, hyperparameter.value))
        found.update(_of(hyperparameter.name, hyperparameter.token))
    for name, value in environ.items():
        found.update(_of(name, value))
    forms = {form for value in found for form in _forms(value)}
    return tuple(sorted((form for form in forms if len(form) >= SHORTEST), key=lambda form: (-len(form), form)))


def mask(text: str, values: tuple[str, ...]) -> str:
    """The text with every one of the values replaced. Values are to be in the order of `secret_values`."""
    if not values:
        return text
    return re.sub("|".join(map(re.escape, values)), MASK, text)


def is_secret_name(name: str) -> bool:
    """Whether a hyperparameter or a variable of this name is likely to hold a secret."""
    words = [word.lower() for word in re.findall(_WORDS, name)]
    if name in ("PWD", "OLDPWD") or not words or words[-1] in _ABOUT:
        return False
    if _ALWAYS & set(words):
        return True
    pairs = list(zip(["", *words], words, strict=False))
    return (
        any(word == "key" and before in _KEYS for before, word in pairs)
        or (words[-1] == "token" and not _NO_SECRET_TOKEN & set(words))
        or (words[-1] == "pass" and pairs[-1][0] in _PASS_OF)
        or (words[-2:] == ["connection", "string"])
    )


def _of(name: str, value: Any) -> Iterator[str]:
    """The secret texts in a value: all of it under a secret's name, else those under such names within it."""
    if is_secret_name(name):
        yield from _texts(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _of(key, item)
    elif isinstance(value, list):
        for item in value:
            yield from _of("", item)
    if isinstance(value, str):
        yield from _in_urls(value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
    elif value is not None and not isinstance(value, bool) and str(value).lower() not in _PLAIN:
        yield str(value)


def _in_urls(text: str) -> Iterator[str]:
    if "@" not in text:
        return
    from urllib.parse import unquote  # noqa: PLC0415 - few jobs have such a value, and none waits for it at the start

    for match in re.finditer(IN_URL, text):
        password = match["password"]
        if password:
            yield from {password, unquote(password)}
        elif len(match["user"]) >= _SHORTEST_USER_TOKEN:
            yield match["user"]


def _forms(value: str) -> Iterator[str]:
    """The value itself, as JSON, Python and URLs write it, and the lines of one that has several (a PEM key)."""
    from urllib.parse import quote, quote_plus  # noqa: PLC0415 - not needed before a job fails

    yield value
    yield value.strip()
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield repr(value)[1:-1]
    encoded = value.encode("utf-8", "surrogatepass")
    yield quote(encoded, safe="")
    yield quote_plus(encoded)
    for line in value.splitlines()[1:] and value.splitlines():
        if len(line.strip()) >= 2 * SHORTEST and not line.startswith("-----"):
            yield line.strip()
