"""Run a launcher to its end beside two readers of its output, and print what the launcher alone has used as JSON.

Called with the folder for the two logs, then the launcher's command line. Processor time is that of the launcher's own
threads, read from its clock before it is reaped, without its children. Peak memory is the kernel's ru_maxrss, which
covers children as well: the script, which says its own peak in script.json, has to be the smaller one. Wants
`python3 -IS`, so that this process is small too.
"""

import json
import os
import subprocess
import sys
import time


def peak_kilobytes() -> int:
    """The largest resident size of the process itself."""
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - pathlib makes this process larger
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def clock_of(pid: int) -> int:
    """The number of a process's processor clock, as clock_getcpuclockid(3) makes it."""
    return (~pid << 3) | 2


def read_own_peak(folder: str) -> int:
    with open(f"{folder}/script.json", encoding="ascii") as file:  # noqa: PTH123
        return int(json.load(file)["peak_kilobytes"])


def main() -> None:
    folder, command = sys.argv[1], sys.argv[2:]
    readers = []
    for name in ("stdout", "stderr"):
        with open(f"{folder}/{name}.log", "wb") as log:  # noqa: PTH123
            readers.append(subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log))
    begin = time.monotonic()
    launcher = subprocess.Popen(command, stdout=readers[0].stdin, stderr=readers[1].stdin)
    for reader in readers:
        if reader.stdin:
            reader.stdin.close()
    os.waitid(os.P_PID, launcher.pid, os.WEXITED | os.WNOWAIT)
    wall = time.monotonic() - begin
    cpu = time.clock_gettime(clock_of(launcher.pid))
    _, status, usage = os.wait4(launcher.pid, 0)
    launcher.returncode = os.waitstatus_to_exitcode(status)
    for reader in readers:
        reader.wait()
    if launcher.returncode != 0:
        with open(f"{folder}/stderr.log", encoding="utf-8", errors="replace") as log:  # noqa: PTH123
            raise SystemExit(f"the launcher ended with {launcher.returncode}: {log.read()[-4000:]}")
    if usage.ru_maxrss <= max(peak_kilobytes(), read_own_peak(folder)):
        raise SystemExit("the launcher is smaller than its script or than this process: its peak cannot be told")
    print(json.dumps({"wall": wall, "cpu": cpu, "peak_megabytes": usage.ru_maxrss / 1024}), flush=True)


if __name__ == "__main__":
    main()
