"""How a job ends: exit code, failure file, and every byte of its log."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.support.opt_ml import OptMl
from tests.support.training import TrainRun, run_train

Train = Callable[..., TrainRun]

LINES = b"".join(b"line %05d step_loss=0.5;\n" % number for number in range(40_000))


def test_success_is_exit_0_and_no_failure_file(opt_ml: OptMl, train: Train) -> None:
    """1.7, 1.9."""
    run = train("succeeds")
    assert (run.exit_code, run.failure) == (0, None)
    assert (opt_ml.base / "model" / "weights.txt").read_text() == "0.5\n"
    assert not (opt_ml.base / "output" / "success").exists()


def test_healthy_job_adds_nothing_to_its_log(train: Train) -> None:
    """8.1: each line may be read as a metric; ours would only be noise."""
    run = train("succeeds")
    assert run.stdout == b"epoch=1 train_loss=0.1234;\n"
    assert run.stderr == b""


@pytest.mark.parametrize(
    ("name", "code"),
    [("exits_3", 3), ("raises", 1), ("exits_with_message", 1), ("killed_by_sigkill", 137), ("segfaults", 139)],
)
def test_exit_code_is_the_scripts(train: Train, name: str, code: int) -> None:
    """1.7, 1.11: 128 + n for signal n."""
    run = train(name)
    assert run.exit_code == code
    assert run.failure


def test_failure_begins_with_the_exception(train: Train) -> None:
    """1.9: the first 1,024 characters are all a person sees."""
    failure = train("raises").failure or ""
    assert failure.splitlines()[0] == "ValueError: the learning rate must be positive, got -1.0"


def test_failure_shows_the_users_frames_and_none_of_ours(train: Train) -> None:
    """1.9."""
    failure = train("raises").failure or ""
    assert "train.py" in failure
    assert "check_learning_rate" in failure
    assert "sagemaker_byoc" not in failure


def test_failure_names_the_last_exception_of_a_chain(train: Train) -> None:
    """1.9: the error that ended the job first, not its cause."""
    failure = train("raises_with_cause").failure or ""
    assert failure.splitlines()[0] == "RuntimeError: the training table has no labels"


def test_failure_of_an_error_inside_a_library_names_the_users_line(train: Train) -> None:
    """1.9: the frames of the standard library help nobody."""
    failure = train("raises_in_a_thread_of_work").failure or ""
    assert failure.startswith("json.decoder.JSONDecodeError:")
    assert 'json.loads("{broken")' in failure


def test_failure_of_a_syntax_error_names_file_and_line(train: Train) -> None:
    """1.9."""
    run = train("syntax_error")
    assert run.exit_code == 1
    assert (run.failure or "").startswith("SyntaxError:")
    assert "train.py" in (run.failure or "")
    assert "line 4" in (run.failure or "")


def test_failure_of_a_missing_package_names_it(train: Train) -> None:
    """1.9."""
    failure = train("imports_what_is_missing").failure or ""
    assert failure.startswith("ModuleNotFoundError: No module named 'a_package_that_is_not_installed'")


def test_failure_of_several_errors_names_the_group(train: Train) -> None:
    """1.9: the traceback of an exception group is drawn differently."""
    failure = train("raises_a_group").failure or ""
    assert failure.startswith("ExceptionGroup: two shards failed")


def test_failure_after_noise_and_a_handled_traceback_is_the_real_reason(train: Train) -> None:
    """1.9."""
    failure = train("logs_an_error_then_raises").failure or ""
    assert failure.splitlines()[0] == "RuntimeError: the real reason"


def test_message_of_sys_exit_is_the_failure(train: Train) -> None:
    """1.9."""
    assert "channel 'train' holds no images" in (train("exits_with_message").failure or "")


@pytest.mark.parametrize(("name", "word"), [("exits_3", "3"), ("killed_by_sigkill", "SIGKILL")])
def test_wordless_death_is_put_into_words(train: Train, name: str, word: str) -> None:
    """1.10: better than "Exit Code: N" alone."""
    assert word in (train(name).failure or "")


@pytest.mark.parametrize("name", ["raises_a_long_message", "raises_in_german", "logs_an_error_then_raises"])
def test_failure_is_at_most_1024_characters_of_utf8(opt_ml: OptMl, train: Train, name: str) -> None:
    """1.9: characters, not bytes, and never half a character."""
    train(name)
    assert 0 < len((opt_ml.base / "output" / "failure").read_bytes().decode("utf-8")) <= 1024


def test_failure_keeps_characters_beyond_ascii(train: Train) -> None:
    """1.9."""
    assert (train("raises_in_german").failure or "").startswith("ValueError: die Lernrate für Größe ∞ ist zu groß")


def test_bytes_that_are_no_text_do_not_spoil_the_failure_file(opt_ml: OptMl, train: Train) -> None:
    """1.9: the file is read as text."""
    run = train("raises_invalid_utf8")
    assert run.exit_code == 1
    assert (opt_ml.base / "output" / "failure").read_bytes().decode("utf-8").startswith("OSError: cannot read")


def test_failure_that_the_user_wrote_is_kept(train: Train) -> None:
    """1.11: written only if absent."""
    assert train("writes_own_failure").failure == "shard 7 of channel train is corrupt\n"


@pytest.mark.parametrize(
    ("name", "stream"), [("prints_40000_lines", "stdout"), ("prints_40000_lines_to_stderr", "stderr")]
)
def test_40000_lines_arrive_byte_for_byte_and_in_order(train: Train, name: str, stream: str) -> None:
    """4.7: metrics are read from these lines."""
    run = train(name)
    assert run.exit_code == 0
    assert getattr(run, stream) == LINES


def test_bytes_that_are_not_utf8_pass_unchanged(train: Train) -> None:
    """4.7: no line is waited for, no byte replaced, no line end added."""
    run = train("prints_invalid_utf8")
    assert run.exit_code == 0
    assert run.stdout == bytes(range(256)) + b"\nno newline at the end \xff\xfe"
    assert run.stderr == b"\xc3\x28 bar 50%\r bar 100%\r\xa0\xa1"


def test_output_of_a_child_process_passes_too(train: Train) -> None:
    """4.7."""
    run = train("prints_from_a_child")
    assert (run.stdout, run.stderr) == (b"child out\n", b"child err\n")


def test_standard_input_is_at_its_end(train: Train) -> None:
    """A script that asks a question must not hang."""
    assert train("reads_standard_input").stdout == b"read 0 characters\n"


# ---- what the platform hands over is broken


@pytest.mark.parametrize("name", ["hyperparameters.json", "resourceconfig.json", "inputdataconfig.json"])
def test_broken_json_names_path_line_and_column(opt_ml: OptMl, train: Train, name: str) -> None:
    """2.1-2.9: our own exit code 64, and a reason a person can act on."""
    path = opt_ml.config(name, '{\n  "epochs": "1",\n  broken\n}')
    run = train("succeeds")
    assert run.exit_code == 64
    for text in (run.failure or "", run.log):
        assert str(path) in text
        assert "line 3 column 3" in text
        assert "Traceback" not in text


@pytest.mark.parametrize("name", ["hyperparameters.json", "resourceconfig.json", "inputdataconfig.json"])
@pytest.mark.parametrize("content", ["[]", '"text"', "3", "null"])
def test_json_that_is_no_object_is_refused_by_name(opt_ml: OptMl, train: Train, name: str, content: str) -> None:
    """2.1."""
    path = opt_ml.config(name, content)
    run = train("succeeds")
    assert run.exit_code == 64
    assert str(path) in (run.failure or "")


@pytest.mark.parametrize("name", ["hyperparameters.json", "resourceconfig.json", "inputdataconfig.json"])
def test_bytes_that_are_no_text_are_refused_by_name(opt_ml: OptMl, train: Train, name: str) -> None:
    """2.1."""
    path = opt_ml.config(name, b'{"a": "\xff\xfe"}')
    run = train("succeeds")
    assert run.exit_code == 64
    assert str(path) in (run.failure or "")
    assert "Traceback" not in run.log


@pytest.mark.parametrize("name", ["hyperparameters.json", "resourceconfig.json", "inputdataconfig.json"])
def test_empty_configuration_file_ends_the_job_or_is_no_document_but_never_a_traceback(
    opt_ml: OptMl, train: Train, name: str
) -> None:
    """2.8: an empty file holds nothing, as an absent one does."""
    opt_ml.config(name, "")
    run = train("succeeds")
    assert run.exit_code == 0, run.log


@pytest.mark.parametrize(
    "document",
    [
        {"current_host": 1, "hosts": ["algo-1"]},
        {"current_host": "algo-1", "hosts": "algo-1"},
        {"current_host": "algo-9", "hosts": ["algo-1"]},
        {"current_host": "algo-1", "hosts": ["algo-1"], "instance_groups": {"a": 1}},
        {"current_host": "algo-1", "hosts": ["algo-1"], "instance_groups": [{"instance_group_name": "a", "hosts": 3}]},
    ],
    ids=[
        "host is a number",
        "hosts is a string",
        "unknown current host",
        "groups are an object",
        "group hosts a number",
    ],
)
def test_hosts_that_make_no_sense_are_refused_by_name(opt_ml: OptMl, train: Train, document: object) -> None:
    """2.9, 2.10."""
    opt_ml.config("resourceconfig.json", document)
    run = train("succeeds")
    assert run.exit_code == 64, run.log
    assert "resourceconfig.json" in (run.failure or "")
    assert "bug" not in run.log


def test_missing_script_says_what_was_looked_for_where_and_what_is_there(opt_ml: OptMl) -> None:
    """Our own exit code 66."""
    (opt_ml.base / "code" / "tarin.py").write_text("")
    run = run_train(opt_ml)
    assert run.exit_code == 66
    for text in (run.failure or "", run.log):
        assert "train.py" in text
        assert str(opt_ml.base / "code") in text
        assert "tarin.py" in text
        assert "Traceback" not in text


def test_named_script_that_is_missing_is_named(opt_ml: OptMl, train: Train) -> None:
    """12.1."""
    run = train("succeeds", {"SAGEMAKER_PROGRAM": "fit.py"})
    assert run.exit_code == 66
    assert "fit.py" in (run.failure or "")


def test_wrong_setting_is_refused_by_name(train: Train) -> None:
    """Exit 64 and a sentence."""
    run = train("succeeds", {"BYOC_STOP_GRACE_SECONDS": "soon"})
    assert run.exit_code == 64
    assert "BYOC_STOP_GRACE_SECONDS" in (run.failure or "")
    assert "'soon'" in (run.failure or "")


def test_failure_folder_is_made_when_it_is_missing(opt_ml: OptMl, train: Train) -> None:
    """1.9: /opt/ml/output may not be there when a person made the tree by hand."""
    (opt_ml.base / "output" / "data").rmdir()
    (opt_ml.base / "output").rmdir()
    assert (train("raises").failure or "").startswith("ValueError")


def imported(importtime: bytes) -> set[str]:
    lines = importtime.decode().splitlines()
    return {line.split("|")[-1].strip().split(".")[0] for line in lines if line.startswith("import time:")}


def test_launcher_imports_the_standard_library_only(opt_ml: OptMl) -> None:
    """Seconds before the script's first line are paid by every job."""
    opt_ml.code("succeeds")
    run = run_train(opt_ml, python=("-X", "importtime"))
    modules = imported(run.stderr)
    # The standard library tries Jython's org package. What the interpreter itself loads, for .pth files of this
    # environment or a sitecustomize of the system, is not the launcher's doing.
    bare = subprocess.run([sys.executable, "-X", "importtime", "-c", ""], capture_output=True, check=True)
    foreign = modules - imported(bare.stderr) - set(sys.stdlib_module_names) - {"sagemaker_byoc", "org"}
    foreign = {name for name in foreign if not name.startswith("_")}
    assert "sagemaker_byoc" in modules
    assert not foreign, f"the launcher imported {sorted(foreign)}"


def test_shell_script_with_line_ends_of_windows_is_told_so(opt_ml: OptMl) -> None:
    """1.9, 12.1: `No such file` about a file that is there."""
    script = opt_ml.base / "code" / "run.sh"
    script.write_bytes(b"#!/bin/sh\r\necho hello\r\n")
    script.chmod(0o755)
    ran = run_train(opt_ml, {"SAGEMAKER_PROGRAM": "run.sh"})
    assert ran.exit_code == 66
    assert "line ends of Windows" in (ran.failure or "")


def test_argument_that_is_too_long_is_named(opt_ml: OptMl) -> None:
    """1.9, 2.2: the platform takes 2,500 characters, other ways to start a job take any number."""
    opt_ml.hyperparameters(prompt="x" * 200_000)
    opt_ml.code("succeeds")
    ran = run_train(opt_ml)
    assert ran.exit_code == 66
    assert "--prompt has 200000 characters" in (ran.failure or "")
