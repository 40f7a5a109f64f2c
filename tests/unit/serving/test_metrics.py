"""Metrics: right sums over workers that come and go, in a text that Prometheus reads, at a price that nobody feels."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from sagemaker_byoc.serving import metrics as names
from sagemaker_byoc.serving import scrape
from sagemaker_byoc.serving.batching import BatchRecord
from sagemaker_byoc.serving.metrics import Metrics
from sagemaker_byoc.serving.shared_values import SharedValues

from tests.support.training import clean_environment
from tests.support.waiting import wait_until

DOCS = Path(__file__).parents[3] / "docs"
REFERENCE = DOCS / "reference/metrics.md"
HOW_TO = DOCS / "how-to/watch-an-endpoint.md"
WORKER = """
import sys
from pathlib import Path
from sagemaker_byoc.serving.metrics import Metrics

metrics = Metrics(Path(sys.argv[1]), int(sys.argv[2]))
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""


class Worker:
    """A process with metrics that does as it is told."""

    def __init__(self, folder: Path, slot: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder), str(slot)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=clean_environment({names.DIRECTORY: str(folder)}),
        )

    def do(self, line: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        assert self._process.stdout.readline() == "done\n"

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[int], Worker]]:
    """Start workers on slots; none outlives the test."""
    with contextlib.ExitStack() as stack:

        def start(slot: int) -> Worker:
            worker = Worker(tmp_path, slot)
            stack.callback(worker.kill)
            return worker

        yield start


def scraped(folder: Path) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of the text: name and labels to number."""
    text, _ = scrape.render(folder)
    samples = [sample for family in parse(text.decode()) for sample in family.samples]
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples), "a series stands twice"
    return found


def number(folder: Path, name: str, **labels: str) -> float | None:
    return scraped(folder).get((name, frozenset(labels.items())))


def in_a_worker(act: Callable[[], object]) -> None:
    """Run in a process of its own that ends as a killed one does: at once."""
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - pytest's own handling must not run twice
            os.write(2, f"{error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_any_worker_answers_for_all(start: Callable[[int], Worker], tmp_path: Path) -> None:
    """15.14: the platform's request reaches one worker and means the container."""
    workers = [start(slot) for slot in range(3)]
    for count, worker in enumerate(workers, start=1):
        for _ in range(count):
            worker.do("metrics.request('/invocations', 200, 0.004, 800, 90)")
        worker.do("metrics.begin()")
        worker.do("metrics.model_loaded(1.5)")
    texts = []
    for index, worker in enumerate(workers):
        worker.do(f"Path(sys.argv[1], 'text-{index}').write_bytes(metrics.render()[0])")
        text = (tmp_path / f"text-{index}").read_text()
        texts.append([line for line in text.splitlines() if "byoc_worker_" not in line])
    assert texts[0] == texts[1] == texts[2]
    assert 'byoc_requests_total{route="/invocations",status="200"} 6.0' in texts[0]
    assert 'byoc_request_bytes_total{route="/invocations"} 4800.0' in texts[0]
    assert 'byoc_response_bytes_total{route="/invocations"} 540.0' in texts[0]
    assert 'byoc_request_seconds_count{route="/invocations"} 6.0' in texts[0]
    assert [f'byoc_slot_requests_total{{slot="{slot}"}} {slot + 1}.0' in texts[0] for slot in range(3)] == [True] * 3
    assert "byoc_in_flight_requests 3.0" in texts[0]
    assert "byoc_workers_ready 3.0" in texts[0]
    assert "byoc_workers 3.0" in texts[0]


def test_a_killed_worker_takes_its_gauges_along_and_leaves_its_counts(
    start: Callable[[int], Worker], tmp_path: Path
) -> None:
    """15.14: counters never go back, and nobody waits in a process that is gone."""
    for slot in (0, 1):
        worker = start(slot)
        worker.do("metrics.request('/invocations', 200, 0.004, 800, 90)")
        worker.do("metrics.begin(); metrics.model_loaded(2.0)")
    worker.kill()
    assert number(tmp_path, "byoc_requests_total", route="/invocations", status="200") == 2
    assert number(tmp_path, "byoc_in_flight_requests") == 1
    assert number(tmp_path, "byoc_workers_ready") == 1
    assert number(tmp_path, "byoc_workers") == 1
    assert number(tmp_path, "byoc_model_load_seconds", slot="0") == 2.0
    assert number(tmp_path, "byoc_model_load_seconds", slot="1") is None
    assert number(tmp_path, "byoc_worker_resident_bytes", slot="1") is None


