"""The user's inference.py: which one, its functions, and what a caller sees when they fail."""

import json
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.support.http import Reply
from tests.support.opt_ml import OptMl
from tests.support.serving import Endpoint

Serve = Callable[..., AbstractContextManager[Endpoint]]


def ask(serve: Serve, name: str | None, body: bytes = b"[1]", env: dict[str, str] | None = None, **how: Any) -> Reply:
    """One question to a fresh endpoint."""
    with serve(name, env) as endpoint:
        endpoint.wait_until_ready()
        return endpoint.invoke(body, **how)


@pytest.fixture
def front() -> str:
    """User code is the same behind nginx and without; these tests take the shorter way."""
    return "off"


def test_transform_fn_does_everything_in_one(serve: Serve) -> None:
    """22.2: called with the raw body and its type; text and content type are what it returned."""
    reply = ask(serve, "transform_fn_only", b"hello", content_type="text/anything")
    assert (reply.status, reply.body, reply.content_type) == (200, b"shout:HELLO", "text/plain")


def test_each_function_may_take_the_context(serve: Serve) -> None:
    """22.2."""
    reply = ask(serve, "context_parameter", b"hello")
    assert reply.status == 200, reply
    assert reply.json["data"] == "hello"
    assert reply.json["context"] == reply.json["same"]


def test_users_own_formats_go_in_and_out(serve: Serve) -> None:
    """22.2: input_fn decides what can be read, output_fn what is said about the answer."""
    reply = ask(serve, "own_content_type", b"abc", content_type="application/x-reversed; v=1", accept="anything/else")
    assert (reply.status, reply.body, reply.content_type) == (200, b"cba", "application/x-reversed")


def test_arrays_are_answers_too(serve: Serve) -> None:
    """22.2: the default output understands NumPy."""
    assert ask(serve, "returns_arrays", b"[[1, 2], [3, 4]]").json == [[2.0, 4.0], [6.0, 8.0]]


def test_default_accept_can_be_set(serve: Serve) -> None:
    """22.1: SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT."""
    reply = ask(serve, "echoes", b"[[1, 2]]", {"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv"})
    assert (reply.content_type, reply.body) == ("text/csv", b"1,2\n")


def test_code_beside_the_model_goes_first(opt_ml: OptMl, serve: Serve) -> None:
    """22.1: model/code, then code, then the image's."""
    opt_ml.code("transform_fn_only")
    assert ask(serve, "echoes", b"[7]").json == [7]


def test_code_of_the_job_goes_before_the_images(opt_ml: OptMl, serve: Serve, program: Callable[[str], Path]) -> None:
    """22.1."""
    opt_ml.code("echoes")
    image = {"BYOC_IMAGE_CODE_DIR": str(program("transform_fn_only"))}
    assert ask(serve, None, b"[7]", image).json == [7]


def test_code_of_the_image_is_the_fallback_and_no_model_is_no_error(
    opt_ml: OptMl, serve: Serve, program: Callable[[str], Path]
) -> None:
    """13.6: /opt/ml/model may be empty or absent."""
    shutil.rmtree(opt_ml.base / "model")
    assert ask(serve, None, b"[7]", {"BYOC_IMAGE_CODE_DIR": str(program("echoes"))}).json == [7]


def test_another_file_name_can_be_set(opt_ml: OptMl, serve: Serve) -> None:
    """22.1: SAGEMAKER_PROGRAM."""
    opt_ml.model_code("echoes")
    (opt_ml.base / "model/code/inference.py").rename(opt_ml.base / "model/code/predict_digits.py")
    assert ask(serve, None, b"[7]", {"SAGEMAKER_PROGRAM": "predict_digits.py"}).json == [7]


def test_users_modules_are_never_hidden_by_ours(opt_ml: OptMl, serve: Serve) -> None:
    """A user may call a module predictor or training."""
    assert ask(serve, "imports_its_neighbours").json == ["the user's predictor", "the user's training"]


def test_model_directory_is_not_written_to(opt_ml: OptMl, serve: Serve) -> None:
    """13.5: it is mounted read-only; not even byte code."""
    opt_ml.model_code("imports_its_neighbours")
    before = sorted(opt_ml.base.rglob("*"))
    ask(serve, None)
    assert sorted(opt_ml.base.rglob("*")) == before


# ---- when it fails


