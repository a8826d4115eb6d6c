"""Conversations to text: a template, options, and the engine that renders a column of conversations with them.

Its names are imported when they are first used: the list of templates needs no engine, a locked process no Arrow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .doors import LockedDoors
    from .engine import Choice, choose_engine, compile, doors_of, is_locked, level_of, started_ahead
    from .locked import Isolation, LockedRenderer
    from .options import ENGINES, SPANS, Renderer, RenderOptions
    from .plain import JinjaRenderer
    from .replay import TracedRenderer
    from .template import ChatTemplate

__all__ = [
    "ENGINES",
    "SPANS",
    "ChatTemplate",
    "Choice",
    "Isolation",
    "JinjaRenderer",
    "LockedDoors",
    "LockedRenderer",
    "RenderOptions",
    "Renderer",
    "TracedRenderer",
    "choose_engine",
    "compile",
    "doors_of",
    "is_locked",
    "level_of",
    "started_ahead",
]

_HOMES = {
    "doors": ("LockedDoors",),
    "engine": ("Choice", "choose_engine", "compile", "doors_of", "is_locked", "level_of", "started_ahead"),
    "locked": ("Isolation", "LockedRenderer"),
    "options": ("ENGINES", "SPANS", "RenderOptions", "Renderer"),
    "plain": ("JinjaRenderer",),
    "replay": ("TracedRenderer",),
    "template": ("ChatTemplate",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module `chatfmt.render` has no attribute `{name}`")
    value = globals()[name] = getattr(import_module(f".{_HOME[name]}", __name__), name)
    return value
