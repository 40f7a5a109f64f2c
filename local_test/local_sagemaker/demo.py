"""The whole way once, on real handwritten digits: project, data, image, training, endpoint, held-out accuracy."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from local_sagemaker.demo_report import confusion_matrix, draw_learning_curve, format_confusion, format_digits
from local_sagemaker.engines import Engine
from local_sagemaker.errors import JobFailedError
from local_sagemaker.hosting.endpoint import Endpoint, plan_endpoint, running_endpoint
from local_sagemaker.image import build_image, image_exists
from local_sagemaker.names import make_job_name
from local_sagemaker.progress import TerminalProgress, silent
from local_sagemaker.project import read_project
from local_sagemaker.state.records import Kind
from local_sagemaker.state.runner import run
from local_sagemaker.state.workspace import Workspace
from local_sagemaker.template import init_project
from local_sagemaker.training.cluster import INSTANCE_TYPE
from local_sagemaker.training.local_options import LocalOptions
from local_sagemaker.training.operations import create_training_job
from local_sagemaker.training.plan import make_options, make_request
from local_sagemaker.training.request import DEFAULT_MAX_RUNTIME_SECONDS, TrainingFlags
from local_sagemaker.training.result import read_result

REQUIRED_ACCURACY = 0.97
BATCH = 64
DRAWN = 6
NPY = "application/x-npy"

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class DemoOutcome:
    """What the demo measured and where its artifacts lie; durations in seconds.

    Attributes:
        accuracy: share of the held-out images that the endpoint named right.
        agreement: whether the JSON and CSV requests got the same answers as the NPY ones.
        requests: how many requests were sent.
        training: the training job's ``job.json``.
    """

    project: Path
    engine: str
    accuracy: float
    agreement: bool
    requests: int
    confusion: Integers
    drawing: str
    training: Mapping[str, Any]
    learning_curve: Path
    seconds: dict[str, float]

    def document(self) -> dict[str, Any]:
        """The outcome as a JSON object."""
        return {
            "project": str(self.project),
            "engine": self.engine,
            "accuracy": self.accuracy,
            "required_accuracy": REQUIRED_ACCURACY,
            "test_images": int(self.confusion.sum()),
            "requests": self.requests,
            "content_types_agree": self.agreement,
            "confusion_matrix": self.confusion.tolist(),
            "seconds": self.seconds,
            "learning_curve": str(self.learning_curve),
            "training_job": self.training,
        }

    def text(self) -> str:
        """The outcome for a person."""
        total = int(self.confusion.sum())
        right = int(np.trace(self.confusion))
        stages = "\n".join(f"  {name:12} {seconds:7.1f} s" for name, seconds in self.seconds.items())
        measured = (
            f"accuracy on held-out images: {self.accuracy:.4f} ({right} of {total}, in {self.requests} requests; "
            f"JSON, CSV and NPY {'agree' if self.agreement else 'DISAGREE'})"
        )
        files = (*(self.training[name] for name in ("model_data", "output_data", "log_file")), self.learning_curve)
        artifacts = "artifacts:\n" + "\n".join(f"  {file}" for file in files)
        timings = f"time on the {self.engine} engine:\n{stages}"
        return "\n\n".join((self.drawing, format_confusion(self.confusion), measured, timings, artifacts))

    def require_accuracy(self) -> None:
        """Raise JobFailedError if the served model is worse than it must be, or the content types disagree."""
        if self.accuracy < REQUIRED_ACCURACY:
            raise JobFailedError(
                f"accuracy {self.accuracy:.4f} on the held-out images",
                f"expected at least {REQUIRED_ACCURACY}",
                f"see the training log: {self.training['log_file']}",
            )
        if not self.agreement:
            raise JobFailedError(
                "the endpoint answers the same images differently in JSON, CSV and NPY",
                "expected equal probabilities",
                "see code/inference.py",
            )


class Stopwatch:
    """Times the demo's stages, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is done inside under ``name``."""
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 2)


def run_demo(
    directory: Path,
    engine: Engine,
    image: str,
    *,
    build: bool = True,
    output: BinaryIO | None = None,
    report: Callable[[str], None] = silent,
) -> DemoOutcome:
    """Do everything and measure the result; ``directory`` is made from the template, or reused.

    Args:
        directory: the project to make or reuse.
        engine: what runs the containers.
        image: the tag to build and run, on the docker engine.
        build: build the image from this checkout first; seconds when nothing has changed.
        output: where logs go.
        report: called with one line per stage.

    Raises:
        LocalSageMakerError: if a stage fails.
    """
    watch = Stopwatch()
    project = directory.expanduser().resolve()
    with watch.stage("prepare"):
        if not (project / "code").is_dir():
            report(f"making a project in {project}")
            init_project(project)
        prepare_data(project, report)
    if engine.name == "docker":
        with watch.stage("build"):
            if build or not image_exists(image):
                build_image(image, output=output, report=report)
    with watch.stage("train"):
        training = train(project, engine, image, output, report)
    images, labels = load_digits(project / "test" / "digits.npz")
    directory = Path(training["directory"])
    plan = plan_endpoint(project / ".byoc", directory / "model.tar.gz", image, session=uuid.uuid4().hex)
    report("starting an endpoint with the model")
    start = time.monotonic()
    # The endpoint's log goes to a file: a person wants to see the answers, not the requests.
    log_file = directory / "endpoint-logs.txt"
    with running_endpoint(plan, engine, None, TerminalProgress(), log_file) as endpoint:
        watch.seconds["start"] = round(time.monotonic() - start, 2)
        with watch.stage("predict"):
            probabilities, requests = ask_in_batches(endpoint, images)
            agreement = content_types_agree(endpoint, images[:BATCH], probabilities[:BATCH])
        stopping = time.monotonic()
    watch.seconds["stop"] = round(time.monotonic() - stopping, 2)
    predictions = probabilities.argmax(axis=1)
    curve = project / "learning-curve.png"
    draw_learning_curve(read_history(directory / "output.tar.gz"), curve)
    return DemoOutcome(
        project=project,
        engine=engine.name,
        accuracy=round(float((predictions == labels).mean()), 4),
        agreement=agreement,
        requests=requests + 2,
        confusion=confusion_matrix(labels, predictions),
        drawing=format_digits(*choose_examples(images, labels, predictions)),
        training=training,
        learning_curve=curve,
        seconds=watch.seconds,
    )


