"""Multi-model endpoints: /models as the platform asks it, and any worker that answers for any model."""

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.http import Reply, request
from tests.support.opt_ml import OptMl
from tests.support.places import program
from tests.support.serving import Endpoint
from tests.support.waiting import wait_until

MANY = {"SAGEMAKER_MULTI_MODEL": "true", "SAGEMAKER_MODEL_SERVER_WORKERS": "2"}
Models = Callable[..., AbstractContextManager["ManyModels"]]


class ManyModels:
    """An endpoint of many models, asked as the platform asks."""

    def __init__(self, endpoint: Endpoint, tree: OptMl) -> None:
        self.endpoint = endpoint
        self.tree = tree

    def place(self, name: str, code: str | None = "holds_memory", files: Mapping[str, str] | None = None) -> Path:
        """Unpack a model where the platform unpacks it."""
        folder = self.tree.base / "models" / name / "model"
        folder.mkdir(parents=True)
        for file, text in {"megabytes.txt": "1", **(files or {})}.items():
            (folder / file).write_text(text)
        if code is not None:
            shutil.copytree(program(code), folder / "code", dirs_exist_ok=True)
        return folder

    def ask(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Reply:
        content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **(headers or {})}
        return request(self.endpoint.port, method, path, content, sent)

    def load(self, name: str, url: Path | str) -> Reply:
        return self.ask("POST", "/models", {"model_name": name, "url": str(url)})

    def placed_and_loaded(self, name: str, code: str = "holds_memory", megabytes: int = 1) -> None:
        reply = self.load(name, self.place(name, code, {"megabytes.txt": str(megabytes)}))
        assert reply.status == 200, (reply.body, self.endpoint.log)

    def invoke(self, name: str, data: object = (), headers: Mapping[str, str] | None = None) -> Reply:
        return self.ask("POST", f"/models/{quote(name, safe='')}/invoke", data, headers)

    def unload(self, name: str) -> Reply:
        return self.ask("DELETE", f"/models/{quote(name, safe='')}")

    def names(self) -> list[str]:
        return [model["modelName"] for model in self.ask("GET", "/models").json["models"]]

    def answering(self, name: str, requests: int = 40) -> set[int]:
        """The processes that answer many requests at once; all must answer."""
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda _: self.invoke(name), range(requests)))
        assert {reply.status for reply in replies} == {200}, [r.body for r in replies if r.status != 200][:3]
        assert {reply.json["name"] for reply in replies} == {name}
        return {reply.json["pid"] for reply in replies}


@pytest.fixture
def many(serve: Callable[..., AbstractContextManager[Endpoint]], opt_ml: OptMl) -> Models:
    """Start an endpoint of many models, two workers, with nginx and without."""

    @contextlib.contextmanager
    def start(env: Mapping[str, str] | None = None):
        with serve(None, {**MANY, **(env or {})}) as endpoint:
            yield ManyModels(endpoint.wait_until_ready(), opt_ml)

    return start


def test_it_is_ready_without_a_model_and_lists_none(many: Models) -> None:
    """15.23, 15.25: models come later."""
    with many() as models:
        assert models.endpoint.ping().status == 200
        assert models.ask("GET", "/models").json == {"models": []}
        assert models.ask("GET", "/models/absent").status == 404
        assert models.unload("absent").status == 404
        assert models.invoke("absent").status == 404
        assert models.invoke("absent").error["type"] == "ModelNotFound"


