"""Empty modules in place of packages that a trainer imports and that loading data does not need."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import types
from pathlib import Path
from typing import Any


def stand_in(*names: str) -> None:
    """Let `import NAME…` give a module whose attributes are classes that accept anything, if it is not installed."""
    missing = [name for name in names if importlib.machinery.PathFinder.find_spec(name) is None]
    sys.meta_path.append(Finder(missing))


def namespace(package: str) -> None:
    """Import a package without running its `__init__.py`, which patches or imports what is not there."""
    parent = sys.modules.get(package.rpartition(".")[0])
    spec = importlib.machinery.PathFinder.find_spec(package, getattr(parent, "__path__", None))
    assert spec is not None and spec.origin is not None
    module = types.ModuleType(package)
    module.__path__ = [str(Path(spec.origin).parent)]
    sys.modules[package] = module


def replace(*modules: str) -> None:
    """Put an empty module in place of modules that need another release of what they import."""
    for name in modules:
        sys.modules[name] = Module(name)


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, names: list[str]) -> None:
        self.names = names

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        is_missing = fullname.split(".")[0] in self.names
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True) if is_missing else None

    def create_module(self, spec: Any) -> types.ModuleType:
        return Module(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


class Module(types.ModuleType):
    __version__ = "0.0"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return anything(name)


class Anything(type):
    """The type of classes that are called, subscripted, joined, subclassed and used as decorators."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return anything(name)

    def __call__(cls, *arguments: Any, **options: Any) -> Any:
        is_decorator = len(arguments) == 1 and not options and isinstance(arguments[0], (type, types.FunctionType))
        return arguments[0] if is_decorator else super().__call__()

    def __or__(cls, other: Any) -> Any:
        return cls

    __ror__ = __getitem__ = __or__


def anything(name: str) -> Any:
    """A class of that name."""
    return Anything(name, (), {"__getattr__": lambda self, attribute: anything(attribute)})
