"""What gunicorn's master imports before it forks, so that workers share those pages and start sooner.

Libraries only, never the user's code: that stays in the workers, where it can be loaded anew.
"""

import ast
import contextlib
import gc
import importlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.onnx_import import NO_TELEMETRY

log = logging.getLogger(__name__)

# Looked at one by one: their import starts no thread but of libraries that look after them at a fork, opens no
# connection or file that a child would share, and touches no GPU. ONNX Runtime is one of them only while its
# telemetry is off.
SAFE = frozenset(
    {
        "PIL",
        "joblib",
        "lightgbm",
        "numpy",
        "onnxruntime",
        "orjson",
        "pandas",
        "pyarrow",
        "pydantic",
        "safetensors",
        "scipy",
        "sklearn",
        "tokenizers",
        "torch",
        "xgboost",
    }
)
_FORK_AWARE = ("jemalloc_bg_thd",)  # pyarrow's allocator, which starts it again in the child


@dataclass(frozen=True)
class Preloaded:
    """The modules that are there now, and the threads that their import left running."""

    modules: tuple[str, ...]
    threads: int


def modules_to_preload(sources: Iterable[Path]) -> tuple[str, ...]:
    """The safe modules that these programs, and the neighbours that they import, import at their top level.

    A program that cannot be read or parsed counts for nothing here: the worker will say what is wrong with it.
    """
    found: dict[str, None] = {}
    waiting = [(source.resolve(), source.resolve().parent) for source in sources]
    seen: set[Path] = set()
    while waiting:
        source, root = waiting.pop(0)
        if source in seen:
            continue
        seen.add(source)
        for name in _imports(source):
            neighbours = _neighbours(root, name) or _neighbours(source.parent, name)
            waiting += [(neighbour, root) for neighbour in neighbours]
            if not neighbours and name.split(".")[0] in SAFE:
                found[name] = None
    return tuple(found)


def preload(modules: Sequence[str]) -> Preloaded:
    """Import these, and set what is there now apart from what the garbage collector touches in each worker.

    To be called once, before the first fork. A module that cannot be imported is left to the worker. Threads that are
    running afterwards are counted and logged: forked workers do not have them, and may wait for them forever.
    """
    os.environ.setdefault(NO_TELEMETRY, "1")
    loaded = tuple(name for name in modules if _import(name))
    threads = _threads_that_a_fork_leaves_behind()
    if threads:
        log.warning(
            "importing %s started %d threads, which forked workers lack; set BYOC_PRELOAD=off if they hang",
            ", ".join(loaded),
            threads,
        )
    gc.collect()
    gc.freeze()
    return Preloaded(loaded, threads)


def _import(name: str) -> bool:
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a broken library is for the worker to report
        log.debug("%s is not imported ahead: %s", name, error)
        return False
    return True


def _threads_that_a_fork_leaves_behind() -> int:
    """OpenBLAS ends its threads at a fork, and starts them again where they are needed: one fork shows the others."""
    if _threads() > 1:
        child = os.fork()
        if child == 0:
            os._exit(0)
        with contextlib.suppress(ChildProcessError):  # gunicorn's own handler may have waited for it
            os.waitpid(child, 0)
    return _threads() - 1


def _threads() -> int:
    names = [name.read_text().strip() for name in Path("/proc/self/task").glob("*/comm")]
    return len([name for name in names if name not in _FORK_AWARE])


def _imports(source: Path) -> Iterator[str]:
    """Modules that a file names in imports which run when it is imported; `from a import b` may mean `a.b`."""
    try:
        tree = ast.parse(source.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for node in _running(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if alias.name != "*")


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below this one, without bodies of functions and what is for type checkers only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _running(child)


def _neighbours(folder: Path, name: str) -> list[Path]:
    """The files of the user's own that an import of this name runs."""
    parts = name.split(".")
    places = [folder.joinpath(*parts[: length + 1]) for length in range(len(parts))]
    candidates = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
    return [file for file in candidates if file.is_file()]
