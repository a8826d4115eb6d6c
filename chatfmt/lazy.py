"""Packages whose names are imported on first use, so that `chatfmt --help` imports neither Arrow nor Jinja.

Python calls a module's `__getattr__` for a name it lacks (PEP 562).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def attach(package: str, modules: Mapping[str, Sequence[str]]) -> tuple[Callable[[str], Any], list[str]]:
    """Return `__getattr__` and `__all__` for `package`, whose public names live in `modules`.

    Keys are module names relative to the package (`.engine`, `..errors`), values the names each one defines.
    """
    modules_by_name = {name: module for module, names in modules.items() for name in names}

    def __getattr__(name: str) -> Any:
        if name not in modules_by_name:
            raise AttributeError(f"module `{package}` has no attribute `{name}`")
        value = getattr(import_module(modules_by_name[name], package), name)
        setattr(sys.modules[package], name, value)
        return value

    return __getattr__, sorted(modules_by_name)


def on_call(package: str, entry_point: str) -> Callable[..., Any]:
    """Return a function that calls the one at `entry_point` (`.module:name`), which is imported at the first call."""
    module, name = entry_point.split(":")

    def call(*arguments: Any, **named: Any) -> Any:
        return getattr(import_module(module, package), name)(*arguments, **named)

    return call
