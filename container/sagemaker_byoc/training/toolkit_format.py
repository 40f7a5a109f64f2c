"""Values printed as SageMaker's training toolkit prints them, for scripts that depend on it.

The toolkit decodes every hyperparameter and prints it again: 1.10 becomes 1.1, null becomes nothing, a list becomes
Python's own notation in argv. Source: the documented output of sagemaker-training 5.1.
"""

import json
from typing import Any


def decode(token: str) -> Any:
    """The value of a token. NaN and Infinity are numbers here."""
    try:
        return json.loads(token)
    except (ValueError, RecursionError):
        return token


def text(value: Any) -> str:
    """What a variable holds: a string as it is, None as nothing, all else as compact JSON with sorted keys."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))


def argument(value: Any) -> str:
    """What argv holds: None as nothing, an object as `k=v,k=v`, all else as Python's str() writes it."""
    if value is None:
        return ""
    if isinstance(value, dict):
        return ",".join(f"{key}={item}" for key, item in sorted(value.items()))
    return str(value)
