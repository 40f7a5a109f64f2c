"""The models of one worker and their code, the registry that workers share, and how workers talk: without a server."""

import importlib
import os
import signal
import sys
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from sagemaker_byoc.errors import HandlerError, NotEnoughMemory, UserCodeError
from sagemaker_byoc.memory import held_memory
from sagemaker_byoc.serving.exchange import Request
from sagemaker_byoc.serving.many_models import ManyModels
from sagemaker_byoc.serving.model import Model
from sagemaker_byoc.serving.model_code import ModelCode
from sagemaker_byoc.serving.model_loading import load_model
from sagemaker_byoc.serving.model_registry import ASIDE, LOADED, ModelRecord, ModelRegistry
from sagemaker_byoc.serving.model_room import ModelRoom
from sagemaker_byoc.serving.model_store import ModelStore, is_out_of_memory
from sagemaker_byoc.serving.peers import Peers
from sagemaker_byoc.serving.settings import ServeSettings

from tests.support.waiting import wait_until


def write(folder: Path, **files: str) -> Path:
    """A folder of modules: `a_in_b` is written to b/a.py, and `package_in_b` to b/__init__.py."""
    for name, text in files.items():
        module, *outer = name.split("_in_")
        path = folder.joinpath(*reversed(outer), f"{'__init__' if module == 'package' else module}.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def run(folder: Path) -> tuple[ModelCode, object]:
    code = ModelCode(folder)
    with code.plain_names():
        return code, code.run(folder / "inference.py")


def test_dependencies_in_lib_are_the_models_own_unless_python_has_such_a_module(tmp_path: Path) -> None:
    """22.1: each model's are its own; a copy of what is installed hides nothing."""
    text = "import json, shared\ndef told():\n    return [shared.WHO, hasattr(json, 'loads')]\n"
    for who in ("one", "two"):
        folder = write(tmp_path / who, inference=text, shared_in_lib=f"WHO = {who!r}\n", json_in_lib="")
        code, module = run(folder)
        assert module.told() == [who, True]  # type: ignore[attr-defined]  # it is the user's
        code.forget()


def test_every_form_of_import_finds_the_models_own(tmp_path: Path) -> None:
    """15.23."""
    text = (
        "import helper, pack.inner\nimport pack.inner as named\nfrom pack import inner as taken, other\n"
        "from pack.deep.est import WHO as deepest\nfrom helper import *\n"
        "def told():\n    import late\n    return [helper.WHO, pack.inner.WHO, named.WHO, taken.WHO, other.WHO,"
        " deepest, WHO, late.WHO]\n"
    )
    seen = {}
    for who in ("one", "two"):
        said = f"WHO = {who!r}\n"
        files = {
            "helper": said,
            "late": said,
            "other_in_pack": said,
            "est_in_deep_in_pack": "from ..inner import WHO\n",
        }
        inner = {"inner_in_pack": "import helper\nWHO = helper.WHO\n", "package_in_deep_in_pack": ""}
        folder = write(tmp_path / who, inference=text, package_in_pack="", **files, **inner)
        seen[who] = run(folder)
    for who, (code, module) in seen.items():
        assert module.told() == [who] * 8  # type: ignore[attr-defined]
        code.forget()


def test_lazy_imports_at_once_in_many_threads_do_not_mix(tmp_path: Path) -> None:
    """15.23."""
    late = {f"late_{n}": "WHO = {who!r}\n" for n in range(40)}
    text = "def told(n):\n    module = __import__(f'late_{n}')\n    return module.WHO\n"
    folders = [
        (who, write(tmp_path / who, inference=text, **{name: said.format(who=who) for name, said in late.items()}))
        for who in ("one", "two", "three")
    ]
    models = [(who, *run(folder)) for who, folder in folders]
    asked = [(who, module, n) for n in range(40) for who, _, module in models]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda one: one[1].told(one[2]), asked)) == [who for who, _, _ in asked]


def test_while_it_loads_a_model_is_found_by_plain_names_in_its_thread_alone(tmp_path: Path) -> None:
    """15.23: unpickling and importlib find it, other threads and later loads do not."""
    code = ModelCode(write(tmp_path, inference="import own_of_a_test\n", own_of_a_test="WHO = 1\n"))
    with code.plain_names():
        module = code.run(tmp_path / "inference.py")
        assert importlib.import_module("own_of_a_test") is module.own_of_a_test
        assert module.own_of_a_test.__spec__.name == f"{code.package}.own_of_a_test"
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("own_of_a_test")
    with code.plain_names(), ThreadPoolExecutor(1) as pool:
        assert isinstance(pool.submit(_import, "own_of_a_test").exception(), ModuleNotFoundError)


def _import(name: str) -> object:
    return importlib.import_module(name)


