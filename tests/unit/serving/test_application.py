"""What is found in a user's file without running it: an application, whether it stands alone, and for which lane."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from sagemaker_byoc.serving.application import find_application
from sagemaker_byoc.serving.run import choose_lane
from sagemaker_byoc.serving.settings import ServeSettings

FASTAPI = "from fastapi import FastAPI\napp = FastAPI()\n"
FLASK = "import flask\napp = flask.Flask(__name__)\n"
FUNCTIONS = "def predict_fn(data, model):\n    return data\n"


def write(folder: Path, files: Mapping[str, str]) -> Path:
    code = folder / "model" / "code"
    for name, text in files.items():
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).write_text(text)
    return code


@pytest.mark.parametrize(
    ("files", "found", "alone"),
    [
        ({"predictor.py": FLASK}, "predictor.py", True),
        ({"predictor.py": FLASK, "inference.py": FUNCTIONS}, "predictor.py", False),
        ({"inference.py": FLASK + FUNCTIONS}, "inference.py", False),
        ({"inference.py": FLASK + "from functions import *\n"}, "inference.py", False),
        ({"inference.py": FLASK + "from functions import model_fn\n"}, "inference.py", False),
        ({"inference.py": FLASK}, "inference.py", True),
        ({"predictor.py": "def predict(row):\n    app = 1\n"}, None, False),
        ({"predictor.py": "app = (\n"}, None, False),
        ({"inference.py": FUNCTIONS}, None, False),
        ({}, None, False),
    ],
)
def test_application_stands_alone_where_no_function_serves(
    tmp_path: Path, files: dict[str, str], found: str | None, alone: bool
) -> None:
    """15.13."""
    code = write(tmp_path, files)
    assert find_application([code], "inference.py") == (code / found if found else None, alone)


@pytest.mark.parametrize(
    ("files", "environ", "lane"),
    [
        ({"predictor.py": FASTAPI}, {}, "asgi"),
        ({"predictor.py": FASTAPI}, {"BYOC_LANE": "wsgi"}, "wsgi"),
        ({"predictor.py": FASTAPI}, {"SAGEMAKER_MULTI_MODEL": "true"}, "wsgi"),
        ({"inference.py": "import fastapi as api\napp: api.FastAPI = api.FastAPI(title='x')\n"}, {}, "asgi"),
        ({"inference.py": FASTAPI + FUNCTIONS}, {}, "wsgi"),
        ({"predictor.py": "async def app(scope, receive, send):\n    pass\n"}, {}, "asgi"),
        ({"predictor.py": FLASK}, {}, "wsgi"),
        ({"predictor.py": "from web import make\napp = make()\n"}, {}, "wsgi"),
        ({"main.py": FASTAPI.replace("app", "api")}, {"SAGEMAKER_SERVING_MODULE": "main:api"}, "asgi"),
        ({"web/__init__.py": FASTAPI}, {"SAGEMAKER_SERVING_MODULE": "web:app"}, "asgi"),
        ({"main.py": FLASK}, {"SAGEMAKER_SERVING_MODULE": "main:app"}, "wsgi"),
        ({}, {"SAGEMAKER_SERVING_MODULE": "installed:app"}, "wsgi"),
        ({"inference.py": FUNCTIONS}, {}, "wsgi"),
        ({"inference.py": "app ="}, {}, "wsgi"),
    ],
    ids=json.dumps,
)
def test_application_for_an_event_loop_gets_one_unless_told_otherwise(
    tmp_path: Path, files: dict[str, str], environ: dict[str, str], lane: str
) -> None:
    """15.13."""
    write(tmp_path, files)
    environ = {"SAGEMAKER_BASE_DIR": str(tmp_path), "BYOC_IMAGE_CODE_DIR": str(tmp_path / "none"), **environ}
    assert choose_lane(ServeSettings.read(environ), environ).lane == lane