def test_the_next_worker_goes_on_counting_and_starts_with_nothing_in_flight(
    start: Callable[[int], Worker], tmp_path: Path
) -> None:
    """15.14: also where nobody has asked between the two."""
    first = start(1)
    first.do("metrics.request('/invocations', 200, 0.004, 800, 90); metrics.begin(); metrics.model_loaded(2.0)")
    first.kill()
    start(1).do("metrics.request('/invocations', 200, 0.004, 800, 90)")
    assert number(tmp_path, "byoc_requests_total", route="/invocations", status="200") == 2
    assert number(tmp_path, "byoc_worker_starts_total", slot="1") == 2
    assert number(tmp_path, "byoc_in_flight_requests") == 0
    assert number(tmp_path, "byoc_model_load_seconds", slot="1") is None


def test_two_workers_of_one_slot_lose_nothing_to_each_other(start: Callable[[int], Worker], tmp_path: Path) -> None:
    """15.14: a reload has both at once."""
    old, new = start(0), start(0)
    for worker in (old, new, old, new):
        worker.do("metrics.request('/invocations', 200, 0.004, 800, 90)")
    old.do("metrics.model_loaded(1.0)")
    new.do("metrics.model_loaded(3.0)")
    assert number(tmp_path, "byoc_slot_requests_total", slot="0") == 4
    assert number(tmp_path, "byoc_workers") == 2
    assert number(tmp_path, "byoc_model_load_seconds", slot="0") == 3.0
    assert number(tmp_path, "byoc_worker_resident_bytes", slot="0") is not None


def test_a_hundred_restarts_leave_as_many_files_as_one(tmp_path: Path) -> None:
    """15.14: the folder is in memory."""

    def live() -> None:
        metrics = Metrics(tmp_path, 0)
        metrics.request("/invocations", 200, 0.004, 800, 90)
        metrics.model_loaded(1.0)

    in_a_worker(live)
    files = sorted(path.name for path in tmp_path.iterdir())
    for _ in range(100):
        in_a_worker(live)
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    assert sum(path.stat().st_blocks * 512 for path in tmp_path.iterdir()) < 200_000
    assert number(tmp_path, "byoc_slot_requests_total", slot="0") == 101


def test_threads_lose_no_count(tmp_path: Path) -> None:
    """15.14: each worker answers several requests at once."""
    metrics = Metrics(tmp_path)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:

        def work() -> None:
            together.wait()
            for stage in range(100):
                metrics.stage(f"new-{stage}", 0.001)
            for _ in range(3000):
                metrics.begin()
                metrics.stage("predict", 0.001)
                metrics.request("/invocations", 200, 0.004, 800, 90)
                metrics.end()

        together = threading.Barrier(8)
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert number(tmp_path, "byoc_requests_total", route="/invocations", status="200") == 24_000
    assert number(tmp_path, "byoc_stage_seconds_count", stage="predict") == 24_000
    found = scraped(tmp_path)
    assert {found["byoc_stage_seconds_count", frozenset({("stage", f"new-{n}")})] for n in range(100)} == {8}
    assert number(tmp_path, "byoc_in_flight_requests") == 0


def test_paths_and_statuses_that_callers_make_up_are_one_series(tmp_path: Path) -> None:
    """15.14: else a scan of the port would fill Prometheus."""
    metrics = Metrics(tmp_path, routes=[*names.ROUTES, "/v1/chat/completions"])
    metrics.request("/v1/chat/completions", 200, 0.1, 10, 10)
    for made_up in range(1000):
        metrics.request(f"/wp-admin/{made_up}", 404, 0.0001, 0, 60)
        metrics.request("/invocations", 1000 + made_up, 0.0001, 0, 60)
    series = {labels for name, labels in scraped(tmp_path) if name == "byoc_requests_total"}
    assert {tuple(dict(labels)[label] for label in ("route", "status")) for labels in series} == {
        ("/v1/chat/completions", "200"),
        ("other", "404"),
        ("/invocations", "other"),
    }
    assert number(tmp_path, "byoc_requests_total", route="other", status="404") == 1000


