"""Find and import the user's module; say what was found instead."""

import importlib.util
import sys
import traceback
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any

from sagemaker_byoc.errors import UserCodeError

LIBRARY = "lib"


def find_module(program: str, folders: Sequence[Path]) -> Path:
    """The first of `folders` that holds `program`. Raises UserCodeError."""
    for folder in folders:
        if (folder / program).is_file():
            return folder / program
    looked = ", ".join(str(folder) for folder in folders)
    raise UserCodeError(
        f"no {program} was found in {looked}. Put one there (a file named {program} with model_fn and predict_fn, "
        "say), or name it in SAGEMAKER_PROGRAM."
    )


def find_callable(module: ModuleType, name: str, variable: str) -> Any:
    """What `name`, which may lead through a class, means in the module that `variable` names.

    Raises UserCodeError, naming what is there, when it is missing or cannot be called.
    """
    try:
        found = reduce(getattr, name.split("."), module)
    except AttributeError:
        there = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise UserCodeError(
            f"{variable} names {name!r}, which module {module.__name__} ({module.__file__}) does not have; "
            f"it has {', '.join(there[:12]) or 'nothing that can be called'}."
        ) from None
    if not callable(found):
        raise UserCodeError(
            f"{variable} names {name!r}, which is a {type(found).__name__} in module {module.__name__}; "
            "expected something that can be called."
        )
    return found


def users_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Where an error passed, without what is ours or Python's way of importing."""
    own = Path(__file__).parent
    frames = traceback.extract_tb(error.__traceback__)
    return [f for f in frames if own not in Path(f.filename).parents and not f.filename.startswith("<frozen")]


def import_module(path: Path) -> ModuleType:
    """Import a file as a module, with its folder first on sys.path so that it finds its neighbours. A folder `lib` in
    it, where SageMaker's SDK puts `dependencies`, comes last.

    Whatever the module raises while it is imported goes to the caller unchanged.
    """
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    lib = str(path.parent / LIBRARY)
    if lib not in sys.path and path.with_name(LIBRARY).is_dir():
        sys.path.append(lib)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UserCodeError(f"{path} cannot be imported; expected a Python file whose name ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
