"""The code of one model among several: modules of the same name in two models' folders are two modules.

A model's modules live in a package of its own (`model_3.inference`, `model_3.network`). Their `import` statements, also
those inside functions, are run by an `__import__` that looks into the model's folder first, so they find their own
neighbours whatever thread runs them. While a model loads, and in the thread that loads it, its modules are known by
their plain names too: what is unpickled and what `importlib.import_module` names is found there.
"""

import builtins
import importlib
import itertools
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from sagemaker_byoc.errors import UserCodeError
from sagemaker_byoc.user_code import LIBRARY

_NUMBERS = itertools.count(1)


class ModelCode:
    """One model's modules, below a package that exists as long as the model does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.package = f"model_{next(_NUMBERS)}"
        self._own: dict[str, bool] = {}
        self._builtins = {**vars(builtins), "__import__": self._import}
        self._finder = _OwnModules(self)
        self._aliases = _PlainNames(self)
        package = ModuleType(self.package)
        package.__path__ = [str(folder), str(folder / LIBRARY)]
        sys.modules[self.package] = package
        sys.meta_path.insert(0, self._finder)

    def run(self, program: Path) -> ModuleType:
        """Import the program. Raises UserCodeError for a file that is no Python, and whatever the program raises."""
        name = f"{self.package}.{program.stem.replace('.', '_')}"
        spec = spec_from_file_location(name, program)
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            raise UserCodeError(f"{program} cannot be imported; expected a Python file whose name ends in .py.")
        spec.loader = _OwnLoader(name, str(program), self._builtins)
        module = module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    @contextmanager
    def plain_names(self) -> Iterator[None]:
        """In this thread, and for one model at a time, modules can be found by their plain names."""
        self._aliases.thread = threading.get_ident()
        sys.meta_path.insert(0, self._aliases)
        try:
            yield
        finally:
            self._aliases.thread = 0
            sys.meta_path.remove(self._aliases)
            for name, module in list(sys.modules.items()):
                if module is not None and module is sys.modules.get(f"{self.package}.{name}"):
                    del sys.modules[name]

    def forget(self) -> None:
        """Let go of the modules, and of what Python remembers of the folder."""
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        for name in [name for name in sys.modules if f"{name}.".startswith(f"{self.package}.")]:
            del sys.modules[name]
        for folder in [folder for folder in sys.path_importer_cache if Path(folder).is_relative_to(self.folder)]:
            sys.path_importer_cache.pop(folder, None)

    def owns(self, name: str) -> bool:
        """Whether a top-level name is a module of this model.

        As everywhere in Python, a mere folder without `__init__.py` counts only where there is no other such module; so
        does what lies in the folder `lib`.
        """
        if name not in self._own:
            full = f"{self.package}.{name}"
            spec = PathFinder.find_spec(full, [str(self.folder)])
            own = spec is not None and spec.origin is not None
            if not own and (spec or PathFinder.find_spec(full, [str(self.folder / LIBRARY)])):
                own = not _is_elsewhere(name)
            self._own[name] = own
        return self._own[name]

    def find(self, name: str, path: Sequence[str] | None) -> ModuleSpec | None:
        """Where a module of the package is, with a loader that gives it this model's imports."""
        spec = PathFinder.find_spec(name, path)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _OwnLoader(name, spec.loader.path, self._builtins)
        return spec

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002 - the names that __import__ has
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        top = name.partition(".")[0]
        if level or not self.owns(top):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        full = f"{self.package}.{name}"
        module = importlib.import_module(full)
        if self._aliases.thread == threading.get_ident():  # unpickling in C looks there for what it has imported
            sys.modules.setdefault(name, module)
        if fromlist:
            return builtins.__import__(full, globals, locals, fromlist)
        return sys.modules[f"{self.package}.{top}"]


class _OwnLoader(SourceFileLoader):
    """Runs a module with the model's `__import__` in place of the usual one."""

    def __init__(self, name: str, path: str, names: Mapping[str, Any]) -> None:
        super().__init__(name, path)
        self._names = names

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = self._names
        super().exec_module(module)


class _OwnModules(MetaPathFinder):
    """Finds the modules of one model's package."""

    def __init__(self, code: ModelCode) -> None:
        self._code = code
        self._prefix = f"{code.package}."

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return self._code.find(fullname, path) if fullname.startswith(self._prefix) else None


class _PlainNames(MetaPathFinder, Loader):
    """Gives the model's modules under their plain names, to one thread."""

    def __init__(self, code: ModelCode) -> None:
        self._code = code
        self.thread = 0
        self._specs: dict[str, ModuleSpec | None] = {}

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        mine = threading.get_ident() == self.thread and self._code.owns(fullname.partition(".")[0])
        return ModuleSpec(fullname, self) if mine else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(f"{self._code.package}.{spec.name}")
        self._specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__.removeprefix(f"{self._code.package}.")
        module.__spec__ = self._specs.pop(name)  # the import system has put the alias's in its place

    def get_code(self, _fullname: str) -> CodeType | None:
        return None


def _is_elsewhere(name: str) -> bool:
    others = [finder for finder in sys.meta_path if not isinstance(finder, _OwnModules | _PlainNames)]
    return name in sys.modules or any(finder.find_spec(name, None) is not None for finder in others)
