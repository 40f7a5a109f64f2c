"""A training script that logs BENCH_LINES lines on BENCH_STREAM as fast as it can, and says how large it was.

BENCH_PRINT=line writes each line at once, as Python's logging does. BENCH_PRINT=arguments prints several arguments,
which are as many writes when Python does not buffer. With BENCH_MENTION=1 an early line mentions an exception.
"""

import json
import os
import sys

RANK = os.environ.get("RANK", "0")


def line_parts(rank: str, number: int) -> list[str]:
    return ["rank", rank, "step", f"{number:05d}", "step_loss:", f"{1 / (number + 1):.6f};"]


def main() -> None:
    stream = getattr(sys, os.environ["BENCH_STREAM"])
    at_once = os.environ["BENCH_PRINT"] == "line"
    if os.environ.get("BENCH_MENTION") == "1":
        print("one value was out of range: ValueError was handled", file=stream)
    for number in range(int(os.environ["BENCH_LINES"])):
        parts = line_parts(RANK, number)
        if at_once:
            stream.write(" ".join(parts) + "\n")
        else:
            print(*parts, file=stream)
    stream.flush()
    if RANK == "0":
        with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123
            peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
        with open("/opt/ml/output/script.json", "w", encoding="ascii") as file:  # noqa: PTH123
            json.dump({"peak_kilobytes": peak}, file)


if __name__ == "__main__":
    main()