@pytest.mark.parametrize("way", [{"BYOC_SHORTCUT": "on"}, {"BYOC_SHORTCUT": "off"}, {"BYOC_LANE": "asgi"}], ids=str)
def test_a_model_is_loaded_described_invoked_and_unloaded(many: Models, way: dict[str, str]) -> None:
    """15.24-15.27: past Flask, through it, and on the event loop."""
    with many(way) as models:
        folder = models.place("m1")
        assert models.load("m1", folder).status == 200
        shown = {"modelName": "m1", "modelUrl": str(folder)}
        assert models.ask("GET", "/models/m1").json == shown
        assert models.ask("GET", "/models").json == {"models": [shown]}
        reply = models.invoke("m1", [1], {"X-Amzn-SageMaker-Target-Model": "m1.tar.gz"})
        assert reply.json["target"] == "m1.tar.gz"
        again = models.load("m1", folder)
        assert (again.status, again.error["type"]) == (409, "ModelAlreadyLoaded")
        assert models.unload("m1").status == 200
        shutil.rmtree(folder)
        assert models.invoke("m1").status == 404
        assert models.ask("GET", "/models/m1").status == 404
        assert models.unload("m1").status == 404
        assert models.ask("GET", "/models").json == {"models": []}


def test_any_worker_answers_for_any_loaded_model(many: Models) -> None:
    """15.29: 200 to the load means that whoever is asked next has it."""
    with many() as models:
        for name in ("a", "b", "c"):
            models.placed_and_loaded(name)
            workers = models.answering(name)
            wait_until(
                lambda: models.endpoint.workers() == workers or workers.update(models.answering(name)),  # noqa: B023
                "an answer of each worker",
            )
        assert "is being loaded" not in models.endpoint.log


def test_a_killed_worker_comes_back_with_its_models(many: Models) -> None:
    """15.24, 15.29: loaded stays loaded."""
    with many() as models:
        for name in ("a", "b"):
            models.placed_and_loaded(name)
        old = models.endpoint.workers()
        os.kill(min(old), signal.SIGKILL)
        wait_until(lambda: min(old) not in models.endpoint.workers(), "the worker to be gone")
        for name in ("a", "b"):
            models.answering(name)
        wait_until(lambda: len(models.answering("a", 16) | models.answering("b", 16)) == 2, "two workers to answer", 60)
        assert models.names() == ["a", "b"]
        assert models.endpoint.workers() != old


def test_a_reload_keeps_the_models(many: Models) -> None:
    """15.24, 15.29: new workers load what is listed before they take over."""
    with many() as models:
        models.placed_and_loaded("a")
        old = models.endpoint.workers()
        models.endpoint.process.send_signal(signal.SIGHUP)
        while "reloaded:" not in models.endpoint.log:
            models.answering("a", 8)
        wait_until(lambda: not (models.endpoint.workers() & old), "new workers")
        assert not models.answering("a") & old
        assert models.names() == ["a"]


def test_a_worker_that_dies_while_it_loads_leaves_nothing_behind(many: Models, tmp_path: Path) -> None:
    """15.24: not listed, not half loaded, and the next attempt succeeds."""
    gate = tmp_path / "gate"
    gate.touch()
    with many({"TEST_GATE": str(gate)}) as models:
        folder = models.place("a", "dies_while_it_loads")
        reply = models.load("a", folder)
        assert (reply.status, reply.error["type"]) == (500, "HandlerError"), "another worker is left to say so"
        wait_until(lambda: models.endpoint.ping().status == 200 and models.names() == [], "no model listed")
        gate.unlink()
        assert models.load("a", folder).status == 200
        assert models.invoke("a").json[0] == "loaded"


def test_the_only_worker_comes_back_without_the_model_that_killed_it(many: Models, tmp_path: Path) -> None:
    """15.24: nobody is left to answer, and nothing is half loaded."""
    gate = tmp_path / "gate"
    gate.touch()
    with many({"TEST_GATE": str(gate), "SAGEMAKER_MODEL_SERVER_WORKERS": "1"}) as models:
        models.placed_and_loaded("b")
        folder = models.place("a", "dies_while_it_loads")
        with contextlib.suppress(OSError):  # without nginx the connection ends
            assert models.load("a", folder).status == 502
        models.endpoint.wait_for_line("model a is not loaded: the worker that loaded it has ended")
        wait_until(lambda: models.invoke("b").status == 200, "the other model to answer")
        assert models.names() == ["b"]


