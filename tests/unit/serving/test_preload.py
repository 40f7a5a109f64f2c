"""What gunicorn's master imports before it forks: libraries that a fork does not harm, and nothing of the user's."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sagemaker_byoc.serving.preload import SAFE, modules_to_preload

from tests.support.places import CONTAINER
from tests.support.training import clean_environment


def program(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "inference.py"


def test_libraries_of_the_program_and_its_neighbours_are_found(tmp_path: Path) -> None:
    source = program(
        tmp_path,
        inference="import json, torch\nimport network\nfrom package.parts import shape\n",
        network="from torch import nn\nimport numpy as np\n",
        package__parts="import scipy.special\nfrom package import more\n",
        package__more="try:\n    import orjson\nexcept ImportError:\n    orjson = None\n",
    )
    found = modules_to_preload([source])
    assert set(found) == {"torch", "torch.nn", "numpy", "scipy.special", "orjson"}
    assert found[0] == "torch"


def test_what_may_not_run_is_left_out(tmp_path: Path) -> None:
    """Imports in functions come when they are called, if ever."""
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import scipy\ndef model_fn(d):\n    import torch\n"
    assert modules_to_preload([program(tmp_path, inference=text)]) == ()


def test_a_library_that_nobody_has_looked_at_is_left_out(tmp_path: Path) -> None:
    text = "import tensorflow, requests, company_models\nimport numpy\n"
    assert modules_to_preload([program(tmp_path, inference=text)]) == ("numpy",)


def test_a_neighbour_with_a_librarys_name_is_the_users_own(tmp_path: Path) -> None:
    source = program(tmp_path, inference="import scipy\n", scipy="import numpy\n")
    assert modules_to_preload([source]) == ("numpy",)


@pytest.mark.parametrize("text", ["def model_fn(:\n", "\0", "import\n"])
def test_a_program_that_cannot_be_parsed_is_left_to_the_worker(tmp_path: Path, text: str) -> None:
    assert modules_to_preload([program(tmp_path, inference=text), tmp_path / "absent.py"]) == ()


FORKS = """
import json, os, sys, threading
from sagemaker_byoc.serving.preload import preload
done = preload(json.loads(sys.argv[1]))
def work(pipe):
    if "torch" in sys.modules:
        import torch
        rows = torch.ones(256, 512)
        torch.nn.Linear(512, 512)(rows)
    if "numpy" in sys.modules:
        import numpy
        numpy.ones((512, 512)) @ numpy.ones((512, 512))
    if "pyarrow" in sys.modules:
        import io, pyarrow, pyarrow.parquet
        table = pyarrow.table({str(n): list(range(1000)) for n in range(8)})
        pyarrow.parquet.write_table(table, buffer := io.BytesIO())
        assert pyarrow.parquet.read_table(io.BytesIO(buffer.getvalue()), use_threads=True).num_rows == 1000
    os.write(pipe, b"x")
answers = []
for place in ("main", "thread"):
    reading, writing = os.pipe()
    if os.fork() == 0:
        if place == "main":
            work(writing)
        else:
            worker = threading.Thread(target=work, args=(writing,))
            worker.start()
            worker.join()
        os._exit(0)
    os.close(writing)
    answers.append(os.read(reading, 1).decode())
    os.close(reading)
print(json.dumps({"modules": done.modules, "threads": done.threads, "answers": answers,
                  "cuda": "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized()}))
"""


def forked(modules: list[str], math_threads: int, *paths: Path) -> dict[str, Any]:
    """Two forked workers that compute after their master has imported these, one in its main thread, one in another."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(math_threads))
    done = subprocess.run(
        [sys.executable, "-c", FORKS, json.dumps(modules)],
        env=clean_environment({**threads, "PYTHONPATH": os.pathsep.join(map(str, [CONTAINER, *paths]))}),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = {**json.loads(done.stdout), "log": done.stderr}
    return answer


@pytest.mark.parametrize("math_threads", [1, 2])
def test_workers_compute_after_the_fork(math_threads: int) -> None:
    """A master that has left threads behind would have them wait forever."""
    names = ["numpy", "scipy.stats", "sklearn", "torch.nn", "safetensors.torch", "onnxruntime", "PIL.Image", "pydantic"]
    names += ["pyarrow.parquet", "orjson"]
    answer = forked(names, math_threads)
    assert answer == {"modules": names, "threads": 0, "answers": ["x", "x"], "cuda": False, "log": ""}
    assert {name.split(".")[0] for name in names} <= SAFE


def test_threads_that_an_import_leaves_are_counted_and_told(tmp_path: Path) -> None:
    """A library may change its ways; the log then says why workers wait."""
    text = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    (tmp_path / "starts_a_thread.py").write_text(text)
    answer = forked(["starts_a_thread"], 1, tmp_path)
    assert answer["threads"] == 1
    assert "importing starts_a_thread started 1 threads, which forked workers lack" in answer["log"]


def test_a_module_that_cannot_be_imported_is_left_to_the_worker() -> None:
    assert forked(["no_such_module", "torch.Tensor", "numpy"], 1)["modules"] == ["numpy"]
