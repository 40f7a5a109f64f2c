"""Channels as a script meets them under `train`: folders, shares of folders, pipes, or none."""

import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.opt_ml import OptMl
from tests.support.training import TrainRun

Train = Callable[..., TrainRun]
PIPE = {"TrainingInputMode": "Pipe", "S3DistributionType": "FullyReplicated"}


def recordio(*records: bytes) -> bytes:
    """Records as the platform wraps them."""
    return b"".join(struct.pack("<II", 0xCED7230A, len(r)) + r + b"\0" * (-len(r) % 4) for r in records)


def stream(folder: Path, *passes: bytes) -> threading.Thread:
    """Make and fill the channel's pipes one after the other, as the platform does."""

    def fill() -> None:
        for number, data in enumerate(passes):
            pipe = folder.with_name(f"{folder.name}_{number}")
            os.mkfifo(pipe)
            try:
                pipe.write_bytes(data)
            except BrokenPipeError:
                continue  # the script has read enough

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    return thread


def test_script_reads_pipe_channels_pass_by_pass(opt_ml: OptMl, train: Train) -> None:
    """3.6, 3.7, 3.11, 11.3: RecordIO of an augmented manifest, raw bytes closed early; the bare path is not there."""
    opt_ml.config(
        "inputdataconfig.json", {"train": {**PIPE, "RecordWrapperType": "RecordIO"}, "validation.raw": dict(PIPE)}
    )
    data = opt_ml.base / "input" / "data"
    writers = [
        stream(data / "train", recordio(b"image 1", b"cat", b"image 2", b"dog"), recordio(b"image 2", b"dog")),
        stream(data / "validation.raw", b"12345" + b"x" * 1_000_000),
    ]
    run = train("reads_pipe_channels")
    assert run.exit_code == 0, run.log
    for writer in writers:
        writer.join(20)
        assert not writer.is_alive()
    assert opt_ml.output("seen.json") == {
        "exists": False,
        "epochs": [[["image 1", "cat"], ["image 2", "dog"]], [["image 2", "dog"]]],
        "raw": "12345",
    }


def test_names_with_dots_and_dashes_are_found_by_their_variables(opt_ml: OptMl, train: Train) -> None:
    """2.8, 3.1, 3.3: up to 64 characters; keys below the prefix are relative paths."""
    names = ["train.2026-05", "a-b_c.d", "X" * 64, "validation"]
    for name in names:
        opt_ml.channel(name, {"part-0.csv": b"1\n", "deep/er/part-1.csv": b"2\n"})
    run = train("reads_file_channels")
    assert run.exit_code == 0, run.log
    assert opt_ml.output("seen.json") == {name: ["deep/er/part-1.csv", "part-0.csv"] for name in names}


@pytest.mark.parametrize("document", ["{}", "", None], ids=["no entry", "empty file", "no file"])
def test_job_without_channels_runs(opt_ml: OptMl, train: Train, document: str | None) -> None:
    """2.8: a job may have none at all."""
    file = opt_ml.config("inputdataconfig.json", document or "")
    if document is None:
        file.unlink()
    run = train("reads_file_channels")
    assert run.exit_code == 0, run.log
    assert opt_ml.output("seen.json") == {}


def test_share_of_a_host_may_be_empty(opt_ml: OptMl, train: Train) -> None:
    """3.9: fewer objects than hosts; other channels are read as ever."""
    sharded = {"TrainingInputMode": "File", "S3DistributionType": "ShardedByS3Key", "RecordWrapperType": "None"}
    opt_ml.channel("validation", {"a.csv": b"1\n"})
    opt_ml.config("inputdataconfig.json", {"train": sharded, "validation": {}})
    run = train("reads_file_channels")
    assert run.exit_code == 0, run.log
    assert opt_ml.output("seen.json") == {"train": [], "validation": ["a.csv"]}


@pytest.mark.parametrize("mode", ["File", "FastFile"])
def test_read_only_folder_is_read_whatever_its_mode_is_called(opt_ml: OptMl, train: Train, mode: str) -> None:
    """2.6, 3.4: nothing of ours writes to a channel."""
    folder = opt_ml.channel("train", {"a.csv": b"1\n"})
    opt_ml.config("inputdataconfig.json", {"train": {"TrainingInputMode": mode}})
    folder.chmod(0o555)
    before = folder.stat().st_mtime_ns
    run = train("reads_file_channels")
    assert run.exit_code == 0, run.log
    assert opt_ml.output("seen.json") == {"train": ["a.csv"]}
    assert folder.stat().st_mtime_ns == before


def test_script_that_takes_a_folder_for_a_pipe_is_told_so_in_the_failure_reason(opt_ml: OptMl, train: Train) -> None:
    """1.9, 3.6: the channel's mode is chosen in the request, not in the script."""
    opt_ml.channel("train", {"a.csv": b"1\n"})
    run = train("reads_pipe_channels")
    assert run.exit_code == 1
    assert "the channel is in File or FastFile mode" in (run.failure or "")
