"""What callers are told in place of this machine's paths."""

from dataclasses import replace
from pathlib import Path

import pytest
from sagemaker_byoc.paths import MLPaths
from sagemaker_byoc.serving.model_store import ModelPaths
from sagemaker_byoc.serving.place_names import hide_paths
from sagemaker_byoc.serving.settings import ServeSettings

FOLDER = Path("/opt/ml/models/0f1e2d/model")
SETTINGS = replace(ServeSettings.read({}), paths=ModelPaths(MLPaths().base, MLPaths().image_code, FOLDER))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"no a.py was found in {FOLDER}/code, /opt/ml/code", "no a.py was found in the model's folder code, the "),
        (f"No such file: '{FOLDER}/model.joblib'", "No such file: 'model.joblib'"),
        (f"{FOLDER}/code/requirements.txt: tiny could not", "code/requirements.txt: tiny could not"),
        (f"{FOLDER} is empty", "the model's folder is empty"),
        ("/opt/program/code has none", "the image's code has none"),
        ("in /usr/lib/python3/dist-packages/x.py", "in x.py"),
        ("see https://example.invalid/usr/lib/x", "see https://example.invalid/usr/lib/x"),
        ("ask /models/NAME/invoke, or 1/2 of /ping", "ask /models/NAME/invoke, or 1/2 of /ping"),
        ("tiny==1.0 and ./wheels/tiny.whl", "tiny==1.0 and ./wheels/tiny.whl"),
    ],
)
def test_folders_are_named_and_other_paths_keep_their_last_part(text: str, told: str) -> None:
    """15.24: what the caller sent, addresses and routes stay as they are."""
    assert hide_paths(text, SETTINGS).startswith(told)
    assert "/opt/" not in hide_paths(text, SETTINGS)