@pytest.mark.parametrize("shortcut", ["on", "off"])
def test_names_may_hold_any_character(many: Models, shortcut: str) -> None:
    """15.23: names are opaque."""
    names = ["a/b", "a b?c#d%20", "x/invoke", "übung", "a//b", "n" * 200]
    with many({"BYOC_SHORTCUT": shortcut}) as models:
        for number, name in enumerate(names):
            assert models.load(name, models.place(f"m{number}")).status == 200, name
        for number, name in enumerate(names):
            assert models.invoke(name).json["name"] == f"m{number}"
            assert models.ask("GET", f"/models/{quote(name, safe='')}").json["modelName"] == name
        assert sorted(models.names()) == sorted(names)
        assert {models.unload(name).status for name in names} == {200}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"model_name": "a"}', b'{"model_name": 1, "url": "x"}', b'{"model_name": "", "url": ""}'],
)
def test_a_load_that_says_too_little_is_400(many: Models, body: bytes) -> None:
    """15.24."""
    with many() as models:
        reply = models.ask("POST", "/models", body)
        assert (reply.status, reply.error["type"]) == (400, "MalformedBody")


def test_a_folder_that_is_no_models_is_refused(many: Models) -> None:
    """15.23, 15.24: only what the platform unpacked; a link out of it is out of it."""
    with many() as models:
        root = models.tree.base / "models"
        root.mkdir()
        (root / "out").symlink_to("/etc")
        for url in ("/etc", root, f"{root}/../model", f"{root}/out"):
            reply = models.load("a", url)
            assert reply.status == 400, url
            assert "model 'a'" in reply.error["message"]
            assert str(root) not in reply.error["message"]
            assert f"url is {str(url)!r}; expected a folder below {root}" in models.endpoint.log
        missing = models.load("a", root / "absent")
        assert (missing.status, missing.error["type"]) == (404, "ModelNotFound")
        assert models.names() == []


def test_two_models_with_modules_of_the_same_names_do_not_mix(many: Models) -> None:
    """15.23: loaded at once and asked at once; imports at the top, inside functions and of a pickle."""
    with many() as models, ThreadPoolExecutor(8) as pool:
        names = ("first-1", "first-2", "second-1", "second-2")
        folders = {name: models.place(name, f"{name.partition('-')[0]}_of_two") for name in names}
        loads = list(pool.map(lambda name: models.load(name, folders[name]), folders))
        assert {load.status for load in loads} == {200}, [load.body for load in loads]
        asked = list(folders) * 15
        for name, reply in zip(asked, pool.map(lambda name: models.invoke(name, [7]), asked), strict=True):
            who = name.partition("-")[0]
            assert reply.json == [who, who, who, 7]


def test_a_model_without_code_is_served_by_the_containers(many: Models) -> None:
    """15.23, 13.6."""
    with many() as models:
        shutil.copytree(program("holds_memory"), models.tree.base / "code", dirs_exist_ok=True)
        assert models.load("a", models.place("a", code=None)).status == 200
        assert models.load("b", models.place("b", code=None)).status == 200
        assert models.invoke("b").json["name"] == "b"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("model_fn_raises", ("model_fn", "inference.py, line")),
        ("wrong_import", ("no_such_package", "helper.py, line 3")),
        ("no_functions", ("defines none of",)),
        ("model_fn_calls_exit", ("model_fn", "SystemExit")),
    ],
)
def test_code_that_cannot_be_loaded_is_500_and_says_where(many: Models, code: str, words: tuple[str, ...]) -> None:
    """15.24: the endpoint goes on, and nothing of the model stays."""
    with many() as models:
        reply = models.load("a", models.place("a", code))
        assert reply.status == 500, reply.body
        assert all(word in reply.error["message"] for word in ("model 'a'", *words)), reply.error
        assert str(models.tree.base) not in reply.error["message"]
        assert models.names() == []
        assert models.invoke("a").status == 404
        models.placed_and_loaded("b")


