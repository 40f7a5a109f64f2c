"""The layers: which module may import which, read from the source without running it."""

import ast
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.places import HARNESS, RUNTIME

LEAVES = {"sagemaker_byoc.errors", "sagemaker_byoc.paths", "sagemaker_byoc.logs"}
MODEL_ROOMS = {
    "sagemaker_byoc.weights",
    "sagemaker_byoc.onnx_export",
    "sagemaker_byoc.onnx_import",
    "sagemaker_byoc.serving.runtimes",
    "sagemaker_byoc.serving.torch_runtime",
}
OWN_PROCESSES = {"sagemaker_byoc.training.horovod_rendezvous", "sagemaker_byoc.training.parameter_server_process"}
EXECUTABLES = {"train": "sagemaker_byoc.train!", "serve": "sagemaker_byoc.serve!"}


@dataclass(frozen=True)
class Import:
    """One import: who, what, and whether it happens only when a function is called or a checker reads."""

    importer: str
    imported: str
    deferred: bool


def _modules(package: Path) -> dict[str, Path]:
    """Module name to file, the two executables included."""
    found = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found.update({name: package / file for file, name in EXECUTABLES.items() if (package / file).is_file()})
    return found


def _imports(package: Path) -> list[Import]:
    modules = _modules(package)
    found = []
    for importer, path in modules.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        deferred = {
            id(node)
            for outer in ast.walk(tree)
            if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
            or (isinstance(outer, ast.If) and "TYPE_CHECKING" in ast.dump(outer.test))
            for node in ast.walk(outer)
        }
        for node in ast.walk(tree):
            found += [Import(importer, imported, id(node) in deferred) for imported in _names(node, modules)]
    return found


