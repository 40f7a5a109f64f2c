"""What several hosts write, on one screen and in one file."""

import io
import threading

from local_sagemaker.engines import Chunk
from local_sagemaker.logs import LONGEST_LINE_BYTES, CommonLog, LogPump


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


def test_many_hosts_at_once_never_share_a_line(tmp_path):
    hosts = [f"algo-{number}" for number in range(1, 9)]
    with CommonLog(tmp_path / "logs.txt", None, hosts) as log:
        begin = threading.Barrier(len(hosts), timeout=30)

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