def test_code_that_is_no_python_is_500_and_says_where(many: Models) -> None:
    """15.24."""
    with many() as models:
        folder = models.place("a")
        (folder / "code/inference.py").write_text("x = 1\ndef model_fn(:\n")
        reply = models.load("a", folder)
        assert (reply.status, reply.error["type"]) == (500, "HandlerError")
        assert "SyntaxError" in reply.error["message"]
        assert "(inference.py, line 2)" in reply.error["message"]


def test_the_same_model_posted_by_many_is_loaded_once(many: Models) -> None:
    """15.24: one 200, and 409 for the others."""
    with many() as models, ThreadPoolExecutor(8) as pool:
        folder = models.place("a")
        statuses = sorted(reply.status for reply in pool.map(lambda _: models.load("a", folder), range(8)))
        assert statuses == [200] + [409] * 7
        assert models.endpoint.log.count("model a is loaded") == 2, "once in each worker"


def test_loads_and_unloads_at_once_end_as_they_were_answered(many: Models) -> None:
    """15.24-15.26: whatever the order, the list is what the answers say."""
    with many({"BYOC_THREADS": "2"}) as models, ThreadPoolExecutor(12) as pool:
        names = [f"m{n}" for n in range(6)]
        folders = {name: models.place(name) for name in names}

        def churn(name: str) -> int:
            for _ in range(3):
                assert models.load(name, folders[name]).status == 200
                assert models.invoke(name).status == 200
                assert models.unload(name).status == 200
                assert models.invoke(name).status == 404
            return models.load(name, folders[name]).status

        assert set(pool.map(churn, names)) == {200}
        assert sorted(models.names()) == names


def test_memory_that_does_not_suffice_is_507_and_room_comes_back(many: Models) -> None:
    """15.24, 15.26: the platform unloads others and tries again; both workers' copies count."""
    with many({"BYOC_MODEL_MEMORY_MB": "200"}) as models:
        models.placed_and_loaded("a", megabytes=60)
        refused = models.load("b", models.place("b", files={"megabytes.txt": "60"}))
        assert (refused.status, refused.error["type"]) == (507, "NotEnoughMemory")
        assert models.names() == ["a"]
        assert models.invoke("b").status == 404
        assert models.unload("a").status == 200
        assert models.load("b", models.tree.base / "models/b/model").status == 200


def test_a_model_that_runs_out_of_memory_is_507(many: Models) -> None:
    """15.24, 15.27."""
    with many() as models:
        reply = models.load("a", models.place("a", "wants_too_much_memory"))
        assert (reply.status, reply.error["type"]) == (507, "NotEnoughMemory")
        assert models.names() == []


def test_unloading_gives_the_memory_back(many: Models) -> None:
    """15.26: when the answer comes, it has been given back."""
    with many() as models:
        models.placed_and_loaded("small")
        workers = models.endpoint.workers()
        before = sum(map(_held, workers))
        folder = models.place("a", files={"megabytes.txt": "80"})
        for _ in range(3):
            assert models.load("a", folder).status == 200
            assert sum(map(_held, workers)) - before > 150e6
            assert models.unload("a").status == 200
            assert sum(map(_held, workers)) - before < 30e6


