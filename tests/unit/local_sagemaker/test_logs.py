"""What several hosts write, on one screen and in one file."""

import errno
import io
import threading

from local_sagemaker.engines import Chunk
from local_sagemaker.logs import LONGEST_LINE_BYTES, CommonLog, LogPump, StreamSink

from tests.support.waiting import wait_until


def written(tmp_path, *chunks, hosts=("algo-1", "algo-10")):
    shown = io.BytesIO()
    with CommonLog(tmp_path / "logs.txt", shown, hosts) as log:
        sinks = {host: log.sink(host) for host in hosts}
        for host, stream, data in chunks:
            sinks[host].write(Chunk(stream, data))
        for sink in sinks.values():
            sink.end()
    assert (tmp_path / "logs.txt").read_bytes() == shown.getvalue()
    return shown.getvalue()


def test_a_line_in_pieces_is_written_whole_behind_its_hosts_name(tmp_path):
    pieces = [("algo-1", "stdout", b"epoch="), ("algo-10", "stdout", b"other\n"), ("algo-1", "stdout", b"1\nnext\n")]
    assert written(tmp_path, *pieces) == b"algo-10 | other\nalgo-1  | epoch=1\nalgo-1  | next\n"


def test_standard_error_does_not_break_into_a_line_of_standard_output(tmp_path):
    pieces = [("algo-1", "stdout", b"epoch="), ("algo-1", "stderr", b"warning\n"), ("algo-1", "stdout", b"1\n")]
    assert written(tmp_path, *pieces, hosts=("algo-1",)) == b"algo-1 | warning\nalgo-1 | epoch=1\n"


def test_a_last_line_without_an_end_is_not_lost(tmp_path):
    assert written(tmp_path, ("algo-1", "stdout", b"\xff no newline")) == b"algo-1  | \xff no newline\n"


def test_a_line_without_end_is_cut(tmp_path):
    endless = [("algo-1", "stdout", b"x" * 65536)] * 12
    lines = written(tmp_path, *endless).splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= LONGEST_LINE_BYTES + 65536 + 10


def test_a_reader_that_goes_away_does_not_stop_the_file(tmp_path):
    closed = io.BytesIO()
    closed.close()
    with CommonLog(tmp_path / "logs.txt", closed, ("algo-1",)) as log:
        log.sink("algo-1").write(Chunk("stdout", b"one\ntwo\n"))
    assert (tmp_path / "logs.txt").read_bytes() == b"algo-1 | one\nalgo-1 | two\n"


class FullDisk:
    """Takes one chunk."""

    def __init__(self):
        self.taken = []
        self.ended = False

    def write(self, chunk):
        if self.taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.taken.append(chunk.data)

    def end(self):
        self.ended = True


def test_output_that_cannot_be_kept_is_read_all_the_same():
    """A container whose output nobody reads would be held up for ever."""
    chunks = iter([Chunk("stdout", b"line\n")] * 1000)
    disk = FullDisk()
    pump = LogPump(chunks, None, disk)
    pump.join(60)
    assert next(chunks, None) is None
    assert disk.taken == [b"line\n"]
    assert disk.ended
    assert "No space left" in str(pump.error)


def test_an_engine_that_goes_away_ends_the_log_and_is_told():
    def chunks():
        yield Chunk("stdout", b"line\n")
        raise ConnectionResetError("reset")

    sink = FullDisk()
    pump = LogPump(chunks(), None, sink)
    pump.join(60)
    assert sink.ended
    assert str(pump.error) == "reset"


def test_a_log_is_waited_for_as_long_as_more_of_it_comes():
    """A machine under load has not read all of a job's output when the job ends, and its last line has the metric."""
    wanted = threading.Semaphore(0)

    def chunks():
        for _ in range(5):
            wanted.acquire()
            yield Chunk("stdout", b"line\n")

    class Waiting:
        """Each wait of the caller's is just long enough for one more chunk."""

        def is_alive(self):
            return thread.is_alive()

        def join(self, _):
            before = pump._seen_bytes
            wanted.release()
            wait_until(lambda: pump._seen_bytes > before or not thread.is_alive(), "another chunk")

    pump = LogPump(chunks(), None, StreamSink(None))
    thread, pump._thread = pump._thread, Waiting()
    pump.join(0.001)
    assert pump._seen_bytes == 5 * len(b"line\n")
    thread.join(60)


def test_a_log_that_stands_still_is_not_waited_for():
    """A daemon may hold it open."""
    ended = threading.Event()

    def chunks():
        ended.wait()
        yield Chunk("stdout", b"")

    pump = LogPump(chunks(), None, StreamSink(None))
    pump.join(0.01)
    assert pump._thread.is_alive()
    ended.set()
    pump._thread.join(60)


def test_many_hosts_at_once_never_share_a_line(tmp_path):
    hosts = [f"algo-{number}" for number in range(1, 9)]
    with CommonLog(tmp_path / "logs.txt", None, hosts) as log:
        begin = threading.Barrier(len(hosts), timeout=300)

        def chunks(host):
            begin.wait()
            for number in range(500):
                yield Chunk("stdout", f"{host} line ".encode())
                yield Chunk("stdout", b"%d\n" % number)

        pumps = [LogPump(chunks(host), tmp_path / host, log.sink(host)) for host in hosts]
        for pump in pumps:
            pump.join(30)
    lines = (tmp_path / "logs.txt").read_text().splitlines()
    expected = [f"{host} | {host} line {number}" for host in hosts for number in range(500)]
    assert sorted(lines) == sorted(expected)
    assert (tmp_path / "algo-1").read_text().splitlines()[-1] == "algo-1 line 499"