@pytest.mark.parametrize(
    ("name", "function", "what"),
    [
        ("predict_raises", "predict_fn", ("ZeroDivisionError", "the batch has no rows")),
        ("input_fn_raises", "input_fn", ("KeyError", "instances")),
        ("predict_calls_exit", "predict_fn", ("SystemExit", "enough")),
        ("predict_panics", "predict_fn", ("PanicException", "an index out of range")),
    ],
)
def test_failure_of_a_function_is_500_and_names_function_exception_and_message(
    serve: Serve, name: str, function: str, what: tuple[str, str]
) -> None:
    """15.4, 15.5: the caller gets a sentence, the log gets the traceback, the server goes on."""
    with serve(name) as endpoint:
        endpoint.wait_until_ready()
        reply = endpoint.invoke(b'"exit"')
        assert reply.status == 500, reply
        for word in (function, *what):
            assert word in reply.error["message"]
        assert b"Traceback" not in reply.body
        endpoint.wait_for_line("Traceback (most recent call last)")
        endpoint.wait_for_line("inference.py")
        assert endpoint.ping().status == 200


def test_module_of_torch_predicts_from_arrays_in_evaluation_mode(serve: Serve) -> None:
    """22.2: model_fn is all that a script for AWS's PyTorch images needs."""
    with serve("returns_a_module") as endpoint:
        endpoint.wait_until_ready(60)
        assert endpoint.invoke(b"[[1, 2], [3, 4]]").json == [[3.0], [7.0]]
        assert endpoint.invoke(b"1,2\n3,4\n", "text/csv", "text/csv").body == b"3.0\n7.0\n"


@pytest.mark.parametrize(
    ("asked", "body", "content_type", "status"),
    [
        ("a value", b'{"a":[1.0,2.0]}', "application/json", 200),
        ("an array and its type", b"1\n2\n", "text/csv", 200),
        ("a response", b"<made>", "text/x-own", 201),
    ],
)
def test_output_fn_may_return_what_scripts_for_other_images_return(
    serve: Serve, asked: str, body: bytes, content_type: str, status: int
) -> None:
    """22.2: AWS's servers write a value as JSON; its images for scikit-learn take Flask's responses."""
    reply = ask(serve, "returns_many_things", json.dumps(asked).encode())
    assert (reply.status, reply.body, reply.content_type) == (status, body, content_type)


@pytest.mark.parametrize("asked", ["nothing", "a value in a type of its own"])
def test_output_fn_that_returns_no_body_is_500_and_told_what_it_may_return(serve: Serve, asked: str) -> None:
    """15.5: a forgotten `return` is no null."""
    reply = ask(serve, "returns_many_things", json.dumps(asked).encode())
    assert reply.status == 500
    assert "output_fn returned a" in reply.error["message"]
    assert "expected bytes or str" in reply.error["message"]


