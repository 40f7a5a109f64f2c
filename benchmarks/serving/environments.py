"""A virtual environment for each server, made once in a cache folder; nothing of them comes into the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.serving.peer import Peer

REQUIREMENTS = Path(__file__).with_name("requirements")


def default_cache() -> Path:
    """Where environments and weights are kept from run to run."""
    base = os.environ.get("BYOC_BENCH_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(base) / "byoc-bench"


def python_of(peer: Peer, cache: Path) -> str:
    """The Python that runs this server, with its packages; installed by pip unless they are there as pinned."""
    if peer.requirements is None:
        return sys.executable
    pinned = REQUIREMENTS / f"{peer.requirements}.txt"
    folder = cache / peer.requirements
    stamp, wanted = folder / "installed.txt", pinned.read_text(encoding="utf-8")
    python = folder / "bin" / "python"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        print(f"{peer.title}: installing {pinned.name} into {folder}", file=sys.stderr, flush=True)
        venv.create(folder, clear=True, with_pip=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(pinned)]
        subprocess.run(command, check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return str(python)


def site_packages(peer: Peer, cache: Path) -> Path | None:
    """Where a server's packages lie; None for those of the image."""
    if peer.requirements is None:
        return None
    return next((cache / peer.requirements / "lib").glob("python3.*")) / "site-packages"


def versions(peer: Peer, cache: Path) -> str:
    """The versions of what matters for its speed."""
    code = (
        "import sys\nfrom importlib.metadata import PackageNotFoundError, version\n"
        "for name in sys.argv[1:]:\n    try: print(name, version(name))\n    except PackageNotFoundError: pass"
    )
    command = [python_of(peer, cache), "-c", code, *peer.distributions]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    return ", ".join(ran.stdout.splitlines())
