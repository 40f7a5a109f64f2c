"""Many models in a container with little memory: the kernel kills for real, and the platform is told what to do."""

import json
import shutil

import pytest

from tests.support.docker import Running, mounted
from tests.support.http import Reply, request
from tests.support.opt_ml import OptMl
from tests.support.places import program

pytestmark = pytest.mark.docker

LIMITED = ["--memory", "512m", "--memory-swap", "512m", "-p", "127.0.0.1::8080"]
MANY = ["-e", "SAGEMAKER_MULTI_MODEL=true", "-e", "SAGEMAKER_MODEL_SERVER_WORKERS=2"]


def test_models_are_loaded_until_507_and_again_when_there_is_room(image: str, opt_ml: OptMl) -> None:
    """15.24, 15.26: the size of a model that only its code knows is found out the hard way, by a worker, not by all."""
    names = [f"m{number}" for number in range(12)]
    for name in names:
        folder = opt_ml.base / "models" / name / "model"
        shutil.copytree(program("holds_memory"), folder / "code")
        (folder / "megabytes.txt").write_text("60")
    with Running(image, "serve", options=[*mounted(opt_ml), *LIMITED, *MANY]) as container:
        container.wait_until_ready()

        def ask(method: str, path: str, body: bytes | None = None) -> Reply:
            return request(container.port, method, path, body, {"Content-Type": "application/json"})

        def load(name: str) -> Reply:
            document = {"model_name": name, "url": f"/opt/ml/models/{name}/model"}
            return ask("POST", "/models", json.dumps(document).encode())

        loaded = []
        for name in names:
            reply = load(name)
            if reply.status != 200:
                break
            loaded.append(name)
        assert (reply.status, reply.error["type"]) == (507, "NotEnoughMemory"), (reply.body, container.log)
        assert loaded, container.log
        for left in loaded:
            assert ask("POST", f"/models/{left}/invoke", b"[]").json["name"] == left
            assert ask("DELETE", f"/models/{left}").status == 200
        assert load(name).status == 200, container.log
