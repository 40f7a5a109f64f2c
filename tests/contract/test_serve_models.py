"""Models: served without code, memory-mapped and shared between workers, each on its own device."""

import io
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sagemaker_byoc import export_onnx
from sklearn.linear_model import LinearRegression
from torch import nn

from tests.conftest import alarming_lines
from tests.support.opt_ml import OptMl
from tests.support.places import REPOSITORY
from tests.support.serving import Endpoint
from tests.support.waiting import wait_until

Serve = Callable[..., AbstractContextManager[Endpoint]]
TEMPLATE = {"BYOC_IMAGE_CODE_DIR": str(REPOSITORY / "opt_ml_template" / "code")}

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.fixture
def front() -> str:
    """Models are the same behind nginx and without; these tests take the shorter way."""
    return "off"


class Weighted(nn.Module):
    """Two inputs, two outputs."""

    def forward(self, rows: torch.Tensor, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"weighted": rows * weights, "total": (rows * weights).sum(1)}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of models, made once: rows of three numbers become their double sum."""
    folder = tmp_path_factory.mktemp("models")
    double = nn.Linear(3, 1, bias=False)
    double.weight.data.fill_(2.0)
    export_onnx(double, torch.rand(2, 3), folder / "double.onnx")
    export_onnx(Weighted(), (torch.rand(2, 3), torch.rand(2, 3)), folder / "weighted.onnx")
    export_onnx(nn.Sequential(*[nn.Linear(1024, 1024) for _ in range(12)]), torch.rand(2, 1024), folder / "large.onnx")
    return folder


def put(opt_ml: OptMl, model: Path, name: str = "model.onnx") -> None:
    (opt_ml.base / "model" / name).symlink_to(model)


def test_a_model_onnx_just_works(opt_ml: OptMl, serve: Serve, models: Path) -> None:
    """22.1: no code at all; every format that can be read and written."""
    put(opt_ml, models / "double.onnx")
    with serve(None) as endpoint:
        endpoint.wait_until_ready()
        assert "is served by ONNX Runtime, and is warm" in endpoint.log
        assert endpoint.invoke(b"[[1, 2, 3], [4, 5, 6]]").json == [[12.0], [30.0]]
        assert endpoint.invoke(b"1,2,3\n4,5,6\n", "text/csv", "text/csv").body == b"12.0\n30.0\n"
        assert not alarming_lines(endpoint.log)


def test_what_the_model_cannot_take_is_answered_with_what_it_expects(opt_ml: OptMl, serve: Serve, models: Path) -> None:
    """15.4: the caller's mistake is no error of the model's."""
    put(opt_ml, models / "double.onnx")
    with serve(None) as endpoint:
        endpoint.wait_until_ready()
        reply = endpoint.invoke(b"[[1, 2]]")
        assert (reply.status, reply.error["type"]) == (400, "MalformedBody")
        assert "input 'input' expects float32 of shape (batch, 3), but found shape (1, 2)" in reply.error["message"]
        assert endpoint.invoke(b'[["a", "b", "c"]]').status == 400
        assert endpoint.invoke(b"[[1, 2, 3]]").status == 200


def test_several_inputs_and_outputs_go_by_name(opt_ml: OptMl, serve: Serve, models: Path) -> None:
    """22.1."""
    put(opt_ml, models / "weighted.onnx")
    with serve(None) as endpoint:
        endpoint.wait_until_ready()
        reply = endpoint.invoke(json.dumps({"rows": [[1, 2, 3]], "weights": [[0, 1, 2]]}).encode())
        assert reply.json == {"weighted": [[0, 2, 6]], "total": [8]}
        assert "the model's inputs are 'rows', 'weights'" in endpoint.invoke(b'{"rows": [[1]]}').error["message"]


def test_a_model_onnx_is_not_given_to_the_images_code_that_does_not_know_it(
    opt_ml: OptMl, serve: Serve, models: Path
) -> None:
    """22.1: the log says what was chosen and why."""
    put(opt_ml, models / "double.onnx")
    with serve(None, TEMPLATE) as endpoint:
        endpoint.wait_until_ready()
        assert endpoint.invoke(b"[[1, 1, 1]]").json == [[6.0]]
        assert "inference.py does not mention ONNX" in endpoint.log


def test_functions_beside_the_model_may_do_the_rest(opt_ml: OptMl, serve: Serve, models: Path) -> None:
    """22.2: an inference.py without model_fn."""
    put(opt_ml, models / "weighted.onnx", "other-name.onnx")
    (opt_ml.base / "model" / "other-name.onnx").unlink()
    put(opt_ml, models / "double.onnx")
    with serve("reads_reversed") as endpoint:
        endpoint.wait_until_ready()
        assert endpoint.invoke(b"[[1, 2, 3]]").json == [[12.0]]


def test_a_pickled_model_waits_for_a_word_that_it_is_trusted(opt_ml: OptMl, serve: Serve) -> None:
    """13.6: the model's archive may come from anywhere."""
    joblib.dump(LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]), opt_ml.base / "model" / "model.joblib")
    with serve(None) as endpoint:
        endpoint.wait_for_line("set BYOC_ALLOW_PICKLE=true")
    with serve(None, {"BYOC_ALLOW_PICKLE": "true"}) as endpoint:
        endpoint.wait_until_ready()
        assert endpoint.invoke(b"[[3.0]]").json == pytest.approx([6.0])


