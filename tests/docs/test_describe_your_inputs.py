"""The page about typed inputs: its code runs, and a caller reads what the page says."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from sagemaker_byoc.errors import MalformedBody
from sagemaker_byoc.serving.codecs import encode
from sagemaker_byoc.serving.typed import typed_input, typed_output

PAGE = (Path(__file__).parents[2] / "docs/how-to/describe-your-inputs.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_pages_code_is_typed_and_its_error_is_what_a_caller_reads() -> None:
    names: dict[str, Any] = {"__name__": "inference"}
    exec(block("python"), names)  # noqa: S102 - the page's own
    checked, returned = typed_input(names["predict_fn"]), typed_output(names["predict_fn"])
    assert checked is not None
    assert returned is not None
    right = names["predict_fn"](checked.read(b"40,50\n", "text/csv"), names["model_fn"](""))
    assert encode(right, "application/json")[0] == b'[{"probability":0.5}]'
    (wrong,) = re.findall(r"A caller who sends `(.*?)`", PAGE)
    with pytest.raises(MalformedBody) as caught:
        checked.read(wrong.encode(), "application/json")
    assert str(caught.value) == json.loads(block("json"))["error"]["message"]
