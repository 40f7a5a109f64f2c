"""The text for Prometheus: what all workers have counted, users' own metrics, and what the kernel knows of each worker.

prometheus-client adds up and writes. Users' metrics lie in files that carry their process's number: those of processes
that are gone are added up in one file, so that restarts do not fill the folder.
"""

import contextlib
import fcntl
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from sagemaker_byoc.serving import writers
from sagemaker_byoc.serving.metrics import Metric as Described
from sagemaker_byoc.serving.shared_values import LOST, SharedValues

RESIDENT = Described(
    "byoc_worker_resident_bytes", "gauge", "bytes", "Memory that the slot's worker has in use.", ("slot",)
)
PRIVATE = Described(
    "byoc_worker_private_bytes", "gauge", "bytes", "What of it is neither shared nor a mapped file.", ("slot",)
)
CPU = Described("byoc_worker_cpu_seconds_total", "counter", "seconds", "CPU time of the slot's worker.", ("slot",))
WORKERS = Described("byoc_workers", "gauge", "workers", "Living worker processes.")
SEEN = (RESIDENT, PRIVATE, CPU, WORKERS)
OF_A_PROCESS = re.compile(r"(?P<kind>counter|histogram|summary|gauge_[a-z]+)_(?P<pid>\d+)\.db")


def render(folder: Path, accept: str = "") -> tuple[bytes, str]:
    """The text and its content type: OpenMetrics where the Accept header asks for it."""
    registry = CollectorRegistry()
    registry.register(AllWorkers(folder))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class AllWorkers(Collector):
    """Everything below one folder, at the moment of asking."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        workers = writers.living(self._folder)
        with _locked(self._folder):
            add_up_the_dead(self._folder)
            yield from _added_up([str(path) for path in self._folder.glob("*.db") if _is_begun(path)])
        yield from _seen_from_outside(workers)


def add_up_the_dead(folder: Path) -> None:
    """One file for what processes that are gone have counted; their gauges go with them."""
    dead: dict[str, list[Path]] = defaultdict(list)
    for path in folder.glob("*.db"):
        named = OF_A_PROCESS.fullmatch(path.name)
        if named and not Path("/proc", named["pid"]).exists():
            dead[named["kind"]].append(path)
    for kind, files in dead.items():
        if kind.startswith("gauge") or _merge(folder / f"{kind}_past.db", files):
            for path in files:
                path.unlink(missing_ok=True)


def _is_begun(path: Path) -> bool:
    """A file of the library's is empty for a moment; one with gauges may be gone since the folder was read."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def _merge(past: Path, files: list[Path]) -> bool:
    """Add the files to the past; whether there was room for it."""
    unfinished = past.with_suffix(".merged")
    unfinished.unlink(missing_ok=True)
    try:
        values = SharedValues(unfinished)
    except OSError:
        return False
    lost = False
    for metric in _added_up([str(path) for path in (past, *files) if path.exists()], accumulate=False):
        for sample in metric.samples:
            index = values.index(metric.name, sample.name, sample.labels, metric.documentation)
            values.numbers[index] = sample.value
            lost = lost or index == LOST
    values.close()
    if not lost:
        unfinished.rename(past)
    return not lost


def _added_up(files: list[str], accumulate: bool = True) -> list[Metric]:
    """The sums of the files; to be written into a file again, each bucket of a histogram without the smaller ones."""
    merge: Callable[[list[str], bool], Iterable[Metric]] = MultiProcessCollector.merge
    return sorted(merge(files, accumulate), key=lambda metric: metric.name)


def _seen_from_outside(workers: list[writers.Writer]) -> Iterator[Metric]:
    """What needs no file; two workers of one slot, as during a reload, are added up."""
    numbers: dict[Described, dict[str, float]] = {one: defaultdict(float) for one in (RESIDENT, PRIVATE, CPU)}
    for worker in workers:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended since
            slot = str(worker.slot)
            _, resident, shared, *_ = Path("/proc", str(worker.pid), "statm").read_text().split()
            numbers[RESIDENT][slot] += int(resident) * os.sysconf("SC_PAGE_SIZE")
            numbers[PRIVATE][slot] += (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
            # The second field is the program's name in brackets, which may hold spaces.
            fields = Path("/proc", str(worker.pid), "stat").read_text().rpartition(")")[2].split()
            numbers[CPU][slot] += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    for described, by_slot in numbers.items():
        metric = Metric(described.name.removesuffix("_total"), described.text, described.kind)
        for slot, number in by_slot.items():
            metric.add_sample(described.name, {"slot": slot}, number)
        yield metric
    alive = Metric(WORKERS.name, WORKERS.text, WORKERS.kind)
    alive.add_sample(WORKERS.name, {}, len(workers))
    yield alive


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One at a time: while numbers move from file to file they stand in both for a moment."""
    file = os.open(folder / "past.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