def test_files_in_the_working_directory_are_not_imported(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """13.1: the image's WORKDIR may hold anything, a `queue.py` for instance."""
    for name in ("queue", "json", "flask"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not this one')")
    monkeypatch.chdir(tmp_path)
    assert ask(serve, "echoes").status == 200


def test_empty_body_is_for_a_function_that_reads_bodies_itself(serve: Serve) -> None:
    """22.2: what it means is up to transform_fn, as in AWS's images."""
    reply = ask(serve, "transform_fn_only", b"", content_type="text/plain")
    assert (reply.status, reply.body) == (200, b"shout:")


@pytest.mark.parametrize(("device", "told"), [("cpu", "cpu"), ("cuda:1", "cuda:1"), ("cuda", "cuda:0")])
def test_context_answers_what_scripts_for_torchserve_ask(serve: Serve, device: str, told: str) -> None:
    """22.2: the context of AWS's PyTorch images is TorchServe's."""
    env = {"BYOC_DEVICE": device}
    reply = ask(serve, "context_of_torchserve", env=env, headers={"X-Asked": "yes"})
    assert reply.json == {"same folder": True, "device": told, "asked": "yes"}


def test_functions_may_start_processes_of_their_own(serve: Serve) -> None:
    """22.1: what they fork ends when it is told to, in both lanes."""
    for lane in ("wsgi", "asgi"):
        reply = ask(serve, "starts_a_pool", b"[3]", {"BYOC_LANE": lane})
        assert reply.json == [[1, 4], [9]], reply


def test_handlers_for_signals_are_passed_over_while_code_is_loaded(serve: Serve) -> None:
    """13.2, 22.1: scripts and the libraries they import set them; the server's own go on stopping it in order."""
    for lane in ("wsgi", "asgi"):
        with serve("sets_signal_handlers", {"BYOC_LANE": lane}) as endpoint:
            endpoint.wait_until_ready()
            told = endpoint.invoke(b"1").json
            assert told == {"server's": True, "children's": True, "still the server's": True, "later": True}
            assert "inference.py, line 8 sets a handler for SIGPIPE, which is passed over" in endpoint.log
            endpoint.terminate()
            assert endpoint.wait() == 0


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python gives nobody a loop for the asking")
def test_functions_find_an_event_loop_where_they_ask_for_the_current_one(serve: Serve) -> None:
    """22.2: while the code is imported, and in whatever thread predicts."""
    with serve("asks_for_the_current_loop") as endpoint:
        endpoint.wait_until_ready()
        assert [endpoint.invoke(b"4").json for _ in range(20)] == [5] * 20


@pytest.mark.parametrize(
    ("body", "status", "content_type"),
    [(b'{"a": 1, "b": 2}', 200, "text/event-stream"), (b"1", 406, "application/json")],
)
def test_what_predict_fn_yields_can_be_all_that_is_accepted_as_events(
    serve: Serve, body: bytes, status: int, content_type: str
) -> None:
    """15.11, 15.13: what it returns whole cannot."""
    reply = ask(serve, "yields_or_returns", body, accept="text/event-stream")
    assert (reply.status, reply.content_type) == (status, content_type)
    assert status != 200 or reply.body == b"data: 1\n\ndata: 2\n\n"


def test_package_that_is_missing_is_told_with_the_place_to_name_it(serve: Serve) -> None:
    """14.8."""
    with serve("import_error") as endpoint:
        endpoint.wait_for_line("No module named 'a_package_that_is_not_installed'. If a_package_that_is_not_installed")
        endpoint.wait_for_line("in a requirements.txt beside the code")


def test_dependencies_of_sagemakers_sdk_are_found_in_lib(serve: Serve) -> None:
    """22.1: and a program may be named as a module is, without its ending."""
    assert ask(serve, "brings_a_library", b'["a"]', {"SAGEMAKER_PROGRAM": "predict"}).json == ["A"]


def test_prediction_that_no_format_can_hold_is_500_and_names_its_type(serve: Serve) -> None:
    """15.5: the model's answer is wrong, not the caller's question."""
    reply = ask(serve, "wrong_return_type")
    assert reply.status == 500, reply
    assert "object" in reply.error["message"]
    assert "application/json" in reply.error["message"]


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("model_fn_raises", ("model_fn", "ValueError", "weights of version 1 cannot be read any more")),
        ("model_fn_calls_exit", ("model_fn", "no licence for this model")),
        ("import_error", ("a_package_that_is_not_installed",)),
        ("no_functions", ("model_fn",)),
        ("handler_service", ("handler service", "transform_fn(model, body, content_type, accept)")),
        ("reads_weights", ("model_fn", "weights.json")),
    ],
)
def test_model_that_cannot_be_loaded_is_503_for_ever_with_the_reason_in_the_log(
    serve: Serve, name: str, reasons: tuple[str, ...]
) -> None:
    """14.8: ping tells the platform, the log tells the person, and the container stays up to be looked at."""
    with serve(name) as endpoint:
        for reason in reasons:
            endpoint.wait_for_line(reason)
        endpoint.wait_for_status(503)
        reply = endpoint.invoke(b"[1]")
        assert reply.status == 503
        assert b"Traceback" not in reply.body
        assert reply.error["message"]
        assert [endpoint.ping().status for _ in range(20)] == [503] * 20
        assert endpoint.process.poll() is None
        endpoint.terminate()
        assert endpoint.wait() == 0


def test_corrupt_model_is_503_with_the_reason_in_the_log(opt_ml: OptMl, serve: Serve) -> None:
    """14.8."""
    opt_ml.model_file("weights.json", b"\x80\x04 not what it was")
    with serve("reads_weights") as endpoint:
        endpoint.wait_for_line("UnicodeDecodeError")
        endpoint.wait_for_status(503)


def test_good_model_is_served(opt_ml: OptMl, serve: Serve) -> None:
    """The same program with what it needs."""
    opt_ml.model_file("weights.json", json.dumps({"factor": 3}).encode())
    assert ask(serve, "reads_weights", b"[1, 2]").json == [3, 6]


def test_missing_inference_py_says_what_was_looked_for_and_where(opt_ml: OptMl, serve: Serve) -> None:
    """22.1."""
    with serve(None) as endpoint:
        endpoint.wait_for_line("inference.py")
        for place in ("model/code", "opt_ml/code"):
            assert place in endpoint.log or endpoint.wait_for_line(place) is None
        assert "Traceback" not in endpoint.log


def test_model_fn_that_ends_the_process_never_passes_for_ready(serve: Serve) -> None:
    """14.8: native code that dies takes its worker along; that is told, and never answered with 200."""
    with serve("model_fn_exits") as endpoint:
        endpoint.wait_for_line("7")
        statuses = set()
        for _ in range(20):
            try:
                statuses.add(endpoint.ping(seconds=5).status)
            except OSError:
                statuses.add(0)
        assert 200 not in statuses
