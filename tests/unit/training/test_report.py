"""The failure text, from what a script left on standard error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sagemaker_byoc.child import Outcome
from sagemaker_byoc.training.report import failure_reason


@given(st.binary(max_size=5000), st.integers(1, 255), st.booleans())
def test_any_end_has_a_reason_that_fits_and_is_text(tail: bytes, code: int, stopped: bool) -> None:
    """1.9: at most 1,024 characters, valid UTF-8, never empty."""
    text = failure_reason(Outcome(code, tail, stopped), "train.py")
    assert 0 < len(text) <= 1024
    text.encode("utf-8")


@given(st.text(alphabet=st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=300))
def test_message_of_the_exception_comes_first_whatever_it_says(message: str) -> None:
    """1.9."""
    message = " ".join(message.split()) or "x"
    frame = '  File "/opt/ml/code/train.py", line 1, in <module>\n    go()\n'
    trace = f"Traceback (most recent call last):\n{frame}E: {message}\n"
    assert failure_reason(Outcome(1, trace.encode()), "train.py").startswith("E: " + message)


def test_killed_script_is_thought_to_have_run_out_of_memory_unless_it_was_stopped() -> None:
    """1.11."""
    assert "memory" in failure_reason(Outcome(137, b""), "train.py")
    assert "memory" not in failure_reason(Outcome(137, b"", stopped=True), "train.py")


@pytest.mark.parametrize(("code", "name"), [(143, "SIGTERM"), (139, "SIGSEGV"), (134, "SIGABRT"), (137, "SIGKILL")])
def test_signal_is_called_by_its_name(code: int, name: str) -> None:
    """Nobody knows the numbers."""
    assert name in failure_reason(Outcome(code, b""), "train.py")


def test_deep_traceback_fills_the_room_and_keeps_the_innermost_frames() -> None:
    """1.9: the platform reads 1,024 characters; the frame that raised is worth more than the first one."""
    frames = "".join(f'  File "/opt/ml/code/train.py", line {n}, in step_{n}\n    go({n})\n' for n in range(60))
    trace = f"Traceback (most recent call last):\n{frames}ValueError: bad\n"
    text = failure_reason(Outcome(1, trace.encode()), "train.py")
    assert 900 < len(text) <= 1024
    assert text.startswith("ValueError: bad\n")
    assert "step_59" in text
    assert "step_0\n" not in text


def test_many_lines_without_a_traceback_fill_the_room_and_no_more() -> None:
    """1.9."""
    tail = b"".join(
        b"line %03d of a program that says a great deal before it ends, and then more\n" % n for n in range(60)
    )
    text = failure_reason(Outcome(3, tail), "train.py")
    assert 900 < len(text) <= 1024
    assert "line 059" in text.splitlines()[0]


def test_rules_around_a_launchers_message_are_left_out() -> None:
    """1.9: Open MPI puts what it has to say between two lines of dashes."""
    box = b"-" * 70 + b"\nThere are not enough slots available in the system.\n" + b"-" * 70 + b"\n"
    assert failure_reason(Outcome(1, box), "mpirun") == (
        "mpirun ended with exit code 1: There are not enough slots available in the system."
    )


def test_rank_that_aborts_at_its_end_gets_a_hint() -> None:
    """1.9: PyTorch's own words for it help nobody."""
    reason = failure_reason(Outcome(134, b"terminate called without an active exception\n"), "train.py")
    assert "destroy_process_group()" in reason