def _held(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def test_unloading_waits_for_the_requests_in_flight(many: Models, tmp_path: Path) -> None:
    """15.26: drained, then unloaded."""
    gate = tmp_path / "gate"
    with many({"TEST_GATE": str(gate)}) as models, ThreadPoolExecutor(2) as pool:
        models.placed_and_loaded("a", "slow_predict")
        try:
            answer = pool.submit(models.invoke, "a", [1])
            models.endpoint.wait_for_line("predicting")
            unloading = pool.submit(models.unload, "a")
            wait_until(lambda: models.names() == [], "no new request to be let in")
            assert not unloading.done()
        finally:
            gate.touch()
        assert answer.result().status == 200
        assert unloading.result().status == 200


def test_fifty_models_share_room_for_ten(many: Models) -> None:
    """15.24, 15.28: least recently used ones are put aside, all stay listed, each answers when it is asked."""
    env = {"BYOC_MODEL_MEMORY_MB": "110", "BYOC_MODEL_EVICTION": "lru"}
    with many(env) as models:
        names = [f"m{n:02}" for n in range(50)]
        for name in names:
            models.placed_and_loaded(name, megabytes=5)
        assert models.names() == names
        with ThreadPoolExecutor(4) as pool:
            replies = list(pool.map(models.invoke, names))
        assert [reply.json["name"] for reply in replies] == names
        assert sum(map(_held, models.endpoint.workers())) < 110e6 + 2 * 120e6
        hot = "m07"
        models.invoke(hot)
        loads = models.endpoint.log.count(f"model {hot} is loaded")
        for name in names[20:24]:
            models.invoke(name)
            assert models.invoke(hot).status == 200
        assert models.endpoint.log.count(f"model {hot} is loaded") <= loads + 1, "at most once in the other worker"
        assert models.unload(names[0]).status == 200


def test_lists_come_in_pages_of_a_hundred(many: Models) -> None:
    """15.25."""
    with many({"SAGEMAKER_MODEL_SERVER_WORKERS": "1"}) as models:
        shutil.copytree(program("holds_memory"), models.tree.base / "code", dirs_exist_ok=True)
        names = [f"m{n:03}" for n in range(205)]
        for name in names:
            assert models.load(name, models.place(name, code=None, files={"megabytes.txt": "0"})).status == 200
        found, token, pages = [], "", 0
        while pages == 0 or token:
            page = models.ask("GET", f"/models?next_page_token={quote(token)}" if token else "/models").json
            found += [model["modelName"] for model in page["models"]]
            token, pages = page.get("nextPageToken", ""), pages + 1
        assert (found, pages) == (names, 3)
        assert models.ask("GET", "/models?next_page_token=%21").status == 400


def test_the_header_chooses_the_model_too(many: Models) -> None:
    """15.27: /invocations with the target's name; nothing is loaded for it."""
    with many() as models:
        models.placed_and_loaded("a")
        folder = models.tree.base / "models/a/model"
        for target, status in (("a", 200), (str(folder), 200), ("b", 404)):
            reply = models.endpoint.invoke(b"[]", headers={"X-Amzn-SageMaker-Target-Model": target})
            assert reply.status == status, reply.body
        assert models.endpoint.invoke(b"[]").status == 404


def test_loading_does_not_keep_other_models_from_answering(many: Models, tmp_path: Path) -> None:
    """15.28: a slow load, or several, takes no answer away from those that are loaded."""
    gate = tmp_path / "gate"
    with many({"TEST_GATE": str(gate)}) as models, ThreadPoolExecutor(3) as pool:
        models.placed_and_loaded("a")
        loads = [pool.submit(models.load, name, models.place(name, "slow_model_fn")) for name in ("s1", "s2")]
        try:
            assert models.answering("a")
            assert not any(load.done() for load in loads)
            assert models.names() == ["a"]
        finally:
            gate.touch()
        assert [load.result().status for load in loads] == [200, 200]


def test_a_load_that_takes_too_long_is_504_and_leaves_nothing(many: Models, tmp_path: Path) -> None:
    """15.24, 15.28: the caller is told, and may try again."""
    gate = tmp_path / "gate"
    with many({"TEST_GATE": str(gate), "BYOC_MODEL_LOAD_TIMEOUT": "2"}) as models:
        folder = models.place("a", "slow_model_fn")
        try:
            late = models.load("a", folder)
            assert (late.status, late.error["type"]) == (504, "DeadlineExceeded")
            assert models.names() == []
            assert models.invoke("a", [1]).status == 404
        finally:
            gate.touch()
        # Two seconds may be too little again where the machine is busy.
        wait_until(lambda: models.load("a", folder).status in (200, 409), "the load")
        assert models.invoke("a", [1]).json == "loaded"
