"""Dialects, views, transforms and checks of other packages, which offer them as entry points.

A package names them in its pyproject.toml, each an object of the type of its registry (`Dialect`, `View`, `Transform`,
`Check`); `chatfmt.testing` has what its tests can call:

    [project.entry-points."chatfmt.dialects"]
    haiku = "chatfmt_haiku:HAIKU"

Every process that converts loads them, on its first conversion; help and completion do not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from ..checks import CHECKS, Check
from ..dialects import DIALECTS, Dialect
from ..errors import UsageError
from ..transforms import TRANSFORMS, Transform
from ..views import VIEWS, View

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from ..recipe import Recipe

REGISTRIES: Mapping[str, tuple[dict[str, Any], type]] = {
    "chatfmt.dialects": (DIALECTS, Dialect),
    "chatfmt.views": (VIEWS, View),
    "chatfmt.transforms": (TRANSFORMS, Transform),
    "chatfmt.checks": (CHECKS, Check),
}
"""The registry of each group of entry points, and the type of its entries."""


class Plugin(Struct, frozen=True):
    """An entry of a registry that another package has added."""

    name: str
    package: str
    version: str


@cache
def load_plugins() -> tuple[Plugin, ...]:
    """Add the entries of other packages to the registries, once per process, and return them.

    Raises UsageError that names the package of an entry that cannot be loaded or whose name is taken; none is added
    then.
    """
    if not any(map(_mentions_chatfmt, sys.path)):  # importing importlib.metadata alone takes 0.04 s
        return ()
    from importlib.metadata import entry_points

    found = [(point, _load(point)) for group in REGISTRIES for point in sorted(entry_points(group=group))]
    _refuse_taken(point for point, _ in found)
    for point, entry in found:
        REGISTRIES[point.group][0][point.name] = entry
    return tuple(Plugin(point.name, *_package(point)) for point, _ in found)


def _mentions_chatfmt(folder: str) -> bool:
    """Return whether an installed package in a folder of `sys.path` has entry points for chatfmt, or may have them."""
    if folder.endswith((".zip", ".egg")):
        return Path(folder).is_file()
    found = Path(folder or ".").glob("*-info/entry_points.txt")
    return any(b"[chatfmt." in path.read_bytes() for path in found)


def _load(point: EntryPoint) -> Any:
    try:
        entry = point.load()
    except Exception as error:  # the code of another package may raise anything
        raise _broken(point, f"cannot be loaded: {type(error).__name__}: {error}") from error
    kind = REGISTRIES[point.group][1]
    if not isinstance(entry, kind):
        raise _broken(point, f"is of type `{type(entry).__name__}`, not `{kind.__name__}`")
    return entry


def _refuse_taken(points: Iterable[EntryPoint]) -> None:
    owners = {(group, name): "chatfmt" for group, (registry, _) in REGISTRIES.items() for name in registry}
    for point in points:
        owner = owners.setdefault((point.group, point.name), _package(point)[0])
        if owner != _package(point)[0]:
            raise _broken(point, f"has a name that is taken by `{owner}`")


def _broken(point: EntryPoint, problem: str) -> UsageError:
    package, version = _package(point)
    return UsageError(
        f"`{point.name}` in `{point.group}`, of the package `{package}` {version}, {problem}",
        hint=f"update the package, or remove it: pip uninstall {package}",
        code="plugin",
    )


def _package(point: EntryPoint) -> tuple[str, str]:
    return ("unknown", "") if point.dist is None else (point.dist.name, point.dist.version)


def used_packages(recipe: Recipe, chosen: Iterable[str | None]) -> dict[str, str]:
    """Return the versions of the packages whose entries a run uses; `chosen` are its dialects and views."""
    wanted = {*chosen, *recipe.transforms, *recipe.fail_on}
    return {plugin.package: plugin.version for plugin in load_plugins() if plugin.name in wanted}