def test_buckets_are_the_ones_that_the_library_would_fill(tmp_path: Path) -> None:
    """15.14: the library's own histogram is the oracle, on bounds, between them and beyond."""
    seconds = [bound for bound in names.SECONDS if bound != float("inf")]
    observed = [0.0, *seconds, *(bound * 1.0001 for bound in seconds), 1e9]
    metrics = Metrics(tmp_path)
    oracle = Histogram("byoc_stage_seconds", "", ["stage"], registry=CollectorRegistry(), buckets=names.SECONDS)
    for one in observed:
        metrics.stage("decode", one)
        oracle.labels("decode").observe(one)
    (family,) = oracle.collect()
    expected = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for sample in family.samples
        if not sample.name.endswith("_created")
    }
    found = {key: value for key, value in scraped(tmp_path).items() if key[0].startswith("byoc_stage_seconds")}
    assert found == pytest.approx(expected)


def test_a_batch_says_why_it_was_released_and_how_full_it_was(tmp_path: Path) -> None:
    """15.14: what batching costs and brings can be seen."""
    metrics = Metrics(tmp_path)
    metrics.batch(rows=32, requests=20, reason="full", waited_seconds=0.004, ran_seconds=0.02)
    metrics.batch(rows=1, requests=1, reason="idle", waited_seconds=0.0, ran_seconds=0.01)
    assert number(tmp_path, "byoc_batches_total", reason="full") == 1
    assert number(tmp_path, "byoc_batches_total", reason="idle") == 1
    assert number(tmp_path, "byoc_batch_rows_sum") == 33
    assert number(tmp_path, "byoc_batch_requests_sum") == 21
    assert number(tmp_path, "byoc_batch_rows_bucket", le="16.0") == 1
    assert number(tmp_path, "byoc_batch_wait_seconds_sum") == pytest.approx(0.004)
    assert number(tmp_path, "byoc_batch_run_seconds_sum") == pytest.approx(0.03)


def record_all(metrics: Metrics) -> None:
    """One of each."""
    metrics.begin()
    metrics.model_loaded(1.0)
    metrics.stage("decode", 0.001)
    metrics.batch(2, 2, "idle", 0.0, 0.01)
    metrics.rejected("queue_full")
    metrics.request("/invocations", 200, 0.004, 800, 90)


def test_the_text_keeps_to_the_rules_of_prometheus(tmp_path: Path) -> None:
    """15.14: names with units, help for each, `_total` for counters and for nothing else, no series twice."""
    record_all(Metrics(tmp_path))
    text, content_type = scrape.render(tmp_path)
    assert content_type.startswith("text/plain; version=0.0.4")
    families = list(parse(text.decode()))
    assert {family.name for family in families} == {
        one.name.removesuffix("_total") for one in (*names.RECORDED, *scrape.SEEN)
    }
    counters = {one.name.removesuffix("_total") for one in (*names.RECORDED, *scrape.SEEN) if one.kind == "counter"}
    for family in families:
        assert re.fullmatch(r"byoc_[a-z]+(_[a-z]+)*", family.name)
        assert family.documentation.endswith(".")
        assert family.type in ("counter", "gauge", "histogram")
        assert (family.type == "counter") == (family.name in counters)
        assert not family.name.endswith(("_total", "_count", "_sum", "_bucket", "_milliseconds", "_ms", "_info"))
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter")
            assert ("le" in sample.labels) == sample.name.endswith("_bucket")
    for histogram in (family for family in families if family.type == "histogram"):
        buckets = [sample.value for sample in histogram.samples if sample.name.endswith("_bucket")]
        assert buckets == sorted(buckets)
        assert histogram.samples[-1].value == buckets[-1]


def test_openmetrics_is_given_to_those_who_ask(tmp_path: Path) -> None:
    """15.14: as Prometheus itself does."""
    metrics = Metrics(tmp_path)
    record_all(metrics)
    text, content_type = metrics.render("application/openmetrics-text; version=1.0.0; q=0.8, text/plain; q=0.1")
    assert content_type.startswith("application/openmetrics-text")
    assert {"byoc_requests", "byoc_batch_rows"} <= {family.name for family in parse_openmetrics(text.decode())}  # type: ignore[no-untyped-call]  # the library's


def test_every_metric_has_its_row_in_the_reference_and_no_row_is_left_over() -> None:
    """Name, type, labels and unit, as they are."""
    rows = re.findall(r"^\| `(byoc_\w+)` \| (\w+) \|([^|]*)\| (\w+) \|", REFERENCE.read_text(), re.MULTILINE)
    found = {name: (kind, tuple(re.findall(r"`(\w+)`", labels)), unit) for name, kind, labels, unit in rows}
    assert len(found) == len(rows)
    assert found == {one.name: (one.kind, one.labels, one.unit) for one in (*names.RECORDED, *scrape.SEEN)}