def test_dataclasses_with_postponed_annotations_and_metaclasses_find_their_module(tmp_path: Path) -> None:
    """15.23: what looks itself up in sys.modules is there."""
    text = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "from typing import ClassVar, get_type_hints\n"
        "@dataclass\nclass Point:\n    x: int\n    most: ClassVar[int] = 3\nassert get_type_hints(Point)['x'] is int\n"
    )
    code, module = run(write(tmp_path, inference=text))
    assert module.Point(1).x == 1  # type: ignore[attr-defined]
    code.forget()


def test_a_mere_folder_does_not_hide_a_library(tmp_path: Path) -> None:
    """15.23: a folder `email` with data in it is not the package of that name."""
    (tmp_path / "email").mkdir()
    _, module = run(write(tmp_path, inference="import email.message\nfound = email.message.__file__\n"))
    assert str(tmp_path) not in module.found  # type: ignore[attr-defined]


def test_nothing_of_the_code_stays_when_it_is_forgotten(tmp_path: Path) -> None:
    """15.26, 15.28: the same folder may hold other files the next time."""
    before = (set(sys.modules), list(sys.meta_path), set(sys.path_importer_cache), list(sys.path))
    code, module = run(write(tmp_path, inference="import helper\n", helper="WHO = 1\n"))
    code.forget()
    assert (set(sys.modules), list(sys.meta_path), set(sys.path_importer_cache), list(sys.path)) == before
    write(tmp_path, helper="WHO = 22\n")
    code, module = run(tmp_path)
    assert module.helper.WHO == 22  # type: ignore[attr-defined]
    code.forget()


class Nobody:
    """Wants to know nothing."""

    def stage(self, name: str, seconds: float) -> None: ...

    def batch(self, rows: int, requests: int, reason: str, waited_seconds: float, ran_seconds: float) -> None: ...


@pytest.fixture
def settings(tmp_path: Path) -> ServeSettings:
    places = {"SAGEMAKER_BASE_DIR": str(tmp_path / "ml"), "BYOC_IMAGE_CODE_DIR": str(tmp_path / "image")}
    return replace(ServeSettings.read(places), device="cpu")


@pytest.fixture
def store(settings: ServeSettings) -> ModelStore:
    return ModelStore(settings, lambda one, import_code: load_model(one, Nobody(), import_code))


def record(name: str, folder: Path, text: str) -> ModelRecord:
    write(folder / "code", inference=text)
    return ModelRecord(name, str(folder), f"version of {name}", LOADED)


HOLDS = "def model_fn(d):\n    return b'x' * 60_000_000\ndef predict_fn(data, model):\n    return len(model)\n"


def test_a_model_is_measured_used_and_given_back(store: ModelStore, tmp_path: Path) -> None:
    """15.24, 15.26."""
    before = held_memory()
    assert store.load(record("a", tmp_path / "a", HOLDS)) == pytest.approx(60e6, rel=0.1)
    held = store.begin("a")
    assert held is not None
    assert held.model.invoke(Request(b"1", "application/json", "")).body == b"60000000"
    store.end(held)
    del held
    assert store.unload("a", 0)
    assert held_memory() - before < 10e6
    assert store.begin("a") is None


def test_a_model_whose_requests_are_joined_is_given_back_too(store: ModelStore, tmp_path: Path) -> None:
    """15.26: with the thread that ran its batches."""
    text = (
        "import time\nfrom sagemaker_byoc.serving.batching import batched\nclass Weights: pass\n"
        "def model_fn(d):\n    return Weights()\n"
        "@batched(max_rows=8)\ndef predict_fn(data, model):\n    time.sleep(0.02)\n    return [7] * len(data)\n"
    )
    store.load(record("a", tmp_path / "a", text))
    held = store.begin("a")
    assert held is not None
    weights = weakref.ref(held.model.value)
    with ThreadPoolExecutor(8) as pool:
        ask = partial(held.model.invoke, Request(b"[[1]]", "application/json", ""))
        assert {one.result().body for one in [pool.submit(ask) for _ in range(40)]} == {b"[7]"}
    store.end(held)
    del held, ask
    assert store.unload("a", 10)
    wait_until(lambda: weights() is None, "the model to be let go")


def test_libraries_are_not_counted_to_the_model_that_imports_them_first(store: ModelStore, tmp_path: Path) -> None:
    """15.24: they stay when it goes, and serve the next."""
    text = "import sys\nsys.kept_by_a_test = b'x' * 50_000_000\n" + HOLDS
    try:
        assert store.load(record("a", tmp_path / "a", text)) == pytest.approx(60e6, rel=0.1)
    finally:
        del sys.kept_by_a_test  # type: ignore[attr-defined]


