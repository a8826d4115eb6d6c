"""Convert chat and instruction datasets to training-ready files.

chatfmt.convert(chatfmt.Recipe(source="data.jsonl", template="chatml"), out="out/")
chatfmt.Converter(recipe)(batch)                           # one Arrow record batch
chatfmt.ChatTemplate.load("chatml").render(messages)       # one conversation
chatfmt.unescape(text, "chatml")                           # undo `--control-tokens escape`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import attach

if TYPE_CHECKING:
    from .errors import ChatfmtError
    from .pipeline import Converter, convert
    from .recipe import Recipe
    from .render.safety.control_tokens import escape, unescape
    from .render.template.chat_template import ChatTemplate

__version__ = "0.1.0"
__all__ = ["ChatTemplate", "ChatfmtError", "Converter", "Recipe", "__version__", "convert", "escape", "unescape"]

__getattr__, _ = attach(
    __name__,
    {
        ".errors": ("ChatfmtError",),
        ".pipeline": ("Converter", "convert"),
        ".recipe": ("Recipe",),
        ".render.safety.control_tokens": ("escape", "unescape"),
        ".render.template.chat_template": ("ChatTemplate",),
    },
)


def __dir__() -> list[str]:
    """Return the public names, imported or not, for completion and `help`."""
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