def test_every_route_and_bound_is_in_the_reference() -> None:
    text = REFERENCE.read_text()
    assert [route for route in (*names.ROUTES, names.OTHER) if f"`{route}`" not in text] == []
    for bounds in (names.SECONDS, names.SIZES):
        assert ", ".join(f"{bound:g}" for bound in bounds[:-1]) in text


def test_every_reason_of_a_batch_is_in_the_reference_and_no_row_is_left_over() -> None:
    """15.14: why each batch was released."""
    rows = REFERENCE.read_text().split("| reason |")[1].split("\n\n")[0]
    reasons = re.search(r"reason: (.*?)\n    waited_seconds", BatchRecord.__doc__ or "", re.DOTALL)
    assert reasons is not None
    assert re.findall(r"^\| `(\w+)`", rows, re.MULTILINE) == re.findall(r"`(\w+)`", reasons[1])


def test_every_query_of_the_how_to_is_about_a_metric_that_is_there(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    record_all(metrics)
    there = {name for name, _ in scraped(tmp_path)}
    asked = set(re.findall(r"\bbyoc_\w+", HOW_TO.read_text()))
    assert len(asked) > 8
    assert asked <= there


def test_the_metric_of_the_how_to_is_in_the_text(start: Callable[[int], Worker], tmp_path: Path) -> None:
    """15.14: the page's own `inference.py`."""
    blocks = re.findall(r"^```python\n(.*?)^```", HOW_TO.read_text(), re.MULTILINE | re.DOTALL)
    (block,) = [block for block in blocks if "Counter" in block]
    (tmp_path / "inference.py").write_text(block)
    for slot in (0, 1):
        start(slot).do(f"sys.path.insert(0, {str(tmp_path)!r}); import inference; inference.predict_fn([7, 7], list)")
    assert number(tmp_path, "digits_total", digit="7") == 4


def test_counting_does_not_import_the_library(tmp_path: Path) -> None:
    """14.8: a worker is ready 45 ms sooner."""
    program = WORKER + "assert not [name for name in sys.modules if name.startswith('prometheus_client')]\n"
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), "0"],
        input="metrics.request('/invocations', 200, 0.004, 800, 90)\n",
        env=clean_environment(),
        text=True,
        check=True,
    )
    assert number(tmp_path, "byoc_slot_requests_total", slot="0") == 1


WHAT_A_REQUEST_TAKES = """
import sys, time
from pathlib import Path
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from sagemaker_byoc.serving.metrics import SECONDS, SIZES, Metrics

metrics, registry = Metrics(Path(sys.argv[1])), CollectorRegistry()
counters = [Counter(f"counter_{n}", ".", ["route"], registry=registry).labels("/invocations") for n in range(5)]
times = [Histogram(f"times_{n}", ".", ["stage"], registry=registry, buckets=SECONDS).labels("a") for n in range(7)]
sizes = [Histogram(f"sizes_{n}", ".", registry=registry, buckets=SIZES) for n in range(2)]
gauge = Gauge("in_flight", ".", registry=registry, multiprocess_mode="livesum")

def ours():
    metrics.begin()
    for stage in ("decode", "queue", "predict", "encode"):
        metrics.stage(stage, 0.001)
    metrics.batch(1, 1, "idle", 0.0, 0.003)
    metrics.request("/invocations", 200, 0.004, 800, 90)
    metrics.end()

def the_librarys():
    gauge.inc()
    for counter in counters:
        counter.inc()
    for histogram in times:
        histogram.observe(0.001)
    for histogram in sizes:
        histogram.observe(1)
    gauge.dec()

best = {ours: 1.0, the_librarys: 1.0}
for _ in range(20):
    for work in best:
        started = time.thread_time()
        for _ in range(500):
            work()
        best[work] = min(best[work], (time.thread_time() - started) / 500)
print(*best.values())
"""


def test_all_calls_of_a_request_take_a_third_of_what_the_librarys_would(tmp_path: Path) -> None:
    """15.14: what both take by turns on a busy machine; about 5 and 25 microseconds on a quiet one."""
    done = subprocess.run(
        [sys.executable, "-c", WHAT_A_REQUEST_TAKES, str(tmp_path)],
        env=clean_environment({names.DIRECTORY: str(tmp_path)}),
        capture_output=True,
        text=True,
        check=True,
    )
    ours, the_librarys = map(float, done.stdout.split())
    assert ours < the_librarys / 3