def test_a_model_that_is_busy_stays_until_it_is_free(store: ModelStore, tmp_path: Path) -> None:
    """15.26."""
    store.load(record("a", tmp_path / "a", HOLDS))
    held = store.begin("a")
    assert held is not None
    assert not store.unload("a", 0.05)
    again = store.begin("a")
    assert again is held, "it goes on answering"
    store.end(again)
    with ThreadPoolExecutor(1) as pool:
        unloading = pool.submit(store.unload, "a", 30)
        wait_until(lambda: held.going, "no new request to be let in")
        assert store.begin("a") is None
        assert not unloading.done()
        store.end(held)
        assert unloading.result(30)


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("import no_such_package", HandlerError, "No module named 'no_such_package' (inference.py, line 2)"),
        ("def model_fn(d):\n    raise OSError('disk')\n", HandlerError, "OSError: disk (inference.py, line 3)"),
        ("def model_fn(d):\n    raise MemoryError('no')\n", NotEnoughMemory, "memory did not suffice for model 'a'"),
        ("raise MemoryError", NotEnoughMemory, "memory did not suffice for model 'a'"),
        ("import sys\nsys.exit(3)", HandlerError, "SystemExit: 3 (inference.py, line 3)"),
        ("x = 1", UserCodeError, "defines none of"),
    ],
)
def test_what_goes_wrong_while_loading_is_told_and_leaves_nothing(
    store: ModelStore, tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, kind: type[Exception], words: str
) -> None:
    """15.24: 500 or 507, the modules and the memory gone."""
    caplog.set_level(100, "sagemaker_byoc.serving.handlers")  # pytest keeps what is logged, and with it the traces
    modules, finders, before = set(sys.modules), list(sys.meta_path), held_memory()
    with pytest.raises(kind) as raised:
        store.load(record("a", tmp_path / "a", f"kept = b'x' * 60_000_000\n{text}"))
    assert words in str(raised.value)
    assert raised.value.__cause__ is raised.value.__context__ is None
    assert held_memory() - before < 20e6
    assert list(sys.meta_path) == finders
    assert {name for name in set(sys.modules) - modules if name.startswith("model_")} == set()
    assert store.begin("a") is None


def test_another_version_of_a_name_replaces_the_first(store: ModelStore, tmp_path: Path) -> None:
    """15.24: as after an unload that this worker has not heard of."""
    first = record(
        "a", tmp_path / "a", "def model_fn(d):\n    return 1\ndef predict_fn(data, model):\n    return model\n"
    )
    store.load(first)
    assert store.load(first) == store.load(first)
    second = record(
        "a", tmp_path / "b", "def model_fn(d):\n    return 2\ndef predict_fn(data, model):\n    return model\n"
    )
    store.load(replace(second, version="another"))
    held = store.begin("a")
    assert held is not None
    assert held.model.value == 2


class OutOfMemoryError(RuntimeError):
    """What torch raises is called this."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OutOfMemoryError("GPU 0"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_the_libraries_ways_to_say_that_memory_is_out(error: Exception, expected: bool) -> None:
    """15.27: the GPU's too."""
    wrapped = HandlerError("model_fn raised")
    wrapped.__cause__ = error
    assert is_out_of_memory(wrapped) is expected


def test_records_are_kept_listed_and_marked(tmp_path: Path) -> None:
    """15.25: two workers' views are one."""
    one, other = ModelRegistry(tmp_path / "r"), ModelRegistry(tmp_path / "r")
    names = ["b", "a/../b", "ü" * 300, "a\nb", "x.model"]
    for name in names:
        one.write(ModelRecord(name, f"/{name}", "1", LOADED))
    assert [found.name for found in other.records()] == sorted(names)
    changed = other.mark(one.records()[0], ASIDE)
    assert one.read(changed.name) == changed
    for name in names:
        assert one.use(name)
        other.remove(name)
        assert not one.use(name)
        assert one.read(name) is None
    assert one.records() == []


def test_models_are_ordered_by_their_last_use(tmp_path: Path) -> None:
    """15.28: what was used longest ago goes first; a change of state is no use."""
    registry = ModelRegistry(tmp_path / "r")
    for name in ("a", "b", "c"):
        registry.write(ModelRecord(name, "/", "1", LOADED))
        assert registry.use(name)
    assert registry.use("a")
    found = registry.read("b")
    assert found is not None
    assert [one.name for one in registry.by_use()] == ["b", "c", "a"]


def test_the_lock_holds_between_threads_and_processes_and_ends_with_its_holder(tmp_path: Path) -> None:
    """15.29: a worker that dies in the middle keeps nobody waiting."""
    registry = ModelRegistry(tmp_path / "r")
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        own = ModelRegistry(tmp_path / "r")
        with own.locked():
            os.write(tell, b"x")
            signal.pause()
    os.read(ready, 1)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(_hold, registry) for _ in range(2)]
        time.sleep(0.1)
        assert not any(one.done() for one in waiting)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert sorted(one.result(30) for one in waiting) == [1, 1], "one at a time"


