"""Turn chat and instruction data sets into training-ready files.

chatfmt.convert(chatfmt.Recipe(source="data.jsonl", template="chatml"), out="out/")
chatfmt.Converter(recipe)(batch)                           # one Arrow record batch
chatfmt.ChatTemplate.load("chatml").render(messages)       # one conversation
chatfmt.unescape(text, "chatml")                           # what `--control-tokens escape` changed, as it was
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import ChatfmtError
    from .pipeline import Converter, convert
    from .recipe import Recipe
    from .render.injection import escape, unescape
    from .render.template import ChatTemplate

__version__ = "0.1.0"
__all__ = ["ChatTemplate", "ChatfmtError", "Converter", "Recipe", "__version__", "convert", "escape", "unescape"]

_HOMES = {
    "ChatTemplate": "render.template",
    "ChatfmtError": "errors",
    "Converter": "pipeline",
    "Recipe": "recipe",
    "convert": "pipeline",
    "escape": "render.injection",
    "unescape": "render.injection",
}


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first used, so that `import chatfmt` and `--help` stay instant."""
    if name not in _HOMES:
        raise AttributeError(f"module `chatfmt` has no attribute `{name}`")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    """The public names, for completion and `help`, though most are not imported yet."""
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