@pytest.mark.parametrize("compiled", [True, False])
def test_models_are_compiled_only_when_that_is_asked_for(serve: Serve, compiled: bool) -> None:
    """22.2: with the same answers, and before the endpoint is ready where it warms itself up."""
    with serve("warms_up", {"BYOC_TORCH_COMPILE": "on"} if compiled else {}) as endpoint:
        endpoint.wait_until_ready(180)
        assert endpoint.invoke(b"[[1, 2, 3]]", seconds=30).json == {"answer": [[12.0]], "compiled": compiled}
        assert ("torch.compile: the model is compiled when it is first called" in endpoint.log) == compiled


def test_each_worker_has_a_device_of_its_own(opt_ml: OptMl, serve: Serve) -> None:
    """20.2: the names that this container was given, one for each slot; a function finds its one under number 0."""
    mig = "MIG-8932f937-d72c-4106-c12f-20bd9faed9f6"
    environ = {"CUDA_VISIBLE_DEVICES": f"3,{mig}", "SAGEMAKER_MODEL_SERVER_WORKERS": ""}
    seen: set[str] = set()
    with serve("describes_device", environ) as endpoint:
        endpoint.wait_until_ready()
        assert len(endpoint.workers()) == 2, "as many workers as there are GPUs"

        def both() -> bool:
            answer = endpoint.invoke(b"[1]").json
            assert answer["device"] == "cuda:0"
            seen.add(answer["visible"])
            return len(seen) == 2

        wait_until(both, "an answer of each worker")
    assert seen == {"3", mig}


def proportional_mb(pids: set[int]) -> float:
    """Memory of these processes, where a page that n share counts 1/n for each."""
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() for pid in pids]
    return sum(int(line.split()[1]) for lines in rollups for line in lines if line.startswith("Pss:")) / 1024


def memory_of(endpoint: Endpoint) -> float:
    """Of gunicorn's master and its workers, in MB."""
    return proportional_mb({endpoint.child("gunicorn").pid, *endpoint.workers()})


def test_four_workers_take_little_more_memory_than_one(opt_ml: OptMl, serve: Serve) -> None:
    """20.2: weights that load_weights maps, and libraries that the master has imported, are there once."""
    torch.manual_seed(0)
    network = nn.Sequential(*[nn.Linear(2048, 2048) for _ in range(12)])
    save_file(network.state_dict(), opt_ml.base / "model" / "model.safetensors")
    expected = network(torch.full((1, 2048), 3.0))[0, :2].tolist()
    taken = {}
    for workers in (1, 4):
        with serve("loads_weights", {"SAGEMAKER_MODEL_SERVER_WORKERS": str(workers)}) as endpoint:
            endpoint.wait_until_ready(60)
            assert endpoint.invoke(b"[3]").json["answer"] == pytest.approx(expected, rel=1e-4)
            taken[workers] = memory_of(endpoint)
    assert taken[1] > 200, "the weights are in memory"
    assert taken[4] < 1.5 * taken[1], taken


def test_workers_share_the_weights_of_a_model_onnx(opt_ml: OptMl, serve: Serve, models: Path) -> None:
    """20.2: ONNX Runtime would copy them, and pack them once more, in each."""
    put(opt_ml, models / "large.onnx")
    rows = np.ones((1, 1024), np.float32)
    answers, taken = [], {}
    for workers in (1, 4):
        with serve(None, {"SAGEMAKER_MODEL_SERVER_WORKERS": str(workers)}) as endpoint:
            endpoint.wait_until_ready(60)
            answers.append(endpoint.invoke(json.dumps(rows.tolist()).encode()).json)
            taken[workers] = memory_of(endpoint)
            mapped = ["/onnx-" in Path(f"/proc/{pid}/maps").read_text() for pid in endpoint.workers()]
            assert all(mapped) if workers > 1 else not any(mapped)
            assert not alarming_lines(endpoint.log)
    assert answers[0] == [pytest.approx(answers[1][0], abs=1e-5)]
    assert taken[4] < 4 * taken[1] - 3 * (models / "large.onnx").stat().st_size / 2**20, taken


def test_predict_fn_for_a_module_of_pytorch_gets_tensors(serve: Serve) -> None:
    """22.2: as in AWS's PyTorch images: float32 from text, an array's own type from NPY."""
    with serve("tells_its_tensor") as endpoint:
        endpoint.wait_until_ready(60)
        assert endpoint.invoke(b"[[1, 2], [3, 4]]").json == {"kind": "Tensor", "dtype": "torch.float32", "rows": 2}
        array = io.BytesIO()
        np.save(array, np.ones((3, 2)))
        reply = endpoint.invoke(array.getvalue(), "application/x-npy")
        assert reply.json == {"kind": "Tensor", "dtype": "torch.float64", "rows": 3}
