"""Runs in a container of the image: each case by the toolkit's `train`, by ours, and by ours in its compatible mode.

`python3 inside.py CASES RESULTS` reads cases as JSON and writes what every run was given. Standard library only.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PROGRAM = Path(__file__).parent / "program"
RUNS = {
    "toolkit": (["/opt/venv/bin/train"], {}),
    "ours": (["/opt/program/train"], {}),
    "compatible": (["/opt/program/train"], {"BYOC_COMPATIBILITY": "toolkit"}),
}
# Names of other hosts resolve nowhere here; both programs know this variable.
ALWAYS = {"SM_STUDIO_LOCAL_MODE": "true"}


def main(cases: Path, results: Path) -> None:
    """Run all cases, two at a time."""
    todo = json.loads(cases.read_text())
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(run_case, todo))
    results.write_text(json.dumps({case["name"]: result for case, result in zip(todo, done, strict=True)}))


def run_case(case: dict) -> dict:
    """What each of the programs gave to the script; null where it did not start it."""
    return {who: run_one(case, command, extra) for who, (command, extra) in RUNS.items()}


def run_one(case: dict, command: list[str], extra: dict[str, str]) -> dict:
    """One run on a fresh tree, at the same path for each of the programs."""
    root = Path("/tmp/oracle") / case["name"]
    shutil.rmtree(root, ignore_errors=True)
    lay_out(root, case)
    out = root / "given.json"
    places = {"SAGEMAKER_BASE_DIR": str(root / "ml"), "ORACLE_OUT": str(out)}
    fill = {name: value.replace("{root}", str(root)) for name, value in case["environ"].items()}
    done = subprocess.run(
        command,
        env={**os.environ, **ALWAYS, **places, **fill, **extra},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )
    log = (done.stdout + done.stderr).decode("utf-8", "replace")
    given = json.loads(out.read_text()) if out.exists() else None
    shutil.rmtree(root)
    return {"exit_code": done.returncode, "given": given, "log": log[-3000:]}


def lay_out(root: Path, case: dict) -> None:
    """The tree of one job."""
    config = root / "ml" / "input" / "config"
    config.mkdir(parents=True)
    for name, text in case["documents"].items():
        (config / f"{name}.json").write_text(text.replace("{root}", str(root)), encoding="utf-8")
    for folder in case["code"]:
        shutil.copytree(PROGRAM, root / folder)
        (root / folder / "origin").write_text(folder)
    if case["tarball"]:
        shutil.copytree(PROGRAM, root / "packed")
        (root / "packed" / "origin").write_text("tarball")
        with tarfile.open(root / "source.tar.gz", "w:gz") as archive:
            for path in (root / "packed").iterdir():
                archive.add(path, path.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