_inside: list[int] = []


def _hold(registry: ModelRegistry) -> int:
    with registry.locked():
        _inside.append(1)
        seen = len(_inside)
        _inside.pop()
        return seen


def _in_child(work: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        work()
        signal.pause()
    return child


def test_peers_answer_and_the_dead_are_passed_over(tmp_path: Path) -> None:
    """15.29: who does not answer any more keeps nobody waiting."""
    children = [_in_child(Peers(tmp_path, lambda message: {"heard": message["n"]}).listen) for _ in range(2)]
    dying = _in_child(Peers(tmp_path, lambda _: os._exit(1)).listen)
    wait_until(lambda: len(list(tmp_path.glob("*.peer"))) == 3, "three peers")
    asking = Peers(tmp_path, lambda _: {})
    try:
        assert asking.count() == 3
        replies = {reply.pid: reply.content for reply in asking.tell({"n": 7}, 10)}
        assert replies == {children[0]: {"heard": 7}, children[1]: {"heard": 7}, dying: None}
        os.waitpid(dying, 0)
        assert len(asking.tell({"n": 8}, 10)) == 2
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    assert asking.tell({"n": 9}, 10) == []


def test_what_a_worker_had_unlisted_when_it_died_is_let_go_by_the_others(
    settings: ServeSettings, store: ModelStore, tmp_path: Path
) -> None:
    """15.26: no memory is held for a model that is not listed any more."""
    registry = tmp_path / "r"
    listed = record("a", tmp_path / "a", HOLDS)
    ModelRegistry(registry).write(listed)
    child = os.fork()
    if child == 0:
        ManyModels(settings, ModelRegistry(registry), store).begin(True, (tmp_path / "ready").touch)
        signal.pause()
    try:
        wait_until((tmp_path / "ready").exists, "the other worker to have the model")
        mine = ModelRegistry(registry)
        asking = Peers(registry, lambda _: {})
        assert [reply.content["taken"] > 50e6 for reply in asking.tell({"taken": True}, 10) if reply.content] == [True]
        mine.remove("a")
        ManyModels(settings, mine, ModelStore(settings, _never)).begin(True, lambda: None)
        assert [reply.content["taken"] < 30e6 for reply in asking.tell({"taken": True}, 10) if reply.content] == [True]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _never(_: ServeSettings, import_code: object) -> Model:
    raise AssertionError("there is nothing to load")


def test_a_model_in_use_is_not_put_aside_though_it_was_used_longest_ago(
    settings: ServeSettings, store: ModelStore, tmp_path: Path
) -> None:
    """15.28: idle ones only; where there is none, or eviction is off, it is 507."""
    settings = replace(settings, model_memory_mb=150, model_eviction="lru")
    registry = ModelRegistry(tmp_path / "r")
    room = ModelRoom(settings, registry, store, Peers(registry.folder, lambda _: {}))
    for name in ("busy", "idle"):
        found = record(name, tmp_path / name, HOLDS)
        registry.write(found)
        registry.note_size(name, store.load(found))
    busy = store.begin("busy")
    new = record("new", tmp_path / "new", HOLDS)
    with pytest.raises(NotEnoughMemory, match=r"'new' needs 60 MB in all workers together, and there are \d+ MB"):
        ModelRoom(replace(settings, model_eviction="off"), registry, store, Peers(registry.folder, lambda _: {})).make(
            60_000_000, new
        )
    room.make(60_000_000, new)
    assert {found.name: found.state for found in registry.records()} == {"busy": LOADED, "idle": ASIDE}
    assert store.names() == ["busy"]
    with pytest.raises(NotEnoughMemory):
        room.make(120_000_000, new)
    assert busy is not None
    store.end(busy)
    del busy
    room.make(120_000_000, new)
    assert store.names() == []


def test_what_a_model_needs_is_measured_or_else_its_files(
    settings: ServeSettings, store: ModelStore, tmp_path: Path
) -> None:
    """15.24: and one that has killed a worker needs more than there was."""
    registry = ModelRegistry(tmp_path / "r")
    room = ModelRoom(settings, registry, store, Peers(registry.folder, lambda _: {}))
    (tmp_path / "a/sub").mkdir(parents=True)
    (tmp_path / "a/sub/weights").write_bytes(b"x" * 1000)
    (tmp_path / "a/config").write_bytes(b"x" * 10)
    new = ModelRecord("a", str(tmp_path / "a"), "1", LOADED, left=5000)
    assert room.needed(new) == 1010
    room.note_too_large(new)
    assert room.needed(new) == 5001
    registry.note_size("a", 7)
    registry.remove("a")
    assert room.needed(new) == 7, "also after it has been unloaded"