def prepare_data(project: Path, report: Callable[[str], None]) -> None:
    """Run the project's own script for its data; raises JobFailedError if it fails."""
    script = project / "prepare_data.py"
    ran = subprocess.run(
        [sys.executable, str(script)],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if ran.returncode != 0:
        raise JobFailedError(
            f"{script} ended with exit code {ran.returncode}",
            ran.stdout.strip()[-2000:],
            "the template's data needs scikit-learn: `pip install -e '.[local]'`",
        )
    for line in ran.stdout.splitlines():
        report(line.strip())


def train(
    project: Path, engine: Engine, image: str, output: BinaryIO | None, report: Callable[[str], None]
) -> dict[str, Any]:
    """Run the training job, which has its record as any other; returns its ``job.json``.

    Raises:
        JobFailedError: unless it completes.
    """
    workspace, read = Workspace.of(project), read_project(project)
    flags = TrainingFlags(
        image=image,
        hyperparameters=read.hyperparameters,
        channels=dict(read.channels),
        hosts=1,
        instance_type=INSTANCE_TYPE,
        max_runtime_seconds=DEFAULT_MAX_RUNTIME_SECONDS,
    )
    name = make_job_name(read.root.name, datetime.now().astimezone())
    request = make_request(flags, workspace, name)
    create_training_job(workspace, request, make_options(flags, LocalOptions(read.code, session=uuid.uuid4().hex)))
    record = run(workspace, engine, Kind.TRAINING_JOB, name, output, report)
    directory = workspace.directory_of(Kind.TRAINING_JOB, name)
    result = read_result(directory)
    if result is None or record.status != "Completed":
        raise JobFailedError(
            f"training job {name}: {record.status}",
            record.description.get("FailureReason", record.description.get("SecondaryStatus", "")),
            f"the log is {directory / 'logs.txt'}",
        )
    return result


def load_digits(path: Path) -> tuple[Floats, Integers]:
    """Read images and labels of a split."""
    with np.load(path, allow_pickle=False) as split:
        return split["images"].astype(np.float32), split["labels"].astype(np.int64)


def ask_in_batches(endpoint: Endpoint, images: Floats) -> tuple[Floats, int]:
    """Send the images as NPY, 64 a request; returns the probabilities and the number of requests."""
    batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    answers = [read_npy(ask(endpoint, write_npy(batch), NPY, NPY)) for batch in batches]
    return np.concatenate(answers), len(batches)


def content_types_agree(endpoint: Endpoint, images: Floats, expected: Floats) -> bool:
    """Send the same images as JSON and as CSV, and compare the answers with ``expected``."""
    as_json = json.loads(ask(endpoint, json.dumps(images.tolist()).encode(), "application/json", "application/json"))
    rows = "\n".join(",".join(map(repr, row)) for row in images.reshape(len(images), -1).tolist()) + "\n"
    as_csv = [
        [float(cell) for cell in line.split(",")]
        for line in ask(endpoint, rows.encode(), "text/csv", "text/csv").decode().splitlines()
    ]
    return all(
        np.shape(answer) == expected.shape and np.allclose(answer, expected, atol=1e-5) for answer in (as_json, as_csv)
    )


def ask(endpoint: Endpoint, body: bytes, content_type: str, accept: str) -> bytes:
    """Invoke the endpoint; raises JobFailedError unless it answers with success."""
    reply = endpoint.invoke(body, content_type, accept)
    if not reply.ok:
        raise JobFailedError(
            f"the endpoint answered a {content_type} request with status {reply.status}",
            reply.body.decode(errors="replace"),
            f"the last lines of its log:\n{endpoint.last_lines()}",
        )
    return reply.body


def write_npy(array: Floats) -> bytes:
    """An array as the bytes of an NPY file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def read_npy(body: bytes) -> Floats:
    """The array in the bytes of an NPY file; pickles are refused."""
    return np.asarray(np.load(io.BytesIO(body), allow_pickle=False), dtype=np.float32)


def choose_examples(images: Floats, labels: Integers, predictions: Integers) -> tuple[Floats, Integers, Integers]:
    """A few images to draw: the wrongly named ones first, for they are the interesting ones."""
    order = np.argsort(predictions == labels, kind="stable")[:DRAWN]
    return images[order], labels[order], predictions[order]


def read_history(output_data: Path) -> list[dict[str, float]]:
    """The epochs that training wrote to output/data/history.json, from output.tar.gz.

    Raises:
        JobFailedError: if they are not there.
    """
    with tarfile.open(output_data) as tar:
        try:
            member = tar.extractfile("history.json")
        except KeyError:
            member = None
        if member is None:
            raise JobFailedError(
                f"{output_data} holds no history.json", "the template's train.py writes one", "see code/train.py"
            )
        history: list[dict[str, float]] = json.load(member)
        return history