def _names(node: ast.AST, modules: dict[str, Path]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"relative import in line {node.lineno}: imports are absolute here"
        module = node.module or ""
        inner = [f"{module}.{alias.name}" for alias in node.names]
        return [name if name in modules else module for name in inner]
    return []


@pytest.fixture(scope="module")
def runtime() -> list[Import]:
    """All imports of the runtime."""
    return _imports(RUNTIME)


@pytest.fixture(scope="module")
def harness() -> list[Import]:
    """All imports of the local harness."""
    return _imports(HARNESS)


def _of(imports: list[Import], package: str) -> list[Import]:
    return [one for one in imports if one.imported == package or one.imported.startswith(package + ".")]


def test_leaves_import_nothing_of_ours(runtime: list[Import]) -> None:
    """errors, paths and logs are at the bottom."""
    assert not [one for one in _of(runtime, "sagemaker_byoc") if one.importer in LEAVES]


def test_training_and_serving_never_import_each_other(runtime: list[Import]) -> None:
    """Two roles, one image."""
    rooms = {"sagemaker_byoc.training": "sagemaker_byoc.serving", "sagemaker_byoc.serving": "sagemaker_byoc.training"}
    for room, other in rooms.items():
        assert not [one for one in _of(runtime, other) if one.importer.startswith(room)]


def test_flask_is_known_to_predictor_only(runtime: list[Import]) -> None:
    """Routes and statuses are in one place."""
    assert {one.importer for one in _of(runtime, "flask") + _of(runtime, "werkzeug")} <= {"sagemaker_byoc.predictor"}


@pytest.mark.parametrize("package", ["torch", "horovod", "tensorflow", "sklearn", "boto3", "local_sagemaker"])
def test_runtime_imports_no_framework_and_nothing_of_the_host(runtime: list[Import], package: str) -> None:
    """Only templates and users' programs know a framework; a framework's own servers are processes of their own."""
    strangers = [one for one in _of(runtime, package) if one.importer not in OWN_PROCESSES]
    assert not [one for one in strangers if one.importer not in MODEL_ROOMS or not one.deferred]


@pytest.mark.parametrize("package", ["onnxruntime", "onnx", "onnxscript", "safetensors", "joblib"])
def test_models_are_loaded_in_their_rooms_and_libraries_only_when_the_case_arises(
    runtime: list[Import], package: str
) -> None:
    """A model that needs none of them pays for none of them."""
    for one in _of(runtime, package):
        assert one.importer in MODEL_ROOMS, one
        assert one.deferred, one


def test_sagemaker_training_is_imported_only_when_it_is_needed(runtime: list[Import]) -> None:
    """Lazy, and in the launcher's room alone."""
    for one in _of(runtime, "sagemaker_training"):
        assert one.deferred, one
        assert one.importer.startswith("sagemaker_byoc.training."), one


def test_training_imports_the_standard_library_only(runtime: list[Import]) -> None:
    """The time to a script's first line is paid by every job."""
    for one in runtime:
        if one.importer.startswith("sagemaker_byoc.training") and not one.deferred:
            assert one.imported.split(".")[0] in {*sys.stdlib_module_names, "sagemaker_byoc"}, one


def test_harness_shares_nothing_with_the_runtime_but_paths(harness: list[Import]) -> None:
    """Two readings of the contract check each other; shared code would agree with itself in error."""
    shared = {one.imported for one in _of(harness, "sagemaker_byoc")}
    assert shared <= {"sagemaker_byoc.paths", "sagemaker_byoc"}


def test_harness_imports_no_framework(harness: list[Import]) -> None:
    """The host needs no torch."""
    assert not _of(harness, "torch")


@pytest.mark.parametrize("package", [RUNTIME, HARNESS], ids=["runtime", "harness"])
def test_no_module_imports_itself_by_way_of_others(package: Path) -> None:
    """No import cycles, deferred ones not counted."""
    modules = _modules(package)
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for one in _imports(package):
        if not one.deferred and one.imported in modules and one.imported != one.importer:
            graph[one.importer].add(one.imported)
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for imported in sorted(graph[name]):
                visit(imported, (*path, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


@pytest.mark.parametrize("name", ["train", "serve"])
def test_executables_stay_a_few_lines(name: str) -> None:
    """Linters and type checkers do not look into files without a suffix."""
    lines = [line for line in (RUNTIME / name).read_text().splitlines() if line.strip()]
    assert len(lines) <= 8
    assert lines[0] == "#!/usr/bin/env python3"


KINDS = {"training", "processing", "transform", "tuning", "hosting"}
# A processing job has a training job's hosts and inputs; tuning makes training jobs; a transform job serves a model.
MEANT = {("processing", "training"), ("tuning", "training"), ("transform", "hosting")}
# Names of hosts and the documents in a container are the platform's: byoc check needs them, and no job.
OF_CONFORMANCE = {"local_sagemaker.training.cluster", "local_sagemaker.training.platform_files"}
HEAVY = [
    "boto3",
    "botocore",
    "docker",
    "httpx",
    "matplotlib",
    "numpy",
    "optuna",
    "requests",
    "scipy",
    "sqlalchemy",
    "torch",
]
QUICK = [["--help"], ["ps"], ["endpoint", "--help"], ["train", "--help"], ["logs", "--help"]]


def room_of(module: str) -> str:
    """The package of the harness that a module is in, or the module itself where it is in none."""
    return module.removeprefix("local_sagemaker").removeprefix(".").partition(".")[0]


def crossings(harness: list[Import], rooms: set[str]) -> set[tuple[str, str]]:
    """Which of the harness's rooms import others, from these rooms, deferred imports too."""
    ours = [(room_of(one.importer), room_of(one.imported)) for one in _of(harness, "local_sagemaker")]
    return {(importer, imported) for importer, imported in ours if importer in rooms and importer != imported}


def test_what_all_kinds_stand_on_knows_none_of_them(harness: list[Import]) -> None:
    """Engines know no records, records no requests, and none of them a job or an endpoint."""
    below = {
        "engines": {"errors"},
        "state": {"content_types", "engines", "errors", "machine_faults", "progress"},
        "api": {"errors", "state"},
    }
    for room, allowed in below.items():
        assert {imported for _, imported in crossings(harness, {room})} <= allowed


def test_kinds_import_each_other_only_where_it_is_meant(harness: list[Import]) -> None:
    found = crossings(harness, KINDS)
    assert {one for one in found if one[1] in {*KINDS, "cli", "conformance"}} == MEANT


def test_nothing_imports_the_command_line(harness: list[Import]) -> None:
    importers = {room_of(one.importer) for one in _of(harness, "local_sagemaker.cli")}
    assert importers <= {"cli", "__main__"}


def test_conformance_stands_by_itself(harness: list[Import]) -> None:
    """It judges any image: what runs jobs here would judge itself."""
    of_kinds = {
        one.imported
        for kind in KINDS
        for one in _of(harness, f"local_sagemaker.{kind}")
        if room_of(one.importer) == "conformance"
    }
    assert of_kinds <= OF_CONFORMANCE
    importers = {room_of(one.importer) for one in _of(harness, "local_sagemaker.conformance")}
    # `byoc doctor` removes what a killed check has left.
    assert importers <= {"cli", "conformance", "doctor_engine"}


def test_dockers_library_is_known_to_its_rooms_only(harness: list[Import]) -> None:
    """Jobs and endpoints reach Docker through the engine; byoc check has stranger containers than that makes."""
    for one in _of(harness, "docker"):
        known = one.importer.startswith("local_sagemaker.engines.docker") or room_of(one.importer) == "conformance"
        assert known or (one.importer == "local_sagemaker.push" and one.deferred), one


@pytest.mark.parametrize("package", ["boto3", "botocore", "optuna", "scipy", "matplotlib", "sqlalchemy", "aiohttp"])
def test_heavy_libraries_are_imported_when_they_are_needed(harness: list[Import], package: str) -> None:
    """The plot is a room that is imported for a plot."""
    eager = {one.importer for one in _of(harness, package) if not one.deferred}
    assert eager <= ({"local_sagemaker.tuning.plot"} if package == "matplotlib" else set())
    assert all(one.deferred for one in _of(harness, "local_sagemaker.tuning.plot"))


@pytest.mark.parametrize("arguments", QUICK, ids=" ".join)
def test_a_quick_verb_pays_for_no_library_that_it_does_not_use(arguments: list[str], tmp_path: Path) -> None:
    """Where Docker does not answer, its library is not needed either."""
    program = (
        "import sys\n"
        "from local_sagemaker.cli import byoc\n"
        f"byoc({arguments!r}, standalone_mode=False)\n"
        f"print('imported', sorted(set({HEAVY!r}) & set(sys.modules)))\n"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(RUNTIME.parent), str(HARNESS.parent)])}
    environ["DOCKER_HOST"] = f"unix://{tmp_path}/no-docker-here.sock"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "imported []"