def test_a_folder_that_cannot_be_written_costs_a_line_in_the_log_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """15.14: metrics are no reason to fail."""
    names.log.addHandler(caplog.handler)
    try:
        record_all(Metrics(tmp_path / "nowhere", 2))
    finally:
        names.log.removeHandler(caplog.handler)
    assert "slot 2" in caplog.text
    assert "nowhere" in caplog.text


FULL_DISK = """
import sys
from pathlib import Path
from sagemaker_byoc.serving.metrics import Metrics

metrics = Metrics(Path(sys.argv[1]))
metrics.request("/invocations", 200, 0.1, 1, 1)
with Path(sys.argv[1], "filler").open("wb", buffering=0) as filler:
    try:
        while filler.write(bytes(4096)):
            pass
    except OSError:
        pass
for stage in range(100):
    metrics.stage(f"stage-{stage}", 0.1)
metrics.request("/invocations", 200, 0.1, 1, 1)
Path(sys.argv[1], "filler").unlink()
print(metrics.render()[0].decode())
"""


def test_memory_that_runs_out_ends_no_worker(tmp_path: Path) -> None:
    """15.14: a page of a file without memory behind it would be SIGBUS; series that are there go on."""
    mount = 'mount -t tmpfs -o size=256k none "$1" && exec "$0" -c "$2" "$1"'
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, sys.executable, str(tmp_path), FULL_DISK],
        env=clean_environment({names.DIRECTORY: str(tmp_path)}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 'byoc_requests_total{route="/invocations",status="200"} 2.0' in done.stdout
    assert 'stage="stage-0"' in done.stdout
    assert 'stage="stage-99"' not in done.stdout


USERS = """from prometheus_client import Counter, Gauge, Histogram
words, depth, lengths = Counter("words", "Words.", ["kind"]), Gauge("depth", "Depth."), Histogram("lengths", "Lengths.")
words.labels("noun").inc(2); depth.set(7); lengths.observe(3)""".replace("\n", ";")


def test_metrics_that_users_define_are_in_the_text_and_outlive_their_workers(
    start: Callable[[int], Worker], tmp_path: Path
) -> None:
    """15.14: with the library as its own documentation shows it."""
    workers = [start(0), start(1), start(2)]
    for worker in workers:
        worker.do(USERS)
    workers[0].kill()
    workers[1].kill()
    files = len(list(tmp_path.glob("*.db")))
    for _ in range(2):
        assert number(tmp_path, "words_total", kind="noun") == 6
        assert number(tmp_path, "lengths_count") == 3
        assert number(tmp_path, "lengths_sum") == 9
        assert number(tmp_path, "lengths_bucket", le="2.5") == 0
        assert number(tmp_path, "lengths_bucket", le="5.0") == 3
    assert [value for (name, _), value in scraped(tmp_path).items() if name == "depth"] == [7]
    assert len(list(tmp_path.glob("*.db"))) < files
    workers[2].kill()
    start(0).do(USERS)
    assert number(tmp_path, "words_total", kind="noun") == 8
    assert number(tmp_path, "lengths_bucket", le="5.0") == 4


PRELOADED = """
import os, sys
import prometheus_client
for child in range(2):
    if os.fork() == 0:
        prometheus_client.Counter("words", "Words.").inc()
        os._exit(0)
for child in range(2):
    assert os.wait()[1] == 0
"""


def test_the_library_may_have_been_imported_before_the_fork(tmp_path: Path) -> None:
    """15.14: the master imports what all workers would."""
    environ = clean_environment({names.DIRECTORY: str(tmp_path)})
    subprocess.run([sys.executable, "-c", PRELOADED], env=environ, check=True)
    assert number(tmp_path, "words_total") == 2


def test_a_process_that_a_dead_worker_left_behind_is_not_taken_for_it(
    start: Callable[[int], Worker], tmp_path: Path
) -> None:
    """15.14: users' code forks, and what it forked may live on with the worker's lock."""
    worker = start(0)
    worker.do("metrics.rejected('Overloaded'); metrics.model_loaded(1.0)")
    worker.do("import os; child = os.fork() or sys.stdin.close() or os.close(1) or __import__('signal').pause()")
    worker.do("Path(sys.argv[1], 'child').write_text(str(child))")
    child = int((tmp_path / "child").read_text())
    try:
        worker.kill()
        assert number(tmp_path, "byoc_workers") == 0
        assert number(tmp_path, "byoc_workers_ready") is None
        start(0).do("metrics.rejected('Overloaded'); metrics.model_loaded(1.0)")
        assert number(tmp_path, "byoc_workers") == 1
        assert number(tmp_path, "byoc_rejected_total", reason="Overloaded") == 2
        assert number(tmp_path, "byoc_worker_starts_total", slot="0") == 2
    finally:
        os.kill(child, signal.SIGKILL)


def test_counts_stay_where_they_are_when_there_is_no_room_to_add_them_up(
    start: Callable[[int], Worker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """15.14: memory ran out at the first file, or at the first sample."""
    worker = start(0)
    worker.do(USERS)
    worker.kill()

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for what_needs_it in ("__init__", "_append"):
        with monkeypatch.context() as patch:
            patch.setattr(SharedValues, what_needs_it, no_room)
            assert number(tmp_path, "words_total", kind="noun") == 2
    assert list(tmp_path.glob("counter_past.db")) == []
    assert number(tmp_path, "words_total", kind="noun") == 2
    assert len(list(tmp_path.glob("counter_past.db"))) == 1


SHORT_LIFE = """
import sys
from pathlib import Path
from prometheus_client import Counter
from sagemaker_byoc.serving.metrics import Metrics

Metrics(Path(sys.argv[1])).rejected("queue_full")
Counter("words", "Words.").inc()
"""


def test_sums_never_go_back_while_workers_come_and_go(tmp_path: Path) -> None:
    """15.14: a counter that goes back is a restart to Prometheus, and a rate that never was."""
    lives = 15
    seen: tuple[list[tuple[float, float]], ...] = ([], [])

    def scrape_on(into: list[tuple[float, float]]) -> None:
        while not into or into[-1] != (lives, lives):
            samples = scraped(tmp_path)
            rejected = samples.get(("byoc_rejected_total", frozenset({("reason", "queue_full")})), 0.0)
            into.append((samples.get(("words_total", frozenset()), 0.0), rejected))

    scrapers = [threading.Thread(target=scrape_on, args=(into,), daemon=True) for into in seen]
    for scraper in scrapers:
        scraper.start()
    for _ in range(lives):
        environ = clean_environment({names.DIRECTORY: str(tmp_path)})
        subprocess.run([sys.executable, "-c", SHORT_LIFE, str(tmp_path)], env=environ, check=True)
    for scraper, into in zip(scrapers, seen, strict=True):
        scraper.join(120)
        assert into[-1] == (lives, lives)
        assert len(into) > lives
        for counter in zip(*into, strict=True):
            assert list(counter) == sorted(counter)


def test_nobody_reads_while_counts_move_from_file_to_file(
    start: Callable[[int], Worker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """15.14: they stand in both for a moment."""
    for slot in (0, 1):
        worker = start(slot)
        worker.do(USERS)
        worker.kill()
    read: list[float | None] = []
    scraper = threading.Thread(target=lambda: read.append(number(tmp_path, "words_total", kind="noun")))
    merge = scrape._merge

    def is_waiting() -> bool:
        inode = f":{(tmp_path / 'past.lock').stat().st_ino} "
        return any("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines())

    def merge_and_be_asked(past: Path, files: list[Path]) -> bool:
        merged = merge(past, files)
        if not scraper.ident:
            scraper.start()
        wait_until(lambda: read or is_waiting(), "the other scrape has read or waits")
        return merged

    monkeypatch.setattr(scrape, "_merge", merge_and_be_asked)
    assert number(tmp_path, "words_total", kind="noun") == 4
    scraper.join(120)
    assert read == [4]


def test_values_are_found_again_where_the_library_looks(tmp_path: Path) -> None:
    """A file of ours is one of the library's, byte for byte in what is used."""
    from prometheus_client.mmap_dict import MmapedDict, mmap_key

    ours = SharedValues(tmp_path / "ours.db")
    theirs: Any = MmapedDict(str(tmp_path / "theirs.db"))  # type: ignore[no-untyped-call]  # the library's
    for length in range(20):
        labels = {"of": "ä" * length}
        ours.numbers[ours.index("metric", "sample", labels, "Text.")] = length
        theirs.write_value(mmap_key("metric", "sample", ["of"], ["ä" * length], "Text."), float(length), 0.0)
    used = int.from_bytes((tmp_path / "theirs.db").read_bytes()[:4], sys.byteorder)
    assert (tmp_path / "ours.db").read_bytes()[:used] == (tmp_path / "theirs.db").read_bytes()[:used]
    ours.close()
    again = SharedValues(tmp_path / "ours.db")
    assert again.numbers[again.index("metric", "sample", {"of": "ää"}, "Text.")] == 2
    again.close()
    theirs.close()
