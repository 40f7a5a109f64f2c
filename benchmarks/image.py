"""What the image weighs and how long its builds take.

Run it from a checkout with the package installed (`pip install -e '.[local]'`), a Docker engine, and the base image
already on the machine (`byoc base-image`):

    python benchmarks/image.py           # prints the report
    python benchmarks/image.py --write   # and makes it benchmarks/image.md

It builds under tags of its own and removes what it built, layer by layer, at the end. The cold build uses no cached
layer; packages come from wherever this machine's pip gets them.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from local_sagemaker.base_image import BASE_IMAGE_TAG, build_base_image
from local_sagemaker.image import build_image, checkout_root
from machine import LABEL, ask_docker, describe_machine, publish, spread, table

REPORT = Path(__file__).with_name("image.md")
BENCH_TAG = "sagemaker-byoc:bench"
BENCH_BASE_TAG = "sagemaker-byoc-base:bench"
SHOWN_MEGABYTES = 0.001


@dataclass(frozen=True)
class Builds:
    """Seconds that each kind of build took; all but the rebuilds were done once."""

    bootstrap: float
    cold: float
    unchanged: list[float]
    user_code: list[float]


def seconds(action: Callable[[], object]) -> float:
    begin = time.monotonic()
    action()
    return time.monotonic() - begin


class Builder:
    """Builds under the benchmark's tag and remembers the layers it made, so that exactly they can be removed."""

    def __init__(self, base_image: str) -> None:
        self.base_image = base_image
        self.made: list[str] = []

    def build(self, code: Path, *extra: str) -> None:
        log = io.BytesIO()
        arguments = ("--label", LABEL, *extra)
        build_image(BENCH_TAG, base_image=self.base_image, code=code, builder_args=arguments, output=log)
        self.made += made_layers(log.getvalue().decode(errors="replace"))

    def remove(self) -> None:
        """Remove the tag, then each layer of ours that no tag and no other image uses."""
        remove_image(BENCH_TAG)
        for layer in reversed(self.made):
            asked = inspect_tags(layer)
            if asked == "[]":
                remove_image(layer)


def made_layers(log: str) -> list[str]:
    """The ids in a build's log that it made itself: those neither from the cache nor a base image."""
    made: list[str] = []
    previous = ""
    for line in log.splitlines():
        found = re.fullmatch(r" ---> ([0-9a-f]{12})", line)
        if found and "Using cache" not in previous and not re.match(r"Step \d+/\d+ : FROM ", previous):
            made.append(found[1])
        previous = line
    return made


def inspect_tags(image: str) -> str:
    command = ["docker", "image", "inspect", "--format", "{{json .RepoTags}}", image]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


def remove_image(image: str) -> None:
    subprocess.run(["docker", "image", "rm", image], check=False, capture_output=True)


def measure_builds(base_image: str, repeats: int) -> Builds:
    """Do every kind of build, one after another, and remove what they made."""
    builder = Builder(base_image)
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as work:
        code = Path(work) / "code"
        shutil.copytree(checkout_root() / "opt_ml_template" / "code", code)
        try:
            bootstrap = seconds(lambda: build_base_image(BENCH_BASE_TAG))
            cold = seconds(lambda: builder.build(code, "--no-cache"))
            # The first cached build fills the builder's cache with whatever --no-cache kept out of it.
            builder.build(code)
            unchanged = [seconds(lambda: builder.build(code)) for _ in range(repeats)]
            user_code = []
            for number in range(repeats):
                with (code / "train.py").open("a", encoding="utf-8") as script:
                    script.write(f"# change {number} of {time.time_ns()}\n")
                user_code.append(seconds(lambda: builder.build(code)))
        finally:
            builder.remove()
            remove_image(BENCH_BASE_TAG)
    return Builds(bootstrap, cold, unchanged, user_code)


def layers(image: str) -> list[tuple[str, float]]:
    """What made each layer, and its size in MB (10^6 bytes), from the base upwards."""
    listing = ask_docker("history", "--no-trunc", "--human=false", "--format", "{{.Size}}\t{{.CreatedBy}}", image)
    found = []
    for line in reversed(listing.splitlines()):
        size, _, command = line.partition("\t")
        found.append((layer_name(command), int(size) / 1e6))
    return found


def layer_name(command: str) -> str:
    """A layer's instruction in a few words: the build's prefixes and checksums left out."""
    short = re.sub(r"^(\|\d+ .*?)?/bin/sh -c (#\(nop\) +)?", "", command)
    short = re.sub(r"(dir|file|multi):[0-9a-f]+ in ", "… → ", short)
    short = " ".join(short.split()).replace("|", "\\|")
    return f"`{short[:72]}{'…' if len(short) > 72 else ''}`" if short else "base image (Debian with Python, imported)"


def write_report(image: str, builds: Builds, repeats: int, load: float) -> str:
    sizes = layers(image)
    total = sum(size for _, size in sizes)
    rows = [
        [name, f"{size:.3f}" if size < 1 else f"{size:.1f}", f"{size / total:.2%}"]
        for name, size in sizes
        if size >= SHOWN_MEGABYTES
    ]
    once = [
        ("base image from Debian packages", builds.bootstrap),
        ("image, no cached layer, base present", builds.cold),
    ]
    times = [[name, "", f"{took:.1f}", "", f"{took / builds.cold:.2f}"] for name, took in once]
    for name, took in (("nothing changed", builds.unchanged), ("one line of train.py changed", builds.user_code)):
        cells = spread(took, 1)
        times.append([f"image again, {name} ({repeats} times)", *cells, f"{float(cells[1]) / builds.cold:.3f}"])
    return "\n".join(
        [
            "# The image: size and builds",
            "",
            "Made by `python benchmarks/image.py --write`; do not edit.",
            "",
            describe_machine(load),
            "",
            "## Builds",
            "",
            "Seconds; the last column is the median as a part of the build without cached layers.",
            "",
            table(["build", "min", "median", "max", "of cold build"], times),
            "",
            "## Size",
            "",
            f"{total:.0f} MB in all (10^6 bytes, not compressed). Layers below {SHOWN_MEGABYTES} MB are left out.",
            "",
            table(["layer", "MB", "share"], rows),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default="sagemaker-byoc:latest", help="image whose size is reported")
    parser.add_argument("--base-image", default=BASE_IMAGE_TAG, help="image that the builds begin with")
    parser.add_argument("--repeats", type=int, default=5, help="rebuilds of each kind")
    parser.add_argument("--write", action="store_true", help=f"write {REPORT.name}")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    builds = measure_builds(options.base_image, options.repeats)
    publish(write_report(options.image, builds, options.repeats, load), REPORT, write=options.write)


if __name__ == "__main__":
    main()
