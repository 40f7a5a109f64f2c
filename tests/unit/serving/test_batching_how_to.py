"""The how-to of batching does what it says."""

import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
from sagemaker_byoc.serving import batching
from sagemaker_byoc.serving.batcher import Batcher
from sagemaker_byoc.serving.batching import find_policy

from tests.unit.serving.test_batching import later

PAGE = (Path(__file__).parents[3] / "docs/how-to/batch-requests.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def program(number: int) -> dict[str, Any]:
    """The names that a block defines."""
    module = types.ModuleType(f"block_{number}")
    sys.modules[module.__name__] = module
    exec(compile(BLOCKS[number], f"batch-requests.md, block {number}", "exec"), vars(module))  # noqa: S102 - our own page
    return vars(module)


def asked(names: dict[str, Any], data: Any, model: Any) -> Any:
    predict_fn = names["predict_fn"]
    policy = find_policy(predict_fn)
    assert policy is not None
    return Batcher(lambda value: predict_fn(value, model), policy, lambda record: None).submit(data, later())


def test_the_example_with_arrays_predicts() -> None:
    names = program(0)
    model = names["model_fn"]("/opt/ml/model")
    assert asked(names, np.ones((2, 2)), model).tolist() == [[1, 2], [1, 2]]
    assert names["predict_fn"](np.ones((1, 2)), model).tolist() == [[1, 2]]


def test_the_example_with_texts_predicts() -> None:
    assert asked(program(1), "text", None) == "TEXT"


def test_every_reason_of_a_run_has_a_row_and_no_row_is_left_over() -> None:
    """The labels of a metric are an interface."""
    section = PAGE.split("| reason |")[1].split("\n\n")[0]
    told = re.findall(r"`(\w+)`", batching.BatchRecord.__doc__.split("reason:")[1].split("waited_seconds")[0])
    assert sorted(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == sorted(told)
    assert len(told) == 7
